//! Tools of a law: their schemas, and how one is run.

use serde_json::json;

use super::*;

const VECTOR: &str = include_str!("../../../../tests/fixtures/vectors/dsl/10_skill_tools.rb");

fn call(source: &str, name: &str, arguments: serde_json::Value) -> Result<ToolAnswer, String> {
    let law = Law::read(source.as_bytes());
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let answer = run_tool(&law, source, name, &arguments, &(), Limits::default());
    answer.map_err(|error| error.to_string())
}

#[test]
fn offers_what_the_reference_offers() {
    let law = Law::read(VECTOR.as_bytes());
    let offer = tools(&law, |_| false);
    assert_eq!(offer.unoffered, []);
    let listed: Vec<_> = offer
        .tools
        .iter()
        .map(|tool| {
            (
                tool.skill.as_str(),
                tool.name.as_str(),
                tool.description.as_str(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("doubler", "skill_doubler", "Doubler"),
            ("lister", "list_things", "Lists three things"),
            ("silent", "skill_silent", "Skill-based tool: silent"),
            ("failing", "skill_failing", "Failing"),
        ]
    );
    assert_eq!(
        offer.tools[0].input_schema,
        json!({
            "type": "object",
            "properties": {
                "n": {"type": "integer", "description": "a number"},
                "note": {"type": "string", "description": "free text"},
            },
            "required": ["n"],
            "additionalProperties": false,
        })
    );
    assert_eq!(
        offer.tools[2].input_schema,
        json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false})
    );
}

#[test]
fn answers_as_the_reference_answers_and_is_strict_about_arguments() {
    let text = |name: &str, arguments| call(VECTOR, name, arguments).map(|answer| answer.text);
    assert_eq!(text("skill_doubler", json!({"n": 21})), Ok("42".to_owned()));
    assert_eq!(
        text("list_things", json!({})),
        Ok(
            "{\n  \"things\": [\n    \"a\",\n    \"b\",\n    3\n  ],\n  \"none\": null\n}"
                .to_owned()
        )
    );
    let answer = call(VECTOR, "list_things", json!({})).unwrap();
    assert_eq!(
        answer.structured,
        Some(json!({"things": ["a", "b", 3], "none": null}))
    );
    assert_eq!(
        text("skill_silent", json!({})),
        Ok("(no output)".to_owned())
    );
    let error = "line 40, in 'failing': key not found: \"missing\"";
    assert_eq!(text("skill_failing", json!({})), Err(error.to_owned()));
    // The reference runs all of these.
    for (arguments, error) in [
        (
            json!({"n": "ab"}),
            "the tool 'skill_doubler' takes `n` as integer, not \"ab\"",
        ),
        (
            json!({"n": 1.5}),
            "the tool 'skill_doubler' takes `n` as integer, not 1.5",
        ),
        (
            json!({"n": u64::MAX}),
            "the tool 'skill_doubler' takes `n` as integer, not 18446744073709551615",
        ),
        (json!({}), "the tool 'skill_doubler' needs `n`"),
        (
            json!({"n": 1, "x": 1}),
            "the tool 'skill_doubler' does not take `x`; it takes n, note",
        ),
    ] {
        assert_eq!(text("skill_doubler", arguments), Err(error.to_owned()));
    }
    let error = "the law offers no tool 'never_registered'";
    assert_eq!(text("never_registered", json!({})), Err(error.to_owned()));
}

#[test]
fn never_offers_a_tool_in_place_of_another() {
    let tool = |id: &str, inner: &str| {
        format!("skill :{id} do\n tool do\n {inner}\n execute {{ |args| 1 }}\n end\nend\n")
    };
    let source = [
        tool("shadow", "name \"chain_verify\""),
        tool("first", "name \"same\""),
        tool("second", "name \"same\""),
        tool("first", "name \"other\""),
        tool("spaced", "name \"a b\""),
        tool("odd", "name 5"),
        tool("typed", "property :a, type: \"date\", description: \"d\""),
        tool("needy", "required :a"),
        tool(
            "listed",
            "property :a, type: :string, description: \"d\"\n required [:a]",
        ),
    ]
    .concat();
    let law = Law::read(source.as_bytes());
    let offer = tools(&law, |name| name == "chain_verify");
    let names: Vec<_> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["same", "skill_listed"]);
    assert_eq!(offer.tools[1].input_schema["required"], json!(["a"]));
    let refused: Vec<_> = offer
        .unoffered
        .iter()
        .map(|tool| format!("{}: {}", tool.skill, tool.reason))
        .collect();
    assert_eq!(
        refused,
        [
            "shadow: the name `chain_verify` is another tool's; give it its own",
            "second: an earlier skill offers `same`; give it its own name",
            "spaced: its name is not 1 to 64 letters, digits, `_` and `-`; write `name \"…\"` in its tool block",
            "odd: its name and description must be texts",
            "typed: `a` has a type that is none of string, integer, number, boolean, array, object",
            "needy: it requires `a`, which is none of its properties",
        ]
    );
}

#[test]
fn a_tool_sees_its_arguments_and_nothing_else() {
    let source = |code: &str| {
        format!(
            "skill :a do\n tool do\n property :v, type: \"object\", description: \"d\"\n execute {{ |args| {code} }}\n \
             end\nend\n"
        )
    };
    let given = json!({"v": {"list": [1, null, {"b": "c"}], "f": 1.5}});
    let run = |code: &str| call(&source(code), "skill_a", given.clone());
    let answer = run("args").unwrap();
    assert_eq!(answer.structured, Some(given.clone()));
    assert_eq!(
        run("args[\"v\"].dig(\"list\", 2, \"b\")").unwrap().text,
        "c"
    );
    assert_eq!(run("args[:v]").unwrap().text, "(no output)");
    let error = "line 4, in 'a': it asks for the settings of evolution, which is not told here";
    assert_eq!(run("KairosMcp::SkillsConfig.load"), Err(error.to_owned()));
    assert!(
        run("File.read(args[\"v\"][\"f\"])")
            .unwrap_err()
            .contains("`File.read` is not evaluated")
    );
    let mut deep = json!(1);
    for _ in 0..80 {
        deep = json!({"a": deep});
    }
    let error = call(&source("1"), "skill_a", json!({"v": deep})).unwrap_err();
    assert!(error.contains("deeper than 64 levels"), "{error}");
}

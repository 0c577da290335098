use serde_json::{Value, json};

use super::super::eval::{BlockFacts, Facts, LedgerFacts};
use super::super::{Law, Literal, Skill};
use super::*;

const VECTORS: [(&str, &str); 5] = [
    (
        include_str!("../../../tests/fixtures/vectors/dsl/01_node_kinds.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/01_node_kinds.json"),
    ),
    (
        include_str!("../../../tests/fixtures/vectors/dsl/02_conditions.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/02_conditions.json"),
    ),
    (
        include_str!("../../../tests/fixtures/vectors/dsl/03_drift.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/03_drift.json"),
    ),
    (
        include_str!("../../../tests/fixtures/vectors/dsl/04_degenerate.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/04_degenerate.json"),
    ),
    (
        include_str!("../../../tests/fixtures/vectors/dsl/05_decompile.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/05_decompile.json"),
    ),
];

/// Where we differ on purpose: the context, the node, and what we say instead.
const DIFFERENT: [(&str, &str, Option<bool>, &str); 24] = [
    (
        "empty",
        "eq_number",
        None,
        "Variable 'count' not in binding context",
    ),
    (
        "empty",
        "eq_string",
        None,
        "Variable 'mode' not in binding context",
    ),
    (
        "empty",
        "neq",
        None,
        "Variable 'armed' not in binding context",
    ),
    ("empty", "lt_literal", None, "Missing variables: count"),
    (
        "empty",
        "ge_float_literal",
        None,
        "Missing variables: ratio",
    ),
    (
        "empty",
        "call_no_parens",
        None,
        "Cannot evaluate: tags.empty?",
    ),
    (
        "empty",
        "in_plain",
        None,
        "Cannot evaluate exclusion: status in banned",
    ),
    ("rich", "eq_number", Some(true), "count: expected 3, got 3"),
    (
        "rich",
        "eq_string",
        Some(true),
        "mode: expected fast, got fast",
    ),
    (
        "rich",
        "neq",
        Some(false),
        "armed: expected not true, got true",
    ),
    ("rich", "lt_literal", Some(true), "count(3) < 5 = true"),
    (
        "rich",
        "ge_float_literal",
        Some(true),
        "ratio(0.9) >= 0.8 = true",
    ),
    (
        "rich",
        "call_include_quoted",
        Some(true),
        "tags.include?(\"red\") = true",
    ),
    ("rich", "call_empty", Some(false), "tags.empty?() = false"),
    ("rich", "call_size", Some(true), "tags.size() = 3"),
    (
        "rich",
        "call_no_parens",
        Some(false),
        "tags.empty?() = false",
    ),
    (
        "rich",
        "call_two_args",
        None,
        "Error calling include?: one argument at most",
    ),
    (
        "rich",
        "call_unknown",
        None,
        "Method 'frobnicate?' not in allowed list",
    ),
    ("rich", "in_plain", Some(true), "status in banned: true"),
    (
        "flipped",
        "eq_number",
        Some(false),
        "count: expected 3, got 5.0",
    ),
    (
        "flipped",
        "eq_string",
        Some(false),
        "mode: expected fast, got ",
    ),
    (
        "flipped",
        "neq",
        Some(true),
        "armed: expected not true, got true",
    ),
    (
        "flipped",
        "lt_literal",
        Some(false),
        "count(5.0) < 5 = false",
    ),
    (
        "flipped",
        "ge_float_literal",
        None,
        "Missing variables: ratio",
    ),
];
/// The same, where only the verdict or the detail of a question to a text differs.
const FLIPPED: [(&str, Option<bool>, &str); 8] = [
    ("in_plain", Some(false), "status in banned: false"),
    (
        "call_include_quoted",
        Some(true),
        "tags.include?(\"red\") = true",
    ),
    ("call_empty", Some(false), "tags.empty?() = false"),
    ("call_size", Some(true), "tags.size() = 9"),
    ("call_no_parens", Some(false), "tags.empty?() = false"),
    (
        "call_two_args",
        None,
        "Error calling include?: one argument at most",
    ),
    ("call_forbidden", None, "Method 'push' not in allowed list"),
    (
        "call_unknown",
        None,
        "Method 'frobnicate?' not in allowed list",
    ),
];

fn read(source: &str) -> Law {
    let law = Law::read(source.as_bytes());
    assert_eq!(
        law.errors().collect::<Vec<_>>(),
        Vec::<&super::super::Fault>::new()
    );
    law
}

fn context<'a>(tagged: &Value, law: &'a Law) -> Context<'a> {
    let mut context = Context::default();
    for pair in tagged["$map"].as_array().unwrap() {
        // Names are symbols in the reference; texts are never seen.
        let Some(name) = pair[0]["$sym"].as_str() else {
            continue;
        };
        let bound = match pair[1]["$skill"].as_str() {
            Some(id) => Bound::Skill(law.skill(id).unwrap()),
            None => Bound::Value(serde_json::from_value(pair[1].clone()).unwrap()),
        };
        context.bind(name, bound);
    }
    context
}

/// The verdicts and details of the reference, with ours where they differ on purpose.
fn expected(context: &str, theirs: &Value) -> Vec<(String, Option<bool>, String)> {
    let results = theirs["results"].as_array().unwrap().iter();
    let results = results.map(|result| {
        let name = result["node_name"].as_str().unwrap();
        let ours = DIFFERENT
            .iter()
            .find(|(within, node, ..)| *within == context && *node == name);
        let ours = ours.map(|(_, _, verdict, detail)| (*verdict, (*detail).to_owned()));
        let flipped = FLIPPED.iter().filter(|_| context == "flipped");
        let flipped = flipped.clone().find(|(node, ..)| *node == name);
        let flipped = flipped.map(|(_, verdict, detail)| (*verdict, (*detail).to_owned()));
        let theirs = || {
            let detail = result["detail"].as_str().unwrap().to_owned();
            (result["satisfied"].as_bool(), detail)
        };
        let (verdict, detail) = ours.or(flipped).unwrap_or_else(theirs);
        (name.to_owned(), verdict, detail)
    });
    results.collect()
}

#[test]
fn verdicts_are_those_of_the_reference_but_for_a_table() {
    let mut compared = 0;
    for (source, vectors) in VECTORS {
        let law = read(source);
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for (skill, theirs) in law.skills.iter().zip(vectors["skills"].as_array().unwrap()) {
            assert_eq!(skill.id, theirs["id"]);
            for run in theirs["verify"].as_array().into_iter().flatten() {
                let name = run["context_name"].as_str().unwrap();
                let ours = verify(skill, &context(&run["context"], &law));
                let ours: Vec<_> = ours
                    .results
                    .into_iter()
                    .map(|o| (o.node_name, o.verdict.ok(), o.detail))
                    .collect();
                match run["report"].get("value") {
                    // There is no definition.
                    Some(Value::Null) => assert_eq!(ours, []),
                    Some(theirs) => assert_eq!(ours, expected(name, theirs), "{} {name}", skill.id),
                    // A symbol looked up in a text: the reference raises.
                    None => assert!(ours.iter().any(|(node, verdict, detail)| node == "not_in"
                        && verdict.is_none()
                        && detail.contains("no implicit conversion"))),
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 21);
}

#[test]
fn definitions_and_fields_are_those_of_the_reference() {
    for (source, vectors) in VECTORS {
        let law = read(source);
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let theirs = vectors["skills"].as_array().unwrap();
        assert_eq!(law.skills.len(), theirs.len());
        for (skill, theirs) in law.skills.iter().zip(theirs) {
            let ours = skill.reference_json();
            assert_eq!(
                ours["definition"], theirs["definition_json"],
                "{}",
                skill.id
            );
            assert_eq!(ours["effects"], theirs["fields"]["effects"], "{}", skill.id);
            assert_eq!(
                ours["evolution_rules"], theirs["fields"]["evolution_rules"],
                "{}",
                skill.id
            );
            assert_eq!(
                ours["behavior"].is_string(),
                theirs["fields"]["behavior"] == json!(true)
            );
            for field in [
                "version",
                "title",
                "use_when",
                "inputs",
                "requires",
                "guarantees",
                "depends_on",
                "content",
                "formalization_notes",
            ] {
                let theirs = &theirs["fields"][field];
                let theirs: Literal = serde_json::from_value(theirs.clone()).unwrap();
                assert_eq!(ours[field], theirs.reference_json(), "{} {field}", skill.id);
            }
            let nodes: Vec<_> = skill
                .nodes()
                .map(|node| {
                    let options = node.stored();
                    json!({"type": node.kind(), "name": node.name, "options": options, "source_span": node.source_span()})
                })
                .collect();
            if let Some(typed) = theirs["definition_typed"].as_array() {
                assert_eq!(&nodes, typed, "{}", skill.id);
            }
        }
    }
}

#[test]
fn decompiled_texts_and_drift_are_those_of_the_reference() {
    for (source, vectors) in VECTORS {
        let law = read(source);
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for (skill, theirs) in law.skills.iter().zip(vectors["skills"].as_array().unwrap()) {
            if let Some(text) = theirs["decompile"]["value"].as_str() {
                assert_eq!(decompile(skill), text, "{}", skill.id);
            }
            if let Some(theirs) = theirs["drift"].get("value").filter(|v| v.is_object()) {
                let ours = drift(skill);
                assert_eq!(
                    json!(ours.coverage_ratio),
                    theirs["coverage_ratio"],
                    "{}",
                    skill.id
                );
                assert_eq!(json!(ours.is_drifted()), theirs["drifted"]);
                let ours: Vec<_> = ours.items.iter().map(|item| {
                    let severity = match item.direction {
                        Direction::DefinitionOrphaned => "warning",
                        Direction::ContentUncovered => "info",
                    };
                    json!({"direction": item.direction, "severity": severity, "description": item.description,
                           "node_name": item.node_name})
                }).collect();
                assert_eq!(json!(ours), theirs["items"], "{}", skill.id);
            }
            // Of two skills with one id the tools show the first.
            if std::ptr::eq(law.skill(&skill.id).unwrap(), skill)
                && let Some(text) = vectors["tool_text"][&skill.id]["definition_drift"].as_str()
                && skill.definition().is_some()
            {
                assert_eq!(drift(skill).markdown(&skill.id), text, "{}", skill.id);
            }
        }
    }
}

#[test]
fn a_report_looks_like_that_of_the_reference_but_for_what_a_value_would_decide() {
    let (source, vectors) = VECTORS[0];
    let law = read(source);
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let skill = law.skill("greenhouse_watering").unwrap();
    let theirs = vectors["tool_text"]["greenhouse_watering"]["definition_verify"]
        .as_str()
        .unwrap();
    let text = verify(skill, &Context::default()).markdown(&skill.id);
    let changed = theirs
        .replace("0 unknown, 3 human-required", "2 unknown, 1 human-required")
        .replace("🧑 **Constraint** `dosing", "❓ **Constraint** `dosing")
        .replace("🧑 **Check**", "❓ **Check**")
        .replace(
            "- `dosing_enabled`: Variable 'dosing_enabled' not in binding context\n",
            "",
        )
        .replace(
            "- `moisture_below_target`: Missing variables: moisture, target_moisture\n",
            "",
        );
    assert_eq!(text, changed);
}

fn only(definition: &str) -> Skill {
    let law = read(&format!(
        "skill :a do\n  content \"Jars must be labelled.\\nMustard is nice.\\n- Keys are never shared.\\n\"\n  \
         definition do\n{definition}\n  end\nend\n"
    ));
    law.skills[0].node.clone()
}

#[test]
fn nothing_decided_is_not_a_pass() {
    let report = verify(
        &only("check :a, condition: \"x == true\""),
        &Context::default(),
    );
    assert!(
        report
            .markdown("a")
            .contains("**Status**: Nothing was decided.")
    );
    let report = verify(&only(""), &Context::default());
    assert!(
        report
            .markdown("a")
            .ends_with("**Status**: Nothing was decided.")
    );
}

#[test]
fn what_the_reference_raises_for_is_said() {
    let skill = only("plan :a, steps: \"one\"");
    assert!(decompile(&skill).ends_with("- **Workflow** (`a`): no steps"));
    let text = drift(&only("")).markdown("a");
    assert!(text.ends_with("The definition is empty: there is nothing to compare."));
}

#[test]
fn each_demand_is_matched_to_nodes_by_whole_words() {
    let skill = only(
        "constraint :jar_labels, required: true\nconstraint :tar\nnode :judge, type: :SemanticReasoning, prompt: \"?\", \
         source_span: \"Keys are never shared.\"",
    );
    let statements = drift(&skill).statements;
    let found: Vec<_> = statements
        .iter()
        .map(|s| {
            (
                s.line,
                s.text.as_str(),
                s.matches
                    .iter()
                    .map(|m| (m.node_name.as_str(), m.cited, m.words.join(" ")))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                1,
                "Jars must be labelled.",
                vec![("jar_labels", false, "jar".to_owned())]
            ),
            (
                3,
                "- Keys are never shared.",
                vec![("judge", true, String::new())]
            ),
        ]
    );
}

#[test]
fn the_own_rules_of_a_skill_can_be_asked() {
    let law = read(
        "skill :a do\nevolve do\nallow :content\nend\ndefinition do\ncheck :yes, condition: \
                    \"skill.can_evolve?(:content)\"\ncheck :no, condition: \"skill.can_evolve?(field)\"\nend\nend",
    );
    let mut context = Context::default();
    context.bind("skill", Bound::Skill(&law.skills[0]));
    // A word that nothing stands for is no field.
    let results = verify(&law.skills[0], &context).results;
    assert_eq!(results[1].verdict, Err(Needs::Value));
    context.bind("field", Bound::Value(Literal::Symbol("title".to_owned())));
    let verdicts = verify(&law.skills[0], &context).results.into_iter();
    let verdicts: Vec<_> = verdicts.map(|result| result.verdict).collect();
    assert_eq!(verdicts, [Ok(true), Ok(false)]);
}

#[test]
fn decides_conditions_by_what_the_host_tells() {
    let source = "skill :core do\n  definition do\n    check :enabled, condition: \"evolution_enabled == true\"\n    \
                  check :limit, condition: \"evolution_count < max_evolutions_per_session\"\n    \
                  check :free, condition: \"skill not in immutable_skills\"\n    \
                  check :open, condition: \"skill.can_evolve?(:content)\"\n    \
                  check :whole, condition: \"is_valid == true\"\n    check :long, condition: \"block_count > 5\"\n    \
                  check :state, condition: \"ledger_state == :readable\"\n    \
                  check :first, condition: \"genesis_timestamp == latest_hash\"\n  end\nend\n";
    let law = Law::read(source.as_bytes());
    let skill = law.skill("core").unwrap();
    let verdicts = |context: &Context<'_>| {
        let results = verify(skill, context).results.into_iter();
        results
            .map(|result| result.verdict.ok())
            .collect::<Vec<_>>()
    };
    let text = |text: &str| Literal::Text(text.to_owned());
    let block = BlockFacts {
        index: 0,
        hash: "a".to_owned(),
        previous_hash: "0".to_owned(),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    };
    let facts = Facts {
        settings: Some(Literal::Map(vec![
            (
                text("max_evolutions_per_session"),
                Literal::Integer(3.into()),
            ),
            (text("evolution_enabled"), Literal::Bool(false)),
            (text("immutable_skills"), Literal::Array(vec![text("core")])),
        ])),
        evolution_enabled: Some(true),
        evolution_count: Some(2),
        ledger: Some(LedgerFacts {
            state: "readable".to_owned(),
            valid: true,
            length: 6,
            first: Some(block.clone()),
            last: Some(block),
        }),
        ..Facts::default()
    };
    let (yes, no) = (Some(true), Some(false));
    let mut context = Context::of(skill, &facts);
    assert_eq!(verdicts(&context), [yes, yes, no, yes, yes, yes, yes, no]);
    // Callers may ask what would be.
    context.bind("evolution_count", Bound::Value(Literal::Integer(3.into())));
    let listed = Literal::Array(vec![Literal::Symbol("other".to_owned())]);
    context.bind("immutable_skills", Bound::Value(listed));
    assert_eq!(verdicts(&context)[1..3], [no, yes]);
    // What is not told is not decided.
    let context = Context::of(skill, &());
    assert_eq!(
        verdicts(&context),
        [None, None, None, yes, None, None, None, None]
    );
}

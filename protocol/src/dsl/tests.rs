use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod printing;

use printing::printed;

const VECTORS: &str = include_str!("../../tests/fixtures/vectors/state-manifest.json");

fn only(source: &str) -> Skill {
    let law = Law::read(source.as_bytes());
    assert_eq!(law.outside, [], "{source}");
    let [skill] = <[Spanned<Skill>; 1]>::try_from(law.skills).unwrap();
    skill.node
}

fn told(source: &str) -> Vec<String> {
    let law = Law::read(source.as_bytes());
    law.errors().map(ToString::to_string).collect()
}

#[test]
fn hashes_skills_as_the_reference_does() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let source = vectors["files"]["skills/kairos.rb"].as_str().unwrap();
    let law = Law::read(source.as_bytes());
    assert_eq!(law.faults, []);
    let preimages: Vec<_> = law.skills.iter().map(|skill| skill.preimage()).collect();
    assert_eq!(json!(preimages), vectors["skill_preimages"]);
    let hashes: Vec<_> = law.skills.iter().map(|s| json!(s.hash())).collect();
    let expected = vectors["manifest"]["layers"]["L0"]["skills"]
        .as_array()
        .unwrap();
    assert_eq!(
        hashes,
        expected
            .iter()
            .map(|s| s["hash"].clone())
            .collect::<Vec<_>>()
    );
}

#[test]
fn reads_every_form_of_a_literal() {
    let skill = only(concat!(
        "# encoding: utf-8\n# frozen_string_literal: true\n",
        "skill(:\"a b\") {\n",
        "  version 1.10; title 'it''s \\n'\n",
        "  use_when \"é\" 'è'\n",
        "  inputs :a, [:b, [:c]]\n",
        "  guarantees [:x, \"y\", %w[a b], %i[c d], -3, 1_000, 0x1F, 010, nil, true, false, { k: 1, \"s\" => :t }]\n",
        "  content <<-'TEXT'\n    #{not} \\n interpolated\n    TEXT\n",
        "  behavior do |x| File.read(\"/etc/passwd\"); `ls` end\n",
        "end_of = 1 if false\n}\n",
    ).replace("end_of = 1 if false\n", "").as_str());
    assert_eq!(
        skill.preimage(),
        concat!(
            "{\"id\":\"a b\",\"version\":1.1,\"title\":\"its \\\\n\",",
            "\"content\":\"    \\#{not} \\\\n interpolated\\n\",",
            "\"guarantees\":[\"x\",\"y\",[\"a\",\"b\"],[\"c\",\"d\"],-3,1000,31,8,null,true,false,",
            "{\"k\":1,\"s\":\"t\"}],\"evolution_rules\":null}"
        )
        .replace("\\#", "#")
    );
}

#[test]
fn the_last_of_repeated_members_counts_and_rules_accumulate_within_a_block() {
    let skill = only(
        "skill :a do\n version '1'\n version '2'\n evolve do\n deny :x\n end\n evolve do\n allow :content, \"t\"\n \
         allow :y\n deny :all\n when_condition(:calm) { rand > 0.5 }\n end\nend",
    );
    assert_eq!(
        skill.value(Keyword::Version).and_then(Literal::text),
        Some("2")
    );
    let symbol = |name: &str| Literal::Symbol(name.to_owned());
    assert_eq!(
        skill.evolution(),
        Some(&Evolution {
            allowed: vec![
                symbol("content"),
                Literal::Text("t".to_owned()),
                symbol("y")
            ],
            denied: vec![symbol("all")],
            conditions: vec![Condition {
                name: symbol("calm"),
                code: Some(Code("{ rand > 0.5 }".to_owned())),
            }],
        })
    );
    assert_eq!(
        only("skill :a do\nevolve\nend").evolution(),
        Some(&Evolution::default())
    );
}

#[test]
fn squiggly_heredocs_lose_their_least_indentation() {
    let skill =
        only("skill :a do\n  content <<~MD\n\n      a\n        b\n    \n      end\n  MD\nend\n");
    assert_eq!(skill.content(), Some("\na\n  b\n\nend\n"));
}

#[test]
fn spans_cover_what_was_declared() {
    let source = "# x\nskill :a do\n title <<~T\n  é\n T\nend\nskill(:b) { }\n";
    let law = Law::read(source.as_bytes());
    let texts: Vec<_> = law
        .skills
        .iter()
        .map(|s| &source[s.span.start..s.span.end])
        .collect();
    assert_eq!(
        texts,
        ["skill :a do\n title <<~T\n  é\n T\nend", "skill(:b) { }"]
    );
}

#[test]
fn names_what_it_does_not_read_and_keeps_the_rest() {
    let source = "skill :good do\n  title \"x\"\nend\n\nskill :bad do\n  title \"é #{1 + 1}\"\n  version VERSION\nend\n";
    let law = Law::read(source.as_bytes());
    assert!(law.skills[0].hash().is_some());
    assert_eq!(law.skills[1].hash(), None);
    assert_eq!(
        told(source),
        [
            "line 6, column 9: a text with interpolation is not a literal",
            "line 7, column 11: a constant is not a literal",
        ]
    );
}

#[test]
fn tells_each_fault_with_its_place() {
    for (source, fault) in [
        (
            "require 'json'",
            "line 1, column 1: `require` outside of a skill",
        ),
        (
            "X = 1\n",
            "line 1, column 1: an assignment outside of a skill",
        ),
        (
            "[1].each { |x| skill(x) {} }",
            "line 1, column 1: a call on a value outside of a skill",
        ),
        (
            "`rm -rf /`",
            "line 1, column 1: a shell command outside of a skill",
        ),
        ("skill :a", "line 1, column 1: the skill `a` has no block"),
        (
            "skill do end",
            "line 1, column 1: a skill without one name as its id",
        ),
        (
            "skill :a, :b do end",
            "line 1, column 1: a skill without one name as its id",
        ),
        (
            "skill :a do\n  evolution_trigger :x\nend",
            "line 2, column 3: `evolution_trigger` is no member of a skill",
        ),
        (
            "skill :a do version end",
            "line 1, column 13: `version` takes one value, not 0",
        ),
        (
            "skill :a do title 'a', 'b' end",
            "line 1, column 13: `title` takes one value, not 2",
        ),
        (
            "skill :a do title 'a' if true end",
            "line 1, column 13: a condition in a skill",
        ),
        (
            "skill :a do title 'a'.strip end",
            "line 1, column 19: a call on a value is not a literal",
        ),
        (
            "skill :a do title 1.. end",
            "line 1, column 19: a range without an end is not a literal",
        ),
        (
            "skill :a do title 'a' + 'b' end",
            "line 1, column 19: a call on a value is not a literal",
        ),
        (
            "skill :a do title x end",
            "line 1, column 19: `x` is not a literal",
        ),
        (
            "skill :a do version 1e999 end",
            "line 1, column 21: the number 1e999 is too large",
        ),
        (
            "skill :a do guarantees do\n freeze\n end end",
            "line 2, column 2: `freeze` is a method of Ruby, which takes no note of it",
        ),
        (
            "skill :a do guarantees do\n 'x'\n end end",
            "line 2, column 2: a value among guarantees",
        ),
        (
            "skill :a do guarantees do\n x y\n end end",
            "line 2, column 4: `y` is not a literal",
        ),
        (
            "skill :a do evolve { permit :x } end",
            "line 1, column 22: `permit` is no rule",
        ),
        (
            "skill :a do evolve 1 end",
            "line 1, column 13: `evolve` takes a block, not values",
        ),
        (
            "skill :a do\nend\n__END__\nskill :b do end\n",
            "line 3, column 1: `__END__` ends the text: Ruby reads nothing of what follows",
        ),
    ] {
        assert_eq!(told(source), [fault], "{source}");
    }
    let broken = told("skill :a do\n  title \"x\n");
    assert!(broken[0].starts_with("line "), "{broken:?}");
    assert_eq!(Law::read(b"skill :a do\nend\n\xff").faults[0].line.get(), 3);
}

#[test]
fn what_follows_the_end_is_not_read() {
    let law = Law::read(b"skill :a do\nend\n__END__\nskill :b do\nend\n");
    let ids: Vec<_> = law.skills.iter().map(|skill| skill.id.as_str()).collect();
    assert_eq!((ids, law.broken), (vec!["a"], true));
}

#[test]
fn of_a_text_that_is_too_long_only_that_is_told() {
    let words = "    words of a text\n".repeat(4_000);
    let law = format!("skill :a do\nend\n\nskill :b do\n  content <<~T\n{words}  T\nend\n");
    let told = told(&law);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("the limit is 65536"), "{told:?}");
}

#[test]
fn a_text_in_a_heredoc_may_say_end() {
    let skill = only("skill :a do\n content <<~T\n  __END__\n  end\n T\nend\n");
    assert_eq!(skill.content(), Some("__END__\nend\n"));
}

#[test]
fn no_nesting_exhausts_the_stack() {
    let deep = [
        ("!", "x"),
        ("[", ""),
        ("x.", "x"),
        ("x+", "x"),
        ("not ", "x"),
        ("(", ""),
        ("->{", ""),
        ("{a:", ""),
        ("a=", "1"),
        ("x ? x : ", "x"),
        ("if x;", ""),
        ("\"#{", ""),
        ("a b ", "1"),
        ("x&&", "x"),
        ("::A", ""),
    ];
    for (piece, last) in deep {
        let source = piece.repeat(SOURCE_MAX / piece.len() - 8) + last;
        let law = Law::read(source.as_bytes());
        assert!(law.skills.is_empty() && !law.faults.is_empty(), "{piece}");
    }
    let closed = format!(
        "skill :a do title {}1{} end",
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(
        told(&closed),
        ["line 1, column 81: deep nesting is not a literal"]
    );
    let long = " ".repeat(SOURCE_MAX + 1);
    assert_eq!(
        told(&long),
        ["line 1, column 1: the source has 65537 bytes, the limit is 65536"]
    );
}

#[test]
fn our_own_template_is_read_whole() {
    let law = Law::read(include_bytes!("../../../node/templates/skills/kairos.rb"));
    assert_eq!(law.faults, []);
    assert_eq!(law.skills.len(), 8);
    printed(&law);
}

#[test]
fn tools_are_those_of_the_reference() {
    let law = Law::read(include_bytes!(
        "../../tests/fixtures/vectors/dsl/10_skill_tools.rb"
    ));
    assert_eq!(law.faults, []);
    let json = law.skills[0].reference_json();
    assert_eq!(
        json["tool_config"]["input_schema"],
        json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "description": "a number"},
            "note": {"type": "string", "description": "free text"}}})
    );
    assert_eq!(json["tool_config"]["execute"], "{ |args| args[\"n\"] * 2 }");
}

#[test]
fn what_is_computed_is_named_line_by_line() {
    let lines: Vec<_> = told(include_str!(
        "../../tests/fixtures/vectors/dsl/06_dynamic.rb"
    ));
    let lines: Vec<_> = lines
        .iter()
        .map(|line| line.split(", column").next().unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            "line 2", "line 3", "line 4", "line 7", "line 8", "line 9", "line 10", "line 15",
            "line 16", "line 19", "line 20"
        ]
    );
}

#[test]
fn an_error_in_one_skill_hides_neither_the_others_nor_their_faults() {
    let source = "skill :a do\n  title \"x\nend\n\nskill :b do\n  title 'b'\n  contnt 'x'\nend\n\nskill :c do\n  version '1'\n";
    let law = Law::read(source.as_bytes());
    assert!(law.broken && !law.is_whole());
    let ids: Vec<_> = law.skills.iter().map(|skill| skill.id.as_str()).collect();
    assert_eq!(ids, ["b"]);
    let unknown = law
        .faults
        .iter()
        .find(|f| f.code == FaultCode::UnknownWord)
        .unwrap();
    assert_eq!(
        (unknown.line.get(), unknown.mend.as_str()),
        (7, "did you mean `content`?")
    );
    let lines: Vec<_> = law.faults.iter().map(|fault| fault.line.get()).collect();
    assert!(
        lines.iter().any(|line| *line <= 5) && lines.iter().any(|line| *line >= 10),
        "{lines:?}"
    );
}

#[test]
fn every_error_says_how_to_mend_it() {
    for source in [
        "title 'x'",
        "X = 1",
        "skill :a do\n  title = 'x'\nend",
        "skill :a do version end",
        "skill :a do title `ls` end",
        "skill :a do\n  definition do\n    plan :p\n  end\nend",
        "skill :a do\n  evolve do\n    alow :x\n  end\nend",
        "skill :a do\n  guarantees do\n    :x\n  end\nend",
        "skill :a do version 1e999 end",
        "skill :a do\n  title 'x\nend",
        "skill :a do\n  definition { constraint :a, b: 1, b: 2 }\nend",
        "skill :a do\n  title('x') { }\nend",
    ] {
        let law = Law::read(source.as_bytes());
        assert!(law.errors().count() > 0, "{source}");
        for fault in law.errors() {
            assert!(!fault.mend.is_empty(), "{source}: {fault}");
        }
    }
    let law = Law::read(b"skill :a do\n  title = 'x'\nend");
    assert_eq!(law.faults[0].mend, "leave out the `=`: `title VALUE`");
}

#[test]
fn what_never_takes_effect_is_warned_of() {
    let source = "skill 'a' do\n  title '1'\n  title '2'\n  evolve do\n    allow 'content', :contents, :all\n  end\nend\n\
                  skill :a do\nend\n";
    let law = Law::read(source.as_bytes());
    assert!(law.is_whole());
    let codes: Vec<_> = law.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(
        codes
            .iter()
            .filter(|c| **c == FaultCode::Ineffective)
            .count(),
        4,
        "{:?}",
        law.faults
    );
    assert_eq!(
        codes.iter().filter(|c| **c == FaultCode::Hidden).count(),
        2,
        "{:?}",
        law.faults
    );
}

#[test]
fn rules_that_cannot_be_read_let_nothing_change() {
    let law = Law::read(b"skill :a do\n  evolve do\n    deny FIELDS\n  end\nend\nskill :b do\nend\nskill :c do\n  x\nend");
    let can: Vec<_> = law
        .skills
        .iter()
        .map(|skill| skill.can_evolve("content"))
        .collect();
    assert_eq!(can, [false, true, false]);
    assert_eq!(law.skills[0].hash(), None);
}

#[test]
fn a_definition_that_is_computed_leaves_the_reference_hash() {
    let law = Law::read(b"skill :a do\n  title 'x'\n  definition do\n    STEPS.each { |s| constraint s }\n  end\nend");
    assert!(!law.is_whole() && law.skills[0].hash().is_some());
    let other = Law::read(b"skill :a do\n  title 'x'\n  definition do\n    OTHER.each { |s| constraint s }\n  end\nend");
    assert_eq!(law.skills[0].hash(), other.skills[0].hash());
    assert_ne!(
        law.skills[0].tree_hash().unwrap(),
        other.skills[0].tree_hash().unwrap()
    );
}

#[test]
fn code_whose_text_goes_on_elsewhere_is_refused_and_still_hashed() {
    let source = "skill :a do\n  behavior { <<X }; title 'x'\n  body\nX\nend\n";
    let law = Law::read(source.as_bytes());
    assert_eq!(law.faults[0].code, FaultCode::Scattered);
    assert!(law.print().is_err());
    let other = Law::read(source.replace("body", "evil").as_bytes());
    assert_ne!(
        law.skills[0].tree_hash().unwrap(),
        other.skills[0].tree_hash().unwrap()
    );
}

#[test]
fn the_place_of_a_fault_lies_in_the_source() {
    let source = r#""a{x| x\ud80"#;
    let law = Law::read(source.as_bytes());
    let ends: Vec<_> = law.faults.iter().map(|fault| fault.span.end).collect();
    assert!(
        !ends.is_empty() && ends.iter().all(|end| *end <= source.len()),
        "{ends:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_the_reader_panic(
        text in "(skill :a do|end|\\n|\"|'|<<~T\\n|T\\n|#\\{|\\}|\\PC|:x|version |content |guarantees do|[\\[\\]{}|&*!%;,]){0,40}"
    ) {
        Law::read(text.as_bytes());
    }

    #[test]
    fn a_cut_file_is_read_or_refused(cut in 0..600_usize) {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let source = vectors["files"]["skills/kairos.rb"].as_str().unwrap().as_bytes();
        let law = Law::read(&source[..cut.min(source.len())]);
        prop_assert!(law.skills.len() <= 2);
    }
}

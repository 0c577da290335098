use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const VECTORS: &str = include_str!("../../tests/fixtures/vectors/state-manifest.json");

fn only(source: &str) -> Skill {
    let law = Law::read(source.as_bytes());
    assert_eq!(law.faults, [], "{source}");
    let [skill] = <[Skill; 1]>::try_from(law.skills).unwrap();
    skill
}

fn told(source: &str) -> Vec<String> {
    let law = Law::read(source.as_bytes());
    law.all_faults().iter().map(ToString::to_string).collect()
}

#[test]
fn hashes_skills_as_the_reference_does() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let source = vectors["files"]["skills/kairos.rb"].as_str().unwrap();
    let law = Law::read(source.as_bytes());
    assert_eq!(law.all_faults(), [] as [&Fault; 0]);
    let preimages: Vec<_> = law.skills.iter().map(Skill::preimage).collect();
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
        "skill(\"a b\") {\n",
        "  version 1.10; title 'it''s \\n'\n",
        "  use_when CONSTANT\n",
        "  inputs :a, [:b, c]\n",
        "  guarantees [:x, \"y\", %w[a b], %i[c d], -3, 1_000, 0x1F, 010, nil, true, false, { k: 1, \"s\" => :t }]\n",
        "  content <<-'TEXT'\n    #{not} \\n interpolated\n    TEXT\n",
        "  behavior do |x| File.read(\"/etc/passwd\"); `ls` end\n",
        "end_of = 1 if false\n}\n",
    ).replace("end_of = 1 if false\n", "").as_str());
    assert_eq!(skill.faults, []);
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
    assert_eq!(skill.version, "2");
    assert_eq!(
        skill.evolution,
        Some(Evolution {
            allowed: vec!["content".into(), "t".into(), "y".into()],
            denied: vec!["all".into()],
            conditions: vec!["calm".into()],
        })
    );
    assert_eq!(
        only("skill :a do\nevolve\nend").evolution,
        Some(Evolution::default())
    );
}

#[test]
fn squiggly_heredocs_lose_their_least_indentation() {
    let skill =
        only("skill :a do\n  content <<~MD\n\n      a\n        b\n    \n      end\n  MD\nend\n");
    assert_eq!(skill.content, "\na\n  b\n\nend\n");
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
    assert_eq!(law.faults, []);
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
            "skill :a do title 1..2 end",
            "line 1, column 19: a range is not a literal",
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
            "line 1, column 13: `evolve` is no member of a skill",
        ),
        (
            "skill :a do\nend\n__END__\nskill :b do end\n",
            "line 3, column 1: `__END__` ends no text here, Ruby takes it for a name",
        ),
    ] {
        assert_eq!(told(source), [fault], "{source}");
    }
    let broken = told("skill :a do\n  title \"x\n");
    assert!(broken[0].starts_with("line "), "{broken:?}");
    assert_eq!(Law::read(b"skill :a do\nend\n\xff").faults[0].line.get(), 3);
}

#[test]
fn a_text_in_a_heredoc_may_say_end() {
    let skill = only("skill :a do\n content <<~T\n  __END__\n  end\n T\nend\n");
    assert_eq!(skill.content, "__END__\nend\n");
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

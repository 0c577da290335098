use proptest::prelude::*;
use serde_json::json;

use super::*;

const OPEN: ReadOptions = ReadOptions {
    public_by_default: true,
    max_bytes: 100_000,
};

fn skill(text: &str) -> Skill {
    Skill::parse("knowledge/x/x.md", text.as_bytes(), &ReadOptions::default()).unwrap()
}

#[test]
fn lists_and_packages_what_the_reference_was_recorded_to() {
    let recorded: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/fixtures/skills.json")).unwrap();
    assert_eq!(recorded.len(), 6);
    for case in recorded {
        let (path, packaged) = (case["path"].as_str().unwrap(), &case["packaged"]);
        let text = packaged["content"].as_str().unwrap();
        let skill = Skill::parse(path, text.as_bytes(), &OPEN).unwrap();
        let now = Timestamp::parse(packaged["packaged_at"].as_str().unwrap()).unwrap();
        assert_eq!(
            serde_json::to_string(&skill.packaged(text, now)).unwrap(),
            packaged.to_string()
        );
        let mut entry = serde_json::to_value(skill.entry()).unwrap();
        assert_eq!(skill.public, !case["entry"].is_null(), "{path}");
        if skill.name == "bad_yaml" {
            // The reference's first line of the frontmatter: the one deliberate difference.
            assert_eq!(entry["summary"], "body");
            entry["summary"] = json!("name: [unclosed");
        }
        if skill.public {
            assert_eq!(entry.to_string(), case["entry"].to_string());
        }
    }
}

#[test]
fn is_public_only_if_the_frontmatter_says_yaml_true() {
    for (value, public) in [
        ("true", true),
        ("True", true),
        ("yes", true),
        ("on", true),
        ("false", false),
        ("'true'", false),
        ("\"yes\"", false),
        ("y", false),
        ("1", false),
        ("~", false),
        ("[true]", false),
    ] {
        let text = format!("---\npublic: {value}\n---\nbody");
        for options in [ReadOptions::default(), OPEN] {
            let skill = Skill::parse("knowledge/x.md", text.as_bytes(), &options).unwrap();
            assert_eq!(skill.public, public, "{value}");
        }
    }
}

#[test]
fn a_default_decides_only_where_the_text_is_silent() {
    let public = |text: &str| {
        Skill::parse("knowledge/x.md", text.as_bytes(), &OPEN)
            .unwrap()
            .public
    };
    for silent in [
        "",
        "# T\n",
        "---\nname: x\n---\n",
        "---\nname: [x\n---\n",
        "---\n---\npublic: false",
    ] {
        assert!(public(silent), "{silent:?}");
        assert!(!skill(silent).public, "{silent:?}");
    }
    for meant_private in [
        "---\npublic: false\nname: [x\n---\n",
        "---\nname: &a x\nalias: *a\npublic: false\n---\n",
        "---\npublic: false\n",
        "\u{feff}---\npublic: false\n---\n",
        "---\r\ndate: 2026-01-01\r\npublic: false\r\n---\r\n",
    ] {
        assert!(!public(meant_private), "{meant_private:?}");
    }
}

#[test]
fn summarises_by_description_then_first_line_of_the_body() {
    for (text, summary) in [
        ("---\ndescription: d\n---\nbody", "d"),
        ("---\ndescription: ''\n---\nbody", ""),
        ("---\ndescription: 7\n---\nbody", "7"),
        ("---\ndescription: [a, b]\n---\nbody", "[\"a\",\"b\"]"),
        ("---\ndescription: ~\n---\n# T\n\n  body  \n", "body"),
        ("---\nname: x\n---\n# T\nbody", "body"),
        ("# T\n\nfirst\nsecond", "first"),
        ("---\nunclosed", "unclosed"),
        ("---\nname: x\n---\n", NO_SUMMARY),
        ("", NO_SUMMARY),
    ] {
        assert_eq!(skill(text).summary, summary, "{text:?}");
    }
    assert_eq!(
        skill(&"é".repeat(300)).summary.chars().count(),
        FIRST_LINE_MAX
    );
    let long = format!("---\ndescription: {}\n---\n", "é".repeat(2000));
    assert_eq!(skill(&long).summary.chars().count(), SUMMARY_MAX);
}

#[test]
fn takes_tags_from_a_list_or_one_text() {
    for (tags, expected) in [
        ("[a, 日本, 3, [x], ~]", json!(["a", "日本", 3])),
        ("a, b ,", json!(["a", "b"])),
        ("{a: 1}", json!([])),
        ("7", json!([])),
    ] {
        assert_eq!(
            json!(skill(&format!("---\ntags: {tags}\n---\n")).tags),
            expected
        );
    }
}

#[test]
fn refuses_what_cannot_be_offered() {
    let fault = |path: &str, bytes: &[u8]| {
        let small = ReadOptions {
            max_bytes: 20,
            ..ReadOptions::default()
        };
        Skill::parse(path, bytes, &small).unwrap_err()
    };
    assert_eq!(fault("a.md", b"ab\xff"), SkillFault::NotUtf8 { at: 2 });
    assert_eq!(
        fault("a.md", &[b'x'; 21]),
        SkillFault::TooLarge { size: 21, max: 20 }
    );
    assert_eq!(
        fault("a.md", b"---\n- a\n---\n").to_string(),
        "the frontmatter is an array, a mapping is expected"
    );
    for name in ["knowledge/.md", "knowledge/a\nb.md", "", "knowledge/ .md"] {
        assert_eq!(fault(name, b""), SkillFault::Name, "{name:?}");
    }
}

#[test]
fn detects_formats_by_name_and_first_characters() {
    for (path, text, format) in [
        ("a.md", "---\n", "yaml_frontmatter"),
        ("a.MD", "-- -", "markdown"),
        ("a.markdown", "---", "yaml_frontmatter"),
        ("a.rb", "---", "ruby"),
        ("b.md/a.yml", "", "yaml"),
        ("b.md/a", "---", "markdown"),
        ("a.txt", "---", "markdown"),
    ] {
        assert_eq!(SkillFormat::detect(path, text).as_str(), format, "{path}");
    }
}

#[test]
fn answers_to_its_id_and_its_file_name() {
    let path = "knowledge/my_protocol/my_protocol.md";
    let skill = Skill::parse(path, b"---\nname: other\n---\n", &OPEN).unwrap();
    assert!(skill.answers_to("5d11fd8f426316f5") && skill.answers_to("my_protocol"));
    assert!(!skill.answers_to("other") && !skill.answers_to(""));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), path in "\\PC{0,30}") {
        let _ = Skill::parse(&path, &bytes, &OPEN);
    }

    #[test]
    fn an_unreadable_or_private_frontmatter_never_becomes_public(noise in "[ -~\\n]{0,80}") {
        let text = format!("---\n{noise}\npublic: false\n---\n");
        if let Ok(skill) = Skill::parse("knowledge/x.md", text.as_bytes(), &OPEN)
            && frontmatter::split(&text).is_some_and(|p| p.block.contains("public: false"))
        {
            prop_assert!(!skill.public, "{text}");
        }
    }
}

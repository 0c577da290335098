use serde_json::json;

use super::super::Law;
use super::*;

const BEFORE: &str = r#"skill :one do
  version "1.0"
  title "One"
  content "First."
  definition do
    constraint :a, required: true
    check :b, condition: "n < 5"
    plan :p, steps: [:x, :y]
  end
end

skill :two do
  title "Two"
  content "Second."
end

skill :three do
  content "Third."
end
"#;

fn between(before: &str, after: &str) -> LawDiff {
    diff(&Law::read(before.as_bytes()), &Law::read(after.as_bytes()))
}

#[test]
fn what_only_looks_different_is_no_change() {
    let after = BEFORE.replace("content \"First.\"", "content('First.') # same");
    let found = between(BEFORE, &after);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_changed_field_is_told_with_both_sources() {
    let found = between(BEFORE, &BEFORE.replace("Second.", "2nd."));
    let [skill] = found.skills.as_slice() else {
        panic!("{found:?}")
    };
    let fields = json!(skill.fields);
    assert_eq!((skill.id.as_str(), skill.fate), ("two", Fate::Kept));
    assert_eq!(
        fields,
        json!([{"field": "content", "fate": "kept", "nodes": [],
                "source": {"before": "content \"Second.\"\n", "after": "content \"2nd.\"\n"}}])
    );
}

#[test]
fn nodes_are_told_apart_by_kind_and_name() {
    let after = BEFORE
        .replace("    constraint :a, required: true\n", "")
        .replace("steps: [:x, :y]", "steps: [:y, :x]")
        .replace("  end\nend\n\nskill :two", "    constraint :a, required: true\n    node :j, type: :Judge, prompt: \"?\"\n  end\nend\n\nskill :two");
    let found = between(BEFORE, &after);
    let nodes = &found.skills[0].fields[0].nodes;
    let told: Vec<_> = nodes
        .iter()
        .map(|n| (n.name.as_str(), n.fate, n.moved, n.options.len()))
        .collect();
    assert_eq!(
        told,
        [
            ("p", Fate::Kept, None, 1),
            ("a", Fate::Kept, Some(Move { from: 0, to: 2 }), 0),
            ("j", Fate::Added, None, 2),
        ]
    );
}

#[test]
fn renames_and_moves_are_recognised() {
    let second = "skill :two do\n  title \"Two\"\n  content \"Second.\"\nend\n\n";
    let after = second.replace(":two", ":zwei") + &BEFORE.replace(second, "");
    let after = after.replace("check :b", "check :bound");
    let found = between(BEFORE, &after);
    let told: Vec<_> = found
        .skills
        .iter()
        .map(|s| {
            (
                s.id.as_str(),
                s.renamed_from.as_deref(),
                s.moved,
                s.fields.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("zwei", Some("two"), Some(Move { from: 1, to: 0 }), 0),
            ("one", None, None, 1),
        ]
    );
    let node = &found.skills[1].fields[0].nodes[0];
    assert_eq!(
        (node.name.as_str(), node.renamed_from.as_deref()),
        ("bound", Some("b"))
    );
}

#[test]
fn the_same_id_twice_is_two_skills() {
    let twice = "skill :a do\n title \"1\"\nend\nskill :a do\n title \"2\"\nend\n";
    assert!(between(twice, twice).is_empty());
    let found = between(twice, "skill :a do\n title \"1\"\nend\n");
    assert_eq!(found.skills.len(), 1);
    assert_eq!(
        (found.skills[0].fate, found.skills[0].fields.len()),
        (Fate::Removed, 1)
    );
}

#[test]
fn what_was_not_read_counts_too() {
    let found = between(
        "skill :a do\n title X\nend\n",
        "skill :a do\n title Y\nend\n",
    );
    assert_eq!(found.skills[0].fields[0].source.after, "title Y\n");
    let found = between("X = 1\n", "X = 2\n");
    assert_eq!(
        found.outside,
        Some(SourceDiff {
            before: "X = 1\n".into(),
            after: "X = 2\n".into()
        })
    );
    assert!(found.hash().is_ok());
}

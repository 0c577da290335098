use proptest::prelude::*;

use super::*;

const LAW: &str = "# the law\n\nskill :one do\n  content <<~MD\n    end\n    Text.\n  MD\nend\n\nskill(:two) { content \"2\" }\n# last\nskill \"three\" do\n  content '3'\nend";

fn edit(
    source: &str,
    with: impl FnOnce(Editor<'_>) -> Result<String, EditError>,
) -> Result<String, EditError> {
    with(Editor::new(source, &Law::read(source.as_bytes()))?)
}

#[test]
fn a_line_that_begins_with_end_within_a_text_ends_no_skill() {
    let after = edit(LAW, |e| {
        e.replace("one", "skill :one do\n  content \"1\"\nend\n")
    })
    .unwrap();
    let (head, tail) = ("# the law\n\n", "\n\nskill(:two) {");
    let new = "skill :one do\n  content \"1\"\nend";
    assert!(after.starts_with(&[head, new, tail].concat()), "{after}");
}

#[test]
fn every_spelling_of_a_declaration_is_found_and_none_is_doubled() {
    for id in ["one", "two", "three"] {
        let new = format!("skill :{id} do\n  content \"new\"\nend");
        let after = edit(LAW, |e| e.replace(id, &new)).unwrap();
        let law = Law::read(after.as_bytes());
        assert_eq!(law.skills.len(), 3);
        assert_eq!(law.skill(id).unwrap().content(), Some("new"));
    }
}

#[test]
fn backslashes_stay_as_they_are_written() {
    let new = "skill :two do\n  content 'a\\\\b \\\\0'\nend";
    let after = edit(LAW, |e| e.replace("two", new)).unwrap();
    assert!(after.contains(new));
}

#[test]
fn a_definition_of_another_skill_or_of_several_is_refused() {
    let refused = |id: &str, new: &str| edit(LAW, |e| e.replace(id, new)).unwrap_err();
    assert_eq!(
        refused("one", "skill :two do\nend"),
        EditError::OtherId {
            wanted: "one".to_owned(),
            found: "two".to_owned()
        }
    );
    for new in [
        "",
        "skill :core do\nend\nskill :one do\nend",
        "skill :one do\n  content BREW\nend",
        "system('x')\nskill :one do\nend",
        "# a comment\nskill :one do\nend",
        "skill :one do",
        "skill 'one' do\nend",
    ] {
        let refused = refused("one", new);
        assert!(
            matches!(refused, EditError::Definition(_)),
            "{new}: {refused}"
        );
    }
    assert_eq!(
        refused("four", "skill :four do\nend"),
        EditError::Unknown("four".to_owned())
    );
    let same = LAW.get(11..LAW.find("\n\nskill(").unwrap()).unwrap();
    assert_eq!(refused("one", same), EditError::Nothing);
}

#[test]
fn what_is_added_comes_last_and_is_removed_without_a_trace() {
    let whole = format!("{LAW}\n");
    let new = "skill :four do\n  content \"4\"\nend\n";
    let added = edit(&whole, |e| e.add("four", new)).unwrap();
    assert_eq!(added, format!("{whole}\n{new}"));
    let gone = edit(&added, |e| e.remove("four")).unwrap();
    assert_eq!(gone, format!("{whole}\n"));
    let again = edit(&added, |e| e.add("four", new)).unwrap_err();
    assert_eq!(again, EditError::Exists("four".to_owned()));
    // What Ruby does not read can be no place for a skill.
    assert!(
        edit("skill :a do\nend\n__END__\n", |e| e
            .add("b", "skill :b do\nend"))
        .is_err()
    );
}

#[test]
fn two_skills_of_one_name_are_for_a_person_to_mend() {
    let twice = "skill :a do\nend\nskill :a do\n  title \"x\"\nend\n";
    let refused = EditError::Twice("a".to_owned());
    assert_eq!(edit(twice, |e| e.remove("a")), Err(refused.clone()));
    assert_eq!(
        edit(twice, |e| e.replace("a", "skill :a do\n  title \"y\"\nend")),
        Err(refused)
    );
}

#[test]
fn two_files_differ_in_one_skill_or_the_difference_is_named() {
    let change = |after: &str| {
        let (was, is) = (Law::read(LAW.as_bytes()), Law::read(after.as_bytes()));
        only_change((LAW, &was), (after, &is))
    };
    let one = change(&LAW.replace("\"2\"", "\"zwei\"")).unwrap();
    assert_eq!((one.id.as_str(), one.fate), ("two", Fate::Kept));
    for (from, to) in [
        ("# last", "# least"),
        ("skill(:two)", "skill(:deux)"),
        ("# last\n", "FOO = 1\n"),
    ] {
        let two = LAW.replace("\"2\"", "\"zwei\"").replace(from, to);
        let refused = change(&two).unwrap_err();
        assert!(matches!(refused, EditError::More(_)), "{to}: {refused}");
    }
    assert_eq!(
        change(&LAW.replace("# last", "# least")),
        Err(EditError::Nothing)
    );
    let hidden = format!("skill :two do\n  content \"0\"\nend\n{LAW}");
    assert!(change(&hidden).is_err(), "the first of two counts");
}

/// Skills of any content, in any of the ways in which they can be written.
fn skill(id: usize) -> impl Strategy<Value = String> {
    let content = "[ -~é\\n]{0,40}";
    (content, 0..4usize).prop_map(move |(content, form)| {
        let text = super::super::Literal::Text(content).source();
        match form {
            0 => format!("skill :s{id} do\n  content {text}\nend"),
            1 => format!("skill(:s{id}) {{ content({text}) }}"),
            2 => format!(
                "skill :s{id} do # why\n  title {text}\n  content <<~'E'\n    end\n    x\n  E\nend"
            ),
            _ => format!("skill \"s{id}\" do content {text} end"),
        }
    })
}

fn law() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    (1..6usize).prop_flat_map(|count| {
        let skills: Vec<_> = (0..count).map(skill).collect();
        let gap = prop_oneof![
            Just("\n"),
            Just("\n\n"),
            Just("\n# note\n\n"),
            Just("\n\n\n")
        ];
        let gaps = proptest::collection::vec(gap.prop_map(str::to_owned), count + 1);
        (skills, gaps)
    })
}

fn joined((skills, gaps): &(Vec<String>, Vec<String>)) -> String {
    let mut text = gaps.first().cloned().unwrap_or_default();
    for (skill, gap) in skills.iter().zip(gaps.iter().skip(1)) {
        text.push_str(skill);
        text.push_str(gap);
    }
    text
}

proptest! {
    #[test]
    fn an_edit_changes_one_skill_and_leaves_every_other_byte(law in law(), at in any::<prop::sample::Index>(), text in "[ -~]{0,20}") {
        let source = joined(&law);
        let at = at.index(law.0.len());
        let id = format!("s{at}");
        let new = format!("skill :{id} do\n  use_when {}\nend", super::super::Literal::Text(text).source());
        let after = edit(&source, |e| e.replace(&id, &new)).unwrap();
        let mut expected = law.clone();
        expected.0[at] = new.clone();
        prop_assert_eq!(&after, &joined(&expected));
        // And back, byte for byte, unless the id was a text, which none is that is written by an edit.
        if !law.0[at].starts_with("skill \"") {
            prop_assert_eq!(edit(&after, |e| e.replace(&id, &law.0[at])).unwrap(), source.clone());
        }
        let read = Law::read(after.as_bytes());
        let was = Law::read(source.as_bytes());
        for (place, (was, is)) in was.skills.iter().zip(&read.skills).enumerate() {
            prop_assert!(place == at || was == is);
        }
    }

    #[test]
    fn what_is_added_and_removed_leaves_what_was_there(law in law(), at in any::<prop::sample::Index>()) {
        let source = joined(&law);
        let new = "skill :fresh do\n  title \"x\"\nend";
        let added = edit(&source, |e| e.add("fresh", new)).unwrap();
        prop_assert!(added.starts_with(&source));
        let gone = edit(&added, |e| e.remove("fresh")).unwrap();
        prop_assert_eq!(gone.trim_end(), source.trim_end());
        let id = format!("s{}", at.index(law.0.len()));
        let gone = edit(&source, |e| e.remove(&id)).unwrap();
        let (was, is) = (Law::read(source.as_bytes()), Law::read(gone.as_bytes()));
        let rest: Vec<_> = was.skills.iter().filter(|skill| skill.id != id).cloned().collect();
        prop_assert_eq!(is.skills, rest);
    }

    #[test]
    fn no_definition_gets_more_in_than_one_skill(text in "(skill|end|do|:a|content|\"|\n| |\\{|\\}|<<~E|E|x|;|=begin|__END__|#){0,24}") {
        let source = "skill :a do\n  title \"t\"\nend\nskill :b do\n  title \"u\"\nend\n";
        if let Ok(after) = edit(source, |e| e.replace("a", &text)) {
            let law = Law::read(after.as_bytes());
            prop_assert_eq!(law.skills.len(), 2);
            prop_assert_eq!(law.skill("b").unwrap().title(), Some("u"));
        }
    }
}

//! Which of the extensions on disk are in effect.

use super::*;

fn word(text: &str) -> Word {
    text.parse().unwrap()
}

struct Place {
    dir: tempfile::TempDir,
    store: ExtensionStore,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = ExtensionStore::new(dir.path());
    fs::create_dir_all(dir.path().join(EXTENSIONS)).unwrap();
    Place { dir, store }
}

fn text(name: &str, actions: &str, more: &str) -> String {
    format!(
        "---\nname: {name}\ntype: protocol_extension\nactions: [{actions}]\n{more}---\n\nHow.\n"
    )
}

impl Place {
    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a text and a note in place, as if somebody had consented, whatever the guard says.
    fn put(&self, text: &str) {
        let extension = Extension::read(text).unwrap();
        let consent = Consent {
            by: "local".to_owned(),
            at: Timestamp::EPOCH,
            content_hash: extension.content_hash,
        };
        let entry = Entry {
            state: State::Adopted,
            from: "local".to_owned(),
            proposed_at: Timestamp::EPOCH,
            consent: Some(consent),
            reasons: Vec::new(),
            extension,
        };
        let name = &entry.extension.name;
        self.write(&text_file(name), text);
        self.write(&note_file(name), serde_json::to_vec(&entry).unwrap());
    }

    /// Each that is not in effect, and why.
    fn left(&self) -> Vec<(String, String)> {
        let listed = self.store.list().unwrap().into_iter();
        let left = listed.filter(|one| one.standing == Standing::NotInEffect);
        left.map(|one| (one.name.to_string(), one.why.join("; ")))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        let offer = self.store.offer().unwrap();
        offer
            .extensions
            .iter()
            .map(|one| one.name.to_string())
            .collect()
    }

    fn refused(&self, name: &str, text: &str) -> String {
        let change = Change::ExtensionAdopt { name: word(name) };
        self.store
            .judge(&change, text.as_bytes())
            .unwrap_err()
            .to_string()
    }
}

#[test]
fn what_a_person_consented_to_is_in_effect_and_nothing_else() {
    let place = place();
    assert_eq!(place.names(), [""; 0]);
    place.put(&text("weather", "ask_weather", "requires: [air]\n"));
    place.put(&text("air", "ask_air", ""));
    place.write("skills/extensions/notes.txt", "mine");
    place.write(
        "skills/extensions/disabled/tides.md",
        text("tides", "ask_tides", ""),
    );
    assert_eq!(
        place.names(),
        ["air", "weather"],
        "what is needed comes first"
    );
    assert!(place.store.offer().unwrap().knows("ask_weather"));
    assert!(!place.store.offer().unwrap().knows("ask_tides"));
    let listed = place.store.list().unwrap();
    let standing: Vec<_> = listed
        .iter()
        .map(|one| (one.name.as_str(), one.standing))
        .collect();
    use Standing::{Disabled, InEffect};
    assert_eq!(
        standing,
        [
            ("air", InEffect),
            ("weather", InEffect),
            ("tides", Disabled)
        ]
    );
    // Another text than the one that was consented to, no note, a note of a state that there is not.
    place.write(
        "skills/extensions/air.md",
        text("air", "ask_air, ask_more", ""),
    );
    place.write("skills/extensions/wind.md", text("wind", "ask_wind", ""));
    place.put(&text("rain", "ask_rain", ""));
    let path = place.dir.path().join("skills/extensions/rain.json");
    let note = fs::read_to_string(&path).unwrap();
    fs::write(&path, note.replace("\"adopted\"", "\"promoted\"")).unwrap();
    assert_eq!(place.names(), [""; 0]);
    let left = place.left();
    let why = |name: &str| &left.iter().find(|(known, _)| known == name).unwrap().1;
    assert!(
        why("air").contains("another one than was approved"),
        "{left:?}"
    );
    assert!(why("wind").contains("nobody consented"), "{left:?}");
    assert!(
        why("rain").contains("unknown variant `promoted`"),
        "{left:?}"
    );
    assert!(why("weather").contains("it needs `air`"), "{left:?}");
    for state in ["disabled", "evaluating", "proposed", "rejected"] {
        fs::write(&path, note.replace("\"adopted\"", &format!("{state:?}"))).unwrap();
        assert!(
            place
                .left()
                .iter()
                .any(|(_, why)| why.contains("tells of no consent"))
        );
    }
}

#[test]
fn the_guard_has_the_last_word_also_over_files_that_somebody_put_there() {
    let place = place();
    place.put(&text("core", "introduce", ""));
    place.put(&text("one", "ask", ""));
    place.put(&text("two", "ask", ""));
    place.put(&text("runs", "shell_exec", ""));
    place.put(&text("first", "go_first", "bootstrap: true\n"));
    place.put(&text("meeting_protocol_core", "x", ""));
    assert_eq!(place.names(), ["one"], "{:?}", place.left());
    let link = place.dir.path().join("skills/extensions/link.md");
    std::os::unix::fs::symlink("one.md", link).unwrap();
    let left = place.left();
    assert!(
        left.iter()
            .any(|(name, why)| name == "link" && why.contains("no plain file")),
        "{left:?}"
    );
}

#[test]
fn every_refusal_says_why() {
    let place = place();
    place.put(&text("one", "ask", ""));
    for (name, text, told) in [
        (
            "two",
            text("two", "introduce", ""),
            "the actions `introduce` are the protocol's own",
        ),
        (
            "two",
            text("two", "offer_skillset", ""),
            "the protocol's own",
        ),
        (
            "two",
            text("two", "ask", ""),
            "`ask` is an action of the extension `one`",
        ),
        (
            "two",
            text("two", "file_write", ""),
            "no agent may have the actions `file_write`",
        ),
        (
            "two",
            text("two", "evaluate_it", ""),
            "look as if they would execute something",
        ),
        (
            "two",
            text("two", "a", "immutable: true\n"),
            "may not claim `immutable`",
        ),
        (
            "two",
            text("two", "a", "layer: L0\n"),
            "may not claim `layer`",
        ),
        (
            "two",
            text("two", "a", "requires: [three]\n"),
            "it needs `three`",
        ),
        (
            "two",
            text("two", "a", "handler: run.rb\n"),
            "`handler` names something to be run",
        ),
        (
            "two",
            text("three", "a", ""),
            "the text is of the extension `three`",
        ),
        ("two", "no frontmatter".to_owned(), "no frontmatter"),
        (
            "two",
            format!("{}{}", text("two", "a", ""), "x".repeat(TEXT_MAX)),
            "100000 bytes at most",
        ),
        (
            "one",
            text("one", "ask, more", ""),
            "is in effect; disable it before another text",
        ),
        (
            "meeting_protocol_core",
            text("meeting_protocol_core", "a", ""),
            "is built in; give the extension its own name",
        ),
    ] {
        let refused = place.refused(name, &text);
        assert!(refused.contains(told), "{told}: {refused}");
    }
    let change = Change::ExtensionAdopt { name: word("two") };
    place
        .store
        .judge(&change, text("two", "other", "").as_bytes())
        .unwrap();
    assert!(
        place
            .store
            .judge(&change, b"\xff")
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
    // What another one needs stays.
    place.put(&text("above", "ask_above", "requires: [one]\n"));
    let disable = |name: &str| {
        let change = Change::ExtensionDisable { name: word(name) };
        place
            .store
            .judge(&change, b"")
            .map_err(|fault| fault.to_string())
    };
    assert!(disable("one").unwrap_err().contains("is needed by `above`"));
    assert_eq!(disable("above"), Ok(()));
    assert!(
        disable("nothing")
            .unwrap_err()
            .contains("no extension `nothing` was proposed")
    );
}

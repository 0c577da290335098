use proptest::prelude::*;

use super::*;
use crate::time::Timestamp;

fn text(name: &str, actions: &str, more: &str) -> String {
    format!(
        "---\nname: {name}\ntype: protocol_extension\nactions: {actions}\n{more}---\n\nHow it goes.\n"
    )
}

fn extension(name: &str, actions: &str, more: &str) -> Extension {
    Extension::read(&text(name, actions, more)).unwrap()
}

fn word(word: &str) -> Word {
    word.parse().unwrap()
}

fn consent(extension: &Extension) -> Consent {
    Consent {
        by: "the owner".to_owned(),
        at: Timestamp::from_secs(2),
        content_hash: extension.content_hash,
    }
}

fn adopted(registry: &mut Registry, extension: &Extension) -> Result<(), RegistryError> {
    registry.propose(extension.clone(), "a peer", Timestamp::from_secs(1))?;
    registry.evaluate(&extension.name)?;
    registry.adopt(&extension.name, consent(extension))
}

#[test]
fn reads_what_frontmatter_declares() {
    let source = text(
        "weather",
        "[ask_weather, tell_weather, ask_weather]",
        "version: 1.10\nlayer: L2\nrequires: [meeting_protocol_core]\nextends: meeting_protocol_core\n\
         description: \"a --- b\"\nunknown: 1\n",
    );
    let read = Extension::read(&source).unwrap();
    assert_eq!(read.actions, [word("ask_weather"), word("tell_weather")]);
    assert_eq!(read.requires, [word(CORE)]);
    assert_eq!(read.extends, Some(word(CORE)));
    assert_eq!(read.description, "a --- b");
    assert_eq!(read.kind, Kind::Extension);
    assert_eq!(read.content_hash, ContentHash::of(&source));
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Extension>(&json).unwrap(), read);
    assert_eq!(extension("a", "[]", "").version.as_str(), "1.0.0");
}

#[test]
fn refuses_what_is_no_extension() {
    for (source, told) in [
        ("no frontmatter".to_owned(), "no frontmatter"),
        (text("../../x", "[]", ""), "`name`: `../../x` is no name"),
        (
            text("a", "[]", "handler: run.rb\n"),
            "`handler` names something to be run",
        ),
        (
            text("a", "[]", "tool_classes: [A]\n"),
            "an extension has no code; leave it out",
        ),
        (text("Upper", "[]", ""), "is no name"),
        (text("a", "[\"a/b\"]", ""), "`actions`: `a/b` is no name"),
        (text("a", "[1]", ""), "`actions` must be a list of names"),
        (text("a", "ask", ""), "`actions` must be a list of names"),
        (
            text("a", "[]", "bootstrap: maybe\n"),
            "`bootstrap` must be true or false",
        ),
        (
            text("a", "[]", "version: [1]\n"),
            "`version` must be a version",
        ),
        (
            text("a", "[]", "requires: [\"\"]\n"),
            "`requires`: `` is no name",
        ),
        (
            text("a", "[]", &format!("description: {}\n", "x".repeat(1_001))),
            "`description` must be",
        ),
        (
            text(
                "a",
                &format!(
                    "[{}]",
                    (0..21)
                        .map(|n| format!("a{n}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
                "",
            ),
            "more than 20",
        ),
        (
            "---\nname: a\ntype: skill\n---\n".to_owned(),
            "`type` must be",
        ),
        (
            "---\ntype: protocol_extension\n---\n".to_owned(),
            "`name` must be a name",
        ),
        (
            format!("{}{}", text("a", "[]", ""), "x".repeat(TEXT_MAX)),
            "100000 bytes at most",
        ),
    ] {
        let error = Extension::read(&source).unwrap_err().to_string();
        assert!(error.contains(told), "{source:.80}: {error}");
    }
}

#[test]
fn the_guard_tells_every_reason_at_once() {
    let other = extension("other", "[share_map]", "");
    let adopted = [&other];
    let guard = Guard { adopted: &adopted };
    let reasons = |extension: &Extension| {
        let found = guard.judge(extension).into_iter();
        found.map(|reason| reason.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(&extension("good", "[ask_weather]", "requires: [other]\n")),
        [] as [&str; 0]
    );
    let bad = extension(
        "meeting_protocol_core",
        "[introduce, offer_skillset, eval, run_command, share_map]",
        "bootstrap: true\nimmutable: true\nlayer: L0\nrequires: [missing, gone, missing]\nextends: lost\n",
    );
    assert_eq!(
        reasons(&bad),
        [
            "an extension may not claim `bootstrap`; leave it out",
            "an extension may not claim `immutable`; leave it out",
            "an extension may not claim `layer`; leave it out",
            "`meeting_protocol_core` is built in; give the extension its own name",
            "the actions `introduce`, `offer_skillset` are the protocol's own; give the extension's their own names",
            "no agent may have the actions `eval`",
            "the actions `run_command` look as if they would execute something, which nothing from outside does",
            "`share_map` is an action of the extension `other`; disable that one first",
            "it needs `gone`, `lost`, `missing`, which must be adopted first",
        ]
    );
    for action in CORE_ACTIONS {
        let override_ = extension("good", &format!("[{action}]"), "");
        assert!(
            matches!(
                &*guard.judge(&override_),
                [Rejection::CoreActionOverride { .. }]
            ),
            "{action}"
        );
    }
    // Its own actions are no collision for a newer text of it.
    assert_eq!(
        reasons(&extension("other", "[share_map, more]", "")),
        [] as [&str; 0]
    );
    let definition = text("good", "[]", "").replace("protocol_extension", "protocol_definition");
    let definition = Extension::read(&definition).unwrap();
    assert_eq!(
        reasons(&definition),
        ["an extension may not claim `type: protocol_definition`; leave it out"]
    );
}

#[test]
fn loads_what_is_needed_first_and_keeps_the_first_of_two() {
    let a = extension("a", "[act, introduce]", "requires: [c]\n");
    let b = extension("b", "[act]", "requires: [a]\n");
    let c = extension("c", "[see]", "extends: meeting_protocol_core\n");
    let again = extension("c", "[other]", "");
    let (d, e) = (
        extension("d", "[]", "requires: [e]\n"),
        extension("e", "[]", "requires: [d]\n"),
    );
    let loaded = load(&[&b, &a, &e, &c, &again, &d]);
    let names = |of: &[&Extension]| {
        of.iter()
            .map(|one| one.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&loaded.order), ["c", "a", "b"]);
    assert_eq!(names(&loaded.left_out), ["d", "e"]);
    let actions: Vec<_> = loaded
        .actions
        .iter()
        .map(|(action, of)| format!("{action} of {of}"))
        .collect();
    assert_eq!(actions, ["see of c", "act of a"]);
    assert_eq!(
        loaded.collisions,
        [
            Collision::Name { name: word("c") },
            Collision::Action {
                action: word("introduce"),
                kept_by: None,
                lost_by: word("a")
            },
            Collision::Action {
                action: word("act"),
                kept_by: Some(word("a")),
                lost_by: word("b")
            },
        ]
    );
    assert_eq!(load(&[]), Loaded::default());
}

#[test]
fn nothing_is_adopted_without_consent_to_exactly_this_text() {
    let mut registry = Registry::default();
    let weather = extension("weather", "[ask_weather]", "");
    let name = &weather.name;
    let now = Timestamp::from_secs(1);
    assert_eq!(
        registry.adopt(name, consent(&weather)),
        Err(RegistryError::Unknown(name.clone()))
    );
    registry.propose(weather.clone(), "a peer", now).unwrap();
    let no_step = |state| {
        Err(RegistryError::NoStep {
            name: name.clone(),
            state,
        })
    };
    assert_eq!(
        registry.adopt(name, consent(&weather)),
        no_step(State::Proposed)
    );
    assert_eq!(registry.evaluate(name), Ok(State::Evaluating));
    assert_eq!(registry.adopted(), [] as [&Extension; 0]);

    let changed = extension("weather", "[ask_weather, ask_more]", "");
    assert_eq!(
        registry.adopt(name, consent(&changed)),
        Err(RegistryError::OtherText(name.clone()))
    );
    let nobody = Consent {
        by: " ".to_owned(),
        ..consent(&weather)
    };
    assert_eq!(registry.adopt(name, nobody), Err(RegistryError::Who));
    assert_eq!(registry.adopt(name, consent(&weather)), Ok(()));
    assert_eq!(registry.adopted(), [&weather]);

    // What is in effect is not exchanged under anybody's hands.
    let error = registry
        .propose(changed.clone(), "a peer", now)
        .unwrap_err();
    assert_eq!(error, RegistryError::InEffect(name.clone()));
    assert_eq!(
        registry.forget(name),
        Err(RegistryError::InEffect(name.clone()))
    );
    assert_eq!(registry.disable(name), Ok(()));
    assert_eq!(registry.adopted(), [] as [&Extension; 0]);
    // It comes back with consent only.
    assert_eq!(registry.get(name).unwrap().consent, None);
    assert_eq!(registry.adopt(name, consent(&weather)), Ok(()));
    assert_eq!(registry.disable(name), Ok(()));
    registry.propose(changed.clone(), "a peer", now).unwrap();
    assert_eq!(
        registry.adopt(name, consent(&changed)),
        no_step(State::Proposed)
    );
    let json = serde_json::to_string(&registry).unwrap();
    assert_eq!(serde_json::from_str::<Registry>(&json).unwrap(), registry);
    assert!(registry.forget(name).is_ok());
    assert_eq!(registry.entries().count(), 0);
}

#[test]
fn the_guard_looks_again_when_a_person_consents() {
    let mut registry = Registry::default();
    let (a, b) = (extension("a", "[act]", ""), extension("b", "[act]", ""));
    let now = Timestamp::from_secs(1);
    for one in [&a, &b] {
        registry.propose(one.clone(), "a peer", now).unwrap();
        assert_eq!(registry.evaluate(&one.name), Ok(State::Evaluating));
    }
    assert_eq!(registry.adopt(&a.name, consent(&a)), Ok(()));
    let error = registry.adopt(&b.name, consent(&b)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the extension `b` is refused: `act` is an action of the extension `a`; disable that one first"
    );
    let needs = extension("c", "[]", "requires: [a]\n");
    assert_eq!(adopted(&mut registry, &needs), Ok(()));
    let error = registry.disable(&a.name).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`a` is needed by `c`; disable that one first"
    );
    assert_eq!(registry.disable(&needs.name), Ok(()));
    assert_eq!(registry.disable(&a.name), Ok(()));
    let evil = extension("evil", "[shell_exec]", "");
    registry.propose(evil.clone(), "a peer", now).unwrap();
    assert_eq!(registry.evaluate(&evil.name), Ok(State::Rejected));
    assert_eq!(
        registry.get(&evil.name).unwrap().reasons,
        ["no agent may have the actions `shell_exec`"]
    );
    assert!(registry.adopt(&evil.name, consent(&evil)).is_err());
    assert!(registry.reject(&b.name, "not wanted").is_ok());
    assert!(registry.reject(&b.name, "not wanted").is_err());
}

#[test]
fn keeps_no_more_than_it_may() {
    let mut registry = Registry::default();
    let now = Timestamp::from_secs(1);
    for n in 0..ENTRIES_MAX {
        let one = extension(&format!("x{n}"), "[]", "");
        registry.propose(one, "a peer", now).unwrap();
    }
    let more = extension("more", "[]", "");
    assert_eq!(
        registry.propose(more.clone(), "a peer", now),
        Err(RegistryError::Full)
    );
    assert_eq!(registry.propose(more, "", now), Err(RegistryError::Who));
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0_u8..6, 0_u8..4), 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_what_is_in_effect_has_consent_and_no_collisions(steps in steps()) {
        let all = [
            extension("a", "[act]", ""),
            extension("b", "[act, see]", "requires: [a]\n"),
            extension("c", "[see]", ""),
            extension("d", "[introduce]", "requires: [c]\n"),
        ];
        let mut registry = Registry::default();
        for (step, which) in steps {
            let one = &all[usize::from(which)];
            let name = &one.name;
            // Whether it leads anywhere is the registry's matter.
            let _ = match step {
                0 => registry.propose(one.clone(), "a peer", Timestamp::from_secs(1)).map(drop),
                1 => registry.evaluate(name).map(drop),
                2 => registry.adopt(name, consent(one)),
                3 => registry.disable(name),
                4 => registry.reject(name, "no"),
                _ => registry.forget(name).map(drop),
            };
            let adopted = registry.adopted();
            let loaded = load(&adopted);
            prop_assert_eq!(&loaded.collisions, &[]);
            prop_assert_eq!(loaded.order.len(), adopted.len());
            for entry in registry.entries() {
                prop_assert_eq!(entry.consent.is_some(), entry.state == State::Adopted);
            }
        }
    }

    #[test]
    fn reading_any_text_ends_in_an_extension_or_an_error(text in "(---\n)?(name|type|actions|requires|version): .{0,40}\n(type: protocol_extension\n)?(---\n)?.{0,40}") {
        if let Ok(extension) = Extension::read(&text) {
            prop_assert!(extension.actions.len() <= ACTIONS_MAX);
        }
    }
}

//! The table of settings and the structs agree.

use super::*;

#[test]
fn every_setting_is_explained_and_its_default_is_within_its_bound() {
    let settings = Settings::default();
    for (key, value) in settings.values() {
        assert!(
            key.doc.iter().all(|line| line.trim().len() > 10),
            "{}",
            key.name
        );
        assert_eq!((key.check)(&value), Ok(()), "{}", key.name);
    }
    assert_eq!(settings.contradictions().count(), 0);
}

#[test]
fn the_table_and_the_structs_name_the_same_keys() {
    let tree = serde_json::to_value(Settings::default()).unwrap();
    let in_structs: Vec<String> = tree
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(group, fields)| {
            fields
                .as_object()
                .unwrap()
                .keys()
                .map(move |field| format!("{group}.{field}"))
        })
        .collect();
    assert_eq!(in_structs, keys().map(|key| key.name).collect::<Vec<_>>());
}

#[test]
fn says_what_a_value_must_be() {
    for (name, value, wanted) in [
        ("http.port", "70000", "a whole number from 0 to 65535"),
        (
            "http.max_connections",
            "0",
            "a whole number from 1 to 1000000",
        ),
        ("sessions.ttl", "soon", "a duration from 1s to 30days"),
        ("limits.body", "0", "a size from 1KiB to 1GiB"),
        (
            "identity.name",
            "  ",
            "a text of one line with 1 to 128 characters",
        ),
        (
            "identity.name",
            "two\nlines",
            "a text of one line with 1 to 128 characters",
        ),
        ("http.host", "not a host", "a host name or an IP address"),
        ("sessions.read", "trusted", "introduced or proven"),
        ("meeting.enabled", "maybe", "true or false"),
        (
            "log.level",
            "loud",
            "a log level such as info, or several such as info,kairos_actors=debug",
        ),
    ] {
        let key = keys().find(|key| key.name == name).unwrap();
        assert_eq!(
            (key.check)(&(key.from_text)(value)),
            Err(wanted.to_owned()),
            "{name}"
        );
    }
}

#[test]
fn settings_differ_in_the_keys_that_were_changed() {
    let (before, mut after) = (Settings::default(), Settings::default());
    assert!(before.differences(&after).is_empty());
    after.log.level = "debug".to_owned();
    after.http.names = vec!["a.example".to_owned()];
    assert_eq!(before.differences(&after), ["http.names", "log.level"]);
}

#[test]
fn finds_limits_that_contradict_each_other() {
    let mut settings = Settings::default();
    settings.limits.inbox_per_peer = settings.limits.inbox + 1;
    let found: Vec<_> = settings.contradictions().collect();
    assert_eq!(found, [("limits.inbox_per_peer", "limits.inbox")]);
}

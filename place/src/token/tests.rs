use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_771_000_000 + secs)
}

fn raw(n: u8) -> RawToken {
    RawToken::from_random([n; 32])
}

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn of(name: &str) -> Which {
    Which::Of(user(name))
}

fn hours(n: u64) -> Lifetime {
    Lifetime::For(Duration::from_secs(n * 3600))
}

fn book(tokens: &[(u8, &str, Role, Lifetime)]) -> TokenBook {
    let mut book = TokenBook::default();
    for (n, name, role, life) in tokens {
        book.issue(&raw(*n), user(name), *role, *life, "system", at(0))
            .unwrap();
    }
    book
}

/// What the reference wrote, to the byte.
const WRITTEN: &str = r#"{
  "version": 1,
  "updated_at": "2026-02-13T16:26:40+00:00",
  "tokens": [
    {
      "token_hash": "HASH",
      "user": "ada",
      "role": "owner",
      "issued_at": "2026-02-13T16:26:40+00:00",
      "expires_at": null,
      "issued_by": "system",
      "status": "active"
    }
  ]
}"#;

#[test]
fn writes_what_the_reference_writes() {
    let book = book(&[(1, "ada", Role::Owner, Lifetime::Never)]);
    let expected = WRITTEN.replace("HASH", &raw(1).hash().to_hex());
    assert_eq!(String::from_utf8(book.to_bytes(at(0))).unwrap(), expected);
}

#[test]
fn a_token_that_was_made_for_one_use_leaves_nothing_and_takes_no_other_with_it() {
    let mut book = book(&[
        (1, "ada", Role::Owner, Lifetime::Never),
        (2, "bo", Role::Member, hours(1)),
        (3, "cy", Role::Guest, hours(1)),
    ]);
    assert_eq!(book.discard(&raw(9).hash()), None);
    assert_eq!(book.discard(&raw(2).hash()).unwrap().user, user("bo"));
    assert_eq!(book.discard(&raw(2).hash()), None);
    let users: Vec<String> = book.tokens().map(|token| token.user.to_string()).collect();
    assert_eq!(users, ["ada", "cy"]);
    assert!(book.authenticate(raw(2).reveal(), at(0)).is_none());
    assert!(book.authenticate(raw(3).reveal(), at(0)).is_some());
}

#[test]
fn a_token_opens_until_its_time_is_over_or_it_is_revoked() {
    let mut book = book(&[
        (1, "ada", Role::Owner, Lifetime::Never),
        (2, "bo", Role::Member, hours(1)),
    ]);
    let role = |book: &TokenBook, n: u8, secs| {
        let token = book.authenticate(raw(n).reveal(), at(secs));
        token.map(|token| (token.user.to_string(), token.role))
    };
    assert_eq!(
        role(&book, 1, 1 << 32),
        Some(("ada".to_owned(), Role::Owner))
    );
    assert_eq!(role(&book, 2, 3600), Some(("bo".to_owned(), Role::Member)));
    assert_eq!(role(&book, 2, 3601), None);
    assert_eq!(role(&book, 3, 0), None);
    assert_eq!(book.authenticate("", at(0)), None);
    assert_eq!(book.authenticate(&raw(1).hash().to_hex(), at(0)), None);
    let revoked = book.revoke(&of("ada")).unwrap();
    assert_eq!(revoked.len(), 1);
    assert_eq!(role(&book, 1, 0), None);
    let unknown = book.revoke(&of("ada")).unwrap_err().to_string();
    assert_eq!(unknown, "no active tokens found for user 'ada'");
    let again = TokenBook::parse(&book.to_bytes(at(5))).unwrap();
    assert_eq!(role(&again, 1, 0), None);
    assert_eq!(role(&again, 2, 0), Some(("bo".to_owned(), Role::Member)));
}

#[test]
fn rotation_keeps_the_role_and_exactly_the_lifetime() {
    let ninety = Lifetime::For(Duration::from_secs(90 * 60));
    let mut book = book(&[(1, "bo", Role::Guest, ninety)]);
    let (fresh, revoked) = book.rotate(&of("bo"), &raw(2), "ada", at(60)).unwrap();
    assert_eq!(
        (fresh.role, fresh.expires_at),
        (Role::Guest, Some(at(60 + 5400)))
    );
    assert_eq!((fresh.issued_by.as_str(), revoked.len()), ("ada", 1));
    assert!(book.authenticate(raw(1).reveal(), at(60)).is_none());
    assert!(book.authenticate(raw(2).reveal(), at(60 + 5400)).is_some());
    // Also one whose time is over, which the reference turns into one that is over at once.
    let (fresh, _) = book.rotate(&of("bo"), &raw(3), "ada", at(99_999)).unwrap();
    assert_eq!(fresh.expires_at, Some(at(99_999 + 5400)));
    assert_eq!(
        book.rotate(&of("eve"), &raw(4), "ada", at(0)),
        Err(TokenError::UnknownUser(user("eve")))
    );
}

#[test]
fn a_rotation_never_gives_more_than_one_token_had() {
    let mut book = book(&[
        (1, "bo", Role::Owner, hours(1)),
        (2, "bo", Role::Guest, hours(9)),
    ]);
    let several = book.rotate(&of("bo"), &raw(3), "x", at(0)).unwrap_err();
    assert_eq!(several, TokenError::Several(user("bo")));
    // The owner's is over, so it has no say any more.
    let (fresh, revoked) = book.rotate(&of("bo"), &raw(3), "x", at(7200)).unwrap();
    assert_eq!((fresh.role, revoked.len()), (Role::Guest, 2));
}

#[test]
fn one_token_is_told_by_the_start_of_its_hash() {
    let mut book = book(&[
        (1, "bo", Role::Member, hours(1)),
        (2, "bo", Role::Member, hours(1)),
    ]);
    let which = Which::Hash(raw(2).hash().to_hex()[..8].parse().unwrap());
    assert_eq!(book.revoke(&which).unwrap().len(), 1);
    assert!(book.authenticate(raw(1).reveal(), at(0)).is_some());
    assert!(matches!(
        book.revoke(&which),
        Err(TokenError::UnknownHash(_))
    ));
    let which = Which::Hash(raw(1).hash().to_hex().parse().unwrap());
    let (fresh, revoked) = book.rotate(&which, &raw(3), "x", at(0)).unwrap();
    assert_eq!((fresh.hash, revoked.len()), (raw(3).hash(), 1));
}

#[test]
fn what_is_not_known_here_is_kept() {
    let hash = raw(1).hash();
    let text = format!(
        r#"{{"note":{{"b":1,"a":2}},"version":1,"tokens":[{{"token_hash":"{hash}","user":"ada","role":"owner",
            "issued_at":"2026-02-13T17:26:40+01:00","expires_at":null,"issued_by":"x","status":"active",
            "pubkey_hash":"cafe","extra":[1.0]}}, 7, {{"user":"who"}}]}}"#
    );
    let mut book = TokenBook::parse(text.as_bytes()).unwrap();
    assert_eq!(book.unreadable().count(), 2);
    book.revoke(&of("ada")).unwrap();
    let written: Value = serde_json::from_slice(&book.to_bytes(at(0))).unwrap();
    assert_eq!(written["note"].to_string(), r#"{"b":1,"a":2}"#);
    let token = &written["tokens"][0];
    assert_eq!(token["pubkey_hash"], "cafe");
    assert_eq!(token["extra"].to_string(), "[1.0]");
    assert_eq!(token["issued_at"], "2026-02-13T17:26:40+01:00");
    assert_eq!(token["status"], "revoked");
    assert_eq!(written["tokens"][1], 7);
    assert_eq!(written["tokens"][2]["user"], "who");
}

#[test]
fn an_entry_that_cannot_be_read_opens_nothing_and_hides_no_other() {
    let good = r#""issued_at":"2026-02-13T17:26:40Z","issued_by":"x""#;
    let (one, two) = (raw(1).hash(), raw(2).hash());
    for bad in [
        format!(r#"{{"token_hash":"{one}","user":"a","role":"root","status":"active",{good}}}"#),
        format!(
            r#"{{"token_hash":"{one}","user":"../a","role":"owner","status":"active",{good}}}"#
        ),
        format!(r#"{{"token_hash":"{one}","user":"a","role":"owner","status":true,{good}}}"#),
        format!(r#"{{"token_hash":"{one}","user":"a","role":"owner","status":"Active",{good}}}"#),
        format!(
            r#"{{"token_hash":"{one}","user":"a","role":"owner","status":"active","issued_at":"soon"}}"#
        ),
        format!(
            r#"{{"token_hash":"{one}","user":"a","role":"owner","status":"active","expires_at":0,{good}}}"#
        ),
        format!(
            r#"{{"token_hash":"{one}","user":"a","role":"owner","status":"active","expires_at":"",{good}}}"#
        ),
        format!(r#"{{"token_hash":["{one}"],"user":"a","role":"owner","status":"active",{good}}}"#),
        "null".to_owned(),
        "[]".to_owned(),
    ] {
        let text = format!(
            r#"{{"version":1,"tokens":[{bad},{{"token_hash":"{two}","user":"b","role":"guest","status":"active",{good}}}]}}"#
        );
        let book = TokenBook::parse(text.as_bytes()).unwrap();
        assert!(book.authenticate(raw(1).reveal(), at(0)).is_none(), "{bad}");
        assert!(book.authenticate(raw(2).reveal(), at(0)).is_some(), "{bad}");
    }
}

#[test]
fn several_entries_with_one_hash_open_nothing_and_are_not_pruned() {
    let entry = |role: &str, status: &str| {
        format!(
            r#"{{"token_hash":"{}","user":"a","role":"{role}","status":"{status}","issued_at":"2026-02-13T17:26:40Z"}}"#,
            raw(1).hash()
        )
    };
    let pair = [entry("guest", "revoked"), entry("owner", "active")].join(",");
    let mut book = TokenBook::parse(format!(r#"{{"tokens":[{pair}]}}"#).as_bytes()).unwrap();
    assert!(book.authenticate(raw(1).reveal(), at(0)).is_none());
    assert_eq!(book.prune(at(0)), 0);
    assert!(book.authenticate(raw(1).reveal(), at(0)).is_none());
    assert!(book.opens_nothing(at(0)));
    assert_eq!(book.unreadable().count(), 2);
}

#[test]
fn a_file_that_is_something_else_is_refused_whole() {
    for (text, words) in [
        ("", "not JSON"),
        ("[]", "an array"),
        ("{\"tokens\":{}}", "not a list"),
        ("{\"version\":2,\"tokens\":[]}", "version 2"),
        ("{\"version\":\"1\",\"tokens\":[]}", "version \"1\""),
        ("{\"version\":1,\"tokens\":[", "not JSON"),
        ("\u{feff}{}", "not JSON"),
    ] {
        let error = TokenBook::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(matches!(
        TokenBook::parse(&vec![b' '; FILE_MAX + 1]),
        Err(TokenFileError::TooLarge)
    ));
}

#[test]
fn the_number_of_tokens_is_bounded_and_what_is_over_makes_room() {
    let mut book = TokenBook::default();
    let mut random = [0; 32];
    for n in 0..TOKENS_MAX {
        random[..8].copy_from_slice(&n.to_be_bytes());
        let (raw, life) = (RawToken::from_random(random), hours(1 + n as u64 % 2));
        book.issue(&raw, user("bo"), Role::Guest, life, "x", at(0))
            .unwrap();
    }
    random[..8].copy_from_slice(&7_777usize.to_be_bytes());
    let known = RawToken::from_random(random);
    assert!(book.authenticate(known.reveal(), at(0)).is_some());
    let full = book.issue(&raw(1), user("bo"), Role::Guest, hours(1), "x", at(0));
    assert_eq!(full, Err(TokenError::Full { max: TOKENS_MAX }));
    let bytes = book.to_bytes(at(0));
    assert!(bytes.len() < FILE_MAX);
    assert_eq!(
        TokenBook::parse(&bytes).unwrap().tokens().count(),
        TOKENS_MAX
    );
    assert_eq!(book.prune(at(3601)), TOKENS_MAX / 2);
    book.issue(&raw(1), user("bo"), Role::Guest, hours(1), "x", at(3601))
        .unwrap();
}

proptest! {
    #[test]
    fn any_sequence_of_changes_reads_back_as_it_is(steps in prop::collection::vec((0u8..6, 0u8..4, 0u64..3), 0..25)) {
        let (mut book, mut now) = (TokenBook::default(), at(0));
        for (n, (step, who, life)) in steps.into_iter().enumerate() {
            let (name, fresh) = (format!("u{who}"), raw(n as u8));
            let life = if life == 0 { Lifetime::Never } else { hours(life) };
            let role = [Role::Guest, Role::Member, Role::Owner][usize::from(who) % 3];
            let active = book.active(now).count();
            match step {
                0..3 => {
                    book.issue(&fresh, user(&name), role, life, "x", now).unwrap();
                    prop_assert_eq!(book.active(now).count(), active + 1);
                }
                3 => drop(book.revoke(&of(&name))),
                4 => if let Ok((token, _)) = book.rotate(&of(&name), &fresh, "x", now) {
                    prop_assert_eq!(token.role, role);
                },
                _ => {
                    book.prune(now);
                    prop_assert_eq!(book.active(now).count(), active);
                }
            }
            now = now.plus(Duration::from_secs(1800));
            let again = TokenBook::parse(&book.to_bytes(now)).unwrap();
            prop_assert!(again.tokens().eq(book.tokens()));
            prop_assert_eq!(again.to_bytes(now), book.to_bytes(now));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = TokenBook::parse(&bytes);
    }
}

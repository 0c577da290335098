use proptest::prelude::*;

use super::declaration::DeclarationMembers;
use super::meeting::{MeetingStats, Relayed, relay, session, skill_exchange};
use super::observation::{ObservationMembers, fadeout_hash};
use super::*;

/// SHA-256 of `test data`.
const D: &str = "916f0027a575074ce72a331777c3478d6513f786a591bd892da1a577bf2335f9";
const AT: &str = "2026-02-23T10:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse(AT).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

fn members(anchor_type: &str, source_id: &str, data_hash: &str) -> AnchorMembers {
    AnchorMembers {
        anchor_type: anchor_type.to_owned(),
        source_id: source_id.to_owned(),
        data_hash: data_hash.to_owned(),
        ..AnchorMembers::default()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A1 of the reference: given in another order than it is hashed in.
fn a1() -> AnchorMembers {
    AnchorMembers {
        participants: texts(&["agent_b", "agent_a"]),
        metadata: object(json!({"zeta": 1, "alpha": "x"})),
        ..members("meeting", "test_001", D)
    }
}

#[track_caller]
fn check(members: AnchorMembers, preimage: &str, hash: &str) {
    let anchor = members.check(now()).unwrap();
    assert_eq!(anchor.preimage(), preimage);
    assert_eq!(anchor.hash().to_hex(), hash);
}

#[test]
fn hashes_as_the_reference_does() {
    assert_eq!(hash_of(&json!("test data")).to_hex(), D);
    check(
        a1(),
        &format!(
            r#"{{"t":"meeting","s":"test_001","d":"{D}","p":["agent_a","agent_b"],"m":{{"alpha":"x","zeta":1}},"ts":"{AT}","prev":null}}"#
        ),
        "cddd494c10da47d1a7903b2db3e7a9eb97ba1d5c387f637d9c258a87f2e6bb15",
    );
    check(
        members("generic", "s", &format!("0x{}", D.to_uppercase())),
        &format!(r#"{{"t":"generic","s":"s","d":"{D}","p":[],"m":{{}},"ts":"{AT}","prev":null}}"#),
        "8975384a71a57ceb2b9d1bc39f21824b47f554015e7a6ca06b160c5d83b1110c",
    );
    let before = "ab".repeat(32);
    let third = AnchorMembers {
        participants: texts(&["é", "b", "a", "B"]),
        metadata: object(json!({"b": {"z": 1, "a": null}, "a": [1.5, true, "</x>"]})),
        previous_anchor_ref: Some(before.clone()),
        ..members("custom.foo", "日本/\"q\"", D)
    };
    check(
        third,
        &format!(
            r#"{{"t":"custom.foo","s":"日本/\"q\"","d":"{D}","p":["B","a","b","é"],"m":{{"a":[1.5,true,"</x>"],"b":{{"z":1,"a":null}}}},"ts":"{AT}","prev":"{before}"}}"#
        ),
        "bc0322d32468c7c16f28bd923de57eb3d94ab7ef6b7da26fd714a266e8651799",
    );
}

#[test]
fn escapes_as_the_reference_does() {
    let source = "a\u{1}\u{1f}\u{7f}\u{2028}/\u{1f600}<>&\t\n\"\\";
    let text =
        hex::decode("22615c75303030315c75303031667fe280a82ff09f98803c3e265c745c6e5c225c5c22")
            .unwrap();
    let anchor = AnchorMembers {
        timestamp: Some("t".to_owned()),
        ..members("generic", source, &"0".repeat(64))
    };
    let anchor = anchor.check(now()).unwrap();
    assert!(
        anchor
            .preimage()
            .contains(std::str::from_utf8(&text).unwrap())
    );
    assert_eq!(anchor.preimage().len(), 161);
    assert_eq!(
        anchor.hash().to_hex(),
        "b7d4045c9482a0b9124e4933eef68ffb0bd4254bc671c1aa09de356d7d08b368"
    );
}

#[test]
fn declares_as_the_reference_does() {
    let hash = "b28475e9a397063ad8afd07404b46cb44280c2d4093512f56aa5d13e91171f6a";
    assert_eq!(hash_of(&json!("I share openly.")).to_hex(), hash);
    let given = DeclarationMembers {
        agent_id: "0123456789abcdef".to_owned(),
        philosophy_type: "exchange".to_owned(),
        philosophy_hash: hash.to_owned(),
        compatible_with: texts(&["cooperative", "observational"]),
        ..DeclarationMembers::default()
    };
    let declaration = given.clone().check(now()).unwrap();
    let id = "philo_0123456789abcdef_exchange_1.0_20260223100000";
    assert_eq!(declaration.declaration_id(), id);
    let anchor = declaration.anchor(now()).unwrap();
    assert_eq!(
        anchor.hash().to_hex(),
        "f29abe5376f033e551543680acc1d883602aa5def552dddbf332ff0e2794f199"
    );
    let shown = declaration.to_value();
    assert_eq!(shown["declaration_id"], id);
    assert!(shown.get("previous_declaration_ref").is_none());
    let own = DeclarationMembers {
        metadata: object(json!({"version": "mine"})),
        previous_declaration_ref: Some("before".to_owned()),
        ..given.clone()
    };
    let own = own.check(now()).unwrap().anchor(now()).unwrap();
    assert_eq!(
        own.metadata()["version"],
        "mine",
        "the caller's member wins"
    );
    assert_eq!(own.previous_anchor_ref(), Some("before"));
    for (wrong, text) in [
        (
            DeclarationMembers {
                philosophy_type: "other".to_owned(),
                ..given.clone()
            },
            "Invalid philosophy_type: 'other'. Use one of exchange, interaction, fadeout or 'custom.your_type'",
        ),
        (
            DeclarationMembers {
                agent_id: " ".to_owned(),
                ..given.clone()
            },
            "agent_id cannot be empty",
        ),
        (
            DeclarationMembers {
                philosophy_hash: "x".to_owned(),
                ..given
            },
            "Invalid philosophy_hash format. Expected 64-character hex string (SHA256), got: x",
        ),
    ] {
        assert_eq!(wrong.check(now()).unwrap_err().to_string(), text);
    }
}

fn observation(observed: &str, kind: &str) -> ObservationMembers {
    ObservationMembers {
        observer_id: "agent-a".to_owned(),
        observed_id: observed.to_owned(),
        interaction_hash: hash_of(&json!("we exchanged a skill")).to_hex(),
        observation_type: kind.to_owned(),
        timestamp: Some("2026-02-23T10:05:00Z".to_owned()),
        ..ObservationMembers::default()
    }
}

#[test]
fn observes_as_the_reference_does() {
    let of_another = ObservationMembers {
        interpretation: object(json!({"quality": "productive", "learned": true})),
        ..observation("agent-b", "completed")
    };
    let seen = of_another.check(now()).unwrap();
    assert_eq!(
        seen.interaction_hash().to_hex(),
        "37df4da881d2fc96b35b814dfadc4b508e572c9fa29f8df002a66faec3a31979"
    );
    assert_eq!(seen.observation_id(), "obs_29f4eae99c5c");
    let anchor = seen.anchor(now()).unwrap();
    assert_eq!(
        anchor.metadata()["interpretation_hash"],
        "19e0e02a11c3981f893393e624cc8d357d9a30cccf7c4b9757caca6b1548b2b5"
    );
    assert_eq!(
        anchor.hash().to_hex(),
        "c75308cb1c8adae292162f4aa9a2c65094b94dd148f7eda8a95f5de8a46c6988"
    );
    let of_self = observation("agent-a", "observed").check(now()).unwrap();
    assert!(of_self.is_of_self() && !seen.is_of_self());
    assert_eq!(of_self.observation_id(), "obs_988d1f3e6eec");
    let anchor = of_self.anchor(now()).unwrap();
    assert_eq!(anchor.participants(), ["agent-a"]);
    assert_eq!(
        anchor.hash().to_hex(),
        "1469730e6a80a912676325fba4f57ca259bf48360f99726eef0fc774d1118890"
    );
    let wrong = observation("agent-b", "seen").check(now()).unwrap_err();
    assert!(
        wrong
            .to_string()
            .starts_with("Invalid observation_type: 'seen'.")
    );
    let last = "2026-02-23T10:00:00Z";
    let faded = Timestamp::parse("2026-02-23T11:00:01Z").unwrap();
    assert_eq!(
        fadeout_hash("agent-b", last, faded).to_hex(),
        "f846aa63a7ab4bcd15ea053b6962e2a6a339f0e485eb17a43ff8816803271476"
    );
}

#[test]
fn anchors_meetings_as_the_reference_does() {
    let record = json!({"anchor_type": "meeting", "source_id": "sess_001", "data": "test"});
    assert_eq!(
        hash_of(&record).to_hex(),
        "28805c57179b97fdfb19c35f7b78d41885969faab611832299d2bf6a545ad704"
    );
    let given = object(json!({
        "session_id": "s1", "peer_id": "p", "messages": [{"t": 1}],
        "started_at": "2026-02-23T10:00:00Z", "ended_at": "2026-02-23T10:05:00Z",
    }));
    let held = session(&given, now()).unwrap();
    assert_eq!(
        held.anchor.data_hash().to_hex(),
        "f473998ed48ccea7d7587b1d73da2c931f916f4041f7ffade7913d5022f1211b"
    );
    assert_eq!(
        held.messages_hash.to_hex(),
        "62a6c47198362de6ecfca0574a8d50af8d6b7246b0168cc84f119ae4251872c4"
    );
    assert_eq!(
        held.anchor.metadata(),
        &object(json!({
            "message_count": 1, "started_at": "2026-02-23T10:00:00Z",
            "ended_at": "2026-02-23T10:05:00Z",
        }))
    );
    for member in ["session_id", "peer_id", "messages"] {
        let mut without = given.clone();
        without.remove(member);
        assert_eq!(
            session(&without, now()),
            Err(AnchorError::Malformed(member))
        );
    }
    let relayed = Relayed {
        relay_id: "relay_1",
        from: "a",
        to: "b",
        blob_hash: &format!("sha256:{D}"),
        message_type: Some("message"),
        size_bytes: Some(40),
    };
    let relayed = relay(relayed, now()).unwrap();
    assert_eq!(relayed.data_hash().to_hex(), D);
    assert_eq!(relayed.participants(), ["a", "b"]);
    let hash: ContentHash = D.parse().unwrap();
    let exchanged = skill_exchange("tea", hash, "a", "acquired", now()).unwrap();
    assert_eq!(
        exchanged.source_id(),
        format!("skill_tea_{}", now().as_secs())
    );
    let other = members("generic", "s", D).check(now()).unwrap();
    let stats = MeetingStats::of([&held.anchor, &relayed, &exchanged, &other]);
    let expected = MeetingStats {
        total_anchors: 3,
        sessions: 1,
        relays: 1,
        skill_exchanges: 1,
        unique_peers: 3,
        total_messages: 1,
        total_bytes_relayed: 40,
    };
    assert_eq!(stats, expected);
}

#[test]
fn hands_over_what_is_there_and_stores_what_is_not_as_null() {
    let anchor = a1().check(now()).unwrap();
    let names = |value: &Value| -> Vec<String> { object(value.clone()).keys().cloned().collect() };
    let all = [
        "anchor_hash",
        "anchor_type",
        "source_id",
        "data_hash",
        "participants",
        "metadata",
        "timestamp",
        "previous_anchor_ref",
    ];
    assert_eq!(names(&anchor.record()), all);
    assert_eq!(names(&anchor.to_value()), all[..7]);
    assert_eq!(
        anchor.record()["participants"],
        json!(["agent_b", "agent_a"])
    );
    let read = AnchorMembers::deserialize(anchor.record()).unwrap();
    assert_eq!(read.check(Timestamp::EPOCH).unwrap(), anchor);
}

#[test]
fn refuses_in_the_words_of_the_reference() {
    let error = |members: AnchorMembers| members.check(now()).unwrap_err().to_string();
    assert_eq!(
        error(members("session", "s", D)),
        "Invalid anchor_type: 'session'. Use one of meeting, generic, genomics, research, agreement, audit, release, \
         philosophy_declaration, observation_log or 'custom.your_type'"
    );
    assert_eq!(error(members("audit", " ", D)), "source_id cannot be empty");
    assert_eq!(
        error(members("audit", "s", "0x0x")),
        "Invalid data_hash format. Expected 64-character hex string (SHA256), got: 0x0x"
    );
    for bad in [
        &D[1..],
        &format!("0x0x{D}"),
        &format!("{D}0"),
        &"g".repeat(64),
    ] {
        assert!(parse_hash("data_hash", bad).is_err(), "{bad}");
    }
    let shown = error(members(&format!("a\u{1b}{}", "x".repeat(9_000)), "s", D));
    assert!(shown.len() < 300 && !shown.contains('\u{1b}'));
}

#[test]
fn nothing_grows_beyond_its_bound() {
    let long = "x".repeat(TEXT_MAX + 1);
    let too_long = |members: AnchorMembers| match members.check(now()) {
        Err(AnchorError::TooLong { member, .. }) => member,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        too_long(members(&format!("custom.{long}"), "s", D)),
        "anchor_type"
    );
    assert_eq!(too_long(members("audit", &long, D)), "source_id");
    let mut wide = a1();
    wide.participants = vec!["a".to_owned(); PARTICIPANTS_MAX + 1];
    assert_eq!(too_long(wide), "participants");
    let mut heavy = a1();
    heavy.metadata = object(json!({"a": "x".repeat(METADATA_MAX)}));
    assert_eq!(too_long(heavy), "metadata");
    let (mut late, mut after) = (a1(), a1());
    late.timestamp = Some(long.clone());
    after.previous_anchor_ref = Some(long.clone());
    assert_eq!(too_long(late), "timestamp");
    assert_eq!(too_long(after), "previous_anchor_ref");
    let declared = DeclarationMembers {
        agent_id: "a".to_owned(),
        philosophy_type: "fadeout".to_owned(),
        philosophy_hash: D.to_owned(),
        version: Some(long),
        ..DeclarationMembers::default()
    };
    assert!(declared.check(now()).is_err());
}

proptest! {
    #[test]
    fn the_hash_knows_no_order_of_participants_or_names(
        participants in prop::collection::vec("\\PC{0,8}", 0..6),
        names in prop::collection::btree_set("[a-zé]{1,4}", 0..6),
    ) {
        let metadata: Map<String, Value> =
            names.iter().enumerate().map(|(n, name)| (name.clone(), json!(n))).collect();
        let turned = |members: AnchorMembers| AnchorMembers {
            participants: participants.iter().rev().cloned().collect(),
            metadata: metadata.clone().into_iter().rev().collect(),
            ..members
        };
        let given = AnchorMembers {
            participants: participants.clone(), metadata: metadata.clone(), ..members("audit", "s", D)
        };
        let hash = given.clone().check(now()).unwrap().hash();
        prop_assert_eq!(turned(members("audit", "s", D)).check(now()).unwrap().hash(), hash);
        let other = AnchorMembers { source_id: "t".to_owned(), ..given };
        prop_assert_ne!(other.check(now()).unwrap().hash(), hash);
    }
}

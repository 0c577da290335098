//! What agents attest of each other's deposits.

use super::*;

/// A Place with an author, who left `sk`, and two readers with keys of their own.
fn attested() -> MeetingPlace {
    attested_under(Policy::default())
}

fn attested_under(policy: Policy) -> MeetingPlace {
    let mut place = place(policy);
    for (agent, key) in [("author", 0), ("reader", 1), ("other", 1)] {
        place
            .register(signed(agent, key, Strength::Proven), at(1))
            .unwrap();
    }
    put(&mut place, "author", "sk", "# One\n").unwrap();
    place.take_changes();
    place
}

fn current(place: &MeetingPlace) -> Deposit {
    place
        .find_deposit("sk", Some(&id("author")))
        .unwrap()
        .clone()
}

fn payload(place: &MeetingPlace, attester: &str, claim: &str) -> String {
    let hash = current(place).content_hash;
    format!("{attester}|{claim}|sk|author|{hash}|{}", at(2).wire())
}

fn says(claim: &str) -> Claimed {
    Claimed {
        claim: claim.to_owned(),
        ..Claimed::default()
    }
}

fn signs(place: &MeetingPlace, attester: &str, claim: &str) -> Claimed {
    let payload = payload(place, attester, claim);
    Claimed {
        signature: Some(KEYS[1].sign(payload.as_bytes()).unwrap()),
        signed_payload: Some(payload),
        ..says(claim)
    }
}

fn attest(
    place: &mut MeetingPlace,
    attester: &str,
    claimed: Claimed,
) -> Result<Attestation, AttestFault> {
    let key = place.key(&id(attester)).map(|key| key.parse().unwrap());
    let checked = claimed.check(&id(attester), key.as_ref(), &current(place), at(2))?;
    place.attest(checked)
}

fn word(done: Result<Attestation, AttestFault>) -> &'static str {
    match done {
        Err(AttestFault::Refused(error)) => error.word(),
        other => panic!("{other:?}"),
    }
}

fn of_card(place: &MeetingPlace) -> Value {
    let query = Query {
        kind: Some(Some(Kind::DepositedSkill)),
        ..everything()
    };
    shown(place, &query)[0]["attestations"].clone()
}

#[test]
fn an_attestation_is_shown_with_the_bytes_it_is_about_and_no_others() {
    let mut place = attested();
    assert_eq!(of_card(&place), Value::Null);
    let signed = signs(&place, "reader", "works");
    let kept = attest(&mut place, "reader", signed).unwrap();
    let listed = &of_card(&place)[0];
    assert_eq!(
        *listed,
        json!({
            "attester_id": "reader", "attester_name": "Agent reader", "claim": "works",
            "evidence_hash": null, "deposited_at": at(2).wire(), "has_signature": true,
        })
    );
    let full = kept.full();
    assert_eq!(full["signed_payload"], payload(&place, "reader", "works"));
    assert_eq!(full["content_hash"], current(&place).content_hash.to_hex());

    put(&mut place, "author", "sk", "# Two\n").unwrap();
    assert_eq!(of_card(&place), Value::Null);
    assert_eq!(place.attestations_of(&current(&place)).count(), 0);
    put(&mut place, "author", "sk", "# One\n").unwrap();
    assert_eq!(of_card(&place).as_array().unwrap().len(), 1);
    place.withdraw(&id("author"), "sk").unwrap();
    assert_eq!(place.census().attestations, 0);
}

/// Defect 28: what was signed was never compared with what was said.
#[test]
fn defect_28_a_payload_names_what_the_members_name() {
    let mut place = attested();
    let hash = current(&place).content_hash;
    let time = at(2).wire();
    let payloads = [
        format!("other|works|sk|author|{hash}|{time}"),
        format!("reader|is perfect|sk|author|{hash}|{time}"),
        format!("reader|works|sk2|author|{hash}|{time}"),
        format!("reader|works|sk|other|{hash}|{time}"),
        format!("reader|works|sk|author|{}|{time}", ContentHash::of("other")),
        format!("reader|works|sk|author|{time}"),
        format!("reader|works|sk|author|{hash}|evidence|{time}"),
        format!("reader|works|sk|author|{hash}|soon"),
        format!("reader|works|sk|author|{hash}{time}"),
        String::new(),
    ];
    for payload in payloads {
        let claimed = Claimed {
            signature: Some(KEYS[1].sign(payload.as_bytes()).unwrap()),
            signed_payload: Some(payload.clone()),
            ..says("works")
        };
        assert_eq!(
            word(attest(&mut place, "reader", claimed)),
            "payload_mismatch",
            "{payload}"
        );
    }
    // The mark inside a member lets one payload be read as two claims.
    let claimed = signs(&place, "reader", "works|sk");
    assert_eq!(
        word(attest(&mut place, "reader", claimed)),
        "payload_mismatch"
    );
    let with_evidence = format!("reader|works|sk|author|{hash}|ee|{time}");
    let claimed = Claimed {
        evidence_hash: Some("ee".to_owned()),
        signature: Some(KEYS[1].sign(with_evidence.as_bytes()).unwrap()),
        signed_payload: Some(with_evidence),
        ..says("works")
    };
    attest(&mut place, "reader", claimed).unwrap();
}

#[test]
fn every_limit_has_a_word() {
    let mut place = attested();
    let text = |bytes: usize| Some("x".repeat(bytes));
    let good = signs(&place, "reader", "works");
    let mut cases = vec![
        ("claim_too_large", says(&"c".repeat(201))),
        ("claim_invalid", says(" ")),
        ("claim_invalid", says("a\u{7}")),
        (
            "signature_too_large",
            Claimed {
                signature: text(1_025),
                ..good.clone()
            },
        ),
        (
            "payload_too_large",
            Claimed {
                signed_payload: text(1_025),
                ..good.clone()
            },
        ),
        (
            "evidence_invalid",
            Claimed {
                evidence_hash: text(129),
                ..good.clone()
            },
        ),
        (
            "signature_error",
            Claimed {
                signed_payload: None,
                ..good.clone()
            },
        ),
        (
            "signature_error",
            Claimed {
                signature: Some("§".to_owned()),
                ..good.clone()
            },
        ),
    ];
    let forged = KEYS[0].sign(b"something else").unwrap();
    cases.push((
        "signature_invalid",
        Claimed {
            signature: Some(forged),
            ..good.clone()
        },
    ));
    for (expected, claimed) in cases {
        assert_eq!(word(attest(&mut place, "reader", claimed)), expected);
    }
    assert_eq!(place.take_changes(), []);
    attest(&mut place, "reader", good.clone()).unwrap();
    assert_eq!(word(attest(&mut place, "reader", good)), "duplicate");
    attest(&mut place, "reader", says("is short")).unwrap();
    let stale = says("late").check(&id("reader"), None, &current(&place), at(2));
    put(&mut place, "author", "sk", "# Two\n").unwrap();
    assert_eq!(word(place.attest(stale.unwrap())), "content_changed");
    place.unregister(&id("reader"), at(3));
    let gone = attest(&mut place, "reader", says("from away"));
    assert!(
        matches!(gone, Err(AttestFault::Board(BoardError::NotPresent(_)))),
        "{gone:?}"
    );
}

#[test]
fn attestations_are_bounded_and_those_of_replaced_bytes_make_room() {
    let mut place = attested_under(Policy {
        attestations_per_deposit: 2,
        attestations_per_agent: 3,
        ..Policy::default()
    });
    for claim in ["a", "b"] {
        attest(&mut place, "reader", says(claim)).unwrap();
    }
    assert_eq!(
        word(attest(&mut place, "other", says("c"))),
        "quota_exceeded"
    );
    put(&mut place, "author", "sk", "# Two\n").unwrap();
    place.take_changes();
    attest(&mut place, "other", says("c")).unwrap();
    let changes = place.take_changes();
    assert!(
        matches!(&changes[..], [Change::AttestationGone(gone), Change::Attestation(_)] if gone.claim == "a"),
        "{changes:?}"
    );
    assert_eq!(place.census().attestations, 2);
    put(&mut place, "author", "two", "two").unwrap();
    put(&mut place, "author", "three", "three").unwrap();
    let of = |place: &MeetingPlace, skill: &str, claim: &str| {
        let deposit = place.find_deposit(skill, None).unwrap();
        says(claim)
            .check(&id("other"), None, deposit, at(3))
            .unwrap()
    };
    for claim in ["x", "y"] {
        let said = of(&place, "two", claim);
        place.attest(said).unwrap();
    }
    let fourth = of(&place, "three", "z");
    assert_eq!(word(place.attest(fourth)), "quota_exceeded");
}

#[test]
fn what_was_attested_is_there_after_a_restart_and_goes_when_its_attester_is_forgotten() {
    let policy = Policy {
        remembered_max: 0,
        ..Policy::default()
    };
    let mut store = MemoryStore::default();
    let mut place = super::place(policy.clone());
    for agent in ["author", "reader"] {
        place
            .register(signed(agent, 0, Strength::Proven), at(1))
            .unwrap();
    }
    put(&mut place, "author", "sk", "# One\n").unwrap();
    attest(&mut place, "reader", says("works")).unwrap();
    store.commit(&place.take_changes()).unwrap();
    let mut place = MeetingPlace::new(policy, unsigned("me"), store.load().unwrap(), at(4));
    assert_eq!(of_card(&place)[0]["claim"], "works");
    place.unregister(&id("reader"), at(5));
    assert_eq!(of_card(&place)[0]["claim"], "works");
    // Room for nobody that left: whoever comes next sends the reader into oblivion.
    place
        .register(signed("new", 1, Strength::Proven), at(6))
        .unwrap();
    assert_eq!(of_card(&place), Value::Null);
    store.commit(&place.take_changes()).unwrap();
    assert_eq!(store.load().unwrap().attestations, []);
}

#[test]
fn attempts_to_attest_and_to_deposit_are_counted_together() {
    let mut place = attested_under(Policy {
        deposits: DepositLimits {
            per_hour: 2,
            ..DepositLimits::default()
        },
        ..Policy::default()
    });
    let reader = id("reader");
    place.attempt_deposit(&reader, at(1)).unwrap();
    place.attempt_attest(&reader, at(2)).unwrap();
    assert_eq!(
        place.attempt_attest(&reader, at(3)),
        Err(AttestError::TooOften { max: 2 })
    );
    assert!(place.attempt_deposit(&reader, at(3)).is_err());
    assert!(place.attempt_attest(&reader, at(3_601)).is_ok());
}

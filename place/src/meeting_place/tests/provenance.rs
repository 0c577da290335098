//! Where deposits came from, and that nobody makes them forget it.

use super::*;

const WEEK: u64 = 168 * 3600;

fn policy() -> Policy {
    Policy {
        federation: Federation {
            accept: true,
            ..Federation::default()
        },
        ttl: Duration::from_secs(100 * WEEK),
        ..Policy::default()
    }
}

/// A Place with agents that all have the first key, but for `namesake`, which has the second.
fn crossroads(policy: Policy) -> MeetingPlace {
    let mut place = place(policy);
    for (agent, key) in [("bridge", 0), ("other", 0), ("author", 0), ("namesake", 1)] {
        place
            .register(signed(agent, key, Strength::Proven), at(1))
            .unwrap();
    }
    place
}

fn told() -> Value {
    json!({
        "origin_place_id": "p1", "origin_agent_id": "author", "via": ["p1"], "hop_count": 1,
        "deposited_at_origin": at(0).wire(),
    })
}

fn signed_by(mut told: Value, key: usize, content: &str) -> Value {
    told["origin_signature"] = json!(KEYS[key].sign(content.as_bytes()).unwrap());
    told["origin_public_key"] = json!(KEYS[key].public().to_pem());
    told
}

fn bring(
    place: &mut MeetingPlace,
    agent: &str,
    content: &str,
    told: Option<&Value>,
    secs: u64,
) -> Result<Option<Provenance>, Vec<String>> {
    let key: kairos_protocol::crypto::PublicKey = place.key(&id(agent)).unwrap().parse().unwrap();
    let of_agent = usize::from(key.hash() != KEYS[0].public().hash());
    let offered = Offer {
        provenance: told.and_then(Value::as_object).cloned(),
        ..offer("sk", content, of_agent)
    };
    let deposit = offered.check(&id(agent), Some(&key), place.policy(), at(secs))?;
    match place.deposit(deposit, content) {
        Ok(done) => Ok(done.deposit.provenance),
        Err(BoardError::Rejected(reasons)) => Err(reasons),
        Err(other) => panic!("{other}"),
    }
}

/// Defect 24: withdrawing and bringing it again made a federated deposit local.
#[test]
fn defect_24_bytes_from_elsewhere_stay_so_whoever_brings_them_and_after_whatever() {
    let mut store = MemoryStore::default();
    let mut place = crossroads(policy());
    let first = bring(&mut place, "bridge", "text", Some(&told()), 2).unwrap();
    place.withdraw(&id("bridge"), "sk").unwrap();
    assert_eq!(
        bring(&mut place, "other", "text", None, 3),
        Ok(first.clone())
    );
    place.unregister(&id("other"), at(4));
    place.unregister(&id("bridge"), at(4));
    place
        .register(signed("bridge", 0, Strength::Proven), at(5))
        .unwrap();
    store.commit(&place.take_changes()).unwrap();
    let snapshot = store.load().unwrap();
    assert_eq!(snapshot.deposits, []);
    let mut place = MeetingPlace::new(policy(), unsigned("me"), snapshot, at(6));
    assert_eq!(bring(&mut place, "bridge", "text", None, 7), Ok(first));
    // Only who first left it has it from nobody.
    assert_eq!(bring(&mut place, "author", "text", None, 8), Ok(None));
}

#[test]
fn a_store_that_knew_no_origins_learns_them_from_its_deposits() {
    let mut store = MemoryStore::default();
    let mut place = crossroads(policy());
    bring(&mut place, "bridge", "text", Some(&told()), 2).unwrap();
    let known = |change: &Change| !matches!(change, Change::Origin(..));
    let changes: Vec<_> = place.take_changes().into_iter().filter(known).collect();
    store.commit(&changes).unwrap();
    let mut place = MeetingPlace::new(policy(), unsigned("me"), store.load().unwrap(), at(3));
    store.commit(&place.take_changes()).unwrap();
    assert_eq!(store.load().unwrap().origins.len(), 1);
    place.withdraw(&id("bridge"), "sk").unwrap();
    assert!(
        bring(&mut place, "other", "text", None, 4)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_name_does_not_make_an_agent_the_author_of_what_another_key_signed() {
    let mut place = crossroads(policy());
    let mut told = signed_by(told(), 0, "text");
    told["origin_agent_id"] = json!("author");
    bring(&mut place, "bridge", "text", Some(&told), 2).unwrap();
    assert_eq!(bring(&mut place, "author", "text", None, 3), Ok(None));

    let mut theirs = signed_by(told, 0, "words");
    theirs["origin_agent_id"] = json!("namesake");
    let refused = bring(&mut place, "bridge", "words", Some(&theirs), 4).unwrap_err();
    assert_eq!(
        refused,
        ["Origin key is not the one that agent namesake is known by here"]
    );
}

#[test]
fn an_origin_that_was_signed_is_not_replaced_by_one_that_is_only_said() {
    let mut place = crossroads(policy());
    let signed_origin = signed_by(told(), 0, "text");
    bring(&mut place, "bridge", "text", Some(&signed_origin), 2).unwrap();
    let mut other = told();
    other["origin_agent_id"] = json!("somebody");
    let refused = bring(&mut place, "other", "text", Some(&other), 3).unwrap_err();
    assert_eq!(
        refused,
        ["Provenance contradicts the signed origin that is known of this content"]
    );
    // Who says the same with less proof, or a later time, says no less than is known.
    let mut later = told();
    later["deposited_at_origin"] = json!(at(50).wire());
    let kept = bring(&mut place, "other", "text", Some(&later), 60).unwrap();
    let kept = kept.unwrap();
    assert_eq!(kept.deposited_at_origin, at(0).wire());
    assert_eq!(
        json!(kept.origin_signature),
        signed_origin["origin_signature"]
    );
}

#[test]
fn content_that_was_changed_on_the_way_says_so() {
    let mut place = crossroads(policy());
    let origin = signed_by(told(), 0, "text");
    bring(&mut place, "bridge", "text", Some(&origin), 2).unwrap();
    let kept = bring(&mut place, "bridge", "text!", None, 3)
        .unwrap()
        .unwrap();
    assert_eq!(kept.origin_content_hash, Some(ContentHash::of("text")));
    let shown = |place: &MeetingPlace| {
        let deposit = place.find_deposit("sk", Some(&id("bridge"))).unwrap();
        deposit.trust_metadata(1)["provenance"]["altered"].clone()
    };
    assert_eq!(shown(&place), true);
    // The bytes that nobody else ever had are nobody else's origin.
    assert_eq!(bring(&mut place, "other", "text!", None, 4), Ok(None));
    bring(&mut place, "bridge", "text", None, 5).unwrap();
    assert_eq!(shown(&place), false);
}

#[test]
fn places_that_the_reference_names_twice_are_counted_once() {
    let mut place = crossroads(policy());
    let mut twice = told();
    twice["via"] = json!(["p1", "p2", "p2"]);
    twice["hop_count"] = json!(2);
    let kept = bring(&mut place, "bridge", "text", Some(&twice), 2)
        .unwrap()
        .unwrap();
    assert_eq!(kept.via, ["p1", "p2", "me"]);
    assert_eq!(kept.hop_count, 2);
    // Who counts less than there are is not believed.
    twice["via"] = json!(["p1", "p2", "p3"]);
    twice["hop_count"] = json!(1);
    let refused = bring(&mut place, "other", "words", Some(&twice), 3).unwrap_err();
    assert_eq!(refused, ["Hop count exceeds limit (max 3)"]);
}

#[test]
fn what_was_left_at_no_other_place_is_local_whatever_form_says_so() {
    let mut place = crossroads(Policy::default());
    for (n, told) in [
        json!({}),
        json!({"hop_count": 0, "via": []}),
        json!({
            "origin_place_id": null, "origin_agent_id": "bridge", "via": [], "hop_count": 0,
            "deposited_at_origin": at(0).wire(),
        }),
    ]
    .iter()
    .enumerate()
    {
        let content = format!("text {n}");
        assert_eq!(
            bring(&mut place, "bridge", &content, Some(told), 2),
            Ok(None)
        );
    }
    let refused = bring(&mut place, "bridge", "text", Some(&told()), 2).unwrap_err();
    assert_eq!(refused, ["This Place does not accept federated deposits"]);
}

#[test]
fn what_came_from_elsewhere_is_taken_down_in_time_and_does_not_come_back_as_new() {
    let mut place = crossroads(policy());
    bring(&mut place, "bridge", "text", Some(&told()), 2).unwrap();
    put(&mut place, "author", "local", "mine").unwrap();
    assert_eq!(place.expire(at(WEEK), 10), []);
    let gone = place.expire(at(WEEK + 1), 10);
    assert_eq!(gone.len(), 1);
    assert_eq!(place.expire(at(WEEK + 1), 10), []);
    assert_eq!(place.census().deposits, 1);
    let refused = bring(&mut place, "bridge", "text", None, WEEK + 2).unwrap_err();
    assert_eq!(refused, ["Federated deposit too old (max 168 hours)"]);
    let mut fresh = told();
    fresh["deposited_at_origin"] = json!(at(WEEK).wire());
    let refused = bring(&mut place, "bridge", "text", Some(&fresh), WEEK + 2).unwrap_err();
    assert_eq!(refused, ["Federated deposit too old (max 168 hours)"]);
}

#[test]
fn origins_are_remembered_up_to_a_bound() {
    let mut place = crossroads(Policy {
        federation: Federation {
            accept: true,
            origins_max: 2,
            ..Federation::default()
        },
        ..policy()
    });
    let mut store = MemoryStore::default();
    for text in ["a", "b", "a", "c"] {
        bring(&mut place, "bridge", text, Some(&told()), 2).unwrap();
    }
    place.withdraw(&id("bridge"), "sk").unwrap();
    store.commit(&place.take_changes()).unwrap();
    assert_eq!(store.load().unwrap().origins.len(), 2);
    // The oldest was forgotten: nobody can remember all there ever was.
    assert_eq!(bring(&mut place, "other", "b", None, 3), Ok(None));
    place.withdraw(&id("other"), "sk").unwrap();
    assert!(bring(&mut place, "other", "a", None, 3).unwrap().is_some());
}

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

mod agreements;
mod attestations;
mod bans;
mod complexity;
mod conditions;
mod model;
mod once;
mod pages;
mod provenance;
mod skill_sets;

use super::store::Store as _;
use super::store::memory::MemoryStore;
use super::*;
use crate::session::Strength;

static KEYS: LazyLock<Vec<Keypair>> =
    LazyLock::new(|| (0..2).map(|_| Keypair::generate().unwrap()).collect());

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(secs))
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn unsigned(agent: &str) -> Registration {
    Registration {
        id: id(agent),
        name: Some(format!("Agent {agent}")),
        description: None,
        scope: None,
        capabilities: Some(json!({"supported_actions": ["introduce"], "skill_formats": []})),
        claim: Claim::Unsigned,
    }
}

fn signed(agent: &str, key: usize, strength: Strength) -> Registration {
    Registration {
        claim: Claim::Signed(KEYS[key].public().clone(), strength),
        ..unsigned(agent)
    }
}

fn place(policy: Policy) -> MeetingPlace {
    MeetingPlace::new(policy, unsigned("me"), Snapshot::default(), at(0))
}

fn offer(skill_id: &str, content: &str, key: usize) -> Offer {
    Offer {
        skill_id: skill_id.to_owned(),
        format: "markdown".to_owned(),
        content: content.to_owned(),
        content_hash: Some(ContentHash::of(content).to_hex()),
        signature: Some(KEYS[key].sign(content.as_bytes()).unwrap()),
        ..Offer::default()
    }
}

fn put(
    place: &mut MeetingPlace,
    agent: &str,
    skill_id: &str,
    content: &str,
) -> Result<Replaced, BoardError> {
    let key = place.key(&id(agent)).unwrap().parse().unwrap();
    let offered = offer(skill_id, content, 0);
    let checked = offered.check(&id(agent), Some(&key), place.policy(), at(1));
    place.deposit(checked.map_err(BoardError::Rejected)?, content)
}

fn listed(place: &MeetingPlace) -> Vec<String> {
    let page = place.agents(true, None, 1_000);
    page.agents
        .iter()
        .map(|agent| agent.id.to_string())
        .collect()
}

fn shown(place: &MeetingPlace, query: &Query) -> Vec<Value> {
    entries(&place.browse(query, &mut SmallRng::seed_from_u64(7)))
}

fn entries(answer: &Answer) -> Vec<Value> {
    let entries: Vec<Value> = serde_json::from_str(&format!("[{}]", answer.entries)).unwrap();
    assert_eq!(answer.returned, entries.len());
    entries
}

fn everything() -> Query {
    Query {
        limit: 100,
        ..Query::default()
    }
}

/// Defect 3: an unsigned registration of a known id replaced its name and its key.
#[test]
fn defect_3_a_key_is_pinned_and_no_message_replaces_it() {
    let mut place = place(Policy::default());
    place
        .register(signed("a", 0, Strength::Introduced), at(1))
        .unwrap();
    let before = place.agent(&id("a")).unwrap().clone();
    place.take_changes();
    let refused = place.register(unsigned("a"), at(2)).unwrap_err();
    assert_eq!(refused, RegisterError::KeyRequired(id("a")));
    let refused = place
        .register(signed("a", 1, Strength::Proven), at(2))
        .unwrap_err();
    assert_eq!(refused, RegisterError::KeyConflict(id("a")));
    assert_eq!(place.agent(&id("a")), Some(&before));
    assert_eq!(place.take_changes(), []);
    // Nor does it become somebody else's once the agent left.
    place.unregister(&id("a"), at(3));
    assert!(
        place
            .register(signed("a", 1, Strength::Proven), at(4))
            .is_err()
    );
    assert!(
        place
            .register(signed("a", 0, Strength::Introduced), at(4))
            .unwrap()
            .new
    );
}

#[test]
fn a_copied_introduction_says_nothing_new_about_an_agent_that_proved_more() {
    let mut place = place(Policy::default());
    place
        .register(signed("a", 0, Strength::Proven), at(1))
        .unwrap();
    let copied = Registration {
        name: Some("Evil".to_owned()),
        ..signed("a", 0, Strength::Introduced)
    };
    place.register(copied, at(2)).unwrap();
    assert_eq!(place.agent(&id("a")).unwrap().name, "Agent a");
}

/// Defect 4: anybody could remove the Place itself.
#[test]
fn defect_4_the_place_cannot_be_removed_or_imitated() {
    let mut place = place(Policy::default());
    assert!(!place.unregister(&id("me"), at(1)));
    let imitated = place.register(signed("me", 0, Strength::Proven), at(1));
    assert_eq!(imitated, Err(RegisterError::Own(id("me"))));
    assert_eq!(listed(&place), ["me"]);
}

/// Defect 16: nothing ever faded, and a full Place refused those it knew.
#[test]
fn defect_16_agents_fade_and_a_full_place_lets_those_it_knows_come_back() {
    let mut place = place(Policy {
        agents_max: 3,
        ttl: Duration::from_secs(100),
        ..Policy::default()
    });
    for name in ["a", "b"] {
        place
            .register(signed(name, 0, Strength::Introduced), at(1))
            .unwrap();
    }
    assert_eq!(
        place.register(signed("c", 0, Strength::Introduced), at(2)),
        Err(RegisterError::Full { max: 3 })
    );
    assert!(
        !place
            .register(signed("a", 0, Strength::Introduced), at(50))
            .unwrap()
            .new
    );
    assert!(place.sweep(at(101), 10).is_empty());
    let faded = place.sweep(at(102), 10);
    assert_eq!(
        faded
            .iter()
            .map(|agent| agent.id.as_str())
            .collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(faded[0].last_seen, at(1));
    assert_eq!(listed(&place), ["me", "a"]);
    assert!(
        place.key(&id("b")).is_some(),
        "its mail can still be sealed"
    );
    place
        .register(signed("c", 0, Strength::Introduced), at(103))
        .unwrap();
    assert!(
        place
            .register(signed("b", 0, Strength::Introduced), at(104))
            .unwrap()
            .new
    );
    assert_eq!(listed(&place), ["me", "a", "b", "c"]);
}

#[test]
fn signs_of_life_keep_an_agent_and_a_place_that_was_down_gives_another_chance() {
    let policy = Policy {
        ttl: Duration::from_secs(100),
        ..Policy::default()
    };
    let mut store = MemoryStore::default();
    let mut first = place(policy.clone());
    first.register(unsigned("a"), at(1)).unwrap();
    for secs in [60, 120, 180] {
        assert!(first.touch(&id("a"), at(secs)));
        assert!(first.sweep(at(secs), 10).is_empty());
    }
    first.note_counts(usize::MAX);
    store.commit(&first.take_changes()).unwrap();
    let mut second = MeetingPlace::new(policy, unsigned("me"), store.load().unwrap(), at(5_000));
    assert!(second.sweep(at(5_000), 10).is_empty());
    assert_eq!(second.agent(&id("a")).unwrap().last_seen, at(180));
    assert_eq!(second.sweep(at(5_101), 10).len(), 1);
    assert!(!second.touch(&id("a"), at(5_102)));
}

#[test]
fn a_clock_that_goes_back_fades_nobody() {
    let mut place = place(Policy::default());
    place.register(unsigned("a"), at(10_000)).unwrap();
    place.touch(&id("a"), at(10));
    assert!(place.sweep(at(10), 10).is_empty());
    assert_eq!(place.agent(&id("a")).unwrap().last_seen, at(10_000));
}

#[test]
fn strangers_without_a_key_take_no_more_than_their_share() {
    let mut place = place(Policy {
        unverified_max: 2,
        ..Policy::default()
    });
    place.register(unsigned("a"), at(1)).unwrap();
    let refused = place.register(unsigned("b"), at(1)).unwrap_err();
    assert_eq!(refused, RegisterError::TooManyUnverified { max: 2 });
    place
        .register(signed("c", 0, Strength::Introduced), at(1))
        .unwrap();
    assert_eq!(place.census().unverified, 2);
}

#[test]
fn overlong_members_are_refused_and_change_nothing() {
    let mut place = place(Policy::default());
    let mut wish = unsigned("a");
    wish.name = Some("n".repeat(agent::NAME_MAX + 1));
    assert!(matches!(
        place.register(wish, at(1)),
        Err(RegisterError::Member(_))
    ));
    let mut wish = unsigned("a");
    wish.capabilities = Some(json!("text"));
    assert!(matches!(
        place.register(wish, at(1)),
        Err(RegisterError::Member(_))
    ));
    assert_eq!(listed(&place), ["me"]);
}

#[test]
fn a_page_goes_on_where_the_last_one_ended() {
    let mut place = place(Policy::default());
    for n in 0..5 {
        place.register(unsigned(&format!("a{n}")), at(n)).unwrap();
    }
    let first = place.agents(false, None, 3);
    let names = |page: &AgentPage<'_>| {
        page.agents
            .iter()
            .map(|a| a.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["a0", "a1", "a2"]);
    let second = place.agents(false, first.next.as_ref(), 3);
    assert_eq!(
        (names(&second), second.next),
        (vec!["a3".to_owned(), "a4".to_owned()], None)
    );
}

#[test]
fn a_deposit_is_shown_found_replaced_and_withdrawn() {
    let mut place = place(Policy::default());
    place
        .register(signed("a", 0, Strength::Proven), at(1))
        .unwrap();
    let first = put(&mut place, "a", "sk", "# K1\n\nWords.\n").unwrap();
    assert_eq!(first.before, None);
    let second = put(&mut place, "a", "sk", "# K2\n").unwrap();
    assert_eq!(second.before, Some(first.deposit.content_hash));
    let query = Query {
        kind: Some(Kind::parse("deposited_skill")),
        ..everything()
    };
    let cards = shown(&place, &query);
    assert_eq!(cards.len(), 1);
    assert_eq!(
        cards[0]["content_hash"],
        second.deposit.content_hash.to_hex()
    );
    let agent_card = shown(
        &place,
        &Query {
            kind: Some(Kind::parse("agent")),
            search: Some("agent A".to_owned()),
            ..everything()
        },
    );
    assert_eq!(agent_card[0]["deposit_count"], 1);
    place.withdraw(&id("a"), "sk").unwrap();
    assert!(matches!(
        place.withdraw(&id("a"), "sk"),
        Err(BoardError::NoDeposit { .. })
    ));
    assert!(shown(&place, &query).is_empty());
}

#[test]
fn deposits_are_refused_for_every_reason_at_once() {
    let place = place(Policy::default());
    let reasons = Offer::default()
        .check(&id("a"), None, place.policy(), at(1))
        .unwrap_err();
    let expected = [
        "Unsafe format: ",
        "Content is required",
        "Content hash is required",
        "Deposit signature is required",
        "skill_id is required",
    ];
    assert_eq!(reasons, expected);
    let mut wrong = offer("s", "#!/bin/sh\nrm -rf /\n", 0);
    wrong.content_hash = Some("00".repeat(32));
    wrong.description = Some("d".repeat(501));
    wrong.format = "yaml_frontmatter".to_owned();
    let key = KEYS[1].public();
    let reasons = wrong
        .check(&id("a"), Some(key), place.policy(), at(1))
        .unwrap_err();
    let starts = [
        "Content hash mismatch",
        "Executable content",
        "Signature verification failed",
        "Description exceeds",
        "yaml_frontmatter format requires YAML",
    ];
    assert_eq!(reasons.len(), starts.len(), "{reasons:?}");
    for (reason, start) in reasons.iter().zip(starts) {
        assert!(reason.starts_with(start), "{reason}");
    }
}

#[test]
fn quotas_and_attempts_are_bounded() {
    let mut place = place(Policy {
        deposits: DepositLimits {
            per_agent: 1,
            per_hour: 2,
            ..DepositLimits::default()
        },
        ..Policy::default()
    });
    place
        .register(signed("a", 0, Strength::Proven), at(1))
        .unwrap();
    put(&mut place, "a", "one", "1").unwrap();
    put(&mut place, "a", "one", "1b").unwrap();
    let BoardError::Rejected(reasons) = put(&mut place, "a", "two", "2").unwrap_err() else {
        panic!("another refusal");
    };
    assert_eq!(reasons, ["Per-agent quota exceeded (max 1)"]);
    assert!(place.attempt_deposit(&id("a"), at(1)).is_ok());
    assert!(place.attempt_deposit(&id("a"), at(2)).is_ok());
    assert!(place.attempt_deposit(&id("a"), at(3)).is_err());
    assert!(place.attempt_deposit(&id("a"), at(3_601)).is_ok());
    place.unregister(&id("a"), at(4_000));
    assert_eq!(place.census().deposits, 0);
    assert!(matches!(
        place.deposit(
            offer("x", "x", 0)
                .check(&id("a"), Some(KEYS[0].public()), &Policy::default(), at(1))
                .unwrap(),
            "x"
        ),
        Err(BoardError::NotPresent(_))
    ));
}

/// Defect 24: leaving the provenance out made a federated deposit local.
#[test]
fn defect_24_what_came_from_elsewhere_stays_so() {
    let mut place = place(Policy {
        federation: Federation {
            accept: true,
            ..Federation::default()
        },
        ..Policy::default()
    });
    for (agent, key) in [("bridge", 0), ("other", 0), ("author", 0)] {
        place
            .register(signed(agent, key, Strength::Proven), at(1))
            .unwrap();
    }
    let told = json!({
        "origin_place_id": "p1", "origin_agent_id": "author", "via": ["p1"], "hop_count": 1,
        "deposited_at_origin": at(0).wire(),
        "origin_signature": KEYS[0].sign(b"text").unwrap(), "origin_public_key": KEYS[0].public().to_pem(),
    });
    let mut federated = offer("sk", "text", 0);
    federated.provenance = told.as_object().cloned();
    let key = KEYS[0].public();
    let checked = federated
        .clone()
        .check(&id("bridge"), Some(key), place.policy(), at(1))
        .unwrap();
    let kept = place
        .deposit(checked, "text")
        .unwrap()
        .deposit
        .provenance
        .unwrap();
    assert_eq!(kept.via, ["p1", "me"]);
    assert!(kept.origin_signature.is_some());
    // The same agent again, and another one with the same bytes, both without a word about the origin.
    assert!(
        put(&mut place, "bridge", "sk", "text changed")
            .unwrap()
            .deposit
            .provenance
            .is_some()
    );
    put(&mut place, "bridge", "sk", "text").unwrap();
    assert!(
        put(&mut place, "other", "mine", "text")
            .unwrap()
            .deposit
            .provenance
            .is_some()
    );
    assert!(
        put(&mut place, "author", "sk", "text")
            .unwrap()
            .deposit
            .provenance
            .is_none()
    );

    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut told = told.clone();
        change(&mut told);
        let offer = Offer {
            provenance: told.as_object().cloned(),
            ..federated.clone()
        };
        let mut place = place_again();
        match offer.check(&id("bridge"), Some(key), place.policy(), at(1)) {
            Err(reasons) => reasons,
            Ok(checked) => match place.deposit(checked, "text") {
                Err(BoardError::Rejected(reasons)) => reasons,
                other => panic!("{other:?}"),
            },
        }
    };
    assert_eq!(
        refusal(&|told| told["hop_count"] = json!(3)),
        ["Hop count exceeds limit (max 3)"]
    );
    assert_eq!(refusal(&|told| told["via"] = json!(["p1", "me"])).len(), 1);
    assert_eq!(
        refusal(&|told| told["origin_signature"] = json!("AAAA")),
        ["Origin signature verification failed"]
    );
    assert_eq!(
        refusal(&|told| told["deposited_at_origin"] = json!("noon")),
        ["Invalid deposited_at_origin timestamp"]
    );
    let future = at(100_000).wire();
    assert_eq!(
        refusal(&|told| told["deposited_at_origin"] = json!(future)),
        ["Federated deposit has future timestamp"]
    );
}

fn place_again() -> MeetingPlace {
    let mut place = place(Policy {
        federation: Federation {
            accept: true,
            ..Federation::default()
        },
        ..Policy::default()
    });
    place
        .register(signed("bridge", 0, Strength::Proven), at(1))
        .unwrap();
    place
}

#[test]
fn needs_replace_each_other_and_go_with_their_agent() {
    let mut place = place(Policy::default());
    place.register(unsigned("a"), at(1)).unwrap();
    let entry = |names: &[&str]| NeedEntry {
        agent_name: "A".to_owned(),
        agent_mode: "user".to_owned(),
        needs: names
            .iter()
            .map(|name| Need {
                name: (*name).to_owned(),
                description: None,
            })
            .collect(),
    };
    place
        .publish_needs(&id("a"), &entry(&["x", "y"]), at(2))
        .unwrap();
    place
        .publish_needs(&id("a"), &entry(&["z"]), at(3))
        .unwrap();
    let query = Query {
        tags: vec!["knowledge_need".to_owned()],
        ..everything()
    };
    let names: Vec<_> = shown(&place, &query)
        .iter()
        .map(|need| need["name"].clone())
        .collect();
    assert_eq!(names, ["z"]);
    assert!(matches!(
        place.publish_needs(&id("a"), &entry(&["n"; 21]), at(3)),
        Err(BoardError::Rejected(_))
    ));
    place.unregister(&id("a"), at(4));
    assert!(shown(&place, &query).is_empty());
}

/// Rule D3: every entry has the same chance, whatever its age.
#[test]
fn what_is_shown_is_a_fair_choice() {
    let mut place = place(Policy::default());
    for n in 0..9 {
        place.register(unsigned(&format!("a{n}")), at(n)).unwrap();
    }
    let query = Query {
        limit: 3,
        ..Query::default()
    };
    let mut rng = SmallRng::seed_from_u64(1);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..10_000 {
        let answer = place.browse(&query, &mut rng);
        assert_eq!(
            (answer.total, answer.returned, answer.sampling()),
            (10, 3, "random_sample")
        );
        for entry in entries(&answer) {
            *counts.entry(entry.to_string()).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 10);
    // Expected 3,000 each with a deviation of 46; seven of them.
    assert!(
        counts.values().all(|count| (2_680..3_320).contains(count)),
        "{counts:?}"
    );
}

//! Going through all deposits, page by page.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn full(count: usize) -> MeetingPlace {
    let mut place = place(Policy {
        deposits: DepositLimits {
            per_agent: 1_000,
            ..DepositLimits::default()
        },
        ..Policy::default()
    });
    for agent in ["a", "b"] {
        place
            .register(signed(agent, 0, Strength::Proven), at(1))
            .unwrap();
    }
    for n in 0..count {
        put(&mut place, ["a", "b"][n % 2], &format!("s{n}"), "words").unwrap();
    }
    place
}

fn ids(page: &WalkPage) -> Vec<String> {
    let entries = page.entries.iter();
    let entries = entries.map(|entry| serde_json::from_str::<Value>(entry).unwrap());
    entries
        .map(|entry| entry["skill_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Goes all the way; does `between` after each page, with what was seen so far.
fn walked(
    place: &mut MeetingPlace,
    seed: u64,
    limit: usize,
    between: &mut dyn FnMut(&mut MeetingPlace, &[String]),
) -> Vec<String> {
    let (mut cursor, mut seen) = (Cursor::begin(seed), Vec::new());
    loop {
        let page = place.walk_deposits(cursor, limit);
        seen.extend(ids(&page));
        between(place, &seen);
        match page.next {
            // As a client hands it back.
            Some(next) => cursor = next.to_string().parse().unwrap(),
            None => return seen,
        }
    }
}

proptest! {
    #[test]
    fn what_stays_is_seen_exactly_once_whatever_comes_and_goes(
        count in 0_usize..30, limit in 1_usize..8, seed in any::<u64>(), drops in prop::collection::vec(0_usize..30, 0..8),
    ) {
        let mut place = full(count);
        let (mut drops, mut gone, mut fresh) = (drops.into_iter(), BTreeSet::new(), 0);
        let seen = walked(&mut place, seed, limit, &mut |place, _| {
            if let Some(n) = drops.next() {
                let name = format!("s{n}");
                if place.withdraw(&id(["a", "b"][n % 2]), &name).is_ok() {
                    gone.insert(name);
                }
            }
            put(place, "a", &format!("late{fresh}"), "words").unwrap();
            fresh += 1;
        });
        let unique: BTreeSet<_> = seen.iter().cloned().collect();
        prop_assert_eq!(unique.len(), seen.len());
        for n in 0..count {
            let name = format!("s{n}");
            prop_assert!(gone.contains(&name) || unique.contains(&name), "{} of {:?}", name, seen);
        }
    }
}

/// Rule D3: no place in the walk belongs to anybody.
#[test]
fn each_walk_has_an_order_of_its_own() {
    let mut place = full(8);
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..4_000 {
        let page = place.walk_deposits(Cursor::begin(seed), 1);
        assert_eq!((page.total, page.entries.len()), (8, 1));
        *first.entry(ids(&page).remove(0)).or_default() += 1;
    }
    assert_eq!(first.len(), 8);
    // Expected 500 each with a deviation of 21; seven of them.
    assert!(
        first.values().all(|count| (353..647).contains(count)),
        "{first:?}"
    );
    let nothing = &mut |_: &mut MeetingPlace, _: &[String]| {};
    let once = walked(&mut place, 7, 3, nothing);
    assert_eq!(walked(&mut place, 7, 5, nothing), once);
    assert_ne!(walked(&mut place, 8, 3, nothing), once);
}

#[test]
fn what_is_no_cursor_is_refused() {
    let good = Cursor::begin(5).to_string();
    assert!(good.parse::<Cursor>().is_ok());
    let long = format!("{good}{}", "a".repeat(64));
    assert!(long.parse::<Cursor>().is_ok());
    for bad in [
        "",
        "1",
        "x".repeat(16).as_str(),
        &format!("{good}aa"),
        &format!("{long}00"),
        "-1",
        "00000000000000é",
    ] {
        assert_eq!(bad.parse::<Cursor>(), Err(NoCursor), "{bad}");
    }
}

#[test]
fn every_change_of_the_board_is_told_by_kind_and_name() {
    let mut place = full(0);
    let told = |place: &mut MeetingPlace| -> Vec<Value> {
        place.take_events().iter().map(Event::shown).collect()
    };
    let event = |kind: &str, name: Value| json!({"kind": kind, "agent_id": "a", "id": name});
    put(&mut place, "a", "sk", "one").unwrap();
    put(&mut place, "a", "sk", "two").unwrap();
    assert_eq!(
        told(&mut place),
        [event("deposit", json!("sk")), event("update", json!("sk"))]
    );
    place.withdraw(&id("a"), "sk").unwrap();
    assert_eq!(told(&mut place), [event("withdrawal", json!("sk"))]);
    let entry = NeedEntry {
        agent_name: "A".to_owned(),
        agent_mode: "user".to_owned(),
        needs: vec![Need {
            name: "tea".to_owned(),
            description: None,
        }],
    };
    place.publish_needs(&id("a"), &entry, at(2)).unwrap();
    put(&mut place, "a", "sk", "one").unwrap();
    place.take_events();
    assert!(place.remove_needs(&id("a")) && !place.remove_needs(&id("a")));
    assert_eq!(told(&mut place), [event("needs_removed", Value::Null)]);
    place.unregister(&id("a"), at(3));
    assert_eq!(told(&mut place), [event("withdrawal", json!("sk"))]);
}

#[test]
fn a_walk_over_the_agents_goes_on_after_a_restart() {
    let mut store = MemoryStore::default();
    let mut place = place(Policy::default());
    for n in 0..6_u64 {
        let agent = signed(&format!("a{n}"), 0, Strength::Proven);
        // Two at a time within one instant, and with more than is stored of the time.
        let when = at(n / 2).plus(Duration::from_nanos(123_456_789));
        place.register(agent, when).unwrap();
    }
    let names = |page: &AgentPage<'_>| {
        let agents = page.agents.iter();
        agents.map(|agent| agent.id.to_string()).collect::<Vec<_>>()
    };
    let first = place.agents(false, None, 3);
    assert_eq!(names(&first), ["a0", "a1", "a2"]);
    let cursor = first.next.unwrap().to_string();
    // One that was seen leaves, one that was not comes back, one is new.
    place.unregister(&id("a1"), at(9));
    place.unregister(&id("a4"), at(9));
    place
        .register(signed("a4", 0, Strength::Proven), at(10))
        .unwrap();
    place
        .register(signed("new", 0, Strength::Proven), at(11))
        .unwrap();
    store.commit(&place.take_changes()).unwrap();
    let snapshot = store.load().unwrap();
    let place = MeetingPlace::new(Policy::default(), unsigned("me"), snapshot, at(20));
    let cursor: AgentCursor = cursor.parse().unwrap();
    let second = place.agents(false, Some(&cursor), 10);
    assert_eq!(names(&second), ["a3", "a4", "a5", "new"]);
    assert_eq!(second.next, None);
    for wrong in ["", "7", "zz", &"0".repeat(16), &format!("{:016x}ff", 1)] {
        assert_eq!(wrong.parse::<AgentCursor>(), Err(NoCursor), "{wrong}");
    }
}

#[test]
fn a_search_that_lets_go_of_the_board_finds_what_stays() {
    let mut place = place(Policy {
        agents_max: 20_000,
        unverified_max: 20_000,
        ..Policy::default()
    });
    for n in 0..7_000 {
        place.register(unsigned(&format!("a{n}")), at(0)).unwrap();
    }
    let query = Query {
        search: Some("AGENT A".to_owned()),
        limit: 1_000,
        ..Query::default()
    };
    let mut search = Search::new(query);
    let (mut steps, mut gone) = (0, 0);
    while place.go_on(&mut search) {
        // Each moves the last entry to where an early one was.
        for n in (steps * 100..steps * 100 + 50).map(|n| format!("a{n}")) {
            gone += usize::from(place.unregister(&id(&n), at(1)));
        }
        steps += 1;
    }
    assert!(steps >= 3, "{steps}");
    let answer = search.answer(&mut SmallRng::seed_from_u64(1));
    // What went after it was looked at is still told of.
    assert!(
        (7_000 - gone..=7_000).contains(&answer.total),
        "{}",
        answer.total
    );
    assert_eq!((answer.returned, answer.agents), (1_000, 1_000));
}

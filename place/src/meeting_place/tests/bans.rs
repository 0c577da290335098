//! Whom the operator keeps out.

use proptest::prelude::*;

use super::*;
use crate::meeting_place::audit::Event;
use crate::meeting_place::ban::REASON_MAX;

fn ban_of(target: &str, until: Option<u64>) -> Ban {
    Ban {
        target: Target::guess(target).unwrap(),
        reason: Some("spam".to_owned()),
        by: "local".to_owned(),
        since: at(10),
        until: until.map(at),
    }
}

fn visitor<'a>(agent: &'a AgentId, address: Option<&str>) -> Visitor<'a> {
    Visitor {
        agent: Some(agent),
        key: None,
        address: address.map(|address| address.parse().unwrap()),
    }
}

/// What was logged of the changes since the last call.
fn logged(place: &mut MeetingPlace) -> Vec<Event> {
    let changes = place.take_changes().into_iter();
    let events = changes.filter_map(|change| match change {
        Change::Logged(_, event) => Some(*event),
        _ => None,
    });
    events.collect()
}

/// `a` with a deposit and a need, `b` with a deposit of the same name.
fn peopled() -> MeetingPlace {
    let mut place = place(Policy::default());
    for (agent, key) in [("a", 0), ("b", 0)] {
        place
            .register(signed(agent, key, Strength::Proven), at(1))
            .unwrap();
        put(&mut place, agent, "words", "# Words").unwrap();
    }
    let entry = NeedEntry {
        agent_name: "Agent a".to_owned(),
        agent_mode: "unknown".to_owned(),
        needs: vec![Need {
            name: "tea".to_owned(),
            description: None,
        }],
    };
    place.publish_needs(&id("a"), &entry, at(1)).unwrap();
    place.take_changes();
    place.take_events();
    place
}

/// What listeners are told since the last call.
fn told(place: &mut MeetingPlace) -> Vec<(Changed, Option<String>)> {
    let events = place.take_events().into_iter();
    events
        .inspect(|event| assert_eq!(event.agent, id("a")))
        .map(|event| (event.kind, event.id))
        .collect()
}

fn on_the_board(place: &MeetingPlace) -> Vec<String> {
    let entries = shown(place, &everything()).into_iter();
    let mut named: Vec<String> = entries
        .map(|entry| {
            let owner = entry.get("agent_id").or(entry.get("depositor_id"));
            let owner = owner.and_then(Value::as_str).unwrap_or_default().to_owned();
            format!("{}:{owner}", entry["type"].as_str().unwrap_or_default())
        })
        .collect();
    named.sort();
    named
}

#[test]
fn a_banned_agent_is_neither_seen_nor_found_nor_taken_in_until_the_ban_is_taken_back() {
    let mut place = peopled();
    let before = on_the_board(&place);
    let banned = place.ban(ban_of("a", None), at(10)).unwrap();
    assert_eq!(banned.left, [id("a")]);
    let board = on_the_board(&place);
    assert!(
        board.iter().all(|entry| !entry.ends_with(":a")),
        "{board:?}"
    );
    assert_eq!(listed(&place), ["me", "b"]);
    assert_eq!(place.agent(&id("a")), None);
    assert_eq!(place.key(&id("a")), None);
    assert_eq!(place.find_deposit("words", Some(&id("a"))), None);
    assert_eq!(
        place.find_deposit("words", None).unwrap().key.owner,
        id("b")
    );
    assert_eq!(place.deposits_of(&id("a")).count(), 0);
    let back = place.register(signed("a", 0, Strength::Proven), at(11));
    assert_eq!(back, Err(RegisterError::Banned(id("a"))));
    assert!(place.register(unsigned("a"), at(11)).is_err());
    assert_eq!(place.census().bans, 1);

    assert_eq!(
        place.unban(&Target::Agent(id("a")), "local", at(12)),
        Ok(ban_of("a", None))
    );
    assert!(place.find_deposit("words", Some(&id("a"))).is_some());
    place
        .register(signed("a", 0, Strength::Proven), at(13))
        .unwrap();
    // But for the need, which is gone with its agent's presence.
    let after: Vec<String> = before.into_iter().filter(|e| e != "need:a").collect();
    assert_eq!(on_the_board(&place), after);
    let unknown = place.unban(&Target::Agent(id("a")), "local", at(12));
    assert_eq!(unknown, Err(BanError::Unknown(Target::Agent(id("a")))));
}

#[test]
fn who_listens_hears_that_a_ban_takes_things_off_the_board_and_that_they_are_back() {
    let mut place = peopled();
    let words = || Some("words".to_owned());
    place.ban(ban_of("a", Some(20)), at(10)).unwrap();
    assert_eq!(
        told(&mut place),
        [(Changed::Withdrawal, words()), (Changed::NeedsGone, None)]
    );
    // Another ban of the same agent changes nothing that is shown.
    place.ban(ban_of("a", Some(30)), at(11)).unwrap();
    assert_eq!(told(&mut place), []);
    place.sweep(at(25), 10);
    assert_eq!(told(&mut place), []);
    place.sweep(at(30), 10);
    assert_eq!(told(&mut place), [(Changed::Deposit, words())]);
    // Where somebody asks from says nothing about what it left here.
    let network = place.ban(ban_of("192.0.2.0/24", None), at(40)).unwrap();
    assert_eq!(network.barred, []);
    assert_eq!(told(&mut place), []);
}

#[test]
fn a_key_is_kept_out_under_every_name() {
    let mut place = peopled();
    let print = KEYS[0].public().hash().fingerprint();
    let banned = place.ban(ban_of(&print, None), at(10)).unwrap();
    let left: std::collections::BTreeSet<_> = banned.left.into_iter().collect();
    assert_eq!(left, [id("a"), id("b")].into());
    assert_eq!(on_the_board(&place), ["agent:me"]);
    for name in ["a", "b", "another"] {
        let refused = place.register(signed(name, 0, Strength::Proven), at(11));
        assert_eq!(refused, Err(RegisterError::Banned(id(name))), "{name}");
    }
    place
        .register(signed("c", 1, Strength::Proven), at(11))
        .unwrap();
    // Two bans meet `a`; one of them is not enough to let it in again.
    place.ban(ban_of("a", None), at(12)).unwrap();
    let target = Target::guess(&print).unwrap();
    place.unban(&target, "local", at(13)).unwrap();
    assert_eq!(place.deposits_of(&id("a")).count(), 0);
    assert_eq!(place.deposits_of(&id("b")).count(), 1);
}

#[test]
fn a_network_is_kept_out_and_what_its_agents_left_is_shown_all_the_same() {
    let mut place = peopled();
    let address = Some("192.0.2.7".parse().unwrap());
    place
        .register_from(signed("a", 0, Strength::Proven), address, at(2))
        .unwrap();
    let banned = place.ban(ban_of("192.0.2.0/24", None), at(10)).unwrap();
    assert_eq!(banned.left, [id("a")]);
    assert_eq!(place.deposits_of(&id("a")).count(), 1);
    let refused = place.register_from(signed("a", 0, Strength::Proven), address, at(11));
    assert_eq!(refused, Err(RegisterError::Banned(id("a"))));
    let (who, elsewhere) = (id("a"), Some("192.0.3.7"));
    assert!(
        place
            .banned(visitor(&who, Some("::ffff:192.0.2.9")), at(11))
            .is_some()
    );
    assert_eq!(place.banned(visitor(&who, elsewhere), at(11)), None);
    let elsewhere = elsewhere.map(|address| address.parse().unwrap());
    place
        .register_from(signed("a", 0, Strength::Proven), elsewhere, at(12))
        .unwrap();
}

#[test]
fn a_ban_ends_with_its_time_and_what_it_hid_comes_back() {
    let mut place = peopled();
    place.ban(ban_of("a", Some(20)), at(10)).unwrap();
    let who = id("a");
    assert!(place.banned(visitor(&who, None), at(19)).is_some());
    assert_eq!(place.banned(visitor(&who, None), at(20)), None);
    place.take_changes();
    place.sweep(at(19), 10);
    assert_eq!((logged(&mut place), place.census().bans), (vec![], 1));
    place.sweep(at(20), 10);
    let target = Target::Agent(who.clone());
    assert_eq!(logged(&mut place), [Event::BanOver { target }]);
    assert_eq!(place.deposits_of(&who).count(), 1);
    assert_eq!(
        place.ban(ban_of("a", Some(20)), at(20)),
        Err(BanError::Over)
    );
}

#[test]
fn who_runs_the_place_cannot_be_kept_out_of_it() {
    let mut place = MeetingPlace::new(
        Policy::default(),
        signed("me", 1, Strength::Proven),
        Snapshot::default(),
        at(0),
    );
    place.take_changes();
    let print = KEYS[1].public().hash().fingerprint();
    for target in ["me", &print] {
        let refused = place.ban(ban_of(target, None), at(1));
        assert!(matches!(refused, Err(BanError::Own(_))), "{target}");
    }
    assert!(matches!(
        place.kick(&id("me"), "local", None, at(1)),
        Err(BanError::Own(_))
    ));
    let mut wordy = ban_of("a", None);
    wordy.reason = Some("x".repeat(REASON_MAX + 1));
    assert!(matches!(place.ban(wordy, at(1)), Err(BanError::Reason(_))));
    let mut lines = ban_of("a", None);
    lines.reason = Some("a\nb".to_owned());
    assert!(matches!(place.ban(lines, at(1)), Err(BanError::Reason(_))));
    assert_eq!(place.take_changes(), []);
}

#[test]
fn a_kick_ends_a_presence_and_nothing_else() {
    let mut place = peopled();
    place.kick(&id("a"), "bo", Some("loud"), at(10)).unwrap();
    assert_eq!(listed(&place), ["me", "b"]);
    assert_eq!(place.deposits_of(&id("a")).count(), 1);
    let event = Event::Kick {
        agent: id("a"),
        by: "bo".to_owned(),
        reason: Some("loud".to_owned()),
    };
    assert_eq!(logged(&mut place), [event]);
    // Its need went with it, as when it leaves by itself.
    assert_eq!(told(&mut place), [(Changed::NeedsGone, None)]);
    let again = place.kick(&id("a"), "bo", None, at(11));
    assert_eq!(again, Err(BanError::NotPresent(id("a"))));
    let back = place.register(signed("a", 0, Strength::Proven), at(12));
    assert!(back.unwrap().new);
}

#[test]
fn registrations_are_written_down_without_what_they_say() {
    let mut place = place(Policy::default());
    place.take_changes();
    place
        .register(signed("a", 0, Strength::Proven), at(1))
        .unwrap();
    let registration = |agent: &str| Event::Registration {
        agent_id: agent.to_owned(),
        endpoint_present: false,
        capabilities_count: 2,
    };
    let key = Event::KeyRegistration {
        agent_id: "a".to_owned(),
        key_fingerprint: KEYS[0].public().hash().fingerprint(),
    };
    assert_eq!(logged(&mut place), [registration("a"), key]);
    // Nothing new is said, so nothing is written.
    place
        .register(signed("a", 0, Strength::Proven), at(2))
        .unwrap();
    assert_eq!(logged(&mut place), []);
    place.register(unsigned("b"), at(2)).unwrap();
    assert_eq!(logged(&mut place), [registration("b")]);
    let json = serde_json::to_value(registration("b")).unwrap();
    assert_eq!(json["event_type"], "registration");
}

#[test]
fn one_address_has_its_share_and_the_known_are_taken_in_all_the_same() {
    let mut place = place(Policy {
        agents_per_address: 3,
        unverified_per_address: 1,
        ..Policy::default()
    });
    let from = |address: &str| Some(address.parse().unwrap());
    let here = from("2001:db8::1");
    place.register_from(unsigned("u1"), here, at(1)).unwrap();
    let second = place.register_from(unsigned("u2"), from("2001:db8::2"), at(1));
    assert_eq!(second, Err(RegisterError::AddressUnverified { max: 1 }));
    for name in ["a", "b"] {
        let body = signed(name, 0, Strength::Proven);
        place.register_from(body, here, at(1)).unwrap();
    }
    let body = || signed("c", 1, Strength::Proven);
    let full = place.register_from(body(), here, at(2));
    assert_eq!(full, Err(RegisterError::AddressShare { max: 3 }));
    place
        .register_from(body(), from("2001:db8:0:1::1"), at(2))
        .unwrap();
    // It moves to the address that has no room, and is let in: the Place knows it.
    place.register_from(body(), here, at(3)).unwrap();
    assert_eq!(place.origin(&id("c")), Some("2001:db8::1".parse().unwrap()));
    // Whoever leaves makes room.
    for name in ["a", "b", "c"] {
        place.unregister(&id(name), at(4));
    }
    place
        .register_from(signed("d", 1, Strength::Proven), here, at(5))
        .unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Register(usize, usize),
    Ban(usize, Option<u64>),
    Unban(usize),
    Kick(usize),
    Deposit(usize),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_usize, 0..2_usize).prop_map(|(agent, key)| Step::Register(agent, key)),
        (0..7_usize, prop::option::of(1..20_u64)).prop_map(|(who, time)| Step::Ban(who, time)),
        (0..7_usize).prop_map(Step::Unban),
        (0..4_usize).prop_map(Step::Kick),
        (0..4_usize).prop_map(Step::Deposit),
        Just(Step::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever happened: nobody who is banned is present, shown or found, everybody else's deposits are, and a Place
    /// that is built anew from the store says the same.
    #[test]
    fn nobody_who_is_banned_is_spoken_of(steps in prop::collection::vec((step(), 1..8_u64), 0..40)) {
        let names = ["a", "b", "c", "d"];
        let mut targets: Vec<String> = names.map(str::to_owned).to_vec();
        targets.extend(KEYS.iter().map(|key| key.public().hash().fingerprint()));
        targets.push("192.0.2.0/24".to_owned());
        let mut store = MemoryStore::default();
        let mut place = place(Policy::default());
        let mut now = 10;
        for (step, passed) in steps {
            now += passed;
            match step {
                Step::Register(agent, key) => {
                    let address = Some(["192.0.2.1", "198.51.100.1"][agent % 2].parse().unwrap());
                    let body = signed(names[agent], key, Strength::Proven);
                    let _ = place.register_from(body, address, at(now));
                }
                Step::Ban(who, time) => {
                    let until = time.map(|time| now + time);
                    place.ban(ban_of(&targets[who], until), at(now)).unwrap();
                }
                Step::Unban(who) => {
                    let _ = place.unban(&Target::guess(&targets[who]).unwrap(), "local", at(now));
                }
                Step::Kick(agent) => {
                    let _ = place.kick(&id(names[agent]), "local", None, at(now));
                }
                Step::Deposit(agent) => {
                    if place.agent(&id(names[agent])).is_some() && place.key(&id(names[agent])).is_some() {
                        let _ = put(&mut place, names[agent], &format!("skill-{agent}"), "# Words");
                    }
                }
                Step::Sweep => {}
            }
            place.sweep(at(now), 100);
            store.commit(&place.take_changes()).unwrap();
            let board = on_the_board(&place);
            for name in names {
                let who = id(name);
                let banned = place.banned(visitor(&who, None), at(now)).is_some();
                if banned {
                    prop_assert!(place.agent(&who).is_none());
                    prop_assert!(place.key(&who).is_none());
                    let of_it = format!(":{name}");
                    prop_assert!(board.iter().all(|entry| !entry.ends_with(&of_it)));
                }
                prop_assert_eq!(place.is_shown(&who), !banned);
                let stored = store.load().unwrap().deposits;
                let stored = stored.iter().filter(|deposit| deposit.key.owner == who).count();
                let shown = place.deposits_of(&who).count();
                prop_assert_eq!(shown, if banned { 0 } else { stored });
                let cards = board.iter().filter(|entry| **entry == format!("deposited_skill:{name}"));
                prop_assert_eq!(cards.count(), shown);
            }
        }
        let again = MeetingPlace::new(Policy::default(), unsigned("me"), store.load().unwrap(), at(now));
        prop_assert_eq!(on_the_board(&again), on_the_board(&place));
        prop_assert_eq!(again.bans(None, 99), place.bans(None, 99));
    }
}

#[test]
fn what_a_person_writes_is_read_as_what_it_looks_like() {
    let print = ContentHash::of("key").fingerprint();
    for (text, written) in [
        ("7a9ad5b9ce0e5d62", "agent:7a9ad5b9ce0e5d62".to_owned()),
        ("agent:192.0.2.1", "agent:192.0.2.1".to_owned()),
        ("192.0.2.1", "address:192.0.2.1".to_owned()),
        ("2001:db8::5", "address:2001:db8::/64".to_owned()),
        ("10.0.0.0/8", "address:10.0.0.0/8".to_owned()),
        (&print, format!("key:{print}")),
        (
            &format!("sha256:{}", ContentHash::of("key").to_hex()),
            format!("key:{print}"),
        ),
    ] {
        let target = Target::guess(text).unwrap();
        assert_eq!(target.to_string(), written, "{text}");
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    for text in ["", "10.0.0.1/8", "key:ab", "address:here", "agent:"] {
        assert!(Target::guess(text).is_err(), "{text}");
    }
    assert!("7a9a".parse::<Target>().is_err());
}

#[test]
fn bans_are_listed_in_pages() {
    let mut place = place(Policy::default());
    for name in ["b", "192.0.2.1", "a"] {
        place.ban(ban_of(name, None), at(1)).unwrap();
    }
    let names = |page: &BanPage| -> Vec<String> {
        page.bans.iter().map(|ban| ban.target.to_string()).collect()
    };
    let first = place.bans(None, 2);
    assert_eq!(names(&first), ["agent:a", "agent:b"]);
    let rest = place.bans(first.next.as_ref(), 2);
    assert_eq!(
        (names(&rest), rest.next),
        (vec!["address:192.0.2.1".to_owned()], None)
    );
}

//! Requests that are sent again.

use super::*;
use crate::meeting_place::once::{ONCE_LIFETIME, ONCE_PER_AGENT_MAX};

fn ask(agent: &str, key: &str, request: &str) -> Once {
    Once::new(id(agent), key, ContentHash::of(request)).unwrap()
}

fn acted(
    place: &mut MeetingPlace,
    once: Once,
    stored: bool,
    secs: u64,
) -> Result<Outcome<u64>, OtherRequest> {
    let act = |_: &mut MeetingPlace| Ok::<_, BoardError>(secs);
    let done = place.once(Some(once), stored, at(secs), act, |done| {
        format!("did {done}")
    });
    done.map(Result::unwrap)
}

#[test]
fn what_is_asked_again_is_answered_again_and_not_done_again() {
    let mut store = MemoryStore::default();
    let mut place = place(Policy::default());
    let first = acted(&mut place, ask("a", "k", "one"), true, 1);
    assert_eq!(first, Ok(Outcome::Done(1)));
    let again = Ok(Outcome::Repeated("did 1".to_owned()));
    assert_eq!(acted(&mut place, ask("a", "k", "one"), true, 2), again);
    assert_eq!(
        acted(&mut place, ask("a", "k", "two"), true, 2),
        Err(OtherRequest)
    );
    // Another agent's key is another key.
    assert_eq!(
        acted(&mut place, ask("b", "k", "two"), true, 2),
        Ok(Outcome::Done(2))
    );
    assert_eq!(
        acted(&mut place, ask("a", "fleeting", "x"), false, 3),
        Ok(Outcome::Done(3))
    );
    store.commit(&place.take_changes()).unwrap();

    let snapshot = store.load().unwrap();
    let mut place = MeetingPlace::new(Policy::default(), unsigned("me"), snapshot, at(4));
    assert_eq!(acted(&mut place, ask("a", "k", "one"), true, 5), again);
    assert_eq!(
        acted(&mut place, ask("a", "fleeting", "x"), false, 5),
        Ok(Outcome::Done(5))
    );
    let over = ONCE_LIFETIME.as_secs() + 1;
    assert_eq!(
        acted(&mut place, ask("a", "k", "two"), true, over),
        Ok(Outcome::Done(over))
    );
}

#[test]
fn what_was_refused_is_decided_anew() {
    let mut place = place(Policy::default());
    place.take_changes();
    let refuse = |_: &mut MeetingPlace| Err::<(), _>(BoardError::NotPresent(id("a")));
    let once = ask("a", "k", "one");
    let done = place.once(Some(once.clone()), true, at(1), refuse, |()| String::new());
    assert!(done.unwrap().is_err());
    assert_eq!(place.take_changes(), []);
    assert_eq!(acted(&mut place, once, true, 2), Ok(Outcome::Done(2)));
}

#[test]
fn answers_are_bounded_for_each_agent_for_all_and_in_time() {
    let mut store = MemoryStore::default();
    let mut place = place(Policy {
        answers_max: ONCE_PER_AGENT_MAX + 1,
        ..Policy::default()
    });
    for n in 0..=ONCE_PER_AGENT_MAX as u64 {
        acted(&mut place, ask("a", &format!("k{n}"), "x"), true, n).unwrap();
    }
    let mut kept = |place: &mut MeetingPlace| {
        store.commit(&place.take_changes()).unwrap();
        store.load().unwrap().answers
    };
    let of_a = kept(&mut place);
    assert_eq!(of_a.len(), ONCE_PER_AGENT_MAX);
    assert!(of_a.iter().all(|answered| answered.key.key != "k0"));
    for (n, agent) in ["b", "c"].into_iter().enumerate() {
        acted(&mut place, ask(agent, "k", "x"), true, 1_000 + n as u64).unwrap();
    }
    let all = kept(&mut place);
    assert_eq!(all.len(), ONCE_PER_AGENT_MAX + 1);
    assert!(all.iter().all(|answered| answered.key.key != "k1"));
    place.sweep(at(1_000 + ONCE_LIFETIME.as_secs()), 1_000);
    assert_eq!(kept(&mut place).len(), 1);
}

#[test]
fn keys_are_short_and_visible() {
    let long = "k".repeat(129);
    for bad in ["", "a b", "ü", "a\n", long.as_str()] {
        assert!(
            Once::new(id("a"), bad, ContentHash::of("")).is_err(),
            "{bad}"
        );
    }
    assert!(Once::new(id("a"), &long[1..], ContentHash::of("")).is_ok());
}

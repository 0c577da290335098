//! Late copies of old requests, and what a deposit is to replace.

use super::*;

const HOUR: u64 = 3600;

fn checked(place: &MeetingPlace, content: &str, secs: u64) -> Deposit {
    let key = place.key(&id("a")).unwrap().parse().unwrap();
    let offered = offer("sk", content, 0);
    let checked = offered.check(&id("a"), Some(&key), place.policy(), at(secs));
    checked.unwrap()
}

/// Leaves `content` at a time and tells what is there then.
fn leave(
    place: &mut MeetingPlace,
    content: &str,
    secs: u64,
    condition: Condition,
) -> Result<ContentHash, BoardError> {
    let deposit = checked(place, content, secs);
    let done = place.deposit_if(deposit, content, condition)?;
    let there = place.find_deposit("sk", Some(&id("a"))).unwrap();
    assert_eq!(there, &done.deposit);
    Ok(there.content_hash)
}

fn with_a() -> MeetingPlace {
    let mut place = place(Policy::default());
    place
        .register(signed("a", 0, Strength::Proven), at(0))
        .unwrap();
    place
}

#[test]
fn a_late_copy_of_an_older_deposit_does_not_bring_it_back() {
    let mut place = with_a();
    let unsaid = Condition::Unsaid;
    let (one, two) = (ContentHash::of("one"), ContentHash::of("two"));
    leave(&mut place, "one", 1, unsaid).unwrap();
    leave(&mut place, "two", 2, unsaid).unwrap();
    let stale = leave(&mut place, "one", 3, unsaid);
    let Err(BoardError::Rejected(reasons)) = stale else {
        panic!("{stale:?}");
    };
    assert!(reasons[0].starts_with("Stale deposit: "), "{reasons:?}");
    // What is there may be said again, with other facts about it.
    assert_eq!(leave(&mut place, "two", 4, unsaid), Ok(two));
    // Not after what replaced it was withdrawn either.
    place.withdraw(&id("a"), "sk").unwrap();
    assert!(leave(&mut place, "one", 5, unsaid).is_err());
    // A machine that is built anew after a failed commit still knows.
    let mut store = MemoryStore::default();
    store.commit(&place.take_changes()).unwrap();
    let mut anew = MeetingPlace::new(
        Policy::default(),
        unsigned("me"),
        store.load().unwrap(),
        at(6),
    );
    anew.carry_over(&mut place);
    assert!(leave(&mut anew, "one", 6, unsaid).is_err());
    // No session lasts longer.
    assert_eq!(leave(&mut anew, "one", 2 + HOUR, unsaid), Ok(one));
}

#[test]
fn who_says_what_is_to_be_replaced_may_bring_anything_back_once() {
    let mut place = with_a();
    let (one, two) = (ContentHash::of("one"), ContentHash::of("two"));
    let refused = leave(&mut place, "one", 1, Condition::Is(two));
    assert_eq!(refused, Err(BoardError::Changed { there: None }));
    assert_eq!(leave(&mut place, "one", 1, Condition::Nothing), Ok(one));
    leave(&mut place, "two", 2, Condition::Is(one)).unwrap();
    assert_eq!(leave(&mut place, "one", 3, Condition::Is(two)), Ok(one));
    place.take_changes();
    place.take_events();
    // A copy of what was done last changes nothing; a copy of anything before is refused.
    assert_eq!(leave(&mut place, "one", 9, Condition::Is(two)), Ok(one));
    assert_eq!(leave(&mut place, "one", 9, Condition::Nothing), Ok(one));
    assert!(place.take_changes().is_empty() && place.take_events().is_empty());
    let late = leave(&mut place, "three", 9, Condition::Is(two));
    assert_eq!(late, Err(BoardError::Changed { there: Some(one) }));
    let late = place.withdraw_if(&id("a"), "sk", Condition::Is(two));
    assert_eq!(late, Err(BoardError::Changed { there: Some(one) }));
    place
        .withdraw_if(&id("a"), "sk", Condition::Is(one))
        .unwrap();
    let late = leave(&mut place, "two", 9, Condition::Is(one));
    assert_eq!(late, Err(BoardError::Changed { there: None }));
}

#[test]
fn an_update_is_meant_as_it_is_said() {
    let mut place = with_a();
    leave(&mut place, "one", 1, Condition::Unsaid).unwrap();
    for (content, secs) in [("two", 2), ("one", 3)] {
        let deposit = checked(&place, content, secs);
        place.update(deposit, content).unwrap();
    }
    // Which makes the other one the old one.
    assert!(leave(&mut place, "two", 4, Condition::Unsaid).is_err());
}

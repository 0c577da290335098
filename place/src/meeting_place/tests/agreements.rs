//! Agreements with other Places: steps that come twice, late, from others, or not at all.

use kairos_protocol::federation::agreement::{OPEN_FOR, Party, Proposal, Statement, Word};
use proptest::prelude::*;

use super::*;
use crate::meeting_place::agreement::{Agreement, Standing, StepError};

static PLACES: LazyLock<[Keypair; 3]> =
    LazyLock::new(|| [(); 3].map(|()| Keypair::generate().unwrap()));

fn me(which: usize) -> AgentId {
    PLACES[which].public().agent_id()
}

fn key(which: usize) -> ContentHash {
    PLACES[which].public().hash()
}

fn party(which: usize) -> Party {
    Party {
        place_id: me(which),
        public_key: PLACES[which].public().clone(),
        url: format!("http://127.0.0.1:{which}"),
    }
}

fn hosted(which: usize, max: usize) -> MeetingPlace {
    let own = Registration {
        id: me(which),
        claim: Claim::Signed(PLACES[which].public().clone(), Strength::Proven),
        ..unsigned("own")
    };
    let mut policy = Policy::default();
    policy.federation.agreements_max = max;
    MeetingPlace::new(policy, own, Snapshot::default(), at(0))
}

fn offer_to(from: usize, to: usize, when: Timestamp) -> Proposal {
    let Party { place_id, url, .. } = party(from);
    Proposal::sign(&PLACES[from], place_id, url, party(to), when).unwrap()
}

fn say(word: Word, by: usize, about: &Proposal, when: Timestamp) -> Statement {
    Statement::sign(&PLACES[by], about, word, me(by), when).unwrap()
}

fn standing(place: &MeetingPlace, of: &Proposal) -> Option<Standing> {
    Some(place.agreement(&of.id())?.standing(place.id()))
}

#[test]
fn nothing_is_in_effect_before_both_signed_and_either_ends_it() {
    let (mut north, mut south) = (hosted(0, 4), hosted(1, 4));
    let proposal = offer_to(0, 1, at(1));
    let ours = north.propose(proposal.clone(), "me", at(1)).unwrap();
    assert!(ours.untold && north.partner(&me(1)).is_none());
    let asked = south.take_proposal(proposal.clone(), &me(0), key(0), at(2));
    assert_eq!(asked, Ok(Standing::Asked));
    assert!(south.partner(&me(0)).is_none());

    let accepted = say(Word::Accepted, 1, &proposal, at(3));
    south.decide(accepted.clone(), "me", at(3)).unwrap();
    assert!(south.partner(&me(0)).is_some() && north.partner(&me(1)).is_none());
    for _ in 0..2 {
        let heard = north.hear(accepted.clone(), &me(1), key(1), at(4));
        assert_eq!(heard, Ok(Standing::InEffect), "again and again");
    }
    assert_eq!(north.partner(&me(1)), Some(&party(1)));

    let ended = say(Word::Ended, 0, &proposal, at(5));
    north.decide(ended.clone(), "me", at(5)).unwrap();
    assert!(north.partner(&me(1)).is_none());
    for _ in 0..2 {
        let heard = south.hear(ended.clone(), &me(0), key(0), at(6));
        assert_eq!(heard, Ok(Standing::Ended));
    }
    // Neither the acceptance nor the proposal brings it back.
    let again = north.hear(accepted, &me(1), key(1), at(7));
    assert_eq!(again, Err(StepError::Stands(Standing::Ended)));
    let again = south.take_proposal(proposal, &me(0), key(0), at(7));
    assert_eq!(again, Ok(Standing::Ended));
    assert!(south.partner(&me(0)).is_none() && north.partner(&me(1)).is_none());
}

#[test]
fn a_proposal_is_taken_from_its_own_place_for_this_place_and_in_time() {
    let mut place = hosted(1, 4);
    let good = offer_to(0, 1, at(10));
    let mut take = |proposal: Proposal, caller: usize, with: usize, now: u64| {
        place.take_proposal(proposal, &me(caller), key(with), at(now))
    };
    assert_eq!(
        take(good.clone(), 2, 2, 10),
        Err(StepError::NotYours),
        "another one brings it"
    );
    assert_eq!(
        take(good.clone(), 0, 2, 10),
        Err(StepError::NotYours),
        "by another key"
    );
    assert_eq!(
        take(offer_to(0, 2, at(10)), 0, 0, 10),
        Err(StepError::NotYours),
        "for another Place"
    );
    let mut wrong = party(1);
    wrong.public_key = PLACES[2].public().clone();
    let url = party(0).url;
    let wrong = Proposal::sign(&PLACES[0], me(0), url, wrong, at(10)).unwrap();
    assert_eq!(take(wrong, 0, 0, 10), Err(StepError::OtherKey));
    let late = 11 + OPEN_FOR.as_secs();
    assert_eq!(take(good.clone(), 0, 0, late), Err(StepError::Stale));
    let future = offer_to(0, 1, at(1_000));
    assert_eq!(take(future, 0, 0, 10), Err(StepError::Stale));
    assert_eq!(take(good.clone(), 0, 0, 10), Ok(Standing::Asked));
    let newer = offer_to(0, 1, at(20));
    assert_eq!(take(newer.clone(), 0, 0, 20), Ok(Standing::Asked));
    assert_eq!(
        take(good.clone(), 0, 0, 20),
        Err(StepError::Stale),
        "an older one that comes late"
    );
    assert_eq!(standing(&place, &good), None, "the newer took its place");
    let late = at(21 + OPEN_FOR.as_secs());
    let accepted = say(Word::Accepted, 1, &newer, at(30));
    assert_eq!(place.decide(accepted, "me", late), Err(StepError::Stale));
}

#[test]
fn strangers_fill_neither_what_waits_nor_what_is_remembered() {
    let mut place = hosted(1, 1);
    let own = offer_to(1, 2, at(1));
    place.propose(own.clone(), "me", at(1)).unwrap();
    for n in 0..20 {
        let proposal = offer_to(0, 1, at(2 + n));
        let asked = place.take_proposal(proposal.clone(), &me(0), key(0), at(2 + n));
        assert_eq!(asked, Ok(Standing::Asked), "its own waiting one makes room");
        if n % 2 == 0 {
            let ended = say(Word::Ended, 0, &proposal, at(2 + n));
            place.hear(ended, &me(0), key(0), at(2 + n)).unwrap();
            assert_eq!(standing(&place, &proposal), None);
        }
    }
    let other = offer_to(2, 1, at(30));
    assert_eq!(
        place.take_proposal(other, &me(2), key(2), at(30)),
        Err(StepError::Full { max: 1 })
    );
    assert_eq!(standing(&place, &own), Some(Standing::Proposed));
    assert_eq!(place.agreements().count(), 2);
    place.forget_agreements(at(3 * OPEN_FOR.as_secs()));
    assert_eq!(place.agreements().count(), 0);
}

#[test]
fn what_was_told_is_noted_for_that_step_only() {
    let mut place = hosted(0, 4);
    let proposal = offer_to(0, 1, at(1));
    place.propose(proposal.clone(), "me", at(1)).unwrap();
    let ended = say(Word::Ended, 0, &proposal, at(2));
    place.decide(ended, "me", at(2)).unwrap();
    let untold = |place: &MeetingPlace| place.agreement(&proposal.id()).unwrap().untold;
    place.note_told(&proposal.id(), at(1));
    assert!(untold(&place), "the proposal was told, the end was not");
    place.note_told(&proposal.id(), at(2));
    assert!(!untold(&place));
}

#[test]
fn a_partner_that_is_kept_out_is_none() {
    let mut place = hosted(0, 4);
    let proposal = offer_to(0, 1, at(1));
    place.propose(proposal.clone(), "me", at(1)).unwrap();
    let accepted = say(Word::Accepted, 1, &proposal, at(2));
    place.hear(accepted, &me(1), key(1), at(2)).unwrap();
    let ban = Ban {
        target: Target::Agent(me(1)),
        reason: None,
        by: "me".to_owned(),
        since: at(3),
        until: None,
    };
    place.ban(ban, at(3)).unwrap();
    assert!(place.partner(&me(1)).is_none());
}

/// A step of one of the two Places, or one on the way to them again.
#[derive(Debug, Clone)]
enum Move {
    Propose(usize),
    Decide(usize, usize, Word),
    Arrive(usize),
}

fn moves() -> impl Strategy<Value = Move> {
    let word = prop_oneof![Just(Word::Accepted), Just(Word::Refused), Just(Word::Ended)];
    prop_oneof![
        (0..2_usize).prop_map(Move::Propose),
        (0..2_usize, 0..4_usize, word)
            .prop_map(|(who, which, word)| Move::Decide(who, which, word)),
        (0..32_usize).prop_map(Move::Arrive),
    ]
}

#[derive(Debug, Clone)]
enum Letter {
    Proposal(Proposal),
    Statement(Statement),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is decided, and in whatever order, how often and whether at all letters arrive: nothing is in effect that
    /// not both signed, nothing that one side ended comes back there, and once all arrived both sides agree on what is in
    /// effect.
    #[test]
    fn both_sides_come_to_the_same_in_the_end(moves in prop::collection::vec(moves(), 1..24)) {
        let mut places = [hosted(0, 8), hosted(1, 8)];
        let mut letters: Vec<(usize, Letter)> = Vec::new();
        let mut ended: Vec<(usize, kairos_protocol::id::AgreementId)> = Vec::new();
        let deliver = |places: &mut [MeetingPlace; 2], (to, letter): (usize, Letter), now| {
            let from = 1 - to;
            match letter {
                Letter::Proposal(proposal) => {
                    let _ = places[to].take_proposal(proposal, &me(from), key(from), now);
                }
                Letter::Statement(statement) => {
                    let _ = places[to].hear(statement, &me(from), key(from), now);
                }
            }
        };
        for (n, step) in moves.into_iter().enumerate() {
            let now = at(n as u64);
            match step {
                Move::Propose(who) => {
                    let proposal = offer_to(who, 1 - who, now);
                    if places[who].propose(proposal.clone(), "me", now).is_ok() {
                        letters.push((1 - who, Letter::Proposal(proposal)));
                    }
                }
                Move::Decide(who, which, word) => {
                    let known: Vec<Agreement> = places[who].agreements().cloned().collect();
                    let Some(agreement) = known.get(which) else { continue };
                    let statement = say(word, who, &agreement.proposal, now);
                    if places[who].decide(statement.clone(), "me", now).is_ok() {
                        if word != Word::Accepted {
                            ended.push((who, agreement.id()));
                        }
                        letters.push((1 - who, Letter::Statement(statement)));
                    }
                }
                Move::Arrive(which) if !letters.is_empty() => {
                    let letter = letters[which % letters.len()].clone();
                    deliver(&mut places, letter, now);
                }
                Move::Arrive(_) => {}
            }
            for (which, place) in places.iter().enumerate() {
                for agreement in place.agreements() {
                    prop_assert!(agreement.proposal.verify().is_ok());
                    if agreement.standing(place.id()) == Standing::InEffect {
                        let acceptance = agreement.acceptance.as_ref().unwrap();
                        prop_assert!(acceptance.verify(&agreement.proposal).is_ok());
                        prop_assert!(!ended.contains(&(which, agreement.id())));
                    }
                }
            }
        }
        // All that was sent arrives, in its order.
        for letter in letters {
            deliver(&mut places, letter, at(100));
        }
        for (which, place) in places.iter().enumerate() {
            for agreement in place.agreements() {
                if agreement.standing(place.id()) == Standing::InEffect {
                    let there = places[1 - which].agreement(&agreement.id());
                    let there = there.map(|there| there.standing(&me(1 - which)));
                    prop_assert_eq!(there, Some(Standing::InEffect));
                }
            }
        }
    }
}

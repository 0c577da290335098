//! What an operation costs must not grow with how many agents there are. Steps are counted, not time.

use super::*;
use crate::meeting_place::walk::take_steps;

/// Everything but listings, at a Place with so many agents of each kind: here, faded, and faded with a deposit; all
/// deposits have one name and one content. Returns the most steps that one operation took.
fn most_steps(agents: usize) -> (usize, &'static str) {
    let mut place = place(Policy {
        agents_max: usize::MAX,
        unverified_max: usize::MAX,
        remembered_max: 2 * agents,
        ttl: Duration::from_secs(100),
        deposits: DepositLimits {
            total: usize::MAX,
            per_hour: usize::MAX,
            ..DepositLimits::default()
        },
        ..Policy::default()
    });
    let leave = |place: &mut MeetingPlace, name: &str, now| {
        let who = id(name);
        let offered = offer("same", "content", 0);
        let key = place.key(&who).unwrap().parse().unwrap();
        let checked = offered.check(&who, Some(&key), place.policy(), at(now));
        place.deposit(checked.unwrap(), "content").unwrap();
    };
    for n in 0..agents {
        for kind in ["owner", "faded"] {
            let wish = signed(&format!("{kind}{n}"), 0, Strength::Proven);
            place.register(wish, at(0)).unwrap();
        }
        place
            .attempt_deposit(&id(&format!("owner{n}")), at(0))
            .unwrap();
    }
    // One content is checked once: a signature costs more than all the rest.
    let mut first = None;
    for n in 0..agents {
        let owner = id(&format!("owner{n}"));
        let model = match first.take() {
            Some(model) => model,
            None => {
                leave(&mut place, "owner0", 0);
                place.find_deposit("same", None).unwrap().clone()
            }
        };
        let mut copy: Deposit = model.clone();
        copy.key.owner = owner;
        first = Some(model);
        place.deposit(copy, "content").unwrap();
    }
    while !place.sweep(at(200), 1_000).is_empty() {}
    for n in 0..agents {
        place
            .register(unsigned(&format!("here{n}")), at(200))
            .unwrap();
        place.touch(&id(&format!("here{n}")), at(201));
    }
    assert_eq!(place.census().remembered, 2 * agents);
    let mut worst = (0, "nothing");
    let mut after = |what| {
        let steps = take_steps();
        if steps > worst.0 {
            worst = (steps, what);
        }
    };
    take_steps();
    place
        .register(signed("new", 0, Strength::Proven), at(202))
        .unwrap();
    after("register");
    place
        .register(signed("new", 0, Strength::Proven), at(203))
        .unwrap();
    after("register again");
    leave(&mut place, "new", 203);
    after("deposit");
    place.attempt_deposit(&id("new"), at(204)).unwrap();
    after("attempt");
    place.touch(&id("here7"), at(205));
    after("touch");
    let need = NeedEntry {
        agent_name: "n".to_owned(),
        agent_mode: "m".to_owned(),
        needs: vec![],
    };
    place.publish_needs(&id("here7"), &need, at(205)).unwrap();
    after("needs");
    place.find_deposit("same", None).unwrap();
    place.find_deposit("same", Some(&id("owner5"))).unwrap();
    place.key(&id("faded3")).unwrap();
    after("find");
    let query = Query {
        limit: 10,
        ..Query::default()
    };
    place.browse(&query, &mut SmallRng::seed_from_u64(1));
    after("browse");
    place.census();
    after("census");
    place.note_counts(5);
    after("note counts");
    place.withdraw(&id("owner5"), "same").unwrap();
    after("withdraw");
    place.unregister(&id("new"), at(206));
    after("unregister");
    // One more is remembered than may be: whoever left first and owns nothing goes.
    let done = place
        .register(signed("next", 0, Strength::Proven), at(207))
        .unwrap();
    assert_eq!(done.forgotten.len(), 1);
    after("register and forget");
    assert_eq!(place.sweep(at(900), 5).len(), 5);
    after("sweep");
    worst
}

#[test]
fn nothing_but_listings_goes_over_the_agents() {
    let (few, many) = (most_steps(50), most_steps(5_000));
    assert!(few.0 > 0, "steps are counted");
    // A hundred times as many agents: a walk over any kind of them would show.
    assert!(many.0 <= few.0 + 20, "{few:?} {many:?}");
}

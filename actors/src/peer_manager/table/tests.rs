use std::sync::LazyLock;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::wire::rotation::Rotation;
use proptest::prelude::*;

use super::*;

static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    (0..3)
        .map(|_| Keypair::generate().unwrap().public().clone())
        .collect()
});

fn identity(id: &str, key: usize) -> VerifiedIdentity {
    VerifiedIdentity {
        agent_id: id.parse().unwrap(),
        key: KEYS[key].clone(),
        name: format!("n{key}"),
        rotations: vec![],
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

#[test]
fn the_first_key_is_pinned_and_another_is_a_conflict_until_a_person_decides() {
    let mut table = PeerTable::new(10);
    let first = table.observe(&identity("a", 0), None, Strength::Introduced, at(0));
    assert!(matches!(first, Ok(Observed::Pinned(_))));
    for n in 1..=3 {
        let refused = table.observe(&identity("a", 1), Some("http://x"), Strength::Proven, at(n));
        assert!(
            matches!(refused, Err(PeerTableError::Conflict { .. })),
            "proof of another key does not help"
        );
        assert_eq!(table.get("a").unwrap().key, KEYS[0]);
    }
    let conflict = table.get("a").unwrap().conflict.clone().unwrap();
    assert_eq!((conflict.count, conflict.first_seen), (3, at(1)));
    assert!(matches!(
        table.observe(&identity("a", 0), None, Strength::Introduced, at(9)),
        Ok(Observed::Known(_))
    ));

    let wrong = table.accept("a", &KEYS[2].fingerprint());
    assert!(matches!(wrong, Err(PeerTableError::OtherConflict { .. })));
    table.accept("a", &KEYS[1].fingerprint()).unwrap();
    assert_eq!(table.get("a").unwrap().key, KEYS[1]);
    assert!(matches!(
        table.keep("a"),
        Err(PeerTableError::NoConflict(_))
    ));
}

#[test]
fn only_what_is_worth_it_is_written_down_again() {
    let mut table = PeerTable::new(10);
    table
        .observe(&identity("a", 0), None, Strength::Introduced, at(0))
        .unwrap();
    let mut again = |strength, url, secs| {
        table
            .observe(&identity("a", 0), url, strength, at(secs))
            .unwrap()
    };
    assert_eq!(again(Strength::Introduced, None, 10), Observed::Known(None));
    assert!(matches!(
        again(Strength::Introduced, None, 4000),
        Observed::Known(Some(_))
    ));
    assert!(matches!(
        again(Strength::Proven, None, 4001),
        Observed::Known(Some(_))
    ));
    assert!(matches!(
        again(Strength::Proven, Some("http://x"), 4002),
        Observed::Known(Some(_))
    ));
    assert_eq!(
        again(Strength::Introduced, None, 4003),
        Observed::Known(None)
    );
    assert_eq!(table.get("a").unwrap().strength, Strength::Proven);
}

#[test]
fn a_full_table_forgets_only_strangers_that_stayed_away() {
    let mut table = PeerTable::new(2);
    table
        .observe(
            &identity("a", 0),
            Some("http://x"),
            Strength::Introduced,
            at(0),
        )
        .unwrap();
    table
        .observe(&identity("b", 1), None, Strength::Introduced, at(0))
        .unwrap();
    let full = table.observe(&identity("c", 2), None, Strength::Introduced, at(5));
    assert_eq!(full, Err(PeerTableError::Full { limit: 2 }));
    let later = at(i64::try_from(IDLE.as_secs()).unwrap());
    table
        .observe(&identity("c", 2), None, Strength::Introduced, later)
        .unwrap();
    assert!(table.get("a").is_some() && table.get("b").is_none());
}

#[test]
fn the_pinned_key_may_name_its_successor() {
    let [old, new] = [Keypair::generate().unwrap(), Keypair::generate().unwrap()];
    let mut table = PeerTable::new(10);
    let id: AgentId = "a".parse().unwrap();
    let identity = |key: &Keypair, rotations| VerifiedIdentity {
        agent_id: id.clone(),
        key: key.public().clone(),
        name: "n".into(),
        rotations,
    };
    let first = identity(&old, vec![]);
    table
        .observe(&first, Some("http://x"), Strength::Proven, at(0))
        .unwrap();
    table.trust("a").unwrap();
    let refused = table.observe(&identity(&new, vec![]), None, Strength::Proven, at(1));
    assert!(matches!(refused, Err(PeerTableError::Conflict { .. })));
    let statement = Rotation::sign(&old, new.public(), &id, at(1)).unwrap();
    let followed = table.observe(
        &identity(&new, vec![statement]),
        None,
        Strength::Introduced,
        at(2),
    );
    let Ok(Observed::Known(Some(peer))) = followed else {
        panic!("{followed:?}")
    };
    assert_eq!(
        (&peer.key, peer.trust, peer.strength),
        (new.public(), Trust::Trusted, Strength::Introduced)
    );
    assert_eq!(peer.conflict, None);
    assert!(
        table
            .observe(&first, None, Strength::Proven, at(3))
            .is_err(),
        "the old key is over"
    );
}

proptest! {
    #[test]
    fn no_sequence_of_messages_changes_a_pin(steps in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>()), 1..40)) {
        let mut table = PeerTable::new(10);
        let first = steps[0].0;
        for (n, (key, met, proven)) in steps.into_iter().enumerate() {
            let strength = if proven { Strength::Proven } else { Strength::Introduced };
            let result = table.observe(&identity("a", key), met.then_some("http://x"), strength, at(n as i64));
            prop_assert_eq!(result.is_ok(), key == first);
            prop_assert_eq!(&table.get("a").unwrap().key, &KEYS[first]);
        }
    }

    #[test]
    fn the_census_counts_what_is_there(steps in prop::collection::vec((0usize..4, 0usize..2, 0usize..6), 1..60)) {
        let mut table = PeerTable::new(3);
        for (n, (id, key, step)) in steps.into_iter().enumerate() {
            // So late that whoever may give way does.
            let (id, now) = (["a", "b", "c", "d"][id], at(n as i64 * 90_000));
            let _refused = match step {
                0 => table.observe(&identity(id, key), None, Strength::Introduced, now).map(drop),
                1 => table.observe(&identity(id, key), Some("http://x"), Strength::Proven, now).map(drop),
                2 => table.trust(id).map(drop),
                3 => table.keep(id).map(drop),
                4 => table.accept(id, &KEYS[key].fingerprint()).map(drop),
                _ => table.forget(id).map(drop),
            };
            let counted = |is: fn(&Peer) -> bool| table.all().iter().filter(|peer| is(peer)).count();
            let census = Census {
                seen: counted(|p| p.trust == Trust::Seen),
                met: counted(|p| p.trust == Trust::Met),
                trusted: counted(|p| p.trust == Trust::Trusted),
                conflicts: counted(|p| p.conflict.is_some()),
            };
            prop_assert_eq!(table.census(), census);
        }
    }

    #[test]
    fn a_settled_introduction_is_one_that_would_change_no_record(
        steps in prop::collection::vec((0usize..2, any::<bool>(), any::<bool>(), 0i64..3000), 1..30),
    ) {
        let mut table = PeerTable::new(10);
        let mut now = 0;
        for (key, renamed, proven, later) in steps {
            now += later;
            let strength = if proven { Strength::Proven } else { Strength::Introduced };
            let mut identity = identity("a", key);
            identity.name = if renamed { "new" } else { "old" }.into();
            let settled = table.is_settled(&identity, strength, at(now));
            let before = table.get("a").cloned();
            let observed = table.observe(&identity, None, strength, at(now));
            prop_assert_eq!(settled, observed == Ok(Observed::Known(None)));
            if settled {
                prop_assert_eq!(before.as_ref(), table.get("a"));
            }
        }
    }
}

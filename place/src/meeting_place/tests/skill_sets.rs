//! SkillSets at a Place.

use kairos_protocol::id::SkillSetName;
use kairos_protocol::package::{PackageLimits, pack};

use super::*;

fn name(text: &str) -> SkillSetName {
    text.parse().unwrap()
}

/// A SkillSet of one topic, packed, with the hash over it.
fn packed(set: &str, topic: &str) -> (Vec<u8>, String) {
    let metadata = json!({
        "name": set, "version": "1.0.0", "description": "From the archive", "author": "a",
        "layer": "L1", "provides": ["order"],
    });
    let files = [
        ("skillset.json".to_owned(), metadata.to_string()),
        ("knowledge/t/t.md".to_owned(), topic.to_owned()),
    ];
    let sizes = files.clone().map(|(path, text)| (path, text.len() as u64));
    let open = |path: &str| {
        let found = files.iter().find(|(at, _)| at == path).unwrap();
        Ok(std::io::Cursor::new(found.1.clone().into_bytes()))
    };
    let (contents, archive) = pack(
        Vec::new(),
        &name(set),
        sizes,
        &PackageLimits::default(),
        open,
    )
    .unwrap();
    (archive, contents.content_hash().to_hex())
}

fn offered(set: &str, topic: &str, key: usize) -> SkillSetOffer {
    let (archive, content_hash) = packed(set, topic);
    SkillSetOffer {
        name: name(set),
        version: "1.0.0".to_owned(),
        description: String::new(),
        signature: Some(KEYS[key].sign(content_hash.as_bytes()).unwrap()),
        content_hash,
        file_list: vec!["skillset.json".to_owned(), "knowledge/t/t.md".to_owned()],
        tags: vec!["tidy".to_owned()],
        provides: Vec::new(),
        archive,
    }
}

fn with_agents(policy: Policy) -> MeetingPlace {
    let mut place = place(policy);
    for agent in ["a", "b"] {
        place
            .register(signed(agent, 0, Strength::Proven), at(1))
            .unwrap();
    }
    place.take_changes();
    place
}

fn leave(
    place: &mut MeetingPlace,
    agent: &str,
    set: &str,
    topic: &str,
) -> Result<SkillSetDeposit, SkillSetFault> {
    let key = place.key(&id(agent)).unwrap().parse().unwrap();
    let limits = place.policy().skill_sets.clone();
    let (set, archive) = offered(set, topic, 0).check(&id(agent), Some(&key), &limits, at(2))?;
    place.deposit_skill_set(set, archive)
}

fn found(place: &MeetingPlace, search: &str) -> Vec<Value> {
    let shown = place.browse_skill_sets(search, 50, &mut SmallRng::seed_from_u64(3));
    assert_eq!(shown.total, shown.entries.len());
    let entries = shown.entries.iter();
    entries
        .map(|entry| serde_json::from_str(entry).unwrap())
        .collect()
}

#[test]
fn a_skill_set_is_left_found_replaced_and_withdrawn() {
    let mut place = with_agents(Policy::default());
    let first = leave(&mut place, "a", "house", "one").unwrap();
    assert_eq!(first.description, "From the archive");
    assert_eq!(first.provides, ["order"]);
    assert_eq!(first.file_list, ["knowledge/t/t.md", "skillset.json"]);
    let (stored, archive) = match &place.take_changes()[..] {
        [Change::SkillSet(stored, archive)] => (stored.clone(), archive.to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (*stored, archive),
        (first.clone(), packed("house", "one").0)
    );
    for search in ["", "HOUSE", "archive", "tidy", "order"] {
        assert_eq!(found(&place, search), [first.card()], "{search}");
    }
    assert_eq!(found(&place, "nothing"), Vec::<Value>::new());
    let second = leave(&mut place, "a", "house", "two").unwrap();
    assert_ne!(second.content_hash, first.content_hash);
    assert_eq!(place.census().skill_sets, 1);
    let house = name("house");
    assert_eq!(place.find_skill_set(&house, None), Ok(&second));
    leave(&mut place, "b", "house", "one").unwrap();
    let several = place.find_skill_set(&house, None).unwrap_err();
    assert!(
        matches!(&several, SkillSetFault::Ambiguous { depositors, .. } if depositors.len() == 2)
    );
    assert_eq!(place.find_skill_set(&house, Some(&id("a"))), Ok(&second));
    assert_eq!(place.withdraw_skill_set(&id("a"), &house), Ok(second));
    assert_eq!(
        place.withdraw_skill_set(&id("a"), &house),
        Err(SkillSetFault::NotFound("house".to_owned()))
    );
    assert!(place.find_skill_set(&house, None).is_ok());
    assert!(matches!(
        place.find_skill_set(&house, Some(&id("a"))),
        Err(SkillSetFault::NotFound(_))
    ));
}

#[test]
fn what_a_skill_set_says_of_itself_must_be_true() {
    let place = with_agents(Policy::default());
    let limits = &place.policy().skill_sets;
    let (good, key) = (offered("house", "one", 0), KEYS[0].public());
    let small = SkillSetLimits {
        package: PackageLimits {
            compressed: 10,
            ..PackageLimits::default()
        },
        ..SkillSetLimits::default()
    };
    let narrow = SkillSetLimits {
        package: PackageLimits {
            expanded: 1_024,
            ..PackageLimits::default()
        },
        ..SkillSetLimits::default()
    };
    let other = offered("house", "two", 0);
    let cases = [
        ("archive_too_large", good.clone(), &small),
        ("archive_too_large", good.clone(), &narrow),
        (
            "invalid_gzip",
            SkillSetOffer {
                archive: b"plain".to_vec(),
                ..good.clone()
            },
            limits,
        ),
        (
            "invalid_archive_structure",
            SkillSetOffer {
                name: name("other"),
                ..good.clone()
            },
            limits,
        ),
        (
            "invalid_archive_structure",
            SkillSetOffer {
                version: "2.0.0".to_owned(),
                ..good.clone()
            },
            limits,
        ),
        (
            "invalid_archive_structure",
            SkillSetOffer {
                file_list: vec!["x.md".to_owned()],
                ..good.clone()
            },
            limits,
        ),
        (
            "content_hash_mismatch",
            SkillSetOffer {
                content_hash: String::new(),
                ..good.clone()
            },
            limits,
        ),
        (
            "content_hash_mismatch",
            SkillSetOffer {
                archive: other.archive,
                ..good.clone()
            },
            limits,
        ),
        (
            "signature_required",
            SkillSetOffer {
                signature: None,
                ..good.clone()
            },
            limits,
        ),
        (
            "signature_required",
            SkillSetOffer {
                signature: Some(String::new()),
                ..good.clone()
            },
            limits,
        ),
        (
            "signature_invalid",
            SkillSetOffer {
                signature: Some("§".to_owned()),
                ..good.clone()
            },
            limits,
        ),
        (
            "signature_invalid",
            SkillSetOffer {
                signature: other.signature,
                ..good.clone()
            },
            limits,
        ),
        (
            "invalid_param",
            SkillSetOffer {
                tags: vec![String::new(); 33],
                ..good.clone()
            },
            limits,
        ),
    ];
    for (word, offer, limits) in cases {
        let refused = offer.check(&id("a"), Some(key), limits, at(2)).unwrap_err();
        assert_eq!(refused.word(), word, "{refused}");
    }
    let mut cut = good.clone();
    cut.archive.truncate(cut.archive.len() / 2);
    let refused = cut.check(&id("a"), Some(key), limits, at(2)).unwrap_err();
    assert_eq!(refused.word(), "tar_scan_failed", "{refused}");
    let keyless = good.check(&id("a"), None, limits, at(2)).unwrap_err();
    assert_eq!(keyless.word(), "public_key_unavailable");
}

#[test]
fn quotas_hold_for_an_agent_and_for_all() {
    let size = packed("one", "x").0.len() as u64;
    let limits = SkillSetLimits {
        per_agent: 2,
        total: 3,
        bytes: size * 5 / 2,
        ..SkillSetLimits::default()
    };
    let policy = |limits: &SkillSetLimits| Policy {
        skill_sets: limits.clone(),
        ..Policy::default()
    };
    let mut place = with_agents(policy(&limits));
    leave(&mut place, "a", "one", "x").unwrap();
    leave(&mut place, "a", "two", "x").unwrap();
    let word = |done: Result<SkillSetDeposit, SkillSetFault>| done.unwrap_err().word();
    assert_eq!(
        word(leave(&mut place, "b", "one", "x")),
        "total_quota_exceeded"
    );
    assert_eq!(word(leave(&mut place, "a", "six", "x")), "quota_exceeded");
    // What is replaced counts no more.
    leave(&mut place, "a", "one", "y").unwrap();
    place.withdraw_skill_set(&id("a"), &name("one")).unwrap();
    leave(&mut place, "b", "one", "x").unwrap();

    let mut place = with_agents(policy(&SkillSetLimits {
        total: 1,
        ..SkillSetLimits::default()
    }));
    leave(&mut place, "a", "one", "x").unwrap();
    assert_eq!(
        word(leave(&mut place, "b", "one", "x")),
        "total_quota_exceeded"
    );
    leave(&mut place, "a", "one", "y").unwrap();
}

#[test]
fn who_leaves_takes_its_skill_sets_and_who_fades_does_not() {
    let mut store = MemoryStore::default();
    let mut place = with_agents(Policy {
        remembered_max: 0,
        ..Policy::default()
    });
    leave(&mut place, "a", "one", "x").unwrap();
    leave(&mut place, "b", "one", "x").unwrap();
    store.commit(&place.take_changes()).unwrap();
    let again = MeetingPlace::new(
        Policy::default(),
        unsigned("me"),
        store.load().unwrap(),
        at(3),
    );
    assert_eq!(again.census().skill_sets, 2);
    assert_eq!(place.sweep(at(10_000), 10).len(), 2);
    // A key is not forgotten while there is something that it signed.
    let done = place.register(signed("c", 0, Strength::Proven), at(10_001));
    assert_eq!(done.unwrap().forgotten, []);
    place
        .register(signed("a", 0, Strength::Proven), at(10_001))
        .unwrap();
    assert!(place.unregister(&id("a"), at(10_002)));
    assert_eq!(found(&place, "").len(), 1);
    let away = leave(&mut place, "a", "one", "x").unwrap_err();
    assert_eq!(away, SkillSetFault::NotPresent(id("a")));
}

/// Rule D3, for SkillSets too.
#[test]
fn skill_sets_are_drawn_by_chance() {
    let mut place = with_agents(Policy::default());
    for n in 0..6 {
        leave(&mut place, "a", &format!("set{n}"), "x").unwrap();
    }
    let mut rng = SmallRng::seed_from_u64(1);
    for search in ["", "set"] {
        let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for _ in 0..3_000 {
            let shown = place.browse_skill_sets(search, 2, &mut rng);
            assert_eq!((shown.total, shown.entries.len()), (6, 2));
            for entry in shown.entries {
                *counts.entry(entry).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 6);
        // Expected 1,000 each with a deviation of 26; seven of them.
        assert!(
            counts.values().all(|n| (818..1_182).contains(n)),
            "{counts:?}"
        );
    }
}

#[test]
fn what_a_banned_agent_left_is_neither_drawn_nor_walked_nor_found_until_the_ban_ends() {
    let mut place = with_agents(Policy::default());
    leave(&mut place, "a", "house", "one").unwrap();
    leave(&mut place, "b", "house", "two").unwrap();
    put(&mut place, "a", "words", "# Words").unwrap();
    let ban = Ban {
        target: Target::Agent(id("a")),
        reason: None,
        by: "local".to_owned(),
        since: at(3),
        until: None,
    };
    let target = ban.target.clone();
    place.ban(ban, at(3)).unwrap();
    let owners = |place: &MeetingPlace, search: &str| -> Vec<Value> {
        let all = found(place, search).into_iter();
        all.map(|entry| entry["depositor_id"].clone()).collect()
    };
    let walked = |place: &MeetingPlace| {
        let sets = place.walk_skill_sets(Cursor::begin(1), 10).entries.len();
        (
            sets,
            place.walk_deposits(Cursor::begin(1), 10).entries.len(),
        )
    };
    assert_eq!(
        (found(&place, "").len(), found(&place, "house").len()),
        (1, 1)
    );
    assert_eq!(walked(&place), (1, 0));
    // Of two of that name one is left, so it need not be said whose.
    let only = place.find_skill_set(&name("house"), None).unwrap();
    assert_eq!(only.key.owner, id("b"));
    assert!(
        place
            .find_skill_set(&name("house"), Some(&id("a")))
            .is_err()
    );
    assert_eq!(owners(&place, "").len(), 1);
    // What is stored still counts against what the Place takes.
    assert_eq!(place.census().skill_sets, 2);
    place.unban(&target, "local", at(4)).unwrap();
    assert_eq!((found(&place, "").len(), walked(&place)), (2, (2, 1)));
}

#[test]
fn a_late_copy_of_an_older_archive_does_not_bring_it_back() {
    let mut place = with_agents(Policy::default());
    let key = place.key(&id("a")).unwrap().parse().unwrap();
    let mut leave = |topic: &str, secs: u64, condition| {
        let limits = place.policy().skill_sets.clone();
        let checked = offered("tea", topic, 0).check(&id("a"), Some(&key), &limits, at(secs));
        let (set, archive) = checked.unwrap();
        place.deposit_skill_set_if(set, archive, condition)
    };
    let one = leave("# One", 1, Condition::Unsaid).unwrap().content_hash;
    let two = leave("# Two", 2, Condition::Unsaid).unwrap().content_hash;
    assert_eq!(
        leave("# One", 3, Condition::Unsaid),
        Err(SkillSetFault::Stale { at: at(2) })
    );
    assert_eq!(
        leave("# One", 3, Condition::Is(one)),
        Err(SkillSetFault::Changed { there: Some(two) })
    );
    leave("# One", 3, Condition::Is(two)).unwrap();
    let gone = place.withdraw_skill_set_if(&id("a"), &name("tea"), Condition::Is(two));
    assert_eq!(gone, Err(SkillSetFault::Changed { there: Some(one) }));
    place
        .withdraw_skill_set_if(&id("a"), &name("tea"), Condition::Something)
        .unwrap();
}

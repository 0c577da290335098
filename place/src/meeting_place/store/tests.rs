use std::path::Path;
use std::sync::LazyLock;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::federation::agreement::{Party, Proposal, Statement, Word};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use proptest::prelude::*;

use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use super::*;
use crate::meeting_place::{Facts, PinnedKey, Presence, Provenance};
use crate::session::Strength;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

fn agent(id: &str, name: &str) -> Agent {
    Agent {
        id: id.parse().unwrap(),
        name: name.to_owned(),
        description: (name.len() > 2).then(|| "ü".to_owned()),
        scope: None,
        capabilities: "{\"b\":1,\"a\":[2]}".into(),
        key: None,
        strength: None,
        is_self: false,
        registered_at: at(0),
        last_seen: at(1),
        visited_places: vec!["http://127.0.0.1:1/".to_owned()],
        presence: Presence::Here,
    }
}

fn deposit(owner: &str, skill_id: &str, words: &str) -> (Box<Deposit>, Box<str>) {
    let deposit = Deposit {
        key: DepositKey {
            owner: owner.parse().unwrap(),
            skill_id: skill_id.to_owned(),
        },
        facts: Facts {
            name: skill_id.to_owned(),
            description: None,
            tags: vec!["t".to_owned()],
            format: "markdown".to_owned(),
            summary: Some(words.to_owned()),
            sections: vec![],
            input_output: None,
            version: None,
            license: None,
            bytes: words.len(),
            lines: 1,
        },
        content_hash: ContentHash::of(words),
        signature: "c2ln".to_owned(),
        provenance: None,
        deposited_at: at(3),
        first_deposited: at(2),
    };
    (Box::new(deposit), words.into())
}

fn attestation(owner: &str, skill_id: &str, attester: &str, claim: &str) -> Attestation {
    let (deposit, _) = deposit(owner, skill_id, "words");
    Attestation {
        key: AttestationKey {
            deposit: deposit.key,
            attester: attester.parse().unwrap(),
            claim: claim.to_owned(),
            content_hash: deposit.content_hash,
        },
        attester_name: "Agent".to_owned(),
        evidence_hash: None,
        signature: Some("c2ln".to_owned()),
        signed_payload: Some("said|so".to_owned()),
        deposited_at: at(5),
    }
}

fn skill_set(owner: &str, name: &str, archive: &[u8]) -> (Box<SkillSetDeposit>, Arc<[u8]>) {
    let set = SkillSetDeposit {
        key: SkillSetKey {
            owner: owner.parse().unwrap(),
            name: name.parse().unwrap(),
        },
        version: "1.0.0".to_owned(),
        description: "ü".to_owned(),
        tags: vec![],
        provides: vec!["p".to_owned()],
        content_hash: ContentHash::of(archive),
        signature: "c2ln".to_owned(),
        file_list: vec!["skillset.json".to_owned()],
        archive_bytes: archive.len() as u64,
        deposited_at: at(6),
    };
    (Box::new(set), archive.into())
}

fn origin(place: &str) -> Provenance {
    Provenance {
        origin_place_id: place.to_owned(),
        origin_agent_id: "author".to_owned(),
        via: vec![place.to_owned(), "me".to_owned()],
        hop_count: 1,
        deposited_at_origin: at(0).wire(),
        origin_signature: None,
        origin_public_key: None,
        origin_content_hash: Some(ContentHash::of(place)),
    }
}

static KEYS: LazyLock<[Keypair; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Keypair::generate().unwrap()));

fn agreement(at: Timestamp, untold: bool) -> Agreement {
    let party = |key: &Keypair| Party {
        place_id: key.public().agent_id(),
        public_key: key.public().clone(),
        url: "http://127.0.0.1:1".to_owned(),
    };
    let Party { place_id, url, .. } = party(&KEYS[0]);
    let proposal = Proposal::sign(&KEYS[0], place_id, url, party(&KEYS[1]), at).unwrap();
    let by = KEYS[1].public().agent_id();
    let accepted = Statement::sign(&KEYS[1], &proposal, Word::Accepted, by, at).unwrap();
    Agreement {
        proposal,
        acceptance: Some(accepted),
        closing: None,
        untold,
        since: at,
    }
}

fn answered(agent: &str, key: &str, answer: &str) -> Answered {
    Answered {
        key: OnceKey {
            agent: agent.parse().unwrap(),
            key: key.to_owned(),
        },
        request: ContentHash::of(answer),
        answer: answer.to_owned(),
        at: at(9),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let id = "[a-d]";
    let put = |(owner, skill, words): (String, String, String)| {
        let (deposit, content) = deposit(&owner, &skill, &words);
        Change::Deposit(deposit, content)
    };
    prop_oneof![
        (id, "[a-z]{1,4}").prop_map(|(id, name)| Change::Agent(Box::new(agent(&id, &name)))),
        id.prop_map(|id| Change::AgentGone(id.parse().unwrap())),
        (id, 0_i64..100).prop_map(|(id, secs)| Change::Seen(vec![(id.parse().unwrap(), at(secs))])),
        (id, "[s-v]", "\\PC{0,10}").prop_map(put),
        (id, "[s-v]").prop_map(|(owner, skill_id)| {
            let owner = owner.parse().unwrap();
            Change::DepositGone(DepositKey { owner, skill_id })
        }),
        ban().prop_map(|ban| Change::Ban(Box::new(ban))),
        ban().prop_map(|ban| Change::BanGone(ban.target)),
        (ban(), 0_i64..100).prop_map(|(ban, secs)| {
            let target = ban.target;
            Change::Logged(at(secs), Box::new(Event::BanOver { target }))
        }),
        (0_i64..3, any::<bool>()).prop_map(|(secs, untold)| {
            Change::Agreement(Box::new(agreement(at(secs), untold)))
        }),
        (0_i64..3).prop_map(|secs| Change::AgreementGone(agreement(at(secs), false).id())),
        (id, 0..2_usize).prop_map(|(id, key)| {
            Change::Guest(id.parse().unwrap(), PinnedKey::from(KEYS[key].public()))
        }),
        id.prop_map(|id| Change::GuestGone(id.parse().unwrap())),
        (0_u64..9).prop_map(Change::Exchanges),
        (id, "[k-l]", "[x-z]").prop_map(|(agent, key, answer)| {
            Change::Answered(Box::new(answered(&agent, &key, &answer)))
        }),
        (id, "[k-l]").prop_map(|(agent, key)| Change::AnswerGone(answered(&agent, &key, "").key)),
        ("[h-j]", "[p-q]").prop_map(|(content, place)| {
            Change::Origin(ContentHash::of(content), Box::new(origin(&place)))
        }),
        "[h-j]".prop_map(|content| Change::OriginGone(ContentHash::of(content))),
        (id, "[s-t]", "\\PC{0,10}").prop_map(|(owner, name, archive)| {
            let (set, archive) = skill_set(&owner, &name, archive.as_bytes());
            Change::SkillSet(set, archive)
        }),
        (id, "[s-t]").prop_map(|(owner, name)| {
            Change::SkillSetGone(skill_set(&owner, &name, b"").0.key)
        }),
        (id, "[s-v]", id, "[m-n]").prop_map(|(owner, skill, attester, claim)| {
            Change::Attestation(Box::new(attestation(&owner, &skill, &attester, &claim)))
        }),
        (id, "[s-v]", id, "[m-n]").prop_map(|(owner, skill, attester, claim)| {
            Change::AttestationGone(attestation(&owner, &skill, &attester, &claim).key)
        }),
    ]
}

fn archives(store: &mut dyn Store, snapshot: &Snapshot) -> Vec<Option<Vec<u8>>> {
    let keys = snapshot.skill_sets.iter().map(|set| &set.key);
    keys.map(|key| store.skill_set(key).unwrap().map(|(_, archive)| archive))
        .collect()
}

fn ban() -> impl Strategy<Value = Ban> {
    let target = prop_oneof![
        "agent:[a-d]",
        "address:10\\.0\\.0\\.[1-3]",
        (0_u8..3).prop_map(|n| format!("key:{}", ContentHash::of([n]).fingerprint())),
    ];
    let until = prop::option::of(0_i64..100);
    (target, "[a-z]{1,3}", until).prop_map(|(target, reason, until)| Ban {
        target: target.parse().unwrap(),
        reason: Some(reason),
        by: "local".to_owned(),
        since: at(0),
        until: until.map(at),
    })
}

fn contents(store: &mut dyn Store, snapshot: &Snapshot) -> Vec<Option<String>> {
    let keys = snapshot.deposits.iter().map(|deposit| &deposit.key);
    keys.map(|key| store.deposit(key).unwrap().map(|(_, content)| content))
        .collect()
}

/// What holds of every store, each built by `open` on the same place again and again.
fn conform(open: &mut dyn FnMut() -> Box<dyn Store>) {
    let mut store = open();
    assert_eq!(store.load().unwrap(), Snapshot::default());
    let keypair = Keypair::generate().unwrap();
    let mut known = agent("x", "known");
    known.key = Some(PinnedKey::from(keypair.public()));
    known.strength = Some(Strength::Proven);
    known.presence = Presence::Faded(at(7));
    let (first, content) = deposit("x", "skill/../1", "words");
    let (set, archive) = skill_set("x", "set", &[0, 255, 7]);
    store
        .commit(&[
            Change::Agent(Box::new(known.clone())),
            Change::Agent(Box::new(agent("a", "b"))),
            Change::Deposit(first.clone(), content),
            Change::Exchanges(3),
            Change::Agreement(Box::new(agreement(at(1), false))),
            Change::Agreement(Box::new(agreement(at(2), true))),
            Change::Agreement(Box::new(agreement(at(2), false))),
            Change::AgreementGone(agreement(at(1), false).id()),
            Change::Answered(Box::new(answered("x", "k", "{}"))),
            Change::Origin(ContentHash::of("a"), Box::new(origin("p"))),
            Change::Origin(ContentHash::of("b"), Box::new(origin("q"))),
            Change::Origin(ContentHash::of("a"), Box::new(origin("r"))),
            Change::SkillSet(set.clone(), Arc::clone(&archive)),
            Change::Attestation(Box::new(attestation("x", "skill/../1", "a", "works"))),
        ])
        .unwrap();
    let again = Agent {
        name: "renamed".to_owned(),
        ..known
    };
    store
        .commit(&[Change::Agent(Box::new(again.clone()))])
        .unwrap();
    drop(store);
    let mut store = open();
    let snapshot = store.load().unwrap();
    assert_eq!(snapshot.agents, [again, agent("a", "b")]);
    assert_eq!(snapshot.deposits, [*first.clone()]);
    assert_eq!(snapshot.exchanges, 3);
    assert_eq!(snapshot.agreements, [agreement(at(2), false)]);
    let said = attestation("x", "skill/../1", "a", "works");
    assert_eq!(snapshot.attestations, [said]);
    assert_eq!(snapshot.skill_sets, [*set.clone()]);
    assert_eq!(snapshot.answers, [answered("x", "k", "{}")]);
    let origins = [("b", "q"), ("a", "r")].map(|(of, at)| (ContentHash::of(of), origin(at)));
    assert_eq!(snapshot.origins, origins);
    let stored = store.skill_set(&set.key).unwrap();
    assert_eq!(stored, Some((*set.clone(), archive.to_vec())));
    assert_eq!(
        store
            .deposit(&first.key)
            .unwrap()
            .map(|(_, content)| content)
            .as_deref(),
        Some("words")
    );
    store
        .commit(&[Change::DepositGone(first.key.clone())])
        .unwrap();
    assert_eq!(store.deposit(&first.key).unwrap(), None);
    assert_eq!(store.load().unwrap().attestations, []);
    store
        .commit(&[Change::SkillSetGone(set.key.clone())])
        .unwrap();
    assert_eq!(store.skill_set(&set.key).unwrap(), None);
    assert_eq!(store.load().unwrap().skill_sets, []);
}

fn open(path: &Path) -> Box<dyn Store> {
    Box::new(SqliteStore::open(path).unwrap())
}

#[test]
fn a_database_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conform(&mut || open(&dir.path().join("place.db")));
}

#[test]
fn memory_conforms_while_it_lasts() {
    let shared = std::sync::Arc::new(std::sync::Mutex::new(MemoryStore::default()));
    struct Shared(std::sync::Arc<std::sync::Mutex<MemoryStore>>);
    impl Store for Shared {
        fn load(&mut self) -> Result<Snapshot, StoreError> {
            self.0.lock().unwrap().load()
        }
        fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
            self.0.lock().unwrap().commit(changes)
        }
        fn deposit(&mut self, key: &DepositKey) -> Result<Option<(Deposit, String)>, StoreError> {
            self.0.lock().unwrap().deposit(key)
        }
        fn skill_set(
            &mut self,
            key: &SkillSetKey,
        ) -> Result<Option<(SkillSetDeposit, Vec<u8>)>, StoreError> {
            self.0.lock().unwrap().skill_set(key)
        }
        fn audit(&mut self, before: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
            self.0.lock().unwrap().audit(before, limit)
        }
    }
    conform(&mut || Box::new(Shared(shared.clone())));
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("place.db");
    drop(open(&path));
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let refused = SqliteStore::open(&path).unwrap_err();
    assert!(
        matches!(refused, StoreError::Newer { found: 99, .. }),
        "{refused}"
    );
}

/// A database of the first version goes on with what it has.
#[test]
fn a_database_of_an_earlier_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("place.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(sqlite::STEPS[0]).unwrap();
    raw.pragma_update(None, "user_version", 1).unwrap();
    let insert = "INSERT INTO counters VALUES ('exchanges', 7)";
    raw.execute(insert, []).unwrap();
    drop(raw);
    let said = attestation("x", "s", "a", "works");
    let mut store = open(&path);
    store
        .commit(&[Change::Attestation(Box::new(said.clone()))])
        .unwrap();
    drop(store);
    let found = open(&path).load().unwrap();
    assert_eq!((found.exchanges, found.attestations), (7, vec![said]));
}

#[test]
fn a_damaged_row_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("place.db");
    let mut store = open(&path);
    store
        .commit(&[Change::Agent(Box::new(agent("a", "b")))])
        .unwrap();
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE agents SET last_seen = 'noon'", [])
        .unwrap();
    drop(raw);
    let damaged = open(&path).load().unwrap_err().to_string();
    assert!(damaged.contains("agent `a`"), "{damaged}");
}

/// A commit that ends before its end leaves nothing: the connection is dropped in the middle of it.
#[test]
fn a_commit_that_fails_leaves_nothing_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("place.db");
    let mut store = open(&path);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE TRIGGER no BEFORE INSERT ON deposits BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    let (put, content) = deposit("a", "s", "words");
    let changes = [
        Change::Agent(Box::new(agent("a", "b"))),
        Change::Deposit(put, content),
    ];
    assert!(store.commit(&changes).is_err());
    assert_eq!(store.load().unwrap(), Snapshot::default());
    // A lock that another process holds is waited for, and the change is not lost.
    raw.execute_batch("DROP TRIGGER no; BEGIN IMMEDIATE")
        .unwrap();
    let begun = std::sync::Arc::new(std::sync::Barrier::new(2));
    let begins = begun.clone();
    let waits = std::thread::spawn(move || {
        begins.wait();
        store.commit(&changes).map(|()| store)
    });
    begun.wait();
    raw.execute_batch("COMMIT").unwrap();
    let mut store = waits.join().unwrap().unwrap();
    assert_eq!(store.load().unwrap().agents.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_database_does_what_memory_does(commits in prop::collection::vec(prop::collection::vec(change(), 0..6), 0..8)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("place.db");
        let (mut disk, mut twin) = (open(&path), MemoryStore::default());
        for changes in commits {
            disk.commit(&changes).unwrap();
            twin.commit(&changes).unwrap();
        }
        drop(disk);
        let mut disk = open(&path);
        let (found, expected) = (disk.load().unwrap(), twin.load().unwrap());
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(contents(&mut *disk, &found), contents(&mut twin, &expected));
        prop_assert_eq!(archives(&mut *disk, &found), archives(&mut twin, &expected));
        prop_assert_eq!(disk.audit(u64::MAX, 99).unwrap(), twin.audit(u64::MAX, 99).unwrap());
        prop_assert_eq!(disk.audit(4, 2).unwrap(), twin.audit(4, 2).unwrap());
    }
}

use kairos_place::proposal::Change;
use kairos_place::role::Role;
use kairos_protocol::block::entry::FileChange;
use proptest::prelude::*;

use super::*;

fn proposal(content: &[u8]) -> Proposal {
    Proposal {
        change: Change::Law,
        files: vec![FileChange {
            path: "skills/kairos.rb".to_owned(),
            before: None,
            after: Some(ContentHash::of(content)),
        }],
        skillset: None,
        reason: None,
        by: Person {
            user: "bo".parse().unwrap(),
            role: Role::Member,
            door: "cli".to_owned(),
        },
        proposed_at: Timestamp::from_secs(1),
        expires_at: Timestamp::from_secs(9),
    }
}

fn park(store: &ApprovalStore, n: u8, content: &[u8]) -> Waiting {
    let id = ProposalId::from_random([n; 32]);
    let now = Timestamp::from_secs(2);
    store
        .park(id, proposal(content), Some(content.to_vec()), now)
        .unwrap()
}

fn decided(n: i64) -> Decision {
    Decision {
        decided: Decided::Rejected,
        by: proposal(b"").by,
        at: Timestamp::from_secs(n),
        seal: ContentHash::of("seal"),
        stage: Stage::Done { block: None },
    }
}

#[test]
fn a_broken_one_hides_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let store = ApprovalStore::new(temp.path(), ApprovalPolicy::default());
    let good = park(&store, 1, b"good");
    let torn = park(&store, 2, b"torn");
    let folder = temp.path().join(torn.id.as_str());
    fs::write(folder.join(PROPOSAL), "{\"proposal_version\":").unwrap();
    fs::create_dir(temp.path().join("p00000000000a")).unwrap();
    fs::write(temp.path().join("p00000000000b"), "a file").unwrap();
    fs::create_dir(temp.path().join("p00000000000c")).unwrap();
    let link = temp.path().join("p00000000000c").join(PROPOSAL);
    std::os::unix::fs::symlink("/etc/passwd", link).unwrap();
    let odd = park(&store, 3, b"odd");
    fs::write(temp.path().join(odd.id.as_str()).join(DECISION), "{}").unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.proposals, [good]);
    assert_eq!(listing.broken.len(), 5);
    assert!(store.unfinished().unwrap().is_empty());
}

#[test]
fn what_was_decided_is_told_and_its_text_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let store = ApprovalStore::new(temp.path(), ApprovalPolicy::default());
    let waiting = park(&store, 1, b"text");
    assert_eq!(waiting.content.as_deref(), Some(&b"text"[..]));
    store.decide(&waiting.id, &decided(3)).unwrap();
    let told = store.show(&waiting.id).unwrap();
    assert_eq!((told.content, told.decision), (None, Some(decided(3))));
    assert!(!temp.path().join(waiting.id.as_str()).join(CONTENT).exists());
    store.undecide(&waiting.id).unwrap();
    assert!(matches!(
        store.show(&waiting.id),
        Err(ApprovalError::Damaged { .. })
    ));
}

#[test]
fn only_so_many_decided_ones_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let store = ApprovalStore::new(temp.path(), ApprovalPolicy::default());
    let first = park(&store, 0, b"x");
    let folder = temp.path().join(first.id.as_str());
    let text = fs::read(folder.join(PROPOSAL)).unwrap();
    fs::remove_dir_all(folder).unwrap();
    for n in 0..DECIDED_KEPT + 3 {
        let folder = temp.path().join(format!("p{n:012x}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(PROPOSAL), &text).unwrap();
        let decision = serde_json::to_vec(&decided(n as i64)).unwrap();
        fs::write(folder.join(DECISION), decision).unwrap();
    }
    let lock = store.lock().unwrap();
    store.forget_old(&lock).unwrap();
    let kept = store.list().unwrap().proposals;
    assert_eq!(kept.len(), DECIDED_KEPT);
    assert!(
        kept.iter()
            .all(|w| w.decision.as_ref().unwrap().at.as_secs() >= 3)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing that is written into the files of a proposal makes it something that was not shown.
    #[test]
    fn a_changed_byte_is_another_seal_or_refused(which in 0usize..2, at in 0usize..4096, to in any::<u8>()) {
        let temp = tempfile::tempdir().unwrap();
        let store = ApprovalStore::new(temp.path(), ApprovalPolicy::default());
        let waiting = park(&store, 1, b"some text of a law");
        let path = temp.path().join(waiting.id.as_str()).join([PROPOSAL, CONTENT][which]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        let changed = bytes[at] != to;
        bytes[at] = to;
        fs::write(&path, bytes).unwrap();
        match store.show(&waiting.id) {
            Ok(shown) => prop_assert_eq!(shown.seal == waiting.seal, !changed),
            Err(error) => prop_assert!(matches!(error, ApprovalError::Damaged { .. }), "{}", error),
        }
    }
}

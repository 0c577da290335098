//! Decisions that fail or die on the way: carried out and recorded, or neither, and never twice.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kairos_protocol::block::entry::{ApprovalDecision, Decided};

use super::*;
use crate::chain::tests::gated;
use crate::knowledge::store::unit::Point;

const BLACK: &str = "# Tea\n\nBlack.\n";
const BY_HAND: &str = "# Tea\n\nBy hand.\n";

/// A rig with an entry, and what happens when a change of knowledge first comes to `point`: it fails there if that
/// says so.
async fn rig_at(point: Point, happens: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Rig {
    let armed = AtomicBool::new(true);
    let data: Arc<Mutex<PathBuf>> = Arc::default();
    let place = Arc::clone(&data);
    let reach = Box::new(move |at| {
        let place = place.lock().unwrap().clone();
        let here = at == point && armed.swap(false, Ordering::SeqCst);
        match here && happens(&place) {
            true => Err(io::Error::other("it fails here")),
            false => Ok(()),
        }
    });
    let rig = Rig::with(MemoryStore::default(), PATIENCE, reach).await;
    *data.lock().unwrap() = rig.temp.path().to_owned();
    fs_err::create_dir_all(rig.path("knowledge/tea/assets")).unwrap();
    fs_err::write(rig.path("knowledge/tea/assets/leaf"), "x").unwrap();
    fs_err::write(rig.path(MAIN), TEA).unwrap();
    rig
}

/// Leaves the decision as a crash would leave it: begun.
pub(super) fn begin(rig: &Rig, waiting: &Waiting, decided: Decided) {
    let decision = Decision {
        decided,
        by: person("ada", Role::Owner),
        at: rig.clock.now(),
        seal: waiting.seal,
        stage: Stage::Begun { tip: None },
    };
    let folder = rig.path("storage/approvals").join(waiting.id.as_str());
    let text = serde_json::to_vec(&decision).unwrap();
    fs_err::write(folder.join("decision.json"), text).unwrap();
    if let Some(content) = &waiting.content {
        fs_err::write(folder.join("content"), content).unwrap();
    }
}

/// As above, and recorded.
pub(super) async fn record(rig: &Rig, waiting: &Waiting, decided: Decided) {
    begin(rig, waiting, decided);
    let entry = Entry::ApprovalDecision(ApprovalDecision {
        approval_id: waiting.id.to_string(),
        decision: decided,
        change: String::new(),
        subject: String::new(),
        proposed_by: String::new(),
        decided_by: String::new(),
        seal: waiting.seal,
        files: vec![],
        reason: None,
        timestamp: rig.clock.now(),
    });
    rig.chain.append(vec![entry.to_text()]).await.unwrap();
}

/// Lays the new text where it waits for its rename.
pub(super) fn stage(rig: &Rig, waiting: &Waiting, text: &str) -> PathBuf {
    let staged = rig.path(&format!("skills/.approved-{}", waiting.id));
    fs_err::write(&staged, text).unwrap();
    staged
}

#[actix::test]
async fn a_change_of_knowledge_that_fails_anywhere_is_made_and_recorded_or_neither() {
    let points = [
        Point::Staged,
        Point::Intended,
        Point::Recorded(1),
        Point::Stepped(1),
        Point::Done,
    ];
    for point in points {
        for (change, content) in [(update(), Some(BLACK)), (delete(), None)] {
            let case = format!("{change:?} at {point:?}");
            let rig = rig_at(point, |_| true).await;
            let waiting = rig.propose(change, content).await;
            let failed = rig.decide(&waiting, true).await.unwrap_err();
            assert!(
                matches!(failed, ApprovalError::Unfinished { .. }),
                "{case}: {failed}"
            );
            assert_eq!(rig.state(&waiting).await, "unfinished", "{case}");
            rig.approvals.recover().await.unwrap();
            if matches!(point, Point::Staged | Point::Intended) {
                assert_eq!(rig.state(&waiting).await, "open", "{case}");
                assert_eq!(rig.read(MAIN).as_deref(), Some(TEA), "{case}");
                assert_eq!(rig.ledger().await, Vec::<Vec<Kind>>::new(), "{case}");
                rig.decide(&waiting, true).await.unwrap();
            }
            let unit = vec![Kind::KnowledgeUpdate, Kind::ApprovalDecision];
            assert_eq!(rig.state(&waiting).await, "approved", "{case}");
            assert_eq!(rig.read(MAIN).as_deref(), content, "{case}");
            assert_eq!(rig.ledger().await, [unit], "{case}");
            assert!(!rig.path("knowledge/.intent.json").exists(), "{case}");
        }
    }
}

#[actix::test]
async fn what_was_made_is_not_made_again_over_what_somebody_wrote_since() {
    let rig = rig_at(Point::Done, |_| true).await;
    let waiting = rig.propose(update(), Some(BLACK)).await;
    rig.decide(&waiting, true).await.unwrap_err();
    assert_eq!(rig.read(MAIN).as_deref(), Some(BLACK));
    fs_err::write(rig.path(MAIN), TEA).unwrap();
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(rig.read(MAIN).as_deref(), Some(TEA));
    assert_eq!(rig.ledger().await.len(), 1);
}

#[actix::test]
async fn knowledge_that_somebody_changed_after_the_record_is_left_alone_and_the_ledger_knows() {
    for dies in [false, true] {
        let edit = move |data: &Path| {
            fs_err::write(data.join(MAIN), BY_HAND).unwrap();
            dies
        };
        let rig = rig_at(Point::Recorded(1), edit).await;
        let waiting = rig.propose(update(), Some(BLACK)).await;
        let failed = rig.decide(&waiting, true).await.unwrap_err();
        match dies {
            false => assert!(matches!(failed, ApprovalError::BasisChanged { .. })),
            true => rig.approvals.recover().await.unwrap(),
        }
        assert_eq!(rig.state(&waiting).await, "void");
        assert_eq!(rig.read(MAIN).as_deref(), Some(BY_HAND));
        let unit = vec![Kind::KnowledgeUpdate, Kind::ApprovalDecision];
        assert_eq!(rig.ledger().await, [unit, vec![Kind::ApprovalDecision]]);
        // A crash before the end of it tells nothing twice.
        begin(&rig, &waiting, Decided::Approved);
        rig.approvals.recover().await.unwrap();
        assert_eq!(rig.state(&waiting).await, "void");
        assert_eq!(rig.ledger().await.len(), 2);
    }
}

#[actix::test]
async fn what_comes_to_an_entry_after_it_was_shown_does_not_go_with_it() {
    let file = |data: &Path| fs_err::write(data.join("knowledge/tea/assets/new"), "x").unwrap();
    let link = |data: &Path| {
        std::os::unix::fs::symlink("/", data.join("knowledge/tea/assets/new")).unwrap();
    };
    for comes in [file as fn(&Path), link] {
        let late = move |data: &Path| {
            comes(data);
            false
        };
        // After it was recorded, and before it was decided.
        let rig = rig_at(Point::Recorded(1), late).await;
        let waiting = rig.propose(delete(), None).await;
        let refused = rig.decide(&waiting, true).await.unwrap_err();
        let changed = matches!(refused, ApprovalError::BasisChanged { .. });
        assert!(changed, "{refused}");
        assert!(rig.path(MAIN).exists());
        assert!(!rig.path("knowledge/.intent.json").exists());

        let rig = rig_at(Point::Done, |_| false).await;
        let waiting = rig.propose(delete(), None).await;
        comes(rig.temp.path());
        let overview = rig.approvals.list(None).await.unwrap();
        assert_eq!(overview.proposals[0].1.word(), "void");
        let refused = rig.decide(&waiting, true).await.unwrap_err();
        let changed = matches!(refused, ApprovalError::BasisChanged { .. });
        assert!(changed, "{refused}");
        assert_eq!(rig.ledger().await, Vec::<Vec<Kind>>::new());
    }
}

#[actix::test]
async fn the_law_is_replaced_once_after_any_crash() {
    let rig = Rig::new().await;
    // Nothing was recorded: the decision is taken back.
    let waiting = rig.propose(Change::Law, Some(&law("new"))).await;
    begin(&rig, &waiting, Decided::Approved);
    stage(&rig, &waiting, &law("new"));
    assert_eq!(rig.state(&waiting).await, "unfinished");
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "open");
    assert_eq!(rig.read(LAW).as_deref(), Some(law("law").as_str()));
    // Recorded and not made: it is made.
    record(&rig, &waiting, Decided::Approved).await;
    stage(&rig, &waiting, &law("new"));
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(rig.read(LAW).as_deref(), Some(law("new").as_str()));
    // Recorded and made, and somebody wrote since: that stays, and nothing is void.
    begin(&rig, &waiting, Decided::Approved);
    fs_err::write(rig.path(LAW), law("law")).unwrap();
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(rig.read(LAW).as_deref(), Some(law("law").as_str()));
    assert_eq!(rig.ledger().await.len(), 1);
}

#[actix::test]
async fn a_law_that_came_to_nothing_is_told_once_and_what_was_staged_is_cleared_away() {
    let rig = Rig::new().await;
    let late = rig.propose(Change::Law, Some(&law("late"))).await;
    record(&rig, &late, Decided::Approved).await;
    let staged = stage(&rig, &late, &law("late"));
    fs_err::write(rig.path(LAW), law("faster")).unwrap();
    for _ in 0..2 {
        rig.approvals.recover().await.unwrap();
        assert_eq!(rig.state(&late).await, "void");
        assert_eq!(rig.read(LAW).as_deref(), Some(law("faster").as_str()));
        assert_eq!(rig.ledger().await.len(), 2);
        begin(&rig, &late, Decided::Approved);
    }
    rig.approvals.recover().await.unwrap();
    // It goes with the next decision, as does what nobody knows.
    fs_err::create_dir_all(rig.path("skills/versions")).unwrap();
    let unknown = ["skills/.approved-x", "skills/versions/.approved-y"].map(|path| rig.path(path));
    for path in &unknown {
        fs_err::write(path, "").unwrap();
    }
    let other = rig.propose(Change::Law, Some(&law("other"))).await;
    rig.decide(&other, false).await.unwrap();
    for gone in unknown.iter().chain([&staged]) {
        assert!(!gone.exists(), "{}", gone.display());
    }
}

#[actix::test]
async fn a_decision_that_is_stuck_is_told_and_keeps_no_other_waiting() {
    let rig = Rig::new().await;
    let stuck = rig.propose(Change::Law, Some(&law("new"))).await;
    record(&rig, &stuck, Decided::Approved).await;
    stage(&rig, &stuck, &law("forged"));
    let other = rig.try_propose(create(), Some(TEA), "cy").await.unwrap();
    rig.decide(&other, true).await.unwrap();
    assert_eq!(rig.read(MAIN).as_deref(), Some(TEA));
    let overview = rig.approvals.list(None).await.unwrap();
    let mut states = overview.proposals.into_iter();
    let (_, state) = states.find(|(w, _)| w.id == stuck.id).unwrap();
    let told = to_json(&stuck, &state);
    let reason = told["unfinished_because"].as_str().unwrap();
    assert!(reason.contains("staged text"), "{told}");
    let again = rig.decide(&stuck, true).await.unwrap_err();
    assert!(
        matches!(&again, ApprovalError::Unfinished { reason, .. } if reason.contains("staged text")),
        "{again}"
    );
    assert_eq!(
        rig.read("skills/kairos.rb").as_deref(),
        Some(law("law").as_str())
    );
    stage(&rig, &stuck, &law("new"));
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&stuck).await, "approved");
    assert_eq!(
        rig.read("skills/kairos.rb").as_deref(),
        Some(law("new").as_str())
    );
}

#[actix::test]
async fn a_decision_finishes_what_was_begun_before() {
    let rig = Rig::new().await;
    let refused = rig.propose(create(), Some(TEA)).await;
    record(&rig, &refused, Decided::Rejected).await;
    let again = rig.decide(&refused, true).await.unwrap_err();
    let rejected = matches!(
        again,
        ApprovalError::Decided {
            how: "rejected",
            ..
        }
    );
    assert!(rejected, "{again}");
    assert_eq!(rig.read(MAIN), None);
}

#[actix::test]
async fn a_skillset_is_changed_and_recorded_once_after_any_crash() {
    let rig = Rig::new().await;
    let source = set_in(rig.temp.path(), "1.0.0");
    let options = Options {
        layer: Some(Layer::L0),
        ..Options::default()
    };
    rig.sets.install(source.into(), options).await.unwrap();
    let name = "kp".parse().unwrap();
    let off = rig.propose(Change::SkillsetDisable { name }, None).await;
    record(&rig, &off, Decided::Approved).await;
    let before = rig.ledger().await;
    rig.approvals.recover().await.unwrap();
    let enabled = async || rig.sets.state("kp").await.unwrap().unwrap().enabled;
    assert!(!enabled().await);
    assert_eq!(rig.state(&off).await, "approved");
    assert_eq!(rig.ledger().await, before, "it was recorded already");
    // What its owner did since stays.
    begin(&rig, &off, Decided::Approved);
    rig.sets.enable("kp").await.unwrap();
    let before = rig.ledger().await;
    rig.approvals.recover().await.unwrap();
    assert!(enabled().await);
    assert_eq!(rig.state(&off).await, "approved");
    assert_eq!(rig.ledger().await, before);
}

#[actix::test]
async fn a_decision_whose_record_is_unknown_says_so_and_is_found_later() {
    let (store, _begun, go) = gated();
    let patience = Duration::from_millis(200);
    let rig = Rig::with(store, patience, Box::new(|_| Ok(()))).await;
    let waiting = rig.propose(Change::Law, Some(&law("new"))).await;
    let unknown = rig.decide(&waiting, true).await.unwrap_err().to_string();
    assert!(unknown.contains("not settled yet"), "{unknown}");
    // Nobody takes it back while it is under way.
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "unfinished");
    go.send(()).unwrap();
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(
        rig.read("skills/kairos.rb").as_deref(),
        Some(law("new").as_str())
    );
    assert_eq!(rig.ledger().await.len(), 1);
}

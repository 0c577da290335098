//! Changes of the law through the gates, and changes of instructions, carried out with their records.

use kairos_protocol::dsl::gate::Gate;
use kairos_protocol::hash::ContentHash;

use super::*;
use crate::skills::{Edit, Judge};

fn evolve() -> Change {
    Change::SkillEvolve {
        id: "tea".parse().unwrap(),
    }
}

/// The gates that refuse.
fn gates(error: &ApprovalError) -> Vec<Gate> {
    let ApprovalError::Law(SkillsError::Refused(checks)) = error else {
        panic!("{error}");
    };
    let refused = checks.iter().filter(|check| !check.passed);
    refused.map(|check| check.gate).collect()
}

async fn last(rig: &Rig) -> Vec<Entry> {
    let blocks = rig.chain.history(1).await.unwrap();
    let entries = blocks[0].data().iter();
    entries.map(|text| Entry::read(text).unwrap()).collect()
}

#[actix::test]
async fn a_change_of_one_skill_is_file_version_and_record_as_one() {
    let rig = Rig::new().await;
    let waiting = rig.propose(evolve(), Some(&law("black"))).await;
    assert_eq!(rig.read(LAW).unwrap(), law("law"), "it waits");
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(rig.read(LAW).unwrap(), law("black"));
    let entries = last(&rig).await;
    let [Entry::SkillTransition(told), Entry::ApprovalDecision(_)] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(told.skill_id, "tea");
    assert_eq!(told.prev_ast_hash, Some(ContentHash::of(law("law"))));
    assert_eq!(told.next_ast_hash, Some(ContentHash::of(law("black"))));
    let version = told.reason_ref.as_deref().unwrap();
    let kept = rig.skills.view(version.parse().unwrap()).await.unwrap();
    assert_eq!(kept.bytes, law("law").into_bytes());
    let now = rig.skills.read().await.unwrap();
    let diff = kairos_protocol::dsl::diff::diff(&kept.law, &now.law);
    assert_eq!(told.law_diff_hash, Some(diff.hash().unwrap()));
}

#[actix::test]
async fn every_way_to_the_law_passes_the_same_gates() {
    let rig = Rig::new().await;
    let beside = law("black") + "skill :spy do\n  content \"x\"\nend\n";
    let id = || "tea".parse().unwrap();
    for (change, text, gate) in [
        (Change::Law, beside.as_str(), Gate::OneSkill),
        (evolve(), &beside, Gate::OneSkill),
        (Change::Law, "skill :tea do", Gate::Syntax),
        (
            Change::SkillAdd { id: id() },
            &law("black"),
            Gate::MatchingId,
        ),
        (
            Change::SkillRemove { id: id() },
            &law("black"),
            Gate::MatchingId,
        ),
    ] {
        let case = format!("{change:?}");
        let refused = rig.try_propose(change, Some(text), "bo").await.unwrap_err();
        assert!(gates(&refused).contains(&gate), "{case}: {refused}");
    }
    let off = SETTINGS.replace("true", "false");
    fs_err::write(rig.path("skills/config.yml"), off).unwrap();
    for change in [Change::Law, evolve()] {
        let refused = rig.try_propose(change, Some(&law("black")), "bo").await;
        assert_eq!(gates(&refused.unwrap_err()), [Gate::Enabled]);
    }
    assert!(!rig.path("storage/approvals").exists());
}

#[actix::test]
async fn what_was_allowed_when_it_was_proposed_is_asked_again_when_it_is_carried_out() {
    let rig = Rig::new().await;
    let waiting = rig.propose(evolve(), Some(&law("black"))).await;
    fs_err::write(
        rig.path("skills/config.yml"),
        SETTINGS.replace("true", "false"),
    )
    .unwrap();
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert_eq!(gates(&refused), [Gate::Enabled]);
    assert_eq!(rig.read(LAW).unwrap(), law("law"));
    assert_eq!(rig.ledger().await, Vec::<Vec<Kind>>::new());
    // It waits still, for an owner who allows it, or for a no, which needs no gate.
    assert_eq!(rig.state(&waiting).await, "open");
    rig.decide(&waiting, false).await.unwrap();
    assert_eq!(rig.read(LAW).unwrap(), law("law"));
}

#[actix::test]
async fn a_law_that_somebody_edited_voids_what_was_approved_about_the_one_before() {
    let rig = Rig::new().await;
    let waiting = rig.propose(evolve(), Some(&law("black"))).await;
    fs_err::write(rig.path(LAW), law("by hand")).unwrap();
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::BasisChanged { .. }),
        "{refused}"
    );
    assert_eq!(rig.read(LAW).unwrap(), law("by hand"));
}

#[actix::test]
async fn a_session_has_no_more_changes_than_the_settings_say_until_its_owner_begins_another() {
    let rig = Rig::new().await;
    for word in ["one", "two", "three"] {
        let waiting = rig.propose(evolve(), Some(&law(word))).await;
        rig.decide(&waiting, true).await.unwrap();
    }
    assert_eq!(rig.skills.session().await.unwrap().used, 3);
    let refused = rig.try_propose(evolve(), Some(&law("four")), "bo").await;
    assert_eq!(gates(&refused.unwrap_err()), [Gate::Session]);
    let reset = rig.skills.reset(person("bo", Role::Member)).await;
    assert!(matches!(reset, Err(SkillsError::Forbidden(_))));
    rig.skills.reset(person("ada", Role::Owner)).await.unwrap();
    let waiting = rig.propose(evolve(), Some(&law("four"))).await;
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(rig.skills.session().await.unwrap().used, 1);
    rig.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(rig.skills.session().await.unwrap().used, 0);
}

#[actix::test]
async fn ten_changes_in_one_second_leave_ten_versions_and_the_way_back_is_a_change_too() {
    let rig = Rig::new().await;
    let settings = SETTINGS.replace('3', "20");
    fs_err::write(rig.path("skills/config.yml"), settings).unwrap();
    for n in 0..10 {
        let waiting = rig
            .propose(evolve(), Some(&law(&format!("text {n}"))))
            .await;
        rig.decide(&waiting, true).await.unwrap();
    }
    let by = || person("ada", Role::Owner);
    let names = [
        rig.skills.snapshot(None, by()).await.unwrap(),
        rig.skills
            .snapshot(Some("again".to_owned()), by())
            .await
            .unwrap(),
    ];
    assert_ne!(names[0], names[1]);
    let versions = rig.skills.versions().await.unwrap();
    assert_eq!(versions.len(), 12);
    let first = ContentHash::of(law("law"));
    let version = versions.iter().find(|v| v.hash == Some(first)).unwrap();
    let reason = Some("it was better".to_owned());
    let edit = Edit::Rollback(version.name.clone());
    let drafted = rig.skills.draft(edit, reason).await.unwrap();
    assert!(drafted.verdict.passed(), "{:?}", drafted.verdict.checks);
    let text = String::from_utf8(drafted.content.clone()).unwrap();
    let waiting = rig.propose(drafted.change, Some(&text)).await;
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(rig.read(LAW).unwrap(), law("law"));
    let entries = last(&rig).await;
    assert!(matches!(&entries[0], Entry::SkillTransition(told) if told.skill_id == "tea"));
    assert_eq!(rig.skills.versions().await.unwrap().len(), 13);
}

#[actix::test]
async fn a_rollback_brings_no_other_text_than_that_of_its_version() {
    let rig = Rig::new().await;
    let by = person("ada", Role::Owner);
    let version = rig.skills.snapshot(None, by).await.unwrap();
    fs_err::write(rig.path(LAW), law("later")).unwrap();
    let judge = Judge {
        change: Change::LawRollback { version },
        content: law("forged").into_bytes(),
        reason: Some("a test".to_owned()),
        begins: false,
    };
    let refused = rig.skills.judge(judge).await.unwrap_err();
    assert!(
        matches!(refused, SkillsError::NotThatVersion(_)),
        "{refused}"
    );
    let missing = rig.skills.view("kairos_1.rb".parse().unwrap()).await;
    assert!(matches!(missing, Err(SkillsError::NoVersion(_))));
    // A link in the place of a version leads nowhere.
    fs_err::write(rig.path("outside.rb"), law("outside")).unwrap();
    std::os::unix::fs::symlink(
        rig.path("outside.rb"),
        rig.path("skills/versions/kairos_2.rb"),
    )
    .unwrap();
    let linked = rig.skills.view("kairos_2.rb".parse().unwrap()).await;
    assert!(
        matches!(linked, Err(SkillsError::NotAFile(_))),
        "{linked:?}"
    );
}

#[actix::test]
async fn instructions_are_made_replaced_put_in_force_and_taken_away_with_consent() {
    let rig = Rig::new().await;
    let mode = || "poet".parse().unwrap();
    let words = Change::Instructions { mode: mode() };
    let waiting = rig.propose(words, Some("Rhyme.\n")).await;
    let early = Change::InstructionsMode { mode: mode() };
    let refused = rig.try_propose(early, None, "bo").await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::NothingThere(_)),
        "{refused}"
    );
    rig.decide(&waiting, true).await.unwrap();
    let forged = Change::InstructionsMode { mode: mode() };
    let refused = rig
        .try_propose(forged, Some("a: 1"), "bo")
        .await
        .unwrap_err();
    assert!(matches!(refused, ApprovalError::Content(_)), "{refused}");
    let set = rig
        .propose(Change::InstructionsMode { mode: mode() }, None)
        .await;
    rig.decide(&set, true).await.unwrap();
    let settings = rig.read("skills/config.yml").unwrap();
    assert_eq!(settings, format!("{SETTINGS}instructions_mode: poet\n"));
    let entries = last(&rig).await;
    let Entry::InstructionsUpdate(told) = &entries[0] else {
        panic!("{entries:?}");
    };
    assert_eq!(told.reason_ref(), "set_instructions_mode: a test");
    assert_eq!(told.prev_hash(), Some(ContentHash::of("user")));
    let gone = || Change::InstructionsDelete { mode: mode() };
    let refused = rig.try_propose(gone(), None, "bo").await.unwrap_err();
    assert!(matches!(refused, ApprovalError::InForce(_)), "{refused}");
    fs_err::write(rig.path("skills/config.yml"), SETTINGS).unwrap();
    let waiting = rig.propose(gone(), None).await;
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(rig.read("skills/poet.md"), None);
    let entries = last(&rig).await;
    let Entry::InstructionsUpdate(told) = &entries[0] else {
        panic!("{entries:?}");
    };
    assert_eq!(told.reason_ref(), "delete_instructions: a test");
    assert_eq!(told.next_hash(), None);
}

#[actix::test]
async fn instructions_that_go_are_gone_once_after_any_crash() {
    use super::crashes::{begin, record, stage};
    use kairos_protocol::block::entry::Decided;

    let rig = Rig::new().await;
    fs_err::write(rig.path("skills/poet.md"), "Rhyme.\n").unwrap();
    let change = Change::InstructionsDelete {
        mode: "poet".parse().unwrap(),
    };
    let waiting = rig.propose(change, None).await;
    // Nothing was recorded: it is taken back.
    begin(&rig, &waiting, Decided::Approved);
    stage(&rig, &waiting, "");
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "open");
    assert!(rig.read("skills/poet.md").is_some());
    // Recorded, and then as a crash before and after the removal leaves it.
    for removed in [false, true] {
        record(&rig, &waiting, Decided::Approved).await;
        let staged = stage(&rig, &waiting, "");
        match removed {
            true => assert_eq!(rig.read("skills/poet.md"), None),
            false => assert!(rig.read("skills/poet.md").is_some()),
        }
        rig.approvals.recover().await.unwrap();
        assert_eq!(rig.state(&waiting).await, "approved");
        assert_eq!(rig.read("skills/poet.md"), None);
        assert!(!staged.exists());
    }
    // Somebody wrote another one in its place before it was taken away: that stays, and the ledger knows.
    record(&rig, &waiting, Decided::Approved).await;
    stage(&rig, &waiting, "");
    fs_err::write(rig.path("skills/poet.md"), "By hand.\n").unwrap();
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "void");
    assert_eq!(rig.read("skills/poet.md").as_deref(), Some("By hand.\n"));
}

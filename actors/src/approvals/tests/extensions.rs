//! Extensions of the meeting protocol: in effect with consent, out of effect with consent, whole after any crash.

use super::crashes::{begin, record};
use super::*;
use crate::extensions::{Extensions, Standing};
use kairos_protocol::block::entry::Decided;

const TEXT: &str =
    "---\nname: weather\ntype: protocol_extension\nactions: [ask_weather]\n---\n\nHow.\n";
const FILE: &str = "skills/extensions/weather.md";
const NOTE: &str = "skills/extensions/weather.json";
const ASIDE: &str = "skills/extensions/disabled/weather.md";

fn adopt() -> Change {
    Change::ExtensionAdopt {
        name: "weather".parse().unwrap(),
    }
}

fn disable() -> Change {
    Change::ExtensionDisable {
        name: "weather".parse().unwrap(),
    }
}

async fn standing(rig: &Rig) -> Vec<Standing> {
    let listed = Extensions::new(rig.temp.path()).list().await.unwrap();
    listed.into_iter().map(|one| one.standing).collect()
}

fn stage(rig: &Rig, waiting: &Waiting, text: &str) {
    let staged = rig.path(&format!("skills/extensions/.approved-{}", waiting.id));
    fs_err::create_dir_all(staged.parent().unwrap()).unwrap();
    fs_err::write(staged, text).unwrap();
}

#[actix::test]
async fn an_extension_is_adopted_and_disabled_by_an_owner_alone() {
    let rig = Rig::new().await;
    let waiting = rig.propose(adopt(), Some(TEXT)).await;
    assert_eq!(standing(&rig).await, []);
    let shown = rig.approvals.show(waiting.id.clone()).await.unwrap();
    assert!(shown.diff.unwrap().text.contains("+actions: [ask_weather]"));
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(standing(&rig).await, [Standing::InEffect]);
    assert_eq!(rig.read(FILE).as_deref(), Some(TEXT));
    assert!(rig.read(NOTE).unwrap().contains("\"by\": \"ada\""));
    assert!(rig.read(NOTE).unwrap().contains("\"from\": \"bo\""));
    let again = rig
        .try_propose(adopt(), Some(TEXT), "bo")
        .await
        .unwrap_err();
    assert!(again.to_string().contains("is in effect"), "{again}");
    let waiting = rig.propose(disable(), None).await;
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(standing(&rig).await, [Standing::Disabled]);
    assert_eq!((rig.read(FILE), rig.read(NOTE)), (None, None));
    assert_eq!(rig.read(ASIDE).as_deref(), Some(TEXT));
    let gone = rig.try_propose(disable(), None, "bo").await.unwrap_err();
    assert!(matches!(gone, ApprovalError::NothingThere(_)), "{gone}");
    // Back again, and then refused by a person.
    let waiting = rig.propose(adopt(), Some(TEXT)).await;
    rig.decide(&waiting, false).await.unwrap();
    assert_eq!(standing(&rig).await, [Standing::Disabled]);
    let decided = vec![Kind::ApprovalDecision];
    assert_eq!(rig.ledger().await, vec![decided; 3]);
}

#[actix::test]
async fn a_text_that_somebody_put_there_is_in_effect_once_it_is_approved() {
    let rig = Rig::new().await;
    fs_err::create_dir_all(rig.path("skills/extensions")).unwrap();
    fs_err::write(rig.path(FILE), TEXT).unwrap();
    assert_eq!(standing(&rig).await, [Standing::NotInEffect]);
    let waiting = rig.propose(adopt(), Some(TEXT)).await;
    rig.decide(&waiting, true).await.unwrap();
    assert_eq!(standing(&rig).await, [Standing::InEffect]);
}

#[actix::test]
async fn what_a_crash_leaves_of_an_extension_is_finished_or_never_began() {
    let rig = Rig::new().await;
    // Begun and staged, and nothing recorded.
    let waiting = rig.propose(adopt(), Some(TEXT)).await;
    begin(&rig, &waiting, Decided::Approved);
    stage(&rig, &waiting, TEXT);
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "open");
    rig.approvals.recover().await.unwrap();
    assert_eq!(standing(&rig).await, []);
    // Recorded.
    record(&rig, &waiting, Decided::Approved).await;
    stage(&rig, &waiting, TEXT);
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(standing(&rig).await, [Standing::InEffect]);
    // Recorded, and the text was moved already when the process died.
    let waiting = rig.propose(disable(), None).await;
    record(&rig, &waiting, Decided::Approved).await;
    stage(&rig, &waiting, "");
    fs_err::create_dir_all(rig.path("skills/extensions/disabled")).unwrap();
    fs_err::rename(rig.path(FILE), rig.path(ASIDE)).unwrap();
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "approved");
    assert_eq!(standing(&rig).await, [Standing::Disabled]);
    assert_eq!(rig.read(NOTE), None);
    let left = fs_err::read_dir(rig.path("skills/extensions")).unwrap();
    assert_eq!(left.count(), 1, "nothing but what is disabled");
    // Others that were put there since keep it from coming into effect.
    let other = TEXT.replace("name: weather", "name: storm");
    let waiting = rig.propose(adopt(), Some(TEXT)).await;
    let storm = Change::ExtensionAdopt {
        name: "storm".parse().unwrap(),
    };
    let first = rig.propose(storm, Some(&other)).await;
    rig.decide(&first, true).await.unwrap();
    record(&rig, &waiting, Decided::Approved).await;
    stage(&rig, &waiting, TEXT);
    rig.approvals.recover().await.unwrap();
    assert_eq!(rig.state(&waiting).await, "void");
    assert_eq!(rig.read(FILE), None);
}

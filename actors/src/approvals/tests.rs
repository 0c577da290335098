use std::path::Path;

use kairos_place::role::Role;
use kairos_protocol::block::entry::{Entry, Kind};
use kairos_protocol::package::PackageLimits;
use kairos_protocol::skill_set::Layer;
use kairos_protocol::time::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::chain::ChainActor;
use crate::chain::store::BlockStore;
use crate::chain::store::conformance::clock;
use crate::chain::store::memory::MemoryStore;
use crate::knowledge::store::{KnowledgeStore, Reach};
use crate::knowledge::{KnowledgeActor, KnowledgePolicy};
use crate::skill_set::{Options, SkillSetActor, SkillSetStore};
use crate::skills::SkillsActor;

mod crashes;
mod evolution;
mod extensions;

const PATIENCE: Duration = Duration::from_secs(60);
const TEA: &str = "# Tea\n\nGreen.\n";
const LAW: &str = "skills/kairos.rb";
const SETTINGS: &str = "evolution_enabled: true\nmax_evolutions_per_session: 3\n";

/// A law of one skill that says this.
fn law(word: &str) -> String {
    format!("skill :tea do\n  content \"{word}\"\nend\n")
}

struct Rig {
    temp: TempDir,
    clock: Arc<ManualClock>,
    chain: ChainHandle,
    sets: SkillSetHandle,
    skills: SkillsHandle,
    approvals: ApprovalHandle,
}

impl Rig {
    async fn new() -> Self {
        Self::on(MemoryStore::default()).await
    }

    async fn on(ledger: MemoryStore) -> Self {
        let patience = PATIENCE;
        Self::with(ledger, patience, Box::new(|_| Ok(()))).await
    }

    /// On a ledger that is waited for so long, with `reach` asked at each point of a change of knowledge.
    async fn with(ledger: impl BlockStore + 'static, patience: Duration, reach: Reach) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let clock = Arc::new(clock());
        let chain = ChainActor::start(Arc::new(ledger), clock.clone(), 8, patience);
        let store = SkillSetStore::open(temp.path(), PackageLimits::default()).unwrap();
        let sets = SkillSetActor::start(store, chain.clone(), clock.clone(), None, 8, PATIENCE);
        let sets = sets.await.unwrap();
        fs_err::create_dir_all(temp.path().join("skills")).unwrap();
        fs_err::write(temp.path().join("skills/kairos.rb"), law("law")).unwrap();
        fs_err::write(temp.path().join("skills/config.yml"), SETTINGS).unwrap();
        let policy = ApprovalPolicy {
            waiting: 3,
            per_user: 2,
            looked: 1_000,
            ..ApprovalPolicy::default()
        };
        let store = KnowledgeStore::new(temp.path(), KnowledgePolicy::default()).reaching(reach);
        let knowledge =
            KnowledgeActor::start_on(store, chain.clone(), clock.clone(), 8, PATIENCE).unwrap();
        let log = ActionLog::new(temp.path());
        let skills = SkillsActor::start(
            temp.path(),
            chain.clone(),
            log.clone(),
            clock.clone(),
            8,
            PATIENCE,
        );
        let parts = ApprovalParts {
            policy,
            chain: chain.clone(),
            knowledge,
            skills: skills.clone(),
            skill_sets: sets.clone(),
            log,
            clock: clock.clone(),
        };
        let approvals = ApprovalActor::start(temp.path(), parts, 8, PATIENCE);
        Self {
            temp,
            clock,
            chain,
            sets,
            skills,
            approvals,
        }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.temp.path().join(below)
    }

    fn read(&self, below: &str) -> Option<String> {
        fs_err::read_to_string(self.path(below)).ok()
    }

    async fn propose(&self, change: Change, content: Option<&str>) -> Waiting {
        self.try_propose(change, content, "bo").await.unwrap()
    }

    async fn try_propose(
        &self,
        change: Change,
        content: Option<&str>,
        user: &str,
    ) -> Result<Waiting, ApprovalError> {
        let propose = Propose {
            change,
            content: content.map(|text| text.as_bytes().to_vec()),
            reason: Some("a test".to_owned()),
            by: person(user, Role::Member),
        };
        self.approvals.propose(propose).await
    }

    async fn decide(&self, waiting: &Waiting, approve: bool) -> Result<Carried, ApprovalError> {
        let decide = Decide {
            id: waiting.id.clone(),
            seal: waiting.seal,
            approve,
            by: person("ada", Role::Owner),
        };
        self.approvals.decide(decide).await
    }

    async fn state(&self, waiting: &Waiting) -> &'static str {
        self.approvals
            .show(waiting.id.clone())
            .await
            .unwrap()
            .state
            .word()
    }

    /// The kinds of entries in the ledger, block by block.
    async fn ledger(&self) -> Vec<Vec<Kind>> {
        let blocks = self.chain.history(100).await.unwrap();
        let kinds = |text: &String| Entry::read(text).unwrap().kind();
        let kinds =
            |block: &kairos_protocol::block::Block| block.data().iter().map(kinds).collect();
        let mut kinds: Vec<Vec<_>> = blocks.iter().map(kinds).collect();
        kinds.reverse();
        kinds.drain(..1.min(kinds.len()));
        kinds
    }
}

fn person(user: &str, role: Role) -> Person {
    Person {
        user: user.parse().unwrap(),
        role,
        door: "http".to_owned(),
    }
}

fn create() -> Change {
    Change::KnowledgeCreate {
        name: "tea".parse().unwrap(),
    }
}

fn update() -> Change {
    Change::KnowledgeUpdate {
        name: "tea".parse().unwrap(),
    }
}

fn delete() -> Change {
    Change::KnowledgeDelete {
        name: "tea".parse().unwrap(),
    }
}

const MAIN: &str = "knowledge/tea/tea.md";

#[actix::test]
async fn knowledge_is_made_changed_and_taken_away_each_with_its_record() {
    let rig = Rig::new().await;
    let made = rig.propose(create(), Some(TEA)).await;
    assert_eq!(rig.read(MAIN), None, "it only waits");
    let carried = rig.decide(&made, true).await.unwrap();
    assert_eq!(carried.decision.stage, Stage::Done { block: Some(1) });
    assert_eq!(rig.read(MAIN).as_deref(), Some(TEA));
    let black = "# Tea\n\nBlack.\n";
    let changed = rig.propose(update(), Some(black)).await;
    let shown = rig.approvals.show(changed.id.clone()).await.unwrap();
    assert!(shown.diff.unwrap().text.contains("-Green.\n+Black.\n"));
    rig.decide(&changed, true).await.unwrap();
    assert_eq!(rig.read(MAIN).as_deref(), Some(black));
    fs_err::create_dir_all(rig.path("knowledge/tea/assets")).unwrap();
    fs_err::write(rig.path("knowledge/tea/assets/leaf"), "x").unwrap();
    let gone = rig.propose(delete(), None).await;
    assert_eq!(gone.proposal.files.len(), 2);
    rig.decide(&gone, true).await.unwrap();
    assert!(!rig.path("knowledge/tea").exists());
    let unit = vec![Kind::KnowledgeUpdate, Kind::ApprovalDecision];
    assert_eq!(rig.ledger().await, vec![unit; 3]);
    let told = ActionLog::new(rig.temp.path()).newest(100).unwrap().records;
    assert_eq!(told.len(), 6);
}

#[actix::test]
async fn the_law_is_replaced_whole_and_its_old_text_is_kept() {
    let rig = Rig::new().await;
    let other = rig.propose(Change::Law, Some(law("other").as_str())).await;
    rig.decide(&other, true).await.unwrap();
    assert_eq!(
        rig.read("skills/kairos.rb").as_deref(),
        Some(law("other").as_str())
    );
    let versions: Vec<_> = fs_err::read_dir(rig.path("skills/versions"))
        .unwrap()
        .collect();
    assert_eq!(versions.len(), 2);
    let version = format!("skills/versions/kairos_20260120_103000_{}.rb", other.id);
    assert_eq!(rig.read(&version).as_deref(), Some(law("law").as_str()));
    let mode = Change::Instructions {
        mode: "poet".parse().unwrap(),
    };
    let mode = rig.propose(mode, Some("Rhyme.\n")).await;
    rig.decide(&mode, true).await.unwrap();
    assert_eq!(rig.read("skills/poet.md").as_deref(), Some("Rhyme.\n"));
    assert_eq!(
        rig.ledger().await,
        [
            [Kind::SkillTransition, Kind::ApprovalDecision],
            [Kind::InstructionsUpdate, Kind::ApprovalDecision]
        ]
    );
}

#[actix::test]
async fn only_an_owner_decides_and_only_about_what_was_shown() {
    let rig = Rig::new().await;
    let waiting = rig.propose(create(), Some(TEA)).await;
    for role in [Role::Guest, Role::Member] {
        let decide = Decide {
            id: waiting.id.clone(),
            seal: waiting.seal,
            approve: true,
            by: person("eve", role),
        };
        let refused = rig.approvals.decide(decide).await.unwrap_err();
        assert!(matches!(refused, ApprovalError::Forbidden(_)), "{refused}");
    }
    let decide = Decide {
        id: waiting.id.clone(),
        seal: ContentHash::of("another"),
        approve: true,
        by: person("ada", Role::Owner),
    };
    let refused = rig.approvals.decide(decide).await.unwrap_err();
    assert!(matches!(refused, ApprovalError::NotAsShown(_)), "{refused}");
    let propose = Propose {
        change: create(),
        content: Some(TEA.into()),
        reason: None,
        by: person("guest", Role::Guest),
    };
    let refused = rig.approvals.propose(propose).await.unwrap_err();
    assert!(matches!(refused, ApprovalError::Forbidden(_)), "{refused}");
    assert_eq!(rig.read(MAIN), None);
    assert_eq!(rig.ledger().await, Vec::<Vec<Kind>>::new());
}

#[actix::test]
async fn a_decision_is_good_once() {
    let rig = Rig::new().await;
    let waiting = rig.propose(create(), Some(TEA)).await;
    let (one, two) = futures::join!(rig.decide(&waiting, true), rig.decide(&waiting, true));
    let refused = one.and(two).unwrap_err();
    assert!(matches!(
        refused,
        ApprovalError::Decided {
            how: "approved",
            ..
        }
    ));
    fs_err::remove_dir_all(rig.path("knowledge/tea")).unwrap();
    let again = rig.decide(&waiting, true).await.unwrap_err();
    assert!(matches!(again, ApprovalError::Decided { .. }), "{again}");
    assert_eq!(rig.read(MAIN), None);
    assert_eq!(rig.ledger().await.len(), 1);
    let other = rig.propose(create(), Some(TEA)).await;
    rig.decide(&other, false).await.unwrap();
    let again = rig.decide(&other, true).await.unwrap_err();
    assert!(matches!(
        again,
        ApprovalError::Decided {
            how: "rejected",
            ..
        }
    ));
    assert_eq!(rig.read(MAIN), None);
}

#[actix::test]
async fn dies_with_the_first_changed_byte_of_its_basis() {
    let rig = Rig::new().await;
    fs_err::create_dir_all(rig.path("knowledge/tea")).unwrap();
    fs_err::write(rig.path(MAIN), TEA).unwrap();
    let waiting = rig.propose(update(), Some("# Tea\n\nBlack.\n")).await;
    fs_err::write(rig.path(MAIN), TEA.replace("Green", "Greem")).unwrap();
    assert_eq!(rig.state(&waiting).await, "void");
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert!(matches!(&refused, ApprovalError::BasisChanged { what, .. } if what == MAIN));
    // Also when the byte comes back.
    fs_err::write(rig.path(MAIN), TEA).unwrap();
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert!(matches!(
        refused,
        ApprovalError::Decided { how: "void", .. }
    ));
    assert_eq!(rig.read(MAIN).as_deref(), Some(TEA));
    // What came to an entry since would go with it unseen.
    let gone = rig.propose(delete(), None).await;
    fs_err::write(rig.path("knowledge/tea/new.txt"), "x").unwrap();
    let refused = rig.decide(&gone, true).await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::BasisChanged { .. }),
        "{refused}"
    );
    assert!(rig.path(MAIN).exists());
    assert_eq!(rig.ledger().await, Vec::<Vec<Kind>>::new());
}

#[actix::test]
async fn what_lies_in_the_store_is_believed_only_as_far_as_its_hashes_go() {
    let rig = Rig::new().await;
    let waiting = rig.propose(create(), Some(TEA)).await;
    let folder = rig.path("storage/approvals").join(waiting.id.as_str());
    fs_err::write(folder.join("content"), "# Poison\n").unwrap();
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::Damaged { .. }),
        "{refused}"
    );
    fs_err::write(folder.join("content"), TEA).unwrap();
    let text = fs_err::read_to_string(folder.join("proposal.json")).unwrap();
    fs_err::write(
        folder.join("proposal.json"),
        text.replace("a test", "a tesT"),
    )
    .unwrap();
    let refused = rig.decide(&waiting, true).await.unwrap_err();
    assert!(matches!(refused, ApprovalError::NotAsShown(_)), "{refused}");
    let forged = text.replace(MAIN, "skills/kairos.rb");
    fs_err::write(folder.join("proposal.json"), forged).unwrap();
    assert_eq!(rig.approvals.list(None).await.unwrap().broken.len(), 1);
    let member = rig
        .approvals
        .discard(waiting.id.clone(), person("bo", Role::Member));
    assert!(matches!(member.await, Err(ApprovalError::Forbidden(_))));
    rig.approvals
        .discard(waiting.id.clone(), person("ada", Role::Owner))
        .await
        .unwrap();
    assert_eq!(rig.approvals.list(None).await.unwrap(), Overview::default());
    assert_eq!(
        rig.read("skills/kairos.rb").as_deref(),
        Some(law("law").as_str())
    );
}

#[actix::test]
async fn links_lead_nowhere() {
    let rig = Rig::new().await;
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("tea.md"), TEA).unwrap();
    fs_err::create_dir_all(rig.path("knowledge")).unwrap();
    std::os::unix::fs::symlink(outside.path(), rig.path("knowledge/tea")).unwrap();
    for (change, content) in [
        (update(), Some("# Other\n")),
        (delete(), None),
        (create(), Some(TEA)),
    ] {
        assert!(rig.try_propose(change, content, "bo").await.is_err());
    }
    assert_eq!(
        fs_err::read_to_string(outside.path().join("tea.md")).unwrap(),
        TEA
    );
}

#[actix::test]
async fn what_cannot_be_is_refused_before_it_waits() {
    let rig = Rig::new().await;
    let mode = |mode: &str| Change::Instructions {
        mode: mode.parse().unwrap(),
    };
    let set = |name: &str| Change::SkillsetEnable {
        name: name.parse().unwrap(),
    };
    let same = law("law");
    let large = "x".repeat(kairos_place::proposal::CONTENT_MAX + 1);
    for (change, content, words) in [
        (update(), Some(TEA), "there is no `knowledge/tea`"),
        (delete(), None, "there is no `knowledge/tea`"),
        (create(), None, "needs a text"),
        (delete(), Some(TEA), "does not take a text"),
        (create(), Some(""), "needs a text"),
        (Change::Law, Some(same.as_str()), "would change nothing"),
        (Change::Law, Some(large.as_str()), "larger than"),
        (mode("none"), Some("x"), "has no file"),
        (set("nothing"), None, "'nothing' not found"),
    ] {
        let refused = rig
            .try_propose(change, content, "bo")
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert!(!rig.path("storage/approvals").exists());
}

#[actix::test]
async fn the_number_that_waits_is_bounded_and_time_makes_room() {
    let rig = Rig::new().await;
    let named = |n: u8| Change::KnowledgeCreate {
        name: format!("n{n}").parse().unwrap(),
    };
    let first = rig.try_propose(named(1), Some(TEA), "bo").await.unwrap();
    let same = rig.try_propose(named(1), Some(TEA), "bo").await.unwrap();
    assert_eq!(first.id, same.id);
    rig.try_propose(named(2), Some(TEA), "bo").await.unwrap();
    let full = rig
        .try_propose(named(3), Some(TEA), "bo")
        .await
        .unwrap_err();
    assert_eq!(
        full.to_string(),
        "2 proposals of yours wait already; some have to be decided first"
    );
    rig.try_propose(named(3), Some(TEA), "cy").await.unwrap();
    let full = rig
        .try_propose(named(4), Some(TEA), "cy")
        .await
        .unwrap_err();
    assert_eq!(
        full.to_string(),
        "3 proposals wait already; some have to be decided first"
    );
    rig.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(rig.state(&first).await, "expired");
    let late = rig.decide(&first, true).await.unwrap_err();
    assert!(matches!(late, ApprovalError::Expired(_)), "{late}");
    rig.try_propose(named(4), Some(TEA), "cy").await.unwrap();
    assert_eq!(rig.approvals.list(None).await.unwrap().proposals.len(), 1);
}

#[actix::test]
async fn a_ledger_that_takes_nothing_lets_nothing_be_changed() {
    let rig = Rig::on(MemoryStore::holding(vec![])).await;
    let waiting = rig.propose(create(), Some(TEA)).await;
    for approve in [true, false] {
        let refused = rig.decide(&waiting, approve).await.unwrap_err();
        assert!(matches!(refused, ApprovalError::Unrecorded(_)), "{refused}");
    }
    assert_eq!(rig.read(MAIN), None);
    assert_eq!(rig.state(&waiting).await, "open");
}

fn set_in(folder: &Path, version: &str) -> String {
    let source = folder.join("source/kp");
    fs_err::create_dir_all(source.join("knowledge/a")).unwrap();
    let metadata =
        format!(r#"{{"name":"kp","version":"{version}","layer":"L1","description":"d"}}"#);
    fs_err::write(source.join("skillset.json"), metadata).unwrap();
    fs_err::write(source.join("knowledge/a/a.md"), "# A\n").unwrap();
    source.to_string_lossy().into_owned()
}

#[actix::test]
async fn a_skillset_that_rules_the_agent_is_switched_off_with_consent_only() {
    let rig = Rig::new().await;
    let source = set_in(rig.temp.path(), "1.0.0");
    let options = Options {
        layer: Some(Layer::L0),
        ..Options::default()
    };
    rig.sets
        .install(source.clone().into(), options)
        .await
        .unwrap();
    let alone = rig.sets.disable("kp").await.unwrap_err();
    assert!(
        matches!(alone, SkillSetError::NeedsApproval { .. }),
        "{alone}"
    );
    let name = || "kp".parse().unwrap();
    let off = rig
        .propose(Change::SkillsetDisable { name: name() }, None)
        .await;
    let becomes = off.proposal.skillset.clone().unwrap();
    assert!(becomes.before.unwrap().enabled && !becomes.after.unwrap().enabled);
    assert!(
        rig.sets.state("kp").await.unwrap().unwrap().enabled,
        "it only waits"
    );
    rig.decide(&off, true).await.unwrap();
    assert!(!rig.sets.state("kp").await.unwrap().unwrap().enabled);
    // What somebody else did meanwhile makes another one void.
    let gone = rig
        .propose(Change::SkillsetRemove { name: name() }, None)
        .await;
    rig.sets.enable("kp").await.unwrap();
    assert_eq!(rig.state(&gone).await, "void");
    let refused = rig.decide(&gone, true).await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::BasisChanged { .. }),
        "{refused}"
    );
    // A directory that changed is not the one that was shown.
    let install = Change::SkillsetInstall {
        name: name(),
        source,
        force: true,
        layer: None,
    };
    set_in(rig.temp.path(), "2.0.0");
    let newer = rig.propose(install.clone(), None).await;
    set_in(rig.temp.path(), "6.6.6");
    assert_eq!(rig.state(&newer).await, "void");
    let refused = rig.decide(&newer, true).await.unwrap_err();
    assert!(
        matches!(refused, ApprovalError::BasisChanged { .. }),
        "{refused}"
    );
    assert_eq!(
        rig.sets.state("kp").await.unwrap().unwrap().version,
        "1.0.0"
    );
    let newest = rig.propose(install, None).await;
    rig.decide(&newest, true).await.unwrap();
    assert_eq!(
        rig.sets.state("kp").await.unwrap().unwrap().version,
        "6.6.6"
    );
    let unit = vec![Kind::SkillSetEvent, Kind::ApprovalDecision];
    let blocks = rig.ledger().await;
    assert_eq!((&blocks[1], &blocks[3]), (&unit, &unit));
}

#[actix::test]
async fn stops_when_told() {
    let rig = Rig::new().await;
    rig.approvals.health().await.unwrap();
    rig.approvals.shutdown().await.unwrap();
    assert!(rig.approvals.health().await.is_err());
}

#[actix::test]
async fn an_entry_keeps_its_main_text_whatever_that_is_called() {
    let rig = Rig::new().await;
    fs_err::create_dir_all(rig.path("knowledge/tea")).unwrap();
    let main = "knowledge/tea/SKILL.md";
    fs_err::write(rig.path(main), TEA).unwrap();
    let black = rig.propose(update(), Some("# Tea\n\nBlack.\n")).await;
    assert_eq!(black.proposal.main_file(), Some(main));
    rig.decide(&black, true).await.unwrap();
    assert_eq!(rig.read(main).as_deref(), Some("# Tea\n\nBlack.\n"));
    assert_eq!(rig.read(MAIN), None);
    // What takes the place of a main text makes what was shown another thing.
    let green = rig.propose(update(), Some(TEA)).await;
    fs_err::write(rig.path(MAIN), "# Other\n").unwrap();
    assert_eq!(rig.state(&green).await, "void");
    let unreadable = rig.try_propose(update(), Some("---\na: [\n---\n"), "cy");
    assert!(unreadable.await.is_err(), "its frontmatter cannot be read");
}

#[actix::test]
async fn a_list_is_of_one_user_and_compares_only_so_much() {
    let rig = Rig::new().await;
    let delete = |name: &str| Change::KnowledgeDelete {
        name: name.parse().unwrap(),
    };
    for name in ["a", "b", "c"] {
        fs_err::create_dir_all(rig.path("knowledge").join(name)).unwrap();
        let text = rig.path("knowledge").join(name).join(format!("{name}.md"));
        fs_err::write(text, "x".repeat(600)).unwrap();
    }
    rig.try_propose(delete("a"), None, "bo").await.unwrap();
    rig.try_propose(delete("b"), None, "bo").await.unwrap();
    rig.try_propose(delete("c"), None, "cy").await.unwrap();
    let words = |overview: Overview| -> Vec<_> {
        let proposals = overview.proposals.iter();
        let mut words: Vec<_> = proposals.map(|(_, state)| state.word()).collect();
        words.sort_unstable();
        words
    };
    let all = rig.approvals.list(None).await.unwrap();
    assert_eq!(words(all), ["open", "unlooked", "unlooked"]);
    let own = rig.approvals.list(Some("cy".parse().unwrap())).await;
    assert_eq!(words(own.unwrap()), ["open"]);
}

use std::sync::Arc;
use std::time::Duration;

use kairos_place::role::Role;
use kairos_protocol::block::entry::{Entry, SkillTransition};
use kairos_protocol::dsl::edit::EditError;
use kairos_protocol::dsl::gate::Gate;
use kairos_protocol::time::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::chain::ChainActor;
use crate::chain::store::conformance::clock;
use crate::chain::store::memory::MemoryStore;

const LAW: &str =
    "skill :tea do\n  content \"green\"\nend\n\nskill :core_safety do\n  content \"never\"\nend\n";
const ON: &str = "evolution_enabled: true\n";

struct Rig {
    temp: TempDir,
    clock: Arc<ManualClock>,
    chain: ChainHandle,
    skills: SkillsHandle,
}

impl Rig {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (clock, patience) = (Arc::new(clock()), Duration::from_secs(60));
        let chain = ChainActor::start(Arc::new(MemoryStore::default()), clock.clone(), 8, patience);
        fs_err::create_dir_all(temp.path().join("skills")).unwrap();
        fs_err::write(temp.path().join("skills/kairos.rb"), LAW).unwrap();
        fs_err::write(temp.path().join("skills/config.yml"), ON).unwrap();
        let log = ActionLog::new(temp.path());
        let skills =
            SkillsActor::start(temp.path(), chain.clone(), log, clock.clone(), 8, patience);
        Self {
            temp,
            clock,
            chain,
            skills,
        }
    }

    async fn draft(&self, edit: Edit) -> Result<Drafted, SkillsError> {
        self.skills.draft(edit, Some("a test".to_owned())).await
    }
}

fn evolve(id: &str, definition: &str) -> Edit {
    let (id, definition) = (id.parse().unwrap(), definition.to_owned());
    Edit::Evolve { id, definition }
}

fn gates(drafted: &Drafted) -> Vec<Gate> {
    drafted.verdict.refusals().map(|check| check.gate).collect()
}

fn owner() -> Person {
    Person {
        user: "ada".parse().unwrap(),
        role: Role::Owner,
        door: "cli".to_owned(),
    }
}

#[actix::test]
async fn a_draft_tells_what_would_be_and_changes_nothing() {
    let rig = Rig::new();
    let drafted = rig
        .draft(evolve("tea", "skill :tea do\n  content \"black\"\nend"))
        .await
        .unwrap();
    assert_eq!(gates(&drafted), []);
    assert_eq!(drafted.content, LAW.replace("green", "black").into_bytes());
    assert_eq!(rig.skills.read().await.unwrap().bytes, LAW.as_bytes());
    let mut left: Vec<_> = fs_err::read_dir(rig.temp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["skills"]);
}

#[actix::test]
async fn a_body_alone_is_added_as_the_skill_that_was_named() {
    let rig = Rig::new();
    fs_err::write(
        rig.temp.path().join("skills/config.yml"),
        format!("{ON}kairos_meta_skills: [tea, milk]\n"),
    )
    .unwrap();
    let add = |definition: &str| Edit::Add {
        id: "milk".parse().unwrap(),
        definition: definition.to_owned(),
    };
    for definition in [
        "  content \"cold\"",
        "skill :milk do\n  content \"cold\"\nend",
    ] {
        let drafted = rig.draft(add(definition)).await.unwrap();
        assert_eq!(gates(&drafted), []);
        let text = String::from_utf8(drafted.content).unwrap();
        assert_eq!(
            text,
            format!("{LAW}\nskill :milk do\n  content \"cold\"\nend\n")
        );
    }
    // Text that closes the skill early gets nothing more in.
    let escapes = rig
        .draft(add("end\nskill :core_safety do"))
        .await
        .unwrap_err();
    assert!(
        matches!(escapes, SkillsError::Edit(EditError::Definition(_))),
        "{escapes}"
    );
}

#[actix::test]
async fn core_safety_changes_on_no_way() {
    let rig = Rig::new();
    let soft = LAW.replace("never", "sometimes");
    let version = rig.temp.path().join("skills/versions");
    fs_err::create_dir_all(&version).unwrap();
    fs_err::write(version.join("kairos_1.rb"), &soft).unwrap();
    for edit in [
        evolve(
            "core_safety",
            "skill :core_safety do\n  content \"sometimes\"\nend",
        ),
        Edit::Remove {
            id: "core_safety".parse().unwrap(),
        },
        Edit::Whole(soft.clone().into_bytes()),
        Edit::Rollback("kairos_1.rb".parse().unwrap()),
    ] {
        let case = format!("{edit:?}");
        assert_eq!(
            gates(&rig.draft(edit).await.unwrap()),
            [Gate::Immutable],
            "{case}"
        );
    }
}

#[actix::test]
async fn the_ledger_counts_what_a_session_has_had_also_that_of_others() {
    let rig = Rig::new();
    let record = async || {
        let told = SkillTransition::new("tea", ("a", "b"), None, rig.clock.now());
        rig.chain
            .append(vec![Entry::SkillTransition(told).to_text()])
            .await
            .unwrap();
    };
    record().await;
    assert_eq!(
        rig.skills.session().await.unwrap().used,
        0,
        "of before the session"
    );
    rig.skills.reset(owner()).await.unwrap();
    for used in 1..=4 {
        record().await;
        assert_eq!(rig.skills.session().await.unwrap().used, used);
    }
    let drafted = rig
        .draft(evolve("tea", "skill :tea do\n  content \"black\"\nend"))
        .await
        .unwrap();
    assert_eq!(gates(&drafted), [Gate::Session]);
    // What tells of the session and cannot be read lifts no limit.
    fs_err::write(rig.temp.path().join("storage/evolution.json"), "{").unwrap();
    assert!(matches!(
        rig.skills.session().await,
        Err(SkillsError::Io(_))
    ));
}

#[actix::test]
async fn settings_that_cannot_be_read_allow_nothing() {
    let rig = Rig::new();
    for settings in ["evolution_enabled: [", "- a", "\u{0}"] {
        fs_err::write(rig.temp.path().join("skills/config.yml"), settings).unwrap();
        let drafted = rig
            .draft(evolve("tea", "skill :tea do\n  content \"black\"\nend"))
            .await
            .unwrap();
        assert!(gates(&drafted).contains(&Gate::Enabled), "{settings:?}");
    }
}

use proptest::prelude::*;

use super::*;

fn proposal(change: Change, files: &[(&str, bool, bool)]) -> Proposal {
    let hash = |there: &bool| there.then(|| ContentHash::of("x"));
    let file = |(path, before, after): &(&str, bool, bool)| FileChange {
        path: (*path).to_owned(),
        before: hash(before),
        after: hash(after),
    };
    Proposal {
        change,
        files: files.iter().map(file).collect(),
        skillset: None,
        reason: Some("because".to_owned()),
        by: Person {
            user: "bo".parse().unwrap(),
            role: Role::Member,
            door: "http".to_owned(),
        },
        proposed_at: Timestamp::from_secs(1),
        expires_at: Timestamp::from_secs(2),
    }
}

fn tea() -> SkillName {
    "tea".parse().unwrap()
}

const MAIN: &str = "knowledge/tea/tea.md";

#[test]
fn is_read_as_it_was_written() {
    let update = proposal(
        Change::KnowledgeUpdate { name: tea() },
        &[(MAIN, true, true)],
    );
    let bytes = update.to_bytes().unwrap();
    assert_eq!(Proposal::parse(&bytes).unwrap(), update);
    assert!(!update.is_expired(Timestamp::from_secs(2)));
    assert!(update.is_expired(Timestamp::from_secs(3)));
    let delete = Change::KnowledgeDelete { name: tea() };
    let files = [
        (MAIN, true, false),
        ("knowledge/tea/assets/a.png", true, false),
    ];
    let delete = proposal(delete, &files);
    assert_eq!(delete.main_file(), Some(MAIN));
    let skill = Change::KnowledgeUpdate { name: tea() };
    let skill = proposal(skill, &[("knowledge/tea/SKILL.md", true, true)]);
    assert_eq!(Proposal::parse(&skill.to_bytes().unwrap()).unwrap(), skill);
    assert_eq!(
        Proposal::parse(&delete.to_bytes().unwrap()).unwrap(),
        delete
    );
}

#[test]
fn names_no_file_but_those_of_its_change() {
    let update = || Change::KnowledgeUpdate { name: tea() };
    let delete = || Change::KnowledgeDelete { name: tea() };
    for (change, files) in [
        (update(), &[("../../etc/passwd", true, true)][..]),
        (update(), &[("knowledge/tea/a/tea.md", true, true)]),
        (update(), &[("knowledge/tea/.md", true, true)]),
        (update(), &[("knowledge/tea/tea.txt", true, true)]),
        (
            delete(),
            &[("knowledge/tea/x", true, false), (MAIN, true, false)],
        ),
        (update(), &[(MAIN, true, true), (MAIN, true, true)]),
        (update(), &[(MAIN, true, false)]),
        (update(), &[]),
        (delete(), &[("knowledge/tea/x", true, false)]),
        (
            delete(),
            &[(MAIN, true, false), ("knowledge/tea/../x", true, false)],
        ),
        (
            delete(),
            &[(MAIN, true, false), ("knowledge/teapot/x", true, false)],
        ),
        (delete(), &[(MAIN, true, true)]),
        (delete(), &[(MAIN, false, false)]),
        (Change::Law, &[(MAIN, true, true)]),
    ] {
        let refused = proposal(change, files).to_bytes();
        assert!(matches!(refused, Err(ProposalError::Files)), "{files:?}");
    }
    let mut forged = proposal(update(), &[(MAIN, true, true)]);
    forged.reason = Some("x".repeat(REASON_MAX + 1));
    assert!(matches!(forged.to_bytes(), Err(ProposalError::Reason)));
    let set = Change::SkillsetEnable {
        name: "kp".parse().unwrap(),
    };
    assert!(matches!(
        proposal(set, &[]).to_bytes(),
        Err(ProposalError::SkillSet)
    ));
}

#[test]
fn modes_have_the_files_of_the_reference() {
    for (mode, file) in [
        ("developer", "skills/kairos.md"),
        ("user", "skills/kairos_quickguide.md"),
        ("poet", "skills/poet.md"),
    ] {
        let change = Change::Instructions {
            mode: mode.parse().unwrap(),
        };
        assert_eq!(change.main_file().as_deref(), Some(file));
    }
    assert!("../x".parse::<SkillName>().is_err());
}

#[test]
fn a_version_is_one_file_of_one_directory() {
    for name in [
        "kairos_20260120_103000.rb",
        "kairos_20260120_103000_pabababababab.rb",
    ] {
        assert_eq!(name.parse::<VersionName>().unwrap().as_str(), name);
    }
    for bad in [
        "",
        "kairos_.rb",
        "../kairos_1.rb",
        "kairos_../../x.rb",
        "kairos_1.rb.meta.json",
        "kairos_1.md",
    ] {
        assert_eq!(bad.parse::<VersionName>(), Err(VersionNameError), "{bad}");
    }
}

#[test]
fn changes_of_the_law_are_of_its_one_file() {
    let id = || "tea".parse().unwrap();
    let version = "kairos_1.rb".parse().unwrap();
    for change in [
        Change::Law,
        Change::SkillEvolve { id: id() },
        Change::SkillAdd { id: id() },
        Change::SkillRemove { id: id() },
        Change::LawRollback { version },
    ] {
        assert!(change.is_law() && change.has_content());
        assert_eq!(change.main_file().as_deref(), Some("skills/kairos.rb"));
    }
    let mode = Change::InstructionsMode { mode: id() };
    assert_eq!(mode.main_file().as_deref(), Some("skills/config.yml"));
    let gone = Change::InstructionsDelete { mode: id() };
    assert!(!gone.has_content() && !gone.is_law());
    proposal(gone, &[("skills/tea.md", true, false)])
        .to_bytes()
        .unwrap();
}

#[test]
fn ids_are_never_those_of_the_quarantine() {
    let id = ProposalId::from_random([0xab; 32]);
    assert_eq!(id.as_str(), "pabababababab");
    assert_eq!(id.as_str().parse(), Ok(id));
    for bad in [
        "abababababab",
        "pABABABABABAB",
        "p",
        "pp1111111111",
        "p../../x/../y",
    ] {
        assert_eq!(bad.parse::<ProposalId>(), Err(ProposalIdError));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Proposal::parse(&bytes);
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_proposal(at in 0usize..600, to in any::<u8>()) {
        let update = proposal(Change::KnowledgeUpdate { name: tea() }, &[(MAIN, true, true)]);
        let mut bytes = update.to_bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(read) = Proposal::parse(&bytes) {
            prop_assert!(read.change.is_main(&read.files[0].path));
        }
    }
}

//! What the agent keeps: its key, its ledger, its law, what it knows.

use std::fs::File;
use std::io::{ErrorKind, Read as _};

use kairos_actors::chain::store::StoreError;
use kairos_actors::chain::store::file::{Inspection, Leftover};
use kairos_actors::chain::store::place::{Backend, OpenError, Places};
use kairos_actors::knowledge::store::{KnowledgePolicy, KnowledgeStore, Snapshot};
use kairos_actors::skill_set::SkillSetStore;
use kairos_protocol::dsl::{Law, SOURCE_MAX};
use kairos_protocol::ledger::{LoadState, VerifyReport};
use kairos_protocol::package::PackageLimits;
use kairos_protocol::time::Timestamp;

use super::{Findings, counted, some};
use crate::data_dir::DataDir;
use crate::data_dir::meta::{LAYOUT, Meta};
use crate::identity;

/// Whether there is a usable key, and whether it is the key of this agent.
pub(super) fn keys(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "keys";
    let findings = match identity::inspect(&dir.keys()) {
        Ok(None) => {
            return found.ok(
                CHECK,
                "no key yet; the first command that needs one makes it",
            );
        }
        Ok(Some(findings)) => findings,
        Err(error) => {
            let fix =
                "restore keys/ from a backup; without the key no peer knows this agent any more";
            return found.fail(CHECK, error.to_string(), fix);
        }
    };
    let id = &findings.loaded.instance_id;
    if !findings.public_matches {
        let fix = "move keys/mmp_keypair.pem.pub away; the next command writes the one that belongs to the private key";
        found.warn(
            CHECK,
            "the public key file is not that of the private key",
            fix,
        );
    } else if !findings.id_is_derived {
        let fix = "restore keys/ from one backup as a whole: the key, the id and the statements belong together";
        found.warn(
            CHECK,
            format!(
                "agent {id}, whose id comes from another key, and no statement leads to this one"
            ),
            fix,
        );
    } else {
        let rotations = findings.loaded.rotations.len();
        let fingerprint = findings.loaded.keypair.public().fingerprint();
        found.ok(
            CHECK,
            format!(
                "agent {id}, RSA key {fingerprint}, {}",
                counted(rotations, "rotation")
            ),
        );
    }
    if findings.interrupted {
        let fix =
            "any command that opens the agent finishes or undoes it, such as kairos-chain identity";
        found.warn("keys.rotation", "a rotation was interrupted", fix);
    }
}

const LAW: &str = "skills/kairos.rb";
const LEDGER: &str = "ledger";

/// Whether the ledger of `places` loads and what a crash left beside it; returns when its last block was written.
pub(super) fn ledger(places: &Places, found: &mut Findings) -> Option<Timestamp> {
    let Inspection {
        report,
        bytes,
        newest,
        journal,
        ..
    } = match places.inspect(None) {
        Ok(inspection) => inspection,
        Err(error) => {
            let fix = match &error {
                // It says what to do.
                OpenError::Elsewhere { .. } => "nothing is recorded until one of the two is done",
                OpenError::Store(StoreError::Locked) => "try again when that one is done",
                OpenError::Io { .. } | OpenError::Store(_) => ledger_fix(places),
            };
            found.fail(LEDGER, format!("cannot be looked at: {error}"), fix);
            return None;
        }
    };
    state_of(&report, bytes, ledger_fix(places), found);
    if places.backend == Backend::File {
        leftover(&journal, found);
    }
    newest
}

fn ledger_fix(places: &Places) -> &'static str {
    match places.backend {
        Backend::File => {
            "restore the newest backup that kairos-chain restore accepts; the file itself is never overwritten, so keep it"
        }
        Backend::Sqlite => {
            "restore the newest backup that kairos-chain restore accepts; a database that does not load is never written \
             to, so keep it with the -wal and -journal files beside it"
        }
    }
}

/// Tells what `report` says of a ledger that takes `bytes`.
fn state_of(report: &VerifyReport, bytes: u64, fix: &str, found: &mut Findings) {
    let size = bytesize::ByteSize(bytes);
    match (&report.problem, &report.tip) {
        (None, Some(tip)) => found.ok(
            LEDGER,
            format!(
                "readable: {}, {size}, tip {} at {}",
                blocks(report.length),
                tip.hash,
                tip.index
            ),
        ),
        (None, None) if report.state == LoadState::Absent => {
            found.ok(LEDGER, "absent; the first record begins it")
        }
        (None, None) => found.fail(
            LEDGER,
            format!("{}: nothing can be added to it", report.state),
            fix,
        ),
        (Some(problem), _) => found.fail(
            LEDGER,
            format!(
                "{}: {problem}; {} before that are right",
                report.state,
                blocks(report.length)
            ),
            fix,
        ),
    }
    if report.warning_count > 0 {
        let first: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
        let fix = "look at them with kairos-chain chain history; they do not break the chain";
        found.warn(
            "ledger.oddities",
            format!("{}: {}", report.warning_count, some(&first)),
            fix,
        );
    }
}

fn leftover(journal: &Leftover, found: &mut Findings) {
    let fix =
        "the next command that reads the ledger deals with it, such as kairos-chain chain verify";
    match journal {
        Leftover::Nothing => found.ok("ledger.journal", "empty"),
        Leftover::Torn(bytes) => {
            found.warn(
                "ledger.journal",
                format!("{bytes} bytes of an append that was never acknowledged"),
                fix,
            );
        }
        Leftover::Acknowledged(tip) => {
            found.warn(
                "ledger.journal",
                format!("acknowledged blocks up to {} wait to be written", tip.index),
                fix,
            );
        }
    }
}

fn blocks(length: u64) -> String {
    counted(usize::try_from(length).unwrap_or(usize::MAX), "block")
}

/// Whether the law is there and all of it can be read.
pub(super) fn law(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "law";
    let most = u64::try_from(SOURCE_MAX).unwrap_or(u64::MAX);
    let mut source = Vec::new();
    // One byte more than is read, so that the reader tells of it.
    let read = File::open(dir.law())
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut source));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let fix = "bring it back with kairos-chain state restore last, or take that of this version with \
                       kairos-chain upgrade --apply";
            let message = format!("{LAW}, the law of the agent, is not there");
            return found.fail(CHECK, message, fix);
        }
        Err(error) => {
            let fix = format!("make {LAW} a plain file that this user can read");
            return found.fail(CHECK, format!("{LAW} cannot be read: {error}"), fix);
        }
    }
    let law = Law::read(&source);
    let skills = counted(law.skills.len(), "skill");
    let errors: Vec<_> = law.errors().map(ToString::to_string).collect();
    if errors.is_empty() {
        return found.ok(CHECK, skills);
    }
    let mend = "kairos-chain skills check shows each place and how to mend it";
    let places = counted(errors.len(), "place");
    let told = format!(
        "{skills}, and {places} that cannot be read: {}",
        some(&errors)
    );
    match law.broken {
        true => found.fail(
            CHECK,
            told,
            format!("{mend}; until then nothing of the law can change"),
        ),
        false => found.warn(CHECK, told, mend),
    }
}

/// Whether every text can be read as a skill.
pub(super) fn knowledge(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "knowledge";
    let store = KnowledgeStore::new(dir.path(), KnowledgePolicy::default());
    match store.look(&Snapshot::default()) {
        Ok(None) => found.ok(CHECK, "no skills"),
        Ok(Some((_, catalogue))) if catalogue.unfit().is_empty() => {
            found.ok(CHECK, counted(catalogue.all().len(), "skill"));
        }
        Ok(Some((_, catalogue))) => {
            let faults: Vec<_> = catalogue
                .unfit()
                .iter()
                .map(|unfit| format!("{}: {}", unfit.path, unfit.reason))
                .collect();
            let skills = counted(catalogue.all().len(), "skill");
            let fix = "correct or move the files; until then they are not offered to anyone";
            found.warn(
                CHECK,
                format!(
                    "{skills}, and {} that cannot be used: {}",
                    faults.len(),
                    some(&faults)
                ),
                fix,
            );
        }
        Err(error) => found.fail(
            CHECK,
            format!("cannot be read: {error}"),
            "make knowledge/ readable for this user",
        ),
    }
}

/// Whether every SkillSet and the registry can be read.
pub(super) fn skill_sets(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "skillsets";
    match SkillSetStore::unopened(dir.path(), PackageLimits::default()).inventory() {
        Ok(inventory) if inventory.broken.is_empty() => {
            found.ok(
                CHECK,
                format!("{} installed", counted(inventory.sets.len(), "SkillSet")),
            );
        }
        Ok(inventory) => {
            let faults: Vec<_> = inventory
                .broken
                .iter()
                .map(|broken| format!("{}: {}", broken.directory, broken.reason))
                .collect();
            let fix = "install them again, or move their directories away";
            found.warn(
                CHECK,
                format!("{} cannot be used: {}", faults.len(), some(&faults)),
                fix,
            );
        }
        Err(error) => found.fail(
            CHECK,
            error.to_string(),
            "make skillsets/ readable for this user",
        ),
    }
}

/// Which version the directory is of.
pub(super) fn version(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "version";
    let ours = env!("CARGO_PKG_VERSION");
    match Meta::read(&dir.meta_file()) {
        Ok(Some(Meta { own: Some(own), .. })) if own.version == ours => {
            found.ok(CHECK, format!("made for this version ({ours})"));
        }
        Ok(Some(Meta { own: Some(own), .. })) => {
            let fix = "see what would change with kairos-chain upgrade";
            found.warn(
                CHECK,
                format!("made for version {}, this is {ours}", own.version),
                fix,
            );
        }
        Ok(Some(meta)) => {
            let by = meta.layout.as_deref().unwrap_or(LAYOUT);
            let fix = "it can be used as it is; see what an upgrade would change with kairos-chain upgrade";
            found.warn(CHECK, format!("made by KairosChain {by}"), fix);
        }
        Ok(None) => {
            let fix = "kairos-chain init begins the upgrade tracking and changes no other file";
            found.warn(
                CHECK,
                "there is no .kairos_meta.yml, so an upgrade cannot tell your files from ours",
                fix,
            );
        }
        Err(error) => {
            let fix =
                "correct it or restore it from a backup; until then an upgrade keeps every file";
            found.warn(CHECK, error.to_string(), fix);
        }
    }
}

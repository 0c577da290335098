//! The law in an upgrade: what the ledger is told of it.
//!
//! Files are in place before the ledger is told of them, so a process may die in between. What it is to be told of the
//! law is therefore written down beside it first, and the next upgrade tells it where the ledger does not.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};

use kairos_actors::durable;
use kairos_actors::skills::transition;
use kairos_protocol::block::entry::{Entry, SkillTransition};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

use super::{Item, Step};
use crate::data_dir::DataDir;

/// The law, below the data directory.
const PATH: &str = "skills/kairos.rb";
/// What the ledger is to be told, in the directory of the law.
const NOTE: &str = ".upgrade-told.json";
/// Longest note in bytes.
const NOTE_MAX: u64 = 64 * 1024;

/// Whether `item` makes another law, or one where there was none.
pub(super) fn is_changed(item: &Item) -> bool {
    item.path == PATH && matches!(item.step, Step::Create | Step::Replace)
}

/// Whether the ledger may not have been told of a law.
pub(super) fn is_noted(dir: &DataDir) -> bool {
    dir.skills().join(NOTE).exists()
}

/// What the ledger was to be told of the law as it is; nothing where all was told, or the law is another one now.
pub(super) fn noted(dir: &DataDir, items: &[Item]) -> io::Result<Option<SkillTransition>> {
    let mut bytes = Vec::new();
    match File::open(dir.skills().join(NOTE)) {
        Ok(file) => file.take(NOTE_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let note: SkillTransition = serde_json::from_slice(&bytes)?;
    let law = items.iter().find(|item| item.path == PATH);
    let now = law
        .and_then(|item| item.before.as_ref())
        .map(ContentHash::of);
    Ok((note.next_ast_hash == now).then_some(note))
}

/// Writes down what the ledger is to be told of `item`; `kept` is the name of the copy of the former law.
pub(super) fn note(
    dir: &DataDir,
    item: &Item,
    kept: Option<String>,
    now: Timestamp,
) -> io::Result<SkillTransition> {
    let bytes = |text: &'_ Option<String>| text.clone().map(String::into_bytes);
    let (before, after) = (bytes(&item.before), bytes(&item.after));
    let told = transition(before.as_deref(), after.as_deref(), kept, now)?;
    write(dir, &told)?;
    Ok(told)
}

/// Writes down what the ledger is to be told.
pub(super) fn write(dir: &DataDir, told: &SkillTransition) -> io::Result<()> {
    let text = Entry::SkillTransition(told.clone()).to_text();
    durable::replace(&dir.skills().join(NOTE), text.as_bytes())
}

/// The ledger was told, or there is nothing to tell.
pub(super) fn forget(dir: &DataDir) -> io::Result<()> {
    match fs::remove_file(dir.skills().join(NOTE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! What an edit of one skill would make of the law.

use std::sync::Arc;

use kairos_place::proposal::{Change, VersionName};
use kairos_protocol::block::Block;
use kairos_protocol::block::entry::Entry;
use kairos_protocol::dsl::edit::Editor;
use kairos_protocol::dsl::gate::Verdict;
use kairos_protocol::dsl::{Law, edit};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;

use super::{Judge, Parts, SkillsError, Told, blocking, verdict};

/// An edit of the law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Another text of a skill.
    Evolve {
        /// Its id.
        id: SkillName,
        /// `skill :id do … end`.
        definition: String,
    },
    /// A new skill.
    Add {
        /// Its id.
        id: SkillName,
        /// `skill :id do … end`, or what stands between `do` and `end`.
        definition: String,
    },
    /// A skill goes.
    Remove {
        /// Its id.
        id: SkillName,
    },
    /// A whole law in which one skill differs.
    Whole(Vec<u8>),
    /// A former law again.
    Rollback(VersionName),
}

/// What an edit would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Drafted {
    /// What to propose.
    pub change: Change,
    /// The law as it would be, to propose with it.
    pub content: Vec<u8>,
    /// What the gates say.
    pub verdict: Verdict,
    /// The block of the last recorded change, where the law is not what it tells of: somebody changed it otherwise
    /// since, by hand or with a snapshot.
    pub changed_since: Option<u64>,
}

pub(super) async fn draft(
    parts: Arc<Parts>,
    edit: Edit,
    reason: Option<String>,
) -> Result<Drafted, SkillsError> {
    let (change, content) = {
        let parts = Arc::clone(&parts);
        blocking(move || edited(&parts, edit)).await?
    };
    let judge = Judge {
        change: change.clone(),
        content: content.clone(),
        reason,
        begins: false,
    };
    let verdict = verdict(&parts, judge).await?;
    Ok(Drafted {
        change,
        content,
        verdict,
        changed_since: changed_since(&parts).await?,
    })
}

/// See [`super::LastTold`].
pub(super) async fn last_told(parts: &Arc<Parts>) -> Result<Option<Told>, SkillsError> {
    let transition = |block: &Block| {
        let mut entries = block.data().iter().rev();
        entries.find_map(|text| match Entry::read(text) {
            Ok(Entry::SkillTransition(told)) => Some(Told {
                block: block.index(),
                law: told.next_ast_hash,
            }),
            _ => None,
        })
    };
    Ok(parts.chain.find_last(transition).await?)
}

/// See [`Drafted::changed_since`].
async fn changed_since(parts: &Arc<Parts>) -> Result<Option<u64>, SkillsError> {
    let Some(told) = last_told(parts).await? else {
        return Ok(None);
    };
    let parts = Arc::clone(parts);
    blocking(move || {
        let now = ContentHash::of(parts.store.law()?);
        Ok((told.law != Some(now)).then_some(told.block))
    })
    .await
}

/// The change that an edit is, and the law that it makes.
fn edited(parts: &Parts, edit: Edit) -> Result<(Change, Vec<u8>), SkillsError> {
    let before = parts.store.law()?;
    let law = Law::read(&before);
    // What is not UTF-8 is broken, which the editor says.
    let source = std::str::from_utf8(&before).unwrap_or_default();
    let editor = || Editor::new(source, &law);
    Ok(match edit {
        Edit::Evolve { id, definition } => {
            let after = editor()?.replace(id.as_str(), &definition)?;
            (Change::SkillEvolve { id }, after.into_bytes())
        }
        Edit::Add { id, definition } => {
            let declares = !Law::read(definition.as_bytes()).skills.is_empty();
            let definition = match declares {
                true => definition,
                false => edit::wrapped(id.as_str(), &definition),
            };
            let after = editor()?.add(id.as_str(), &definition)?;
            (Change::SkillAdd { id }, after.into_bytes())
        }
        Edit::Remove { id } => {
            let after = editor()?.remove(id.as_str())?;
            (Change::SkillRemove { id }, after.into_bytes())
        }
        Edit::Whole(after) => (Change::Law, after),
        Edit::Rollback(version) => {
            let after = parts.store.version(&version)?;
            (Change::LawRollback { version }, after)
        }
    })
}

//! What the ledger says about layer L1, against what is on disk.
//!
//! Whoever changes a file with an editor, or with a program that keeps no ledger, leaves a difference. It is found by
//! hash, so no clock and no forgotten notification hides it.

use std::collections::BTreeMap;

use kairos_protocol::block::Block;
use kairos_protocol::block::entry::KnowledgeAction;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use serde::{Deserialize, Serialize};

use super::KnowledgeError;
use super::store::{Archived, Changed, KnowledgeEntry};
use crate::chain::ChainHandle;

/// One record of a change, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The block that holds it.
    #[serde(default)]
    pub block: u64,
    /// The name of the knowledge.
    pub knowledge_id: String,
    /// What happened.
    pub action: KnowledgeAction,
    /// The hash of the main text before.
    pub prev_hash: Option<ContentHash>,
    /// The hash of the main text after.
    pub next_hash: Option<ContentHash>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// When, as written.
    #[serde(default)]
    pub timestamp: Option<String>,
    #[serde(rename = "type", skip_serializing)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    #[serde(rename = "knowledge_update")]
    KnowledgeUpdate,
}

/// How an entry on disk compares with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As recorded.
    Recorded,
    /// Archived, as recorded.
    Archived,
    /// Another text than the recorded one.
    Changed,
    /// The ledger never heard of it.
    Unrecorded,
    /// Recorded, and no longer there.
    Missing,
    /// In the archive, where the ledger has it as active.
    PutAway,
    /// There, though the ledger has it as deleted or archived.
    Returned,
    /// Its main text cannot be read.
    Unreadable,
}

/// One entry compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The name.
    pub name: String,
    /// How it compares.
    pub state: State,
    /// The hash that the ledger has.
    pub recorded_hash: Option<ContentHash>,
    /// The hash on disk.
    pub content_hash: Option<ContentHash>,
    /// The block of the last record.
    pub block: Option<u64>,
}

/// The last record of each name.
pub(super) type Ledger = BTreeMap<String, Record>;

/// Reads the whole ledger, page by page, and hands each record to `seen`.
pub(super) async fn read(
    chain: &ChainHandle,
    mut seen: impl FnMut(Record),
) -> Result<(), KnowledgeError> {
    let all = |block: &Block| {
        records(block).for_each(&mut seen);
        None::<()>
    };
    let read = chain.find(0, all).await;
    read.map(drop).map_err(KnowledgeError::Unreadable)
}

/// The last `limit` records of the knowledge `name`, newest first. Reads the ledger no further back than they are.
pub(super) async fn last(
    chain: &ChainHandle,
    name: &str,
    limit: usize,
) -> Result<Vec<Record>, KnowledgeError> {
    let mut last = Vec::new();
    let enough = |block: &Block| {
        let own: Vec<_> = records(block)
            .filter(|record| record.knowledge_id == name)
            .collect();
        last.extend(own.into_iter().rev());
        (last.len() >= limit).then_some(())
    };
    let read = chain.find_last(enough).await;
    read.map_err(KnowledgeError::Unreadable)?;
    last.truncate(limit);
    Ok(last)
}

fn records(block: &Block) -> impl Iterator<Item = Record> {
    let told = block
        .data()
        .iter()
        .filter(|text| text.contains("\"knowledge_update\""));
    told.filter_map(|text| serde_json::from_str(text).ok())
        .map(|record| Record {
            block: block.index(),
            ..record
        })
}

/// Compares what is on disk with the last records, by name.
pub(super) fn compare(
    entries: &[KnowledgeEntry],
    archived: &[Archived],
    ledger: &Ledger,
) -> Vec<Standing> {
    let mut found: BTreeMap<&str, (bool, Option<ContentHash>)> = BTreeMap::new();
    // The active one of two counts.
    let away = archived.iter().map(|archived| (false, &archived.entry));
    for (active, entry) in away.chain(entries.iter().map(|entry| (true, entry))) {
        found.insert(&entry.name, (active, entry.content_hash));
    }
    let mut names: Vec<&str> = found
        .keys()
        .copied()
        .chain(ledger.keys().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let standing = |name: &&str| {
        let record = ledger.get(*name);
        let on_disk = found.get(name).copied();
        let content_hash = on_disk.and_then(|(_, hash)| hash);
        Some(Standing {
            name: (*name).to_owned(),
            state: state(on_disk, record)?,
            recorded_hash: record.and_then(|record| record.next_hash),
            content_hash,
            block: record.map(|record| record.block),
        })
    };
    names.iter().filter_map(standing).collect()
}

/// Nothing for what is gone, as recorded.
fn state(on_disk: Option<(bool, Option<ContentHash>)>, record: Option<&Record>) -> Option<State> {
    let active = record.is_some_and(|record| record.next_hash.is_some());
    let away = record.is_some_and(|record| record.action == KnowledgeAction::Archive);
    Some(match (on_disk, record) {
        (None, _) => return active.then_some(State::Missing),
        (Some((_, None)), _) => State::Unreadable,
        (Some((true, hash)), Some(record)) if active => match hash == record.next_hash {
            true => State::Recorded,
            false => State::Changed,
        },
        (Some((true, _)), Some(_)) => State::Returned,
        (Some((false, hash)), Some(record)) if away => match hash == record.prev_hash {
            true => State::Archived,
            false => State::Changed,
        },
        (Some((false, _)), Some(_)) if active => State::PutAway,
        // Archived before there was a ledger: there is nothing that a record could say about it.
        (Some((false, _)), _) => State::Archived,
        (Some((true, _)), None) => State::Unrecorded,
    })
}

/// The change that would make the ledger agree, if there is one.
pub(super) fn missing_record(standing: &Standing, ledger: &Ledger) -> Option<Changed> {
    let name: SkillName = standing.name.parse().ok()?;
    let last = ledger.get(&standing.name);
    let recorded = standing.recorded_hash;
    let found = standing.content_hash;
    let away = last.filter(|record| record.action == KnowledgeAction::Archive);
    let (action, previous_hash, content_hash) = match standing.state {
        State::Recorded | State::Archived | State::Unreadable => return None,
        // A text that was changed in the archive is told when it comes back.
        State::Changed if away.is_some() => return None,
        State::Changed => (KnowledgeAction::Update, recorded, found),
        State::Unrecorded => (KnowledgeAction::Create, None, found),
        State::Missing => (KnowledgeAction::Delete, recorded, None),
        State::PutAway => (KnowledgeAction::Archive, recorded, None),
        State::Returned => match away {
            Some(record) => (KnowledgeAction::Unarchive, record.prev_hash, found),
            None => (KnowledgeAction::Create, None, found),
        },
    };
    Some(Changed {
        name,
        action,
        path: None,
        previous_hash,
        content_hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, text: Option<&str>) -> KnowledgeEntry {
        KnowledgeEntry {
            name: name.to_owned(),
            content_hash: text.map(ContentHash::of),
            ..KnowledgeEntry::default()
        }
    }

    fn record(
        name: &str,
        action: KnowledgeAction,
        prev: Option<&str>,
        next: Option<&str>,
    ) -> Record {
        Record {
            block: 7,
            knowledge_id: name.to_owned(),
            action,
            prev_hash: prev.map(ContentHash::of),
            next_hash: next.map(ContentHash::of),
            reason: None,
            timestamp: None,
            kind: Kind::KnowledgeUpdate,
        }
    }

    #[test]
    fn each_difference_is_told_and_a_record_of_it_makes_them_agree() {
        use KnowledgeAction::{Archive, Create, Delete, Unarchive, Update};
        let (a, b) = (Some("a"), Some("b"));
        // What is active, what is archived, the last record; how it stands, and what is to be recorded.
        let cases = [
            (
                a,
                None,
                Some((Create, None, a)),
                Some(State::Recorded),
                None,
            ),
            (
                b,
                None,
                Some((Create, None, a)),
                Some(State::Changed),
                Some((Update, a, b)),
            ),
            (
                a,
                None,
                None,
                Some(State::Unrecorded),
                Some((Create, None, a)),
            ),
            (
                None,
                None,
                Some((Update, b, a)),
                Some(State::Missing),
                Some((Delete, a, None)),
            ),
            (None, None, Some((Delete, a, None)), None, None),
            (
                a,
                None,
                Some((Delete, a, None)),
                Some(State::Returned),
                Some((Create, None, a)),
            ),
            (
                b,
                None,
                Some((Archive, a, None)),
                Some(State::Returned),
                Some((Unarchive, a, b)),
            ),
            (
                None,
                a,
                Some((Archive, a, None)),
                Some(State::Archived),
                None,
            ),
            (
                None,
                b,
                Some((Archive, a, None)),
                Some(State::Changed),
                None,
            ),
            (
                None,
                a,
                Some((Create, None, a)),
                Some(State::PutAway),
                Some((Archive, a, None)),
            ),
            (None, a, None, Some(State::Archived), None),
            (a, b, Some((Unarchive, a, a)), Some(State::Recorded), None),
        ];
        for (active, archived, last, expected, fix) in cases {
            let entries: Vec<_> = active
                .map(|text| entry("tea", Some(text)))
                .into_iter()
                .collect();
            let archived: Vec<_> = archived
                .map(|text| Archived {
                    entry: entry("tea", Some(text)),
                    archived_at: None,
                    archived_reason: None,
                    superseded_by: None,
                })
                .into_iter()
                .collect();
            let mut ledger: Ledger = last
                .map(|(action, prev, next)| ("tea".to_owned(), record("tea", action, prev, next)))
                .into_iter()
                .collect();
            let standings = compare(&entries, &archived, &ledger);
            let found = standings.first().map(|standing| standing.state);
            let case = format!("{active:?} {archived:?} {last:?}");
            assert_eq!(found, expected, "{case}");
            let missing = standings.first().and_then(|s| missing_record(s, &ledger));
            let hashed = fix.map(|(action, prev, next): (_, Option<&str>, Option<&str>)| {
                (action, prev.map(ContentHash::of), next.map(ContentHash::of))
            });
            let told = missing.map(|m| (m.action, m.previous_hash, m.content_hash));
            assert_eq!(told, hashed, "{case}");
            if let Some((action, prev, next)) = fix {
                ledger.insert("tea".to_owned(), record("tea", action, prev, next));
                let after = compare(&entries, &archived, &ledger);
                let settled = after.iter().all(|s| missing_record(s, &ledger).is_none());
                assert!(settled, "{case}: {after:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_never_recorded() {
        let standings = compare(&[entry("x", None)], &[], &Ledger::new());
        assert_eq!(standings[0].state, State::Unreadable);
        assert_eq!(missing_record(&standings[0], &Ledger::new()), None);
        let odd = compare(&[entry("x.bak.1", Some("t"))], &[], &Ledger::new());
        assert_eq!(missing_record(&odd[0], &Ledger::new()), None);
    }
}

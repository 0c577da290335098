//! What is on the disk of a node, and what it should grow by.
//!
//! Of all that agents do here little stays for good, and for each of it there is one thing that is written:
//!
//! - A skill that is left or taken is anchored: one line of the journal of anchors, until there are
//!   `anchors.max_anchors`.
//! - The name of a sealed message is remembered for `place.message_lifetime`, so that a repeated one is none: one row.
//! - What happened to it is two entries of the audit, of which the newest `place.audit_entries` are kept.
//! - A skill on the board takes the place of the one before, and mail that was fetched leaves its pages to what comes
//!   next. So the board grows by the skills that were not there before, and mail by nothing.
//! - Introductions, sessions, listings and signs of life write nothing, once the agents are known.
//!
//! A database grows by whole pages and keeps those that are free, so its growth comes in steps: [`FREE`] is left to it.

use std::path::Path;

use super::{Part, Sample};
use crate::mix::Operation;

/// What the files of a data directory are for.
pub(super) const PARTS: [&str; 6] = ["ledger", "anchors", "board", "relay", "logs", "other"];

/// Bytes of an anchor of a skill that was left or taken, with its line: hashes, names of agents, times.
const ANCHOR: f64 = 450.0;
/// Bytes of the name of a message that is remembered, with its row in the index.
const RECEIPT: f64 = 200.0;
/// How long it is remembered if nothing else is set, in seconds.
const REMEMBERED: f64 = 3_600.0;
/// Bytes of an entry of the audit.
const ENTRY: f64 = 133.0;
/// Entries of the audit that are kept if nothing else is set.
const ENTRIES: u64 = 10_000;
/// Bytes of a skill on the board beside its text: its card, its signature, the hashes.
const CARD: u64 = 1_400;
/// Bytes of a page of a database. A row of more than half of one has its pages to itself.
const PAGE: u64 = 4_096;
/// What the growth may differ by, of itself.
const SHARE: f64 = 0.3;
/// What it may differ by in any case, in bytes: pages that databases keep, and what has not reached them yet.
const FREE: f64 = 2.0 * 1024.0 * 1024.0;
/// What the write-ahead log of one database may grow to, in bytes: it is written over again from its beginning once a
/// thousand pages are in it, and a commit may lie across that.
const LOG_MAX: u64 = 6 * 1024 * 1024;
/// Databases with such a log.
const LOGS: u64 = 2;

/// What the file at `below` the data directory is for.
pub(super) fn part(below: &Path) -> &'static str {
    let text = below.to_string_lossy();
    let name = text.rsplit('/').next().unwrap_or(&text);
    if name.ends_with("-wal") || name.ends_with("-shm") {
        return "logs";
    }
    let storage = text.strip_prefix("storage/").unwrap_or_default();
    match storage {
        "place/place.db" => "board",
        "place/relay.db" => "relay",
        _ if storage.contains("anchors") => "anchors",
        _ if storage.starts_with("blockchain") || storage.starts_with("tlog/") => "ledger",
        _ => "other",
    }
}

/// What each part grew by from the sample `first` to `last`, and what it should have grown by; nothing where the data
/// directory is not known. `text` is the length of a skill.
pub(super) fn parts(first: &Sample, last: &Sample, text: u64) -> Vec<Part> {
    let (Some(before), Some(after)) = (&first.disk, &last.disk) else {
        return Vec::new();
    };
    let more = |operation| last.done(operation).saturating_sub(first.done(operation));
    let on_board = |sample: &Sample| sample.figures.get("kairos_place_deposits").copied();
    let (left, taken, sent) = (
        more(Operation::Deposit),
        more(Operation::Acquire),
        more(Operation::Send),
    );
    // Without figures nobody knows how many of them took the place of others.
    let new = match (on_board(first), on_board(last)) {
        (Some(before), Some(after)) => (after - before).max(0.0),
        _ => left as f64,
    };
    let skill = (CARD + text).div_ceil(PAGE) * PAGE;
    // Taken in, and given out.
    let entries = |sample: &Sample| (2 * sample.done(Operation::Send)).min(ENTRIES);
    let audited = entries(last).saturating_sub(entries(first));
    let one = |name: &'static str| {
        let (bytes, was) = (
            after.get(name).copied().unwrap_or(0),
            before.get(name).copied().unwrap_or(0),
        );
        let (predicted, formula) = match name {
            "anchors" => (
                ANCHOR * (left + taken) as f64,
                format!("{left} left + {taken} taken, {ANCHOR} bytes each"),
            ),
            "relay" => (
                RECEIPT * sent as f64 + ENTRY * audited as f64,
                format!(
                    "{sent} names of messages, {RECEIPT} bytes each, {audited} entries of the audit, {ENTRY} each"
                ),
            ),
            "board" => (
                new * skill as f64,
                format!("{new} skills that were not there before, {skill} bytes each"),
            ),
            "logs" => (
                0.0,
                format!(
                    "written over again, at most {} KiB in all",
                    LOGS * LOG_MAX / 1024
                ),
            ),
            _ => (0.0, "nothing is written".to_owned()),
        };
        let grown = bytes as i64 - was as i64;
        let differs = grown as f64 - predicted;
        let fits = match name {
            "logs" => bytes <= LOGS * LOG_MAX,
            "board" => differs <= FREE,
            // By then names are forgotten as well.
            "relay" if last.seconds > REMEMBERED => differs <= (predicted * SHARE).max(FREE),
            _ => differs.abs() <= (predicted * SHARE).max(FREE),
        };
        Part {
            name,
            bytes,
            grown,
            predicted: predicted as i64,
            formula,
            fits,
        }
    };
    PARTS.into_iter().map(one).collect()
}

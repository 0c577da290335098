//! `state_commit`, `state_status` and `state_history`: snapshots of all layers, in the texts of the reference.

use std::fmt::Write as _;

use kairos_actors::state_commit::{Commit as CommitNow, Committed, Status as Now, Summary};
use kairos_place::role::Action;
use kairos_protocol::block::entry::StateSummary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nothing;
use super::text::start;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Snapshots shown if nothing is said.
const LIMIT: usize = 10;
/// Most snapshots shown.
const LIMIT_MAX: usize = 1_000;
/// Names shown of each layer.
const NAMES_MAX: usize = 10;

/// How much changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Counts {
    /// Whether the law changed.
    l0_changed: bool,
    /// New knowledge.
    l1_added: u64,
    /// Changed knowledge.
    l1_modified: u64,
    /// Knowledge that is gone.
    l1_deleted: u64,
    /// New sessions.
    l2_sessions_added: u64,
    /// Sessions that are gone.
    l2_sessions_deleted: u64,
    /// Contexts that became knowledge.
    promotions: u64,
    /// Knowledge that was put away.
    demotions: u64,
    /// All of it.
    total: u64,
}

impl From<&StateSummary> for Counts {
    fn from(summary: &StateSummary) -> Self {
        Self {
            l0_changed: summary.l0_changed,
            l1_added: summary.l1_added,
            l1_modified: summary.l1_modified,
            l1_deleted: summary.l1_deleted,
            l2_sessions_added: summary.l2_sessions_added,
            l2_sessions_deleted: summary.l2_sessions_deleted,
            promotions: summary.promotions,
            demotions: summary.demotions,
            total: summary.total_changes,
        }
    }
}

pub(super) struct Commit;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Command {
    #[default]
    Commit,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitParams {
    /// Only `commit`.
    #[serde(default, rename = "command")]
    #[schemars(default)]
    _command: Option<Command>,
    /// Why.
    reason: String,
    /// Also if nothing changed.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// What names the state.
    hash: String,
    /// The file of the snapshot.
    snapshot: String,
    /// The block that tells of it.
    block: u64,
    /// Why.
    reason: String,
    /// How much changed.
    changes: Counts,
    /// What did not go well beside it.
    problems: Vec<String>,
}

impl Tool<AgentDoor> for Commit {
    const NAME: &'static str = "state_commit";
    const TITLE: &'static str = "Commit the state";
    const ABOUT: &'static str = "Takes a snapshot of all layers and records it in the ledger, with a reason, so that there is a way back.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = CommitParams;
    type Output = Done;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: CommitParams,
    ) -> Result<Answer<Done>, Refusal> {
        let CommitParams { reason, force, .. } = params;
        let done = door
            .agent
            .handles
            .state
            .commit(CommitNow { reason, force })
            .await;
        let done = done.map_err(|error| Refusal::say(format!("FAILED: {error}")))?;
        let at = door.agent.clock.now().wire();
        let data = Done {
            hash: done.snapshot_hash.to_hex(),
            snapshot: done.snapshot_ref.clone(),
            block: done.block.index,
            reason: done.reason.clone(),
            changes: Counts::from(&done.summary),
            problems: done.problems.clone(),
        };
        Ok(Answer::new(committed(&done, &at), data))
    }
}

fn committed(done: &Committed, at: &str) -> String {
    let kind = serde_json::to_value(done.commit_type).unwrap_or_default();
    let mut text = "SUCCESS: State commit created\n\nCommit Details:\n".to_owned();
    let _ = writeln!(text, "  Hash: {}", done.snapshot_hash);
    let _ = writeln!(text, "  Block: #{}", done.block.index);
    let _ = writeln!(text, "  Type: {}", kind.as_str().unwrap_or_default());
    let _ = writeln!(text, "  Reason: {}", done.reason);
    let _ = writeln!(text, "  Timestamp: {at}\n");
    let _ = writeln!(text, "Changes Summary:");
    let of = &done.summary;
    if of.l0_changed {
        let _ = writeln!(text, "    L0: changed");
    }
    if let Some(parts) = signed(
        &[
            ('+', of.l1_added),
            ('~', of.l1_modified),
            ('-', of.l1_deleted),
        ],
        "",
    ) {
        let _ = writeln!(text, "    L1: {parts}");
    }
    if let Some(parts) = signed(
        &[('+', of.l2_sessions_added), ('-', of.l2_sessions_deleted)],
        " sessions",
    ) {
        let _ = writeln!(text, "    L2: {parts}");
    }
    for (what, count) in [("Promotions", of.promotions), ("Demotions", of.demotions)] {
        if count > 0 {
            let _ = writeln!(text, "    {what}: {count}");
        }
    }
    let _ = write!(text, "\n  Snapshot: {}", done.snapshot_ref);
    text
}

/// `+1, ~2`, without what is zero; nothing if all of it is.
fn signed(parts: &[(char, u64)], unit: &str) -> Option<String> {
    let parts = parts.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = parts
        .map(|(sign, count)| format!("{sign}{count}{unit}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

pub(super) struct Status;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatusData {
    /// Whether commits are made at all.
    enabled: bool,
    /// The last snapshot; null if there is none.
    last_commit: Option<SummaryData>,
    /// What names the state as it is.
    current_hash: String,
    /// Whether anything differs from the last snapshot.
    has_changes: bool,
    /// How many changes wait for a snapshot, in each layer.
    pending: PendingData,
    /// Whether commits are made without being asked for.
    auto_commit: bool,
    /// Why one would be made now.
    trigger: Option<&'static str>,
    /// How many snapshots there are.
    snapshots: usize,
    /// What is wrong.
    problems: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PendingData {
    /// Changes of the law.
    l0: u64,
    /// Changes of knowledge.
    l1: u64,
    /// Sessions that changed.
    l2: u64,
    /// All of it.
    total: u64,
}

/// A snapshot.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SummaryData {
    /// The name of its file.
    file: String,
    /// What names the state.
    hash: String,
    /// When it was taken.
    created_at: String,
    /// Who took it.
    created_by: String,
    /// `explicit` or `auto`.
    commit_type: String,
    /// Why.
    reason: String,
    /// Changes told in it.
    changes: usize,
    /// The block that tells of it; null if that is too far back.
    block: Option<u64>,
}

impl From<&Summary> for SummaryData {
    fn from(summary: &Summary) -> Self {
        Self {
            file: summary.file.clone(),
            hash: summary.snapshot_hash.to_hex(),
            created_at: summary.created_at.clone(),
            created_by: summary.created_by.clone(),
            commit_type: summary.commit_type.clone(),
            reason: summary.reason.clone(),
            changes: summary.change_count,
            block: summary.block,
        }
    }
}

impl Tool<AgentDoor> for Status {
    const NAME: &'static str = "state_status";
    const TITLE: &'static str = "State status";
    const ABOUT: &'static str = "Shows what changed in all layers since the last snapshot, and when one is taken by itself.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = StatusData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        _: Nothing,
    ) -> Result<Answer<StatusData>, Refusal> {
        let now = door.agent.handles.state.status().await?;
        let pending = &now.pending_changes;
        let data = StatusData {
            enabled: now.enabled,
            last_commit: now.last_commit.as_ref().map(SummaryData::from),
            current_hash: now.current_hash.to_hex(),
            has_changes: now.has_changes,
            pending: PendingData {
                l0: pending.l0,
                l1: pending.l1,
                l2: pending.l2,
                total: pending.total,
            },
            auto_commit: now.auto_commit,
            trigger: now.trigger.map(|trigger| trigger.as_str()),
            snapshots: now.snapshot_count,
            problems: now.problems.clone(),
        };
        Ok(Answer::new(status(&now), data))
    }
}

fn yes(is: bool) -> &'static str {
    if is { "Yes" } else { "No" }
}

fn status(now: &Now) -> String {
    let mut text = format!("State Commit Status\n{}\n\n", "=".repeat(50));
    let _ = writeln!(text, "Enabled: {}\n", yes(now.enabled));
    text.push_str("Last Commit:\n");
    match &now.last_commit {
        None => text.push_str("  (No commits yet)\n"),
        Some(last) => {
            let _ = writeln!(text, "  Hash: {}", last.snapshot_hash);
            let _ = writeln!(text, "  Time: {}", last.created_at);
            let _ = writeln!(text, "  Type: {}", last.commit_type);
            let _ = writeln!(text, "  Reason: {}", last.reason);
        }
    }
    text.push_str("\nCurrent State:\n");
    let _ = writeln!(text, "  Hash: {}", now.current_hash);
    let _ = writeln!(text, "  Has Changes: {}", yes(now.has_changes));
    text.push_str("\nPending Changes:\n");
    pending(&mut text, now);
    text.push_str("\nAuto-Commit:\n");
    let _ = writeln!(text, "  Enabled: {}", yes(now.auto_commit));
    let trigger = now
        .trigger
        .map(|trigger| format!(" ({trigger})"))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "  Trigger Met: {}{trigger}",
        yes(now.trigger.is_some())
    );
    text.push_str("  Thresholds:\n");
    let bound = |bound: Option<u64>| bound.map_or("-".to_owned(), |bound| bound.to_string());
    let (waits, bounds) = (&now.pending_changes, now.thresholds);
    let _ = writeln!(
        text,
        "    L1 changes: {}/{}",
        waits.l1,
        bound(bounds.l1_changes)
    );
    let _ = writeln!(
        text,
        "    Total changes: {}/{}",
        waits.total,
        bound(bounds.total_changes)
    );
    let _ = write!(text, "\nSnapshots: {} stored", now.snapshot_count);
    for problem in &now.problems {
        let _ = write!(text, "\nwarning: {problem}");
    }
    text
}

fn pending(text: &mut String, now: &Now) {
    let waits = &now.pending_changes;
    if waits.total == 0 {
        text.push_str("  (No pending changes)\n");
        return;
    }
    let _ = writeln!(text, "  Total: {}", waits.total);
    text.push_str("  By Layer:\n");
    for (layer, count) in [("L0", waits.l0), ("L1", waits.l1), ("L2", waits.l2)] {
        if count > 0 {
            let _ = writeln!(text, "    {layer}: {count}");
        }
    }
    text.push_str("  By Action:\n");
    let layers = [&now.changes.l0, &now.changes.l1, &now.changes.l2];
    let added: usize = layers.iter().map(|layer| layer.added.len()).sum();
    let modified: usize = layers.iter().map(|layer| layer.modified.len()).sum();
    let deleted: usize = layers.iter().map(|layer| layer.deleted.len()).sum();
    let others = [
        ("promote", now.changes.promotions.len()),
        ("archive", now.changes.demotions.len()),
    ];
    let counts = [("create", added), ("update", modified), ("delete", deleted)];
    for (action, count) in counts
        .into_iter()
        .chain(others)
        .filter(|(_, count)| *count > 0)
    {
        let _ = writeln!(text, "    {action}: {count}");
    }
}

pub(super) struct History;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    /// How many, from 1 to 1000; 10 if nothing is said.
    limit: Option<usize>,
    /// Show this snapshot instead: the start of its hash.
    hash: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HistoryData {
    /// The snapshots, newest first.
    commits: Vec<SummaryData>,
    /// For one snapshot: what changed between it and the state as it is now, by layer.
    since: Option<SinceData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SinceData {
    /// Skills of the law.
    l0: Vec<String>,
    /// Entries of knowledge.
    l1: Vec<String>,
    /// Sessions.
    l2: Vec<String>,
}

impl Tool<AgentDoor> for History {
    const NAME: &'static str = "state_history";
    const TITLE: &'static str = "State history";
    const ABOUT: &'static str =
        "Lists snapshots of all layers, newest first, or shows one and what changed since.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = HistoryParams;
    type Output = HistoryData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: HistoryParams,
    ) -> Result<Answer<HistoryData>, Refusal> {
        let state = &door.agent.handles.state;
        let limit = params.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::say(format!(
                "Error: limit is from 1 to {LIMIT_MAX}"
            )));
        }
        let Some(hash) = params.hash else {
            let history = state.history(limit).await?;
            let commits = history.commits.iter().map(SummaryData::from).collect();
            return Ok(Answer::new(
                list(&history.commits),
                HistoryData {
                    commits,
                    since: None,
                },
            ));
        };
        let history = state.history(LIMIT_MAX).await?;
        let is = |commit: &&Summary| {
            !hash.is_empty() && commit.snapshot_hash.to_hex().starts_with(&hash)
        };
        let found = history.commits.iter().find(is);
        let found =
            found.ok_or_else(|| Refusal::say(format!("Commit not found: {}", start(&hash, 64))))?;
        let changes = state.compare(Some(found.file.clone()), None).await?.changes;
        let names = |layer: &kairos_protocol::state::LayerDiff| {
            let signed = |sign: char| move |name: &String| format!("{sign} {name}");
            let added = layer.added.iter().map(signed('+'));
            let modified = layer.modified.iter().map(signed('~'));
            added
                .chain(modified)
                .chain(layer.deleted.iter().map(signed('-')))
                .collect::<Vec<_>>()
        };
        let since = SinceData {
            l0: names(&changes.l0),
            l1: names(&changes.l1),
            l2: names(&changes.l2),
        };
        let text = detail(found, &since);
        let data = HistoryData {
            commits: vec![SummaryData::from(found)],
            since: Some(since),
        };
        Ok(Answer::new(text, data))
    }
}

fn list(commits: &[Summary]) -> String {
    let mut text = format!("State Commit History\n{}\n", "=".repeat(50));
    if commits.is_empty() {
        text.push_str("\n(No commits found)\n");
    }
    for (at, commit) in commits.iter().enumerate() {
        let hash: String = commit.snapshot_hash.to_hex().chars().take(16).collect();
        let _ = writeln!(text, "\nCommit #{} ({})", at + 1, commit.created_at);
        let _ = writeln!(text, "  Hash: {hash}...");
        let _ = writeln!(text, "  Type: {}", commit.commit_type);
        let _ = writeln!(text, "  By: {}", commit.created_by);
        let _ = writeln!(text, "  Reason: {}", commit.reason);
        let _ = writeln!(text, "  Changes: {} recorded", commit.change_count);
    }
    text.truncate(text.trim_end().len());
    text
}

fn detail(commit: &Summary, since: &SinceData) -> String {
    let mut text = format!("State Commit Details\n{}\n\n", "=".repeat(50));
    for (what, value) in [
        ("Hash", commit.snapshot_hash.to_hex()),
        ("Created", commit.created_at.clone()),
        ("By", commit.created_by.clone()),
        ("Type", commit.commit_type.clone()),
        ("Reason", commit.reason.clone()),
        ("File", commit.file.clone()),
    ] {
        let _ = writeln!(text, "{what}: {value}");
    }
    let _ = writeln!(text, "\nChanges Told: {}", commit.change_count);
    let layers = [("L0", &since.l0), ("L1", &since.l1), ("L2", &since.l2)];
    let total: usize = layers.iter().map(|(_, names)| names.len()).sum();
    let _ = write!(text, "\nChanges Since This Commit: {total}");
    for (layer, names) in layers {
        for name in names.iter().take(NAMES_MAX) {
            let _ = write!(text, "\n  {layer} {name}");
        }
        if names.len() > NAMES_MAX {
            let _ = write!(text, "\n  {layer} … and {} more", names.len() - NAMES_MAX);
        }
    }
    text
}

//! `status`: how the node is, on one screen, whether it runs or not.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use kairos_actors::auth::{AuthHandle, Issue};
use kairos_place::role::Role;
use kairos_place::token::Lifetime;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::{Out, Tone};
use super::token::LOCAL;
use crate::data_dir::DataDir;
use crate::data_dir::holders::Holding;
use crate::data_dir::survey::survey;
use crate::local::Ask;
use crate::room::Space;
use crate::serving::{self, ServerAt, Sole};
use crate::{agent, crash};

/// How long the token of this command is good, if the command is killed before it takes it back.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing to choose.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if the node is ready, with 3 if something should be looked at or no node runs."
)]
pub struct StatusArgs {}

/// Shows how the node is.
///
/// # Errors
///
/// There is no data directory, or its server does not answer.
pub fn run(_args: &StatusArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let dir = session.data_dir().existing()?;
    let mut beside = beside(&dir)?;
    match serving::servers(&dir)?.first() {
        Some(address) => {
            let at = address.clone();
            session.with_tokens(move |auth, _, out| async move {
                let told = ask(&auth, at).await?;
                show_running(&told, &beside, out)
            })
        }
        None => {
            let holder = Sole::holder(&dir);
            if let Value::Object(beside) = &mut beside {
                beside.insert("blocks".to_owned(), blocks(&dir, session)?.into());
            }
            show_resting(&dir, &holder, &beside, &mut session.out)
        }
    }
}

/// What can be seen without the server.
fn beside(dir: &DataDir) -> anyhow::Result<Value> {
    let survey = survey(dir);
    let used: u64 = survey
        .entries
        .iter()
        .map(|entry| entry.metadata.len())
        .sum();
    let space = Space::of(dir.path())?;
    let crashes = crash::reports(dir)?;
    Ok(json!({
        "data_dir": dir.path(), "disk_used": used, "disk_free": space.free, "crashes": crashes,
    }))
}

/// The length of the ledger where nobody has it open; nothing if it does not load.
fn blocks(dir: &DataDir, session: &Session) -> anyhow::Result<Option<u64>> {
    let settings = session.settings(&[])?;
    let found = agent::ledger(dir, &settings).inspect(None);
    let report = found.ok().map(|found| found.report);
    Ok(report
        .filter(|report| report.problem.is_none())
        .map(|report| report.length))
}

/// Asks the server, with a token made for this one question.
async fn ask(auth: &AuthHandle, at: ServerAt) -> anyhow::Result<Value> {
    let issue = Issue {
        user: LOCAL.parse()?,
        role: Role::Owner,
        lifetime: Lifetime::For(TOKEN_LIFE),
        by: LOCAL.to_owned(),
    };
    let (raw, token) = auth.issue(issue).await?;
    let ask = Ask {
        token: Some(raw.reveal().to_owned()),
        ..Ask::get("/api/v1/status", PATIENCE)
    };
    let asked = at.clone();
    let sent = tokio::task::spawn_blocking(move || ask.send(&asked)).await;
    let discarded = auth.discard(token.hash, LOCAL.to_owned()).await;
    discarded.context("the token of this command stays valid for a minute")?;
    let (status, told) = sent?.with_context(|| format!("the server at {at} does not answer"))?;
    if status != 200 {
        let why = told.get("message").and_then(Value::as_str);
        bail!(
            "the server at {at} refused: {}",
            why.unwrap_or("it did not say why")
        );
    }
    Ok(told)
}

fn show_running(told: &Value, beside: &Value, mut out: Out) -> anyhow::Result<Exit> {
    let ready = told.get("ready") == Some(&Value::Bool(true));
    let exit = if ready { Exit::Done } else { Exit::Warned };
    if out.wants_json() {
        let mut all = told.clone();
        if let (Value::Object(all), Value::Object(beside)) = (&mut all, beside) {
            all.insert("running".to_owned(), true.into());
            all.extend(beside.clone());
        }
        out.json(&all)?;
        return Ok(exit);
    }
    let word = match ready {
        true => out.paint(Tone::Good, "ready"),
        false => out.paint(Tone::Bad, "not ready"),
    };
    row(
        &mut out,
        "node",
        format!(
            "{word}, process {}, up {}, version {}",
            number(told, "/pid"),
            duration(number(told, "/uptime_secs")),
            text(told, "/version")
        ),
    )?;
    for part in list(told, "/not_ready") {
        row(
            &mut out,
            "",
            format!("{}: {}", text(part, "/part"), text(part, "/reason")),
        )?;
    }
    row(
        &mut out,
        "agent",
        format!("{} ({})", text(told, "/agent"), text(told, "/name")),
    )?;
    row(
        &mut out,
        "address",
        match text(told, "/address") {
            // One without a port has a path.
            at if at.contains('/') => at.to_owned(),
            at => format!("http://{at}"),
        },
    )?;
    let tip = text(told, "/ledger/tip");
    let short: String = tip.chars().take(12).collect();
    row(
        &mut out,
        "ledger",
        format!("{} blocks, tip {short}", number(told, "/ledger/blocks")),
    )?;
    row(
        &mut out,
        "peers",
        format!(
            "{} seen, {} met, {} trusted, {} in conflict; {} sessions",
            number(told, "/peers/seen"),
            number(told, "/peers/met"),
            number(told, "/peers/trusted"),
            number(told, "/peers/conflicts"),
            number(told, "/sessions")
        ),
    )?;
    row(
        &mut out,
        "waiting",
        format!(
            "{} approvals, {} in quarantine",
            number(told, "/approvals"),
            number(told, "/quarantine")
        ),
    )?;
    show_places(told, &mut out)?;
    show_disk(beside, &mut out)?;
    if told.get("last_error").is_some_and(Value::is_object) {
        let said = format!(
            "{} at {}",
            text(told, "/last_error/message"),
            text(told, "/last_error/at")
        );
        row(&mut out, "last error", said)?;
    }
    show_crashes(beside, &mut out)?;
    Ok(exit)
}

fn show_places(told: &Value, out: &mut Out) -> std::io::Result<()> {
    let joined = list(told, "/joined_places");
    if joined.is_empty() {
        row(out, "joined", "no Place")?;
    }
    for place in joined {
        let trouble = place.get("trouble").and_then(Value::as_str);
        let how = trouble.map_or(String::new(), |trouble| format!(": {trouble}"));
        row(
            out,
            "joined",
            format!("{} at {}{how}", text(place, "/name"), text(place, "/url")),
        )?;
    }
    if told.get("place").is_some_and(Value::is_object) {
        let oldest = told
            .pointer("/place/relay/oldest_secs")
            .and_then(Value::as_u64);
        let oldest = oldest.map_or(String::new(), |secs| {
            format!(", the oldest {} old", duration(secs))
        });
        row(
            out,
            "hosts",
            format!(
                "{}: {} agents, {} skills, {} SkillSets; {} letters wait{oldest}",
                text(told, "/place/name"),
                number(told, "/place/agents"),
                number(told, "/place/deposits"),
                number(told, "/place/skillsets"),
                number(told, "/place/relay/messages")
            ),
        )?;
    }
    Ok(())
}

fn show_resting(
    dir: &DataDir,
    holder: &Holding,
    beside: &Value,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let mut all = json!({"running": false, "starting": holder != &Holding::Free});
        if let (Value::Object(all), Value::Object(beside)) = (&mut all, beside) {
            all.extend(beside.clone());
        }
        out.json(&all)?;
        return Ok(Exit::Warned);
    }
    match holder {
        Holding::Free => row(
            out,
            "node",
            format!("none runs on {}", dir.path().display()),
        )?,
        by => row(out, "node", format!("starting or stopping: {by}"))?,
    }
    match beside.get("blocks").and_then(Value::as_u64) {
        Some(blocks) => row(out, "ledger", format!("{blocks} blocks"))?,
        None => row(
            out,
            "ledger",
            "does not load; see kairos-chain chain verify",
        )?,
    }
    show_disk(beside, out)?;
    show_crashes(beside, out)?;
    out.note("Start it with:  kairos-chain serve")?;
    Ok(Exit::Warned)
}

fn show_disk(beside: &Value, out: &mut Out) -> std::io::Result<()> {
    row(
        out,
        "disk",
        format!(
            "{} used, {} free",
            ByteSize(number(beside, "/disk_used")),
            ByteSize(number(beside, "/disk_free"))
        ),
    )
}

fn show_crashes(beside: &Value, out: &mut Out) -> std::io::Result<()> {
    let crashes = list(beside, "/crashes");
    let Some(last) = crashes.last() else {
        return Ok(());
    };
    let word = out.paint(Tone::Careful, format_args!("{} reports", crashes.len()));
    row(
        out,
        "crashes",
        format!(
            "{word}, the last one in {}: {}",
            text(last, "/path"),
            text(last, "/what")
        ),
    )
}

/// One line of the page.
fn row(out: &mut Out, name: &str, said: impl std::fmt::Display) -> std::io::Result<()> {
    out.line(format_args!("{name:<10}  {said}"))
}

fn text<'v>(value: &'v Value, at: &str) -> &'v str {
    value.pointer(at).and_then(Value::as_str).unwrap_or("?")
}

fn number(value: &Value, at: &str) -> u64 {
    value.pointer(at).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'v>(value: &'v Value, at: &str) -> &'v [Value] {
    value
        .pointer(at)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn duration(secs: u64) -> String {
    humantime::format_duration(Duration::from_secs(secs)).to_string()
}

//! What nodes do over libp2p: they look each other up by id, and two that have no other way exchange a SkillSet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::link::{self, Ports};
use super::network::Network;
use super::play::Stage;
use super::scenario::Over;
use super::seed;
use crate::compose::HIDDEN;
use crate::image::DATA;
use crate::process;

/// How often it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The SkillSet that one agent gets from another, and where it lies in the volume before it is installed.
const SET: &str = "house";
const SETS: &str = "sets";
/// In every address through a relay.
const CIRCUIT: &str = "/p2p-circuit";

/// Has each of `nodes` look two others of them up: the next one, and the one across.
///
/// # Errors
///
/// Names the first that is not found in time, or that is somebody else.
pub(crate) fn look_up(stage: &Stage<'_>, nodes: &[String]) -> anyhow::Result<Vec<String>> {
    let network = stage.network;
    let across = (nodes.len() / 2).max(1);
    let mut ways = vec![1, across];
    ways.dedup();
    let mut count = 0;
    for way in ways {
        for (one, other) in nodes.iter().zip(nodes.iter().cycle().skip(way)) {
            let began = Instant::now();
            find(network, one, other, began + stage.bound)?;
            stage.journal.looked_up(began.elapsed());
            count += 1;
        }
    }
    let node = nodes.first().context("nobody looks")?;
    let began = Instant::now();
    network.json(node, &["p2p", "status"])?;
    let idle = began.elapsed().as_millis();
    Ok(vec![format!(
        "{count} lookups; a command that looks nothing up took {idle} ms"
    )])
}

/// Repeats `look` until it comes to something.
fn eventually<T>(
    until: Instant,
    look: impl Fn() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    loop {
        match look()? {
            Ok(seen) => return Ok(seen),
            Err(reason) => ensure!(Instant::now() < until, "{reason}"),
        }
        process::pause(LOOK_AGAIN);
    }
}

/// What `one` finds of `other` by its id.
fn find(network: &Network, one: &str, other: &str, until: Instant) -> anyhow::Result<Value> {
    let id = network.id(other)?;
    let found = eventually(until, || {
        let ended = network.run(one, &["--json", "p2p", "find", &id], "")?;
        let told: Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
        let found = told.get("found").filter(|found| !found.is_null());
        Ok(found
            .cloned()
            .ok_or_else(|| format!("{one} does not find {other}: {}", ended.complaint())))
    })?;
    ensure!(
        found.get("agent") == Some(&id.into()),
        "{one} found somebody else than {other}: {found}"
    );
    Ok(found)
}

/// Has two agents without an HTTP port join, behind their routers, and waits until each has a place at a relay.
///
/// # Errors
///
/// Where this machine cannot make routers, or the agents are not told that nobody reaches them.
pub(crate) fn join(stage: &Stage<'_>, ports: Ports) -> anyhow::Result<Vec<String>> {
    let network = stage.network;
    network.add_hidden(
        |hidden| link::translate(network, hidden, ports),
        stage.bound,
    )?;
    let began = Instant::now();
    for hidden in HIDDEN {
        let reach = eventually(began + stage.bound, || {
            let status = network.json(hidden, &["p2p", "status"])?;
            let listens = texts(&status, "/listen");
            let is_relayed = listens.iter().any(|at| at.contains(CIRCUIT));
            let reach = status.get("reach").cloned();
            Ok(is_relayed
                .then_some(reach)
                .ok_or_else(|| format!("{hidden} has no place at a relay: {status}")))
        })?;
        ensure!(
            reach == Some("private".into()),
            "others say that they reach {hidden}, which is behind a router: {reach:?}"
        );
    }
    Ok(vec![format!(
        "nobody reaches the two; they have places at relays {:.1} s after they were ready",
        began.elapsed().as_secs_f64()
    )])
}

/// Has `by` find `with` by its id, where it has a place at a relay, meet it over libp2p, and get its SkillSet.
///
/// # Errors
///
/// Tells at which step it went wrong, or that they are connected by another way than `over` in the end.
pub(crate) fn exchange(
    stage: &Stage<'_>,
    by: &str,
    with: &str,
    over: Over,
) -> anyhow::Result<Vec<String>> {
    let network = stage.network;
    offer(network, with)?;
    let began = Instant::now();
    let until = began + stage.bound;
    eventually(until, || {
        let found = find(network, by, with, until)?;
        let is_relayed = texts(&found, "/addresses")
            .iter()
            .any(|at| at.contains(CIRCUIT));
        Ok(match is_relayed {
            true => Ok(()),
            false => Err(format!("{by} finds {with} at no relay: {found}")),
        })
    })?;
    let found = began.elapsed();
    let first = meet(network, by, with)?;
    let met = began.elapsed();
    take(network, by, with, &first.url, until)?;
    let exchanged = began.elapsed();
    let mut notes = vec![format!(
        "{by} found {with} by its id after {:.1} s, met it after {:.1} s over {}, and had the same SkillSet after {:.1} s",
        found.as_secs_f64(),
        met.as_secs_f64(),
        first.way,
        exchanged.as_secs_f64()
    )];
    match over {
        Over::Relayed => {
            let ways = ways(network, by, with)?;
            ensure!(
                ways.iter().all(|way| way == over.word()),
                "{by} and {with} have another way than through a relay: {ways:?}"
            );
        }
        Over::Direct => {
            eventually(until, || {
                let ways = ways(network, by, with)?;
                Ok(match ways.iter().any(|way| way == over.word()) {
                    true => Ok(()),
                    false => Err(format!("{by} and {with} come to no direct way: {ways:?}")),
                })
            })?;
            let again = meet(network, by, with)?.way;
            notes.push(format!(
                "a direct connection was there after {:.1} s; they met again over {again}",
                began.elapsed().as_secs_f64()
            ));
        }
    }
    Ok(notes)
}

/// Gives an agent a SkillSet that others may have.
fn offer(network: &Network, agent: &str) -> anyhow::Result<()> {
    let text = "# A house\n\nIt has a door.\n";
    let files = [("knowledge/house/house.md", 0o644, text)];
    network.put(
        agent,
        &seed::skill_set(SETS, SET, "All for houses", &files)?,
    )?;
    network.json(
        agent,
        &["skillset", "install", &format!("{DATA}/{SETS}/{SET}")],
    )?;
    Ok(())
}

/// An encounter.
struct Met {
    /// The node of the other one.
    url: String,
    /// Such as `libp2p, relayed`.
    way: String,
}

/// Has `one` meet `other`, of whom it knows the id alone.
fn meet(network: &Network, one: &str, other: &str) -> anyhow::Result<Met> {
    let id = network.id(other)?;
    let met = network.json(one, &["meet", &id])?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    ensure!(
        met.pointer("/agent/id") == Some(&id.into()),
        "{one} met somebody else than {other}: {met}"
    );
    let checks = met.get("checks").and_then(Value::as_array);
    let mut checks = checks.into_iter().flatten();
    let way = checks.find(|check| check.get("name") == Some(&"way".into()));
    let way = text(way.and_then(|way| way.get("detail")));
    let way = way.with_context(|| format!("{one} is not told by which way it met: {met}"))?;
    ensure!(
        way.starts_with("libp2p"),
        "{one} met {other} over {way}, not over libp2p"
    );
    let url = text(met.pointer("/agent/url"));
    let url = url.with_context(|| format!("{other} is nowhere: {met}"))?;
    Ok(Met { url, way })
}

/// Has `one` acquire the SkillSet of `other`, approve exactly what it is shown, and switch it on.
fn take(
    network: &Network,
    one: &str,
    other: &str,
    url: &str,
    until: Instant,
) -> anyhow::Result<()> {
    // A server shows to others what a command installed when it next looks, after `meeting.rescan` at most.
    let got: Value = eventually(until, || {
        let ended = network.run(one, &["--json", "skillset", "acquire", url, SET], "")?;
        Ok(match ended.succeeded() {
            true => Ok(serde_json::from_slice(&ended.stdout)?),
            false => Err(format!(
                "{one} does not get the SkillSet: {}",
                ended.complaint()
            )),
        })
    })?;
    let text = |pointer| got.pointer(pointer).and_then(Value::as_str);
    let (id, seal) = text("/quarantined/id")
        .zip(text("/quarantined/seal"))
        .with_context(|| format!("{one} has nothing in quarantine: {got}"))?;
    let from = text("/quarantined/evidence/from");
    let expected = network.id(other)?;
    ensure!(
        from == Some(expected.as_str()),
        "the evidence names another sender than {other}: {got}"
    );
    network.json(one, &["approve", "--yes", "--seal", seal, id])?;
    network.json(one, &["skillset", "enable", SET])?;
    let hash = |agent| -> anyhow::Result<Value> {
        let info = network.json(agent, &["skillset", "info", SET])?;
        let hash = info.get("content_hash").filter(|hash| hash.is_string());
        Ok(hash.with_context(|| format!("at {agent}: {info}"))?.clone())
    };
    let (theirs, ours) = (hash(other)?, hash(one)?);
    ensure!(
        theirs == ours,
        "{one} has another SkillSet than {other}: {ours}, not {theirs}"
    );
    Ok(())
}

/// How `one` is connected to `other`.
fn ways(network: &Network, one: &str, other: &str) -> anyhow::Result<Vec<String>> {
    let id = Value::from(network.id(other)?);
    let told = network.json(one, &["p2p", "peers"])?;
    let peers = told.get("peers").and_then(Value::as_array);
    let theirs = peers.into_iter().flatten();
    let theirs = theirs.filter(|peer| peer.get("agent") == Some(&id));
    Ok(theirs
        .filter_map(|peer| peer.get("way")?.as_str().map(str::to_owned))
        .collect())
}

/// The texts of a list.
fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

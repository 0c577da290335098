//! `demo --place`: a Meeting Place and three agents. What is exchanged there is checked and sealed, and who means harm is
//! refused.
//!
//! The Place is a real server on loopback, and each agent has a data directory of its own. None of them runs a server:
//! they write to each other while the other is asleep.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use kairos_actors::meeting::Approval;
use kairos_actors::meeting::client::{AtPlace, ClientLimits, Method, PeerClient, PeerUrl};
use kairos_actors::membership::{Acquire, Browse, Deposit, MembershipError, Post};
use kairos_actors::trace::Tracer;
use kairos_place::relay::audit::AuditFilter;
use kairos_protocol::time::Clock as _;
use serde_json::{Value, json};

use super::{NOTE, Story, stock_skill};
use crate::agent::Agent;
use crate::cli::meet::show_checks;
use crate::cli::out::{Out, Tone};
use crate::clock::SystemClock;
use crate::config::{Period, Settings};
use crate::data_dir::{DataDir, Surroundings};
use crate::node::{Node, Operation};

/// What only Ben is to read.
const LETTER: &str = "Ben, the good pot is behind the blue door.";
/// What a flood is made of.
const NOISE: &str = "BUY TEA NOW";

/// Tells the whole story below `home`.
pub(super) async fn tell(home: &Path, out: &mut Out) -> anyhow::Result<()> {
    let mut story = Story { out, step: 0 };

    story.step("A Meeting Place opens, and three agents join it")?;
    let (place, url) = host(&home.join("place")).await?;
    let ada = agent(&home.join("ada"), "Ada").await?;
    let ben = agent(&home.join("ben"), "Ben").await?;
    let mallory = agent(&home.join("mallory"), "Mallory").await?;
    story.say(format_args!("the Place is at {url}"))?;
    for one in [&ada, &ben, &mallory] {
        let joined = one
            .handles
            .membership
            .join(url.clone(), Arc::new(|_| ()))
            .await?;
        ensure!(
            joined.proven && joined.untended.is_none(),
            "an agent could not join in full"
        );
        story.say(format_args!(
            "{} joined as {}",
            one.settings.identity.name, one.signed.instance_id
        ))?;
    }
    story.end()?;

    story.step("Ada leaves a skill on the board, signed; Ben finds it, looks at the evidence, and approves")?;
    exchange(&ada, &ben, &url, home, &mut story).await?;
    story.end()?;

    story.step("Ben falls asleep; Ada seals a message to him; he reads it when he wakes")?;
    let ben_id = ben.signed.instance_id.clone();
    ben.close().await;
    drop(ben);
    write(&ada, &url, ben_id.as_str(), LETTER).await?;
    ensure!(
        !holds(&home.join("place"), LETTER)?,
        "the Place can read the message"
    );
    story.say("the message waits at the Place, which cannot read it")?;
    let ben = agent(&home.join("ben"), "Ben").await?;
    ben.handles.membership.collect(url.clone()).await?;
    let read = ben.handles.membership.read(None, false).await?.messages;
    let [letter] = read.as_slice() else {
        bail!("Ben has {} messages", read.len());
    };
    ensure!(
        letter.payload == LETTER && letter.from == ada.signed.instance_id,
        "Ben reads something else"
    );
    story.say(format_args!("Ben reads, signed by Ada: «{LETTER}»"))?;
    let again = ben.handles.membership.read(None, false).await?.messages;
    ensure!(again.is_empty(), "a message came twice");
    story.end()?;

    story.step("Mallory pretends to be Ada, with a copy of her introduction")?;
    impersonate(&ada, &url, ben_id.as_str(), &mut story).await?;
    story.end()?;

    story.step("Mallory floods Ben's box")?;
    flood(&mallory, &ada, &url, ben_id.as_str(), &mut story).await?;
    story.end()?;

    story.step(
        "The Place keeps an audit of who wrote to whom, and when; of what, it knows nothing",
    )?;
    audit(&place, &home.join("place"), &mut story).await?;
    story.end()?;

    for one in [&ada, &ben, &mallory] {
        one.close().await;
    }
    place.shutdown().await;
    Ok(())
}

async fn exchange(
    ada: &Agent,
    ben: &Agent,
    url: &PeerUrl,
    home: &Path,
    story: &mut Story<'_>,
) -> anyhow::Result<()> {
    stock_skill(&ada.data_dir)?;
    let deposit = Deposit {
        url: url.clone(),
        skill: "tea_ceremony".to_owned(),
    };
    ada.handles.membership.deposit(deposit).await?;
    let browse = Browse {
        url: url.clone(),
        kind: Some("deposited_skill".to_owned()),
        words: None,
        tags: vec!["tea".to_owned()],
        limit: 10,
    };
    let seen = ben.handles.membership.browse(browse).await?;
    let [(entry, _)] = seen.entries.as_slice() else {
        bail!("the board shows something else than what Ada left");
    };
    story.say(format_args!(
        "on the board: {}, by {}",
        entry.name, entry.agent_id
    ))?;
    let acquire = Acquire {
        url: url.clone(),
        skill_id: "tea_ceremony".to_owned(),
        owner: Some(entry.agent_id.clone()),
        progress: Arc::new(|_, _| ()),
    };
    let held = ben.handles.membership.acquire(acquire).await?;
    if !story.out.wants_json() {
        show_checks(&held.evidence.checks, story.out)?;
    }
    let approved = ben.handles.meeting.approve(Approval::of(&held)).await?;
    let text = fs_err::read_to_string(home.join("ben").join(&approved.path))?;
    ensure!(text == NOTE, "the skill did not arrive byte for byte");
    story.say(format_args!("approved: now in {}", approved.path))?;
    Ok(())
}

async fn write(from: &Agent, url: &PeerUrl, to: &str, body: &str) -> anyhow::Result<()> {
    let sent = post(from, url, to, body).await??;
    ensure!(sent.version == 2, "the message was not sealed to a prekey");
    Ok(())
}

async fn post(
    from: &Agent,
    url: &PeerUrl,
    to: &str,
    body: &str,
) -> anyhow::Result<Result<kairos_actors::membership::Sent, MembershipError>> {
    let post = Post {
        url: url.clone(),
        to: to.parse()?,
        kind: "message".parse()?,
        body: body.to_owned(),
        id: None,
    };
    Ok(from.handles.membership.post(post).await)
}

/// Uses what anybody can copy of Ada, and what Mallory can make.
async fn impersonate(
    ada: &Agent,
    url: &PeerUrl,
    to: &str,
    story: &mut Story<'_>,
) -> anyhow::Result<()> {
    let client = PeerClient::new(ClientLimits::default(), Tracer::default());
    let copied = json!({
        "id": ada.signed.instance_id, "public_key": ada.signed.public_key, "identity": ada.signed.identity,
        "identity_signature": ada.signed.signature,
    });
    let post = |path: &'static [&'static str], token: Option<String>, body: Value| {
        let client = client.clone();
        async move {
            let request = AtPlace {
                method: Method::POST,
                path,
                query: &[],
                token: token.as_deref(),
                body: Some(&body),
                only_if: None,
            };
            client.at_place(url, request, &|_, _| ()).await
        }
    };
    let registered = post(&["register"], None, copied).await?;
    let token = registered.get("session_token").and_then(Value::as_str);
    let token = token
        .context("the copy gives no session at all")?
        .to_owned();
    story.say("the copy is good for looking around, as old clients need it")?;
    let forged = json!({
        "from": ada.signed.instance_id, "to": to, "encrypted_blob": "Zm9yZ2Vk",
        "blob_hash": format!("sha256:{}", kairos_protocol::hash::ContentHash::of("Zm9yZ2Vk")),
    });
    match post(&["relay", "send"], Some(token), forged).await {
        Err(error) if error.has_code("proof_required") => {
            let word = story.out.paint(Tone::Bad, "refused");
            story.say(format_args!("writing in Ada's name is {word}: {error}"))?;
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => bail!("Mallory wrote in Ada's name"),
    }
}

async fn flood(
    mallory: &Agent,
    ada: &Agent,
    url: &PeerUrl,
    to: &str,
    story: &mut Story<'_>,
) -> anyhow::Result<()> {
    let most = Settings::default().place.messages_per_sender;
    for _ in 0..most {
        post(mallory, url, to, NOISE).await??;
    }
    match post(mallory, url, to, NOISE).await? {
        Err(MembershipError::Client(error)) if error.has_code("relay_full") => {
            let word = story.out.paint(Tone::Bad, "refused");
            story.say(format_args!(
                "after {most} messages Mallory is {word}: {error}"
            ))?;
        }
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("the flood has no end"),
    }
    write(ada, url, to, "Did you find it?").await?;
    story.say("Ada's next message has its place all the same")?;
    Ok(())
}

async fn audit(place: &Node, home: &Path, story: &mut Story<'_>) -> anyhow::Result<()> {
    let hosted = place.hosted().context("the Place is closed")?;
    let all = AuditFilter {
        since: None,
        participant: None,
    };
    let page = hosted.relay.audit(None, all, 100).await?;
    ensure!(!page.entries.is_empty(), "the audit is empty");
    for entry in page.entries.iter().rev().take(4) {
        let [from, to] = &entry.participants;
        story.say(format_args!(
            "{} {} from {} to {}, {} bytes",
            entry.at.wire(),
            entry.action.as_str(),
            from.as_str(),
            to.as_str(),
            entry.size
        ))?;
    }
    story.say(format_args!("and so on, {} entries", page.entries.len()))?;
    for text in [LETTER, NOISE] {
        ensure!(
            !format!("{page:?}").contains(text),
            "the audit tells what was written"
        );
        ensure!(!holds(home, text)?, "the Place holds what was written");
    }
    story.say("no file of the Place holds a word of it")?;
    Ok(())
}

/// Whether a file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> std::io::Result<bool> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path)?
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn settings(name: &str) -> Settings {
    let mut settings = Settings::default();
    settings.identity.name = name.to_owned();
    settings.http.workers = 1;
    // What Ada writes shows at once, not after the usual second.
    settings.meeting.rescan = Period::secs(0);
    settings
}

/// The Place on a free port of loopback.
async fn host(home: &Path) -> anyhow::Result<(Node, PeerUrl)> {
    let mut settings = settings("Tea house");
    settings.place.enabled = true;
    settings.place.name = "Tea house".to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?).parse()?;
    let agent = open(home, settings).await?;
    Ok((Node::start(agent, listener, Operation::default())?, url))
}

/// An agent without a server.
async fn agent(home: &Path, name: &str) -> anyhow::Result<Agent> {
    open(home, settings(name)).await
}

async fn open(home: &Path, settings: Settings) -> anyhow::Result<Agent> {
    let data_dir = DataDir::resolve(Some(home), &Surroundings::default());
    if !data_dir.is_initialized() {
        data_dir.init(SystemClock.now())?;
    }
    Agent::open(data_dir, settings).await
}

//! `demo --p2p`: two agents without a server find each other and a SkillSet crosses, all of it over libp2p.
//!
//! Neither opens an HTTP port, and neither is told where the other is, as long as there is a network with multicast. Where
//! there is none, as on a machine that is alone, that is said, and Ben is given the address of Ada's node on loopback.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kairos_actors::discovery::{Address, DiscoveryHandle, PeerName};
use kairos_actors::meeting::Wanted;
use kairos_actors::meeting::client::PeerUrl;
use kairos_protocol::id::AgentId;
use kairos_protocol::record::Scope;
use kairos_protocol::time::Clock as _;

use super::{GREEN_TEA, Story, enable, settings, stock, take, verify};
use crate::agent::Agent;
use crate::cli::meet::show_checks;
use crate::cli::out::Out;
use crate::clock::SystemClock;
use crate::data_dir::{DataDir, Surroundings};
use crate::node::{Node, Operation};
use crate::serving::{Listener, OwnerSocket};

/// How long multicast may take; usually it takes a moment.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a node takes at most to learn the addresses of its machine.
const SETTLED: Duration = Duration::from_secs(1);
/// How often is looked whether something came about.
const LOOK: Duration = Duration::from_millis(20);

/// Tells the whole story below `home`. With `multicast` the nodes show themselves on the local network.
pub(super) async fn tell(home: &Path, multicast: bool, out: &mut Out) -> anyhow::Result<()> {
    let mut story = Story { out, step: 0 };

    story.step(
        "Two agents come to life, without an HTTP port and without an address of each other",
    )?;
    let ada = agent(&home.join("ada"), "Ada", "serves tea", multicast).await?;
    let ben = agent(&home.join("ben"), "Ben", "is a guest", multicast).await?;
    let begun = Instant::now();
    for node in [&ada, &ben] {
        let signed = &node.agent().signed;
        story.say(format_args!(
            "{} is {}, key {}",
            node.agent().settings.identity.name,
            signed.instance_id,
            signed.key_fingerprint
        ))?;
        story.say(format_args!(
            "    libp2p node {}",
            at(node)?.show().await?.status.peer
        ))?;
    }
    stock(&ada, &home.join("tea_house")).await?;
    story.say("Ada has a SkillSet that others may have, tea_house")?;
    story.end()?;

    story.step("Ben looks who is there")?;
    let node = find(&ada, &ben, multicast, begun, &mut story).await?;
    let url = PeerUrl::of_node(node);
    story.end()?;

    story.step(
        "Ben meets Ada over libp2p: each proves to hold its key, and that its node is its own",
    )?;
    let met = ben.agent().handles.meeting.meet(url.clone()).await?;
    if !story.out.wants_json() {
        show_checks(&met.checks, story.out)?;
    }
    let known = &met.peer.id;
    ensure!(
        *known == ada.agent().signed.instance_id,
        "Ben met somebody else"
    );
    story.end()?;

    story.step(
        "Ben acquires the SkillSet; it waits in quarantine with its evidence until Ben approves",
    )?;
    take(&ben, &url, Wanted::SkillSet("tea_house".into()), &mut story).await?;
    enable(&ben).await?;
    let text = home.join("ben/skillsets/tea_house/knowledge/green_tea/green_tea.md");
    ensure!(
        fs_err::read_to_string(text)? == GREEN_TEA,
        "the SkillSet did not arrive byte for byte"
    );
    story.say("tea_house is enabled; every byte is as Ada wrote it")?;
    story.end()?;

    verify([&ada, &ben], &mut story).await?;
    ada.shutdown().await;
    ben.shutdown().await;
    Ok(())
}

/// Has Ben find Ada's node, and says how.
async fn find(
    ada: &Node,
    ben: &Node,
    multicast: bool,
    begun: Instant,
    story: &mut Story<'_>,
) -> anyhow::Result<PeerName> {
    let (looking, wanted) = (at(ben)?, &ada.agent().signed.instance_id);
    if multicast {
        if let Some(node) = look(looking, wanted, PATIENCE).await? {
            story.say(format_args!(
                "the node {node} is on the local network, and Ada's: both keys signed that",
            ))?;
            story.say(format_args!(
                "found by multicast, {:.1} seconds after both were there",
                begun.elapsed().as_secs_f32()
            ))?;
            return Ok(node);
        }
        story.say(match is_alone(at(ada)?).await? {
            true => "nobody: this machine is in no network, and there is no multicast on loopback",
            false => "nobody: multicast does not pass in the network of this machine",
        })?;
    } else {
        story.say("nobody: p2p.mdns is false, so neither shows itself on the local network")?;
    }
    let address = own_address(at(ada)?).await?;
    story.say(format_args!(
        "so Ben is given an address to begin with: {address}"
    ))?;
    looking.dial(address).await?;
    let found = look(looking, wanted, PATIENCE).await?;
    let node = found.context("the node at Ada's address does not say that it is hers")?;
    story.say(format_args!(
        "the node {node} is Ada's: both keys signed that"
    ))?;
    Ok(node)
}

/// The node of `wanted` among those that `node` is connected to, as soon as it has said whose it is.
async fn look(
    node: &DiscoveryHandle,
    wanted: &AgentId,
    patience: Duration,
) -> anyhow::Result<Option<PeerName>> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        let is_it = |agent: Option<&(AgentId, String)>| agent.is_some_and(|(id, _)| id == wanted);
        let peers = node.peers().await?;
        if let Some(found) = peers.iter().find(|peer| is_it(peer.agent.as_ref())) {
            return Ok(Some(found.connection.peer));
        }
        if peers.is_empty() && begun.elapsed() > SETTLED && is_alone(node).await? {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// Whether the node has no address but on loopback.
async fn is_alone(node: &DiscoveryHandle) -> anyhow::Result<bool> {
    let listen = node.show().await?.status.listen;
    Ok(listen.iter().all(is_loopback))
}

fn is_loopback(address: &Address) -> bool {
    address.ip().is_some_and(|ip| ip.is_loopback())
}

/// Where the node is on loopback, with its name.
async fn own_address(node: &DiscoveryHandle) -> anyhow::Result<Address> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let status = node.show().await?.status;
        if let Some(address) = status.listen.into_iter().find(is_loopback) {
            return Ok(address.with_peer(status.peer));
        }
        tokio::time::sleep(LOOK).await;
    }
    anyhow::bail!("Ada's node does not listen on loopback")
}

fn at(node: &Node) -> anyhow::Result<&DiscoveryHandle> {
    node.discovery().context("there is no libp2p node")
}

/// A node without an HTTP port.
async fn agent(
    home: &Path,
    name: &str,
    description: &str,
    multicast: bool,
) -> anyhow::Result<Node> {
    let data_dir = DataDir::resolve(Some(home), &Surroundings::default());
    data_dir.init(SystemClock.now())?;
    let mut settings = settings(name, description);
    settings.http.enabled = false;
    settings.p2p.enabled = true;
    settings.p2p.announce = Scope::Lan;
    settings.p2p.mdns = multicast;
    let address = if multicast { "0.0.0.0" } else { "127.0.0.1" };
    settings.p2p.listen = vec![format!("/ip4/{address}/tcp/0")];
    let socket = Listener::Owner(OwnerSocket::of(&data_dir)?);
    let agent = Agent::open(data_dir, settings).await?;
    Node::start(agent, socket, Operation::default())
}

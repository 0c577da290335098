//! Everything that a run is about: the node, the agents, and what is known of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use kairos_protocol::wire::introduction::ReceivedIntroduction;
use kairos_protocol::wire::place::PlaceInfo;
use tokio::task::JoinSet;

use crate::agent::{Agent, Door, Host, blocking};
use crate::client::{Ask, Client, Trouble};
use crate::journal::{Complaints, Letters};

/// Agents that are made, or asked, at once.
const AT_ONCE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) host: Host,
    pub(crate) agents: Vec<Arc<Agent>>,
    pub(crate) letters: Letters,
    /// Answers that are not true.
    pub(crate) wrong: Complaints,
    /// What went wrong on this side.
    pub(crate) own: Complaints,
    /// Length of messages and of skills.
    pub(crate) text: usize,
    next: AtomicU64,
}

impl World {
    /// Finds the node and has so many agents with fresh keys come to it and to its Place.
    ///
    /// # Errors
    ///
    /// There is no node of this kind with a Place, or it does not take the agents in.
    pub(crate) async fn enter(
        client: Client,
        agents: usize,
        text: usize,
    ) -> anyhow::Result<Arc<Self>> {
        let host = find(&client).await?;
        let mut world = Self {
            client,
            host,
            agents: Vec::with_capacity(agents),
            letters: Letters::default(),
            wrong: Complaints::default(),
            own: Complaints::default(),
            text,
            next: AtomicU64::new(0),
        };
        let mut made: Vec<Arc<Agent>> = Vec::with_capacity(agents);
        let make = |number| blocking(move || Agent::new(number));
        for result in each(agents, make).await? {
            made.push(Arc::new(result.map_err(|trouble| failed(&trouble))?));
        }
        made.sort_by_key(|agent| agent.number);
        world.agents = made;
        let world = Arc::new(world);
        let come = |number| {
            let world = Arc::clone(&world);
            async move { world.come(number).await }
        };
        for result in each(agents, come).await? {
            result
                .map_err(|trouble| failed(&trouble))
                .context("the node does not take an agent in")?;
        }
        Ok(world)
    }

    async fn come(&self, number: usize) -> Result<(), Trouble> {
        let agent = self.agent(number)?;
        agent.renew(&self.client, &self.host, Door::Meeting).await?;
        agent.renew(&self.client, &self.host, Door::Place).await?;
        agent.publish_prekeys(&self.client, &self.host).await
    }

    pub(crate) fn agent(&self, number: usize) -> Result<&Arc<Agent>, Trouble> {
        let agent = self.agents.get(number);
        agent.ok_or_else(|| Trouble::Own(format!("there is no agent {number}")))
    }

    /// A number that nothing else of this run has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A text of the usual length, unlike all others.
    pub(crate) fn text(&self, what: &str) -> String {
        let mut text = format!("# {what} {}\n\n", self.number());
        while text.len() < self.text {
            text.push_str("A sentence of ordinary length about nothing in particular.\n");
        }
        text.truncate(self.text.max(40));
        text
    }

    /// Keeps what is to be told of a failure.
    pub(crate) fn note(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Wrong(text) => self.wrong.add(text.clone()),
            Trouble::Own(text) => self.own.add(text.clone()),
            Trouble::Refused { .. } | Trouble::Unanswered(_) => {}
        }
    }
}

/// Does something for each number below `count`, a few at once, and returns the results as they come.
pub(crate) async fn each<T: Send + 'static, F: Future<Output = T> + 'static>(
    count: usize,
    work: impl Fn(usize) -> F,
) -> anyhow::Result<Vec<T>> {
    let mut tasks = JoinSet::new();
    let mut results = Vec::with_capacity(count);
    for number in 0..count {
        if tasks.len() >= AT_ONCE
            && let Some(result) = tasks.join_next().await
        {
            results.push(result?);
        }
        tasks.spawn_local(work(number));
    }
    while let Some(result) = tasks.join_next().await {
        results.push(result?);
    }
    Ok(results)
}

async fn find(client: &Client) -> anyhow::Result<Host> {
    let base = client.base();
    let told = client.send(Ask::get("/meeting/v1/introduce")).await;
    let told = told.map_err(|trouble| failed(&trouble));
    let told = told.with_context(|| format!("there is no node of kairos-chain at {base}"))?;
    let received = ReceivedIntroduction::new(told);
    let verified = received.verify(None);
    let verified =
        verified.with_context(|| format!("{base} does not introduce itself as a node does"))?;
    let info = client.send(Ask::get("/place/v1/info")).await;
    let info = match info {
        Ok(info) => info,
        Err(Trouble::Refused { code, .. }) if code == "place_not_started" => {
            bail!("the node at {base} hosts no Meeting Place; start it with `serve --place`")
        }
        Err(trouble) => return Err(failed(&trouble)),
    };
    let info = PlaceInfo::read(&info).with_context(|| format!("{base} has no Meeting Place"))?;
    let same = info.place_id.as_ref() == Some(&verified.agent_id);
    ensure!(same, "the Meeting Place at {base} is that of another agent");
    Ok(Host {
        id: verified.agent_id,
        key: verified.key,
    })
}

/// A failure as an error.
pub(crate) fn failed(trouble: &Trouble) -> anyhow::Error {
    match trouble {
        Trouble::Wrong(text) | Trouble::Own(text) => anyhow::anyhow!("{text}"),
        trouble => anyhow::anyhow!("{}", trouble.reason()),
    }
}

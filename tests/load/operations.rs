//! What agents do at the doors of the meeting protocol and of the Place. Sealed messages are in [`mail`].

use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::wire::place::{Board, Members};
use serde_json::{Value, json};

use crate::agent::{Agent, Door, SLOTS, blocking};
use crate::client::{Ask, Trouble};
use crate::journal::State;
use crate::mix::Operation;
use crate::world::World;

pub(crate) mod mail;

/// Choices that were made when an operation was planned, so that the same seed does the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Who acts.
    pub(crate) agent: usize,
    /// Another agent, if the operation has to do with one.
    pub(crate) other: usize,
    /// One of the things that there are.
    pub(crate) thing: usize,
}

impl World {
    /// Has an agent do something.
    pub(crate) async fn act(&self, operation: Operation, choice: Choice) -> Result<(), Trouble> {
        let agent = self.agent(choice.agent)?;
        match operation {
            Operation::Introduce => agent.renew(&self.client, &self.host, Door::Meeting).await,
            Operation::Goodbye => self.goodbye(agent).await,
            Operation::List => self.list(agent).await.map(drop),
            Operation::Content => self.content(agent, choice.thing).await,
            Operation::Register => agent.renew(&self.client, &self.host, Door::Place).await,
            Operation::Heartbeat => self.heartbeat(agent).await,
            Operation::Browse => self.browse(agent).await,
            Operation::Deposit => self.deposit(agent, choice.thing).await,
            Operation::Acquire => self
                .acquire(agent, choice.other, choice.thing)
                .await
                .map(drop),
            Operation::Send => self.write(agent, choice.other).await,
            Operation::Receive => self.fetch(agent).await.map(drop),
        }
    }

    /// A request in the session of an agent.
    async fn ask(&self, agent: &Arc<Agent>, door: Door, ask: Ask<'_>) -> Result<Members, Trouble> {
        let send = async |token: &str| self.client.send(ask.clone().token(token)).await;
        agent.with(&self.client, &self.host, door, send).await
    }

    async fn goodbye(&self, agent: &Arc<Agent>) -> Result<(), Trouble> {
        let session = agent
            .open(&self.client, &self.host, Door::Meeting, None)
            .await?;
        let (list, token) = ("/meeting/v1/skills", session.token.as_str());
        self.client.send(Ask::get(list).token(token)).await?;
        self.client
            .send(Ask::post("/meeting/v1/goodbye", &json!({})).token(token))
            .await?;
        match self.client.send(Ask::get(list).token(token)).await {
            Err(Trouble::Refused { status: 401, .. }) => Ok(()),
            Err(trouble) => Err(trouble),
            Ok(_) => Err(Trouble::Wrong(
                "a session that was ended is still good".to_owned(),
            )),
        }
    }

    /// The skills of the node, each with the hash that it is listed with.
    async fn list(&self, agent: &Arc<Agent>) -> Result<Vec<(String, ContentHash)>, Trouble> {
        let path = "/meeting/v1/skills";
        let told = self.ask(agent, Door::Meeting, Ask::get(path)).await?;
        let wrong = || Trouble::Wrong(format!("{path} answers no list of skills"));
        let list = told
            .get("skills")
            .and_then(Value::as_array)
            .ok_or_else(wrong)?;
        let one = |skill: &Value| {
            let text = |name: &str| skill.get(name).and_then(Value::as_str);
            Some((text("id")?.to_owned(), text("content_hash")?.parse().ok()?))
        };
        list.iter()
            .map(one)
            .collect::<Option<_>>()
            .ok_or_else(wrong)
    }

    async fn content(&self, agent: &Arc<Agent>, thing: usize) -> Result<(), Trouble> {
        let list = self.list(agent).await?;
        let Some((id, listed)) = thing.checked_rem(list.len()).and_then(|n| list.get(n)) else {
            return Err(Trouble::Own(
                "the node has no public skill that could be exchanged".to_owned(),
            ));
        };
        let (path, body) = ("/meeting/v1/skill_content", json!({ "skill_id": id }));
        let told = self
            .ask(agent, Door::Meeting, Ask::post(path, &body))
            .await?;
        let told = Value::Object(told);
        let content = told
            .pointer("/message/payload/content")
            .and_then(Value::as_str);
        match content.map(ContentHash::of) {
            Some(hash) if hash == *listed => Ok(()),
            Some(hash) => Err(Trouble::Wrong(format!(
                "skill {id} is listed with {listed} and comes with {hash}"
            ))),
            None => Err(Trouble::Wrong(format!("skill {id} comes without content"))),
        }
    }

    async fn heartbeat(&self, agent: &Arc<Agent>) -> Result<(), Trouble> {
        let body = json!({});
        let beat = Ask::post("/place/v1/heartbeat", &body);
        // The guard and our own reader see to the rest: whoever has faded is refused.
        self.ask(agent, Door::Place, beat).await.map(drop)
    }

    async fn browse(&self, agent: &Arc<Agent>) -> Result<(), Trouble> {
        let browse = Ask::get("/place/v1/board/browse?type=deposited_skill");
        let told = self.ask(agent, Door::Place, browse).await?;
        let board =
            Board::read(&told).map_err(|error| Trouble::Wrong(format!("the board: {error}")))?;
        let ours = |entry: &kairos_protocol::wire::place::BoardEntry| {
            let (_, number) = entry.skill_id.as_deref()?.split_once("load-note-")?;
            let owner = self
                .agents
                .iter()
                .find(|agent| *agent.id() == entry.agent_id)?;
            Some((
                owner.slots.get(number.parse::<usize>().ok()?)?,
                entry.content_hash?,
            ))
        };
        for entry in &board.entries {
            if let Some((slot, hash)) = ours(entry)
                && !slot.may_be(hash, 0)
            {
                let (id, name) = (&entry.agent_id, &entry.name);
                return Err(Trouble::Wrong(format!(
                    "the board shows {name} of {id} with {hash}, which was never left"
                )));
            }
        }
        Ok(())
    }

    async fn deposit(&self, agent: &Arc<Agent>, thing: usize) -> Result<(), Trouble> {
        let number = thing % SLOTS;
        let Some(slot) = agent.slots.get(number) else {
            return Err(Trouble::Own(format!("there is no skill {number}")));
        };
        let content = self.text("Note");
        let hash = ContentHash::of(&content);
        let (signer, signed) = (Arc::clone(agent), content.clone());
        let signature = blocking(move || signer.peer.keypair.sign(signed.as_bytes()));
        let signature = signature.await?.map_err(Trouble::own)?;
        let id = skill_id(number);
        let body = json!({
            "skill_id": id, "name": id, "format": "markdown", "content": content, "content_hash": hash,
            "signature": signature, "tags": ["load"],
        });
        let _one_at_a_time = slot.owner.lock().await;
        let version = slot.leaving(hash);
        let deposit = Ask::post("/place/v1/deposit", &body);
        let result = self.ask(agent, Door::Place, deposit).await;
        slot.answered(version, state(&result));
        result.map(drop)
    }

    /// Takes a skill of `owner`, and checks it as its author left it; nothing if that one left none so far.
    pub(crate) async fn acquire(
        &self,
        agent: &Arc<Agent>,
        owner: usize,
        thing: usize,
    ) -> Result<Option<ContentHash>, Trouble> {
        let owner = self.agent(owner)?;
        let number = thing % SLOTS;
        let Some(slot) = owner.slots.get(number) else {
            return Err(Trouble::Own(format!("there is no skill {number}")));
        };
        let (id, of) = (skill_id(number), owner.id());
        let path = format!("/place/v1/skill_content/{id}?owner={of}");
        let since = slot.newest();
        let told = self.ask(agent, Door::Place, Ask::get(&path)).await;
        let Some(since) = since else {
            return match told {
                // Nobody knows of any, or somebody does by now.
                Ok(_) | Err(Trouble::Refused { status: 404, .. }) => Ok(None),
                Err(trouble) => Err(trouble),
            };
        };
        let told = told.map_err(|trouble| match trouble {
            Trouble::Refused { status: 404, .. } => {
                Trouble::Wrong(format!("{id} of {of} was acknowledged and is not there"))
            }
            trouble => trouble,
        })?;
        let text = |name: &str| told.get(name).and_then(Value::as_str);
        let content = text("content")
            .ok_or_else(|| Trouble::Wrong(format!("{id} of {of} comes without content")))?;
        let hash = ContentHash::of(content);
        if text("content_hash") != Some(hash.to_hex().as_str()) {
            return Err(Trouble::Wrong(format!(
                "{id} of {of} does not have the hash that came with it"
            )));
        }
        if !slot.may_be(hash, since) {
            return Err(Trouble::Wrong(format!(
                "{id} of {of} comes with {hash}, which is older than what was acknowledged, or nobody's"
            )));
        }
        let signature = text("depositor_signature").unwrap_or_default().to_owned();
        let (author, content) = (Arc::clone(owner), content.to_owned());
        let verified = blocking(move || {
            let key = author.peer.keypair.public();
            key.verify(content.as_bytes(), &signature)
        });
        verified
            .await?
            .map_err(|error| Trouble::Wrong(format!("{id} of {of}: {error}")))?;
        Ok(Some(hash))
    }
}

/// What is known of something that was answered so.
fn state<T>(result: &Result<T, Trouble>) -> State {
    match result {
        Ok(_) => State::Acknowledged,
        Err(Trouble::Refused { status, .. }) if *status < 500 => State::Refused,
        Err(_) => State::Unknown,
    }
}

fn skill_id(number: usize) -> String {
    format!("load-note-{number}")
}

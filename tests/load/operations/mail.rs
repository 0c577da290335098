//! Sealed messages: written, fetched, opened, and acknowledged, as agents do it.

use std::sync::{Arc, PoisonError};

use kairos_node::clock::SystemClock;
use kairos_protocol::id::AgentId;
use kairos_protocol::relay::Envelope;
use kairos_protocol::relay::version_2::{self, Draft};
use kairos_protocol::time::Clock as _;
use kairos_protocol::wire::place::{Letter, MAIL_MAX, Mail, MailPage, prekeys_taken};
use serde_json::{Value, json};

use super::state;
use crate::agent::{Agent, Door, blocking};
use crate::client::{Ask, Trouble};
use crate::journal::Taken;
use crate::world::World;

/// What messages say they are about.
const KIND: &str = "load";

impl World {
    /// Seals a message to a prekey that the Place hands out, and sends it.
    pub(super) async fn write(&self, agent: &Arc<Agent>, to: usize) -> Result<(), Trouble> {
        let recipient = Arc::clone(self.agent(to)?);
        let path = format!("/place/v1/prekeys/{}", recipient.id());
        let told = self.ask(agent, Door::Place, Ask::get(&path)).await?;
        let wrong = |error: &dyn std::fmt::Display| {
            Trouble::Wrong(format!("prekeys of {}: {error}", recipient.id()))
        };
        let bundle = prekeys_taken(&told).map_err(|error| wrong(&error))?;
        let body = self.text("Letter");
        let kind = KIND.parse().map_err(Trouble::own)?;
        let now = SystemClock.now();
        let draft =
            Draft::new(agent.id().clone(), kind, body.clone(), now).map_err(Trouble::own)?;
        let id = draft.message_id.to_string();
        let key = recipient.peer.keypair.public();
        let chosen = bundle
            .choose(recipient.id(), key, now)
            .map_err(|error| wrong(&error))?;
        let sender = Arc::clone(agent);
        let sealed = blocking(move || version_2::seal(&draft, &chosen, &sender.peer.keypair));
        let blob = sealed.await?.map_err(Trouble::own)?;
        let letter = json!({
            "from": agent.id(), "to": recipient.id(), "message_type": KIND, "id": id,
            "encrypted_blob": blob.as_str(), "blob_hash": blob.hash(),
        });
        self.letters.sending(&id, agent.number, to, &body);
        let send = Ask::post("/place/v1/relay/send", &letter).expect(201);
        let result = self.ask(agent, Door::Place, send).await;
        self.letters.answered(&id, state(&result));
        result.map(drop)
    }

    /// Fetches one page of what waits, opens it, acknowledges it, and returns how much it was.
    pub(crate) async fn fetch(&self, agent: &Arc<Agent>) -> Result<usize, Trouble> {
        let _one_at_a_time = agent.mailbox.lock().await;
        let path = format!("/place/v1/relay/receive?ack=explicit&limit={MAIL_MAX}");
        let told = self.ask(agent, Door::Place, Ask::get(&path)).await?;
        let page =
            MailPage::read(&told).map_err(|error| Trouble::Wrong(format!("{path}: {error}")))?;
        let count = page.mail.len();
        if count == 0 {
            return Ok(0);
        }
        let mut ids = Vec::with_capacity(count);
        for mail in page.mail {
            match mail {
                Mail::Letter(letter) => ids.push(self.take(agent, letter).await?),
                Mail::Broken { id, reason, .. } => {
                    return Err(Trouble::Wrong(format!("message {id}: {reason}")));
                }
            }
        }
        let body = json!({ "ids": ids });
        let ack = Ask::post("/place/v1/relay/ack", &body);
        let told = self.ask(agent, Door::Place, ack).await?;
        let removed = told.get("removed").and_then(Value::as_array);
        let removed: Vec<&str> = removed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let missing = ids.iter().find(|id| !removed.contains(&id.as_str()));
        self.letters.settle(removed);
        match missing {
            None => Ok(count),
            Some(id) => Err(Trouble::Wrong(format!(
                "message {id} was handed out, and is not there to be acknowledged"
            ))),
        }
    }

    /// Opens a message and gives it to the application; returns its name.
    async fn take(&self, agent: &Arc<Agent>, letter: Letter) -> Result<String, Trouble> {
        let id = letter.id;
        let sender = self.by_id(&letter.from);
        let sender = sender.ok_or_else(|| {
            Trouble::Wrong(format!(
                "message {id} is from {}, who is no agent of ours",
                letter.from
            ))
        })?;
        let (author, reader) = (Arc::clone(sender), Arc::clone(agent));
        let opened = blocking(move || {
            let envelope = letter.blob.envelope().map_err(|error| error.to_string())?;
            let Envelope::V2(envelope) = envelope else {
                return Err("an older envelope than was sent".to_owned());
            };
            let ring = reader
                .keyring
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let secret = ring
                .secret(envelope.key_id())
                .ok_or("sealed to a prekey that was never ours")?;
            let key = author.peer.keypair.public();
            envelope
                .open(reader.id(), secret, key)
                .map_err(|error| error.to_string())
        });
        let draft = opened
            .await?
            .map_err(|error| Trouble::Wrong(format!("message {id}: {error}")))?;
        if draft.message_id.to_string() != id {
            return Err(Trouble::Wrong(format!(
                "message {id} is called {} inside",
                draft.message_id
            )));
        }
        let taken = self
            .letters
            .take(&id, sender.number, agent.number, &draft.body);
        let (Taken::New | Taken::Again) = taken.map_err(Trouble::Wrong)?;
        Ok(id)
    }

    fn by_id(&self, id: &AgentId) -> Option<&Arc<Agent>> {
        self.agents.iter().find(|agent| agent.id() == id)
    }
}

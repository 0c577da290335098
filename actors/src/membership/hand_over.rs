//! Sealed messages to agents of other Places: sealed here, handed from Place to Place, and acknowledged by the last one once
//! it has them on disk.

use std::sync::Arc;

use actix::Message;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::federation::answer::{Answer, Ask};
use kairos_protocol::federation::letter::Letter;
use kairos_protocol::id::{AgentId, MessageId, MessageType};
use kairos_protocol::relay::prekey::PrekeyBundle;
use kairos_protocol::relay::version_2::{self, Draft};

use super::again::until_known;
use super::error::MembershipError;
use super::mail::Sent;
use super::{Member, blocking};
use crate::check::Checks;
use crate::meeting::client::PeerUrl;
use crate::meeting::encounter::fail;

/// Seals a message to an agent of another Place and has it handed over there.
#[derive(Debug, Message)]
#[rtype(result = "Result<Sent, MembershipError>")]
pub struct PostThrough {
    /// The Place that was joined.
    pub url: PeerUrl,
    /// The Places behind it, in order; the recipient is at the last one.
    pub route: Vec<AgentId>,
    /// To whom.
    pub to: AgentId,
    /// What it is about; every Place sees it.
    pub kind: MessageType,
    /// The content.
    pub body: String,
    /// The name of a message that was tried before. The same name is delivered once.
    pub id: Option<MessageId>,
}

impl Member {
    pub(super) async fn post_through(&self, post: PostThrough) -> Result<Sent, MembershipError> {
        let PostThrough {
            url,
            route,
            to,
            kind,
            body,
            id,
        } = post;
        let from = self.signed.instance_id.clone();
        let mut draft = Draft::new(from.clone(), kind.clone(), body, self.clock.now())?;
        draft.message_id = id.unwrap_or(draft.message_id);
        let key = self.key_through(&url, &route, &to).await?;
        let mut checks = Checks::default();
        let ask = Ask::Prekeys { agent: to.clone() };
        let told = self
            .ask_through(&url, route.clone(), ask, &mut checks)
            .await;
        let (_, _, told) = match told {
            // In the older envelope nobody could tell who wrote it, and there is more than one Place to look.
            Err(error) if error.is_not_found() => return Err(MembershipError::NoPrekeys(to)),
            told => told?,
        };
        let Answer::Prekeys {
            long_lived,
            one_time,
        } = told.answer
        else {
            return Err(MembershipError::NoPrekeys(to));
        };
        let bundle = PrekeyBundle {
            long_lived: *long_lived,
            one_time: one_time.map(|key| *key),
        };
        let recipient = bundle.choose(&to, &key, self.clock.now());
        let recipient = recipient.map_err(|reason| MembershipError::Prekey {
            agent: to.clone(),
            reason,
        })?;
        let (keypair, name) = (Arc::clone(&self.keypair), draft.message_id.clone());
        let blob = blocking(move || version_2::seal(&draft, &recipient, &keypair)).await??;
        let letter = Letter {
            to,
            from,
            from_key: self.keypair.public().clone(),
            id: name,
            kind,
            blob_hash: blob.hash(),
            blob: blob.as_str().to_owned(),
        };
        self.hand_over(&url, &route, letter).await
    }

    /// Hands a message over, again and again while what became of it is unknown: the last Place takes it once, by its name.
    async fn hand_over(
        &self,
        url: &PeerUrl,
        route: &[AgentId],
        letter: Letter,
    ) -> Result<Sent, MembershipError> {
        let id = letter.id.clone();
        let ask = Ask::Deliver {
            letter: Box::new(letter),
        };
        let mut checks = Checks::default();
        let send = async || {
            self.ask_through(url, route.to_vec(), ask.clone(), &mut checks)
                .await
        };
        let (_, _, told) = until_known(&id, url, send).await?;
        let Answer::Delivered {
            until, repeated, ..
        } = told.answer
        else {
            let detail = "the Place does not say that it has the message";
            return Err(fail(&mut checks, "delivery", detail).into());
        };
        Ok(Sent {
            id,
            version: 2,
            expires_at: Some(until.wire()),
            repeated,
        })
    }

    /// The key of an agent of another Place: the pinned one, or the one that Place shows, if the id follows from it.
    async fn key_through(
        &self,
        url: &PeerUrl,
        route: &[AgentId],
        agent: &AgentId,
    ) -> Result<PublicKey, MembershipError> {
        if let Some(known) = self.peers.find(agent.as_str()).await? {
            return Ok(known.key);
        }
        let mut checks = Checks::default();
        let ask = Ask::Key {
            agent: agent.clone(),
        };
        let told = self
            .ask_through(url, route.to_vec(), ask, &mut checks)
            .await;
        let (_, _, told) = match told {
            Err(error) if error.is_not_found() => {
                return Err(MembershipError::NoKey(agent.clone()));
            }
            told => told?,
        };
        match told.answer {
            Answer::Key { public_key, .. } if public_key.agent_id() == *agent => {
                self.pin(agent, "", public_key, &mut checks).await
            }
            _ => Err(MembershipError::NoKey(agent.clone())),
        }
    }
}

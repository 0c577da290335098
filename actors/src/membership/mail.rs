//! Sealed messages: prekeys left at Places, messages sent through them, and messages fetched from there.
//!
//! A message that is fetched stays at the Place until it is in the inbox, or noted as one that nobody can open. What
//! cannot be decided now, such as whose key a signature is to be checked with while the Place does not answer, stays
//! there too and stands in nobody's way.

use std::sync::Arc;

use actix::Message;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::{AgentId, MessageId, MessageType};
use kairos_protocol::relay::version_2::{self, Draft};
use kairos_protocol::relay::{Blob, Envelope, version_1};
use kairos_protocol::wire::place::{
    Letter, Mail, MailPage, Published, prekeys_taken, prekeys_to_publish,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::again::until_known;
use super::error::MembershipError;
use super::record::Membership;
use super::session::Ask;
use super::{Member, blocking};
use crate::check::Checks;
use crate::meeting::client::PeerUrl;
use crate::meeting::inbox::InboxEntry;

pub(super) mod store;

pub use store::Unopened;
use store::{Parcel, Unread};

/// Messages of one request for mail.
const PAGE: usize = 20;
/// Most pages of one round; what is behind them comes with the next.
const PAGES_MAX: usize = 10;
/// Most senders whose keys are taken from one Place in one round, so that none fills the table of peers at once.
const NEW_SENDERS_MAX: usize = 20;

/// Seals a message to an agent and leaves it at a Place.
#[derive(Debug, Message)]
#[rtype(result = "Result<Sent, MembershipError>")]
pub struct Post {
    /// At which Place.
    pub url: PeerUrl,
    /// To whom.
    pub to: AgentId,
    /// What it is about; the Place sees it.
    pub kind: MessageType,
    /// The content; a structure is its JSON text.
    pub body: String,
    /// The name of a message that was tried before. The same name is delivered once.
    pub id: Option<MessageId>,
}

/// A message that waits for its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its name.
    pub id: MessageId,
    /// The version of its envelope.
    pub version: u8,
    /// Until when it waits, as the Place says.
    pub expires_at: Option<String>,
    /// Whether the Place had it already.
    pub repeated: bool,
}

/// Fetches mail from a Place into the inbox.
#[derive(Debug, Message)]
#[rtype(result = "Result<Collected, MembershipError>")]
pub struct Collect {
    /// Where.
    pub url: PeerUrl,
}

/// What came of a [`Collect`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Messages that are new in the inbox.
    pub kept: usize,
    /// Messages that were there already.
    pub repeated: usize,
    /// Messages that nobody can open, which were noted.
    pub unopened: usize,
    /// Messages that stay at the Place: the inbox has no room for them, or their sender's key could not be had.
    pub left: usize,
}

impl Collected {
    fn add(&mut self, more: Self) {
        self.kept += more.kept;
        self.repeated += more.repeated;
        self.unopened += more.unopened;
        self.left += more.left;
    }
}

/// The sealed messages in the inbox, and what could not be opened; marks them as read.
#[derive(Debug, Message)]
#[rtype(result = "Result<Letters, MembershipError>")]
pub struct Read {
    /// Those from one Place only.
    pub url: Option<PeerUrl>,
    /// Those that were read before as well.
    pub all: bool,
}

/// What there is to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Letters {
    /// Messages, the oldest first.
    pub messages: Vec<InboxEntry>,
    /// What could not be opened.
    pub unopened: Vec<Unopened>,
}

impl Member {
    /// Leaves prekeys at a Place that has too few of ours, or one that soon ends.
    pub(super) async fn publish_prekeys(&self, url: &PeerUrl) -> Result<(), MembershipError> {
        let published = Published::read(&self.ask(url, &Ask::get(&["prekeys"])).await?);
        let (mail, place, wanted) = (self.mail.clone(), url.clone(), self.settings.prekeys);
        let (own, keypair) = (self.signed.instance_id.clone(), Arc::clone(&self.keypair));
        let now = self.clock.now();
        let fresh = blocking(move || {
            mail.replenish(
                &place,
                |ring| ring.replenish(&published, wanted, &own, &keypair, now),
                now,
            )
        });
        let Some(fresh) = fresh.await?? else {
            return Ok(());
        };
        // Their secrets are on disk.
        let body = prekeys_to_publish(&fresh.long_lived, &fresh.one_time);
        let ask = Ask::send(Method::POST, &["prekeys"], &body);
        self.ask(url, &ask).await?;
        tracing::info!(place.url = %url, one_time = fresh.one_time.len(), "left prekeys at a Place");
        Ok(())
    }

    pub(super) async fn post(&self, post: Post) -> Result<Sent, MembershipError> {
        let url = post.url.clone();
        let record = self.enter(&url).await?;
        if !record.has_relay {
            return Err(MembershipError::NoRelay(url));
        }
        let mut draft = Draft::new(
            self.signed.instance_id.clone(),
            post.kind,
            post.body,
            self.clock.now(),
        )?;
        draft.message_id = post.id.unwrap_or(draft.message_id);
        let mut checks = Checks::default();
        let key = self.key_of(&url, &post.to, &mut checks).await?;
        let key = key.ok_or_else(|| MembershipError::NoKey(post.to.clone()))?;
        let (blob, version) = self.seal(&record, &post.to, key, draft.clone()).await?;
        let body = json!({
            "from": draft.from, "to": post.to, "message_type": draft.message_type, "id": draft.message_id,
            "encrypted_blob": blob.as_str(), "blob_hash": blob.hash(),
        });
        let answer = self.post_letter(&url, &body, &draft.message_id).await?;
        let answer = answer.unwrap_or_default();
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        Ok(Sent {
            id: draft.message_id,
            version,
            expires_at: text("expires_at").map(|at| at.chars().take(40).collect()),
            repeated: answer.is_empty() || answer.get("repeated") == Some(&Value::Bool(true)),
        })
    }

    /// Seals to a prekey of the recipient, or in the older envelope where it has none and that is allowed.
    async fn seal(
        &self,
        record: &Membership,
        to: &AgentId,
        key: PublicKey,
        draft: Draft,
    ) -> Result<(Blob, u8), MembershipError> {
        let path = ["prekeys", to.as_str()];
        let bundle = match self.ask(&record.url, &Ask::get(&path)).await {
            Err(error) if error.is_not_found() => None,
            answer => Some(prekeys_taken(&answer?)?),
        };
        let Some(bundle) = bundle else {
            if !self.settings.downgrade || record.sealed_to.contains(to) {
                return Err(MembershipError::Downgrade(to.clone()));
            }
            let content = Value::String(draft.body);
            let sealed = blocking(move || version_1::seal(&key, &content)).await??;
            return Ok((sealed, 1));
        };
        let recipient = bundle.choose(to, &key, self.clock.now());
        let recipient = recipient.map_err(|reason| MembershipError::Prekey {
            agent: to.clone(),
            reason,
        })?;
        let keypair = Arc::clone(&self.keypair);
        let sealed = blocking(move || version_2::seal(&draft, &recipient, &keypair)).await??;
        if !record.sealed_to.contains(to) {
            let agent = to.clone();
            self.change(&record.url, move |record| record.sealed_to(&agent))
                .await?;
        }
        Ok((sealed, 2))
    }

    /// Posts a message, again and again while what became of it is unknown; the Place takes it once, by its name. Nothing
    /// if the Place has another one by this name, which was an earlier try of the same message.
    async fn post_letter(
        &self,
        url: &PeerUrl,
        body: &Value,
        id: &MessageId,
    ) -> Result<Option<serde_json::Map<String, Value>>, MembershipError> {
        let ask = Ask::send(Method::POST, &["relay", "send"], body);
        match until_known(id, url, async || self.ask(url, &ask).await).await {
            Err(MembershipError::Client(error)) if error.has_code("id_in_use") => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Fetches what waits at a Place.
    pub(super) async fn collect(&self, url: &PeerUrl) -> Result<Collected, MembershipError> {
        let mut all = Collected::default();
        let (mut after, mut new_senders) = (0, 0);
        let mut opened_any = false;
        for _ in 0..PAGES_MAX {
            let (limit, from) = (PAGE.to_string(), after.to_string());
            let own = self.signed.instance_id.as_str();
            let query = [
                ("agent_id", own),
                ("limit", limit.as_str()),
                ("after", from.as_str()),
            ];
            let ask = Ask::get(&["relay", "peek"]).query(&query);
            let page = MailPage::read(&self.ask(url, &ask).await?)?;
            let mut parcels = Vec::with_capacity(page.mail.len());
            for mail in page.mail {
                match self.parcel(url, mail, &mut new_senders).await? {
                    Some(parcel) => parcels.push(parcel),
                    None => all.left += 1,
                }
            }
            let (mail, place) = (self.mail.clone(), url.clone());
            let (own, keypair) = (self.signed.instance_id.clone(), Arc::clone(&self.keypair));
            let now = self.clock.now();
            let taken =
                blocking(move || mail.take_in(&place, parcels, &own, &keypair, now)).await?;
            let taken = taken.map_err(MembershipError::Store)?;
            opened_any |= taken.counts.kept > 0;
            all.add(taken.counts);
            if !taken.done.is_empty() {
                let body = json!({"ids": taken.done});
                self.ask(url, &Ask::send(Method::POST, &["relay", "ack"], &body))
                    .await?;
            }
            match page.next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
        // The mail is here, whatever becomes of the prekeys that it used up; they are looked after hourly as well.
        if opened_any && let Err(error) = self.publish_prekeys(url).await {
            tracing::warn!(place.url = %url, %error, "new prekeys could not be left at the Place");
        }
        if all.left > 0 {
            tracing::warn!(place.url = %url, messages = all.left, "messages stay at the Place; see: place message read");
        }
        Ok(all)
    }

    /// Reads what waits, and finds the key that its signature is to be checked with. Nothing if that cannot be had now.
    async fn parcel(
        &self,
        url: &PeerUrl,
        mail: Mail,
        new_senders: &mut usize,
    ) -> Result<Option<Parcel>, MembershipError> {
        let letter = match mail {
            Mail::Letter(letter) => letter,
            Mail::Broken { id, from, reason } => {
                return Ok(Some(Parcel::Unreadable { id, from, reason }));
            }
        };
        let unreadable = |letter: Letter, reason: String| {
            Ok(Some(Parcel::Unreadable {
                id: letter.id,
                from: Some(letter.from),
                reason,
            }))
        };
        let envelope = match letter.blob.envelope() {
            Ok(Envelope::V1(envelope)) => {
                return Ok(Some(Parcel::V1 {
                    id: letter.id,
                    from: letter.from,
                    kind: letter.kind,
                    envelope,
                }));
            }
            Ok(Envelope::V2(envelope)) => envelope,
            Err(error) => return unreadable(letter, error.to_string()),
        };
        if envelope.from() != &letter.from {
            let reason = "the envelope names another sender than the Place";
            return unreadable(letter, reason.to_owned());
        }
        if self.peers.find(letter.from.as_str()).await?.is_none() {
            if *new_senders >= NEW_SENDERS_MAX {
                return Ok(None);
            }
            *new_senders += 1;
        }
        match self.key_of(url, &letter.from, &mut Checks::default()).await {
            Ok(Some(sender)) => Ok(Some(Parcel::V2 {
                id: letter.id,
                envelope: Box::new(envelope),
                sender,
            })),
            Ok(None) => unreadable(letter, "no key of its sender is known".to_owned()),
            Err(error) => {
                tracing::warn!(place.url = %url, agent.id = %letter.from, %error, "the key of a sender could not be had");
                Ok(None)
            }
        }
    }

    pub(super) async fn read(&self, read: Read) -> Result<Letters, MembershipError> {
        let mail = self.mail.clone();
        let Read { url, all } = read;
        let url = url.map(|url| url.to_string());
        let read = blocking(move || mail.read(url.as_deref(), all)).await?;
        let Unread { messages, unopened } = read.map_err(MembershipError::Store)?;
        Ok(Letters { messages, unopened })
    }
}

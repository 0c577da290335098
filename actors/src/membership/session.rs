//! Our sessions at Places: how one is opened, and how something is asked within it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kairos_place::session::Strength;
use kairos_protocol::crypto::{self, PublicKey};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::introduction::{VerifiedIdentity, introduction};
use kairos_protocol::wire::place::{Members, PlaceInfo, Registered};
use kairos_protocol::wire::possession::{Possession, Proof, Side};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;

use super::error::MembershipError;
use super::record::Membership;
use super::{Member, blocking};
use crate::check::Checks;
use crate::meeting::client::{AtPlace, OnlyIf, PeerUrl, Progress};
use crate::meeting::encounter::fail;

/// Longest wait for the answer to a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session that a Place gave us.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) token: String,
    pub(super) strength: Strength,
    ends: Timestamp,
}

/// The sessions of this process, one for each Place.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<PeerUrl, Slot>>);

type Slot = Arc<AsyncMutex<Option<Session>>>;

impl Sessions {
    /// The place for the session at `place`. Whoever opens it holds the lock, so that all others wait for that one.
    fn slot(&self, place: &PeerUrl) -> Slot {
        Arc::clone(self.0.lock().entry(place.clone()).or_default())
    }

    fn all(&self) -> Vec<(PeerUrl, Slot)> {
        self.0.lock().drain().collect()
    }
}

/// What is asked of a Place.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
    /// What it is to replace.
    pub(super) only_if: Option<OnlyIf>,
    /// Told about the transfer of the answer.
    pub(super) progress: Progress<'a>,
}

impl<'a> Ask<'a> {
    /// Reads something.
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            body: None,
            only_if: None,
            progress: &|_, _| (),
        }
    }

    /// Has something done.
    pub(super) fn send(method: Method, path: &'a [&'a str], body: &'a Value) -> Self {
        Self {
            method,
            path,
            query: &[],
            body: Some(body),
            only_if: None,
            progress: &|_, _| (),
        }
    }

    /// With a query.
    pub(super) fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    /// On a condition.
    pub(super) fn only_if(self, only_if: Option<OnlyIf>) -> Self {
        Self { only_if, ..self }
    }

    /// With somebody who is told about the transfer of the answer.
    pub(super) fn progress(self, progress: Progress<'a>) -> Self {
        Self { progress, ..self }
    }

    fn within<'b>(&'b self, token: &'b str) -> AtPlace<'b> {
        AtPlace {
            method: self.method.clone(),
            path: self.path,
            query: self.query,
            token: Some(token),
            body: self.body,
            only_if: self.only_if,
        }
    }
}

/// What a registration found out.
pub(super) struct Opened {
    pub(super) info: PlaceInfo,
    pub(super) key: Option<PublicKey>,
    /// Whether the Place proved to hold its key.
    pub(super) proved: bool,
    pub(super) strength: Strength,
    pub(super) lasts: Duration,
    pub(super) is_new: bool,
    pub(super) checks: Checks,
}

impl Member {
    /// Asks within our session at `place`. One that the Place no longer knows is replaced once, and what we left there
    /// is looked after if the Place took us in anew.
    pub(super) async fn ask(
        &self,
        place: &PeerUrl,
        ask: &Ask<'_>,
    ) -> Result<Members, MembershipError> {
        let session = self.session(place).await?;
        match self
            .client
            .at_place(place, ask.within(&session.token), ask.progress)
            .await
        {
            Err(error) if error.has_status(401) => {
                self.forget_session(place, &session).await;
                let session = self.session(place).await?;
                let again = ask.within(&session.token);
                Ok(self.client.at_place(place, again, ask.progress).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Asks once within the session that there is.
    pub(super) async fn ask_once(
        &self,
        place: &PeerUrl,
        ask: &Ask<'_>,
    ) -> Result<Members, MembershipError> {
        let session = self.sessions.slot(place).lock().await.clone();
        let token = session.map(|session| session.token).unwrap_or_default();
        Ok(self
            .client
            .at_place(place, ask.within(&token), &|_, _| ())
            .await?)
    }

    /// The token of the session that there is.
    pub(super) async fn token(&self, place: &PeerUrl) -> String {
        let session = self.sessions.slot(place).lock().await.clone();
        session.map(|session| session.token).unwrap_or_default()
    }

    pub(super) async fn session(&self, place: &PeerUrl) -> Result<Session, MembershipError> {
        let slot = self.sessions.slot(place);
        let mut held = slot.lock().await;
        let now = self.clock.now();
        if let Some(session) = held.as_ref().filter(|session| now < session.ends) {
            return Ok(session.clone());
        }
        let record = self.record(place).await?;
        let (session, opened) = self.open(place, Some(&record)).await?;
        *held = Some(session.clone());
        drop(held);
        self.note_registration(place, &opened).await?;
        Ok(session)
    }

    async fn forget_session(&self, place: &PeerUrl, old: &Session) {
        let slot = self.sessions.slot(place);
        let mut held = slot.lock().await;
        if held.as_ref().is_some_and(|held| held.token == old.token) {
            *held = None;
        }
    }

    /// Registers at a Place, whether or not there is a session.
    pub(super) async fn register(
        &self,
        place: &PeerUrl,
        record: Option<&Membership>,
    ) -> Result<Opened, MembershipError> {
        let slot = self.sessions.slot(place);
        let mut held = slot.lock().await;
        let (session, opened) = self.open(place, record).await?;
        *held = Some(session);
        Ok(opened)
    }

    /// Remembers what a registration found out about a Place that is joined.
    pub(super) async fn note_registration(
        &self,
        place: &PeerUrl,
        opened: &Opened,
    ) -> Result<(), MembershipError> {
        let (is_new, proved, name) = (opened.is_new, opened.proved, opened.info.name.clone());
        let (key, id) = (opened.key.clone(), opened.info.place_id.clone());
        self.change(place, move |record| {
            record.restore |= is_new;
            record.proven |= proved;
            record.name = name;
            record.place_id = record.place_id.take().or(id);
            record.key = key.or(record.key.take());
        })
        .await
    }

    /// Ends every session that this process opened. A Place that cannot be told forgets it by itself.
    pub(super) async fn say_goodbye(&self) {
        let byes = self
            .sessions
            .all()
            .into_iter()
            .map(|(place, slot)| async move {
                let Some(session) = slot.lock().await.take() else {
                    return;
                };
                let nothing = json!({});
                let answer = crate::meeting::client::Answer::Ordinary;
                let token = Some(session.token.as_str());
                let bye = self
                    .client
                    .post(&place, "goodbye", &nothing, token, answer, &|_, _| ());
                match tokio::time::timeout(GOODBYE, bye).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "the Place did not take our goodbye"),
                    Err(_) => tracing::debug!("the Place did not answer our goodbye"),
                }
            });
        futures::future::join_all(byes).await;
    }

    async fn open(
        &self,
        place: &PeerUrl,
        record: Option<&Membership>,
    ) -> Result<(Session, Opened), MembershipError> {
        let mut checks = Checks::default();
        let info = AtPlace {
            method: Method::GET,
            path: &["info"],
            query: &[],
            token: None,
            body: None,
            only_if: None,
        };
        let info = PlaceInfo::read(&self.client.at_place(place, info, &|_, _| ()).await?)?;
        if info.place_id.as_ref() == Some(&self.signed.instance_id) {
            let detail =
                "the Place at this URL is hosted by this agent, which is one of its agents already";
            return Err(fail(&mut checks, "not ourselves", detail).into());
        }
        let known_id = record.and_then(|record| record.place_id.as_ref());
        match (known_id, &info.place_id) {
            (Some(known), told) if told.as_ref() != Some(known) => {
                let detail = format!(
                    "the Place at this URL was {known} and is another one now; leave it and join again if you trust it"
                );
                return Err(fail(&mut checks, "same Place", detail).into());
            }
            (Some(_), _) => checks.pass("same Place", "the one that was joined"),
            (None, Some(_)) => {}
            (None, None) => {
                checks.unknown("same Place", "its software does not say which Place it is")
            }
        }

        let nonce = hex::encode(crypto::random_bytes()?);
        let asking = Possession {
            nonce: Some(nonce.clone()),
            ..Possession::default()
        };
        let first = self.post_registration(place, &asking, None).await?;
        let Some(token) = first.token.clone() else {
            let detail = format!("the Place did not verify our signature: {}", first.reason);
            return Err(fail(&mut checks, "our registration", detail).into());
        };
        checks.pass("our registration", "the Place verified our signature");

        let key = self
            .place_key(place, &info, record, &token, &mut checks)
            .await?;
        let proved = self.check_host(&info, key.as_ref(), record, &nonce, &first, &mut checks)?;
        let (session, last) = self
            .prove(place, &info, token, first.clone(), &mut checks)
            .await?;
        let opened = Opened {
            key,
            proved,
            strength: session.strength,
            lasts: last.lasts,
            is_new: first.is_new,
            checks,
            info,
        };
        Ok((session, opened))
    }

    async fn post_registration(
        &self,
        place: &PeerUrl,
        possession: &Possession,
        replaces: Option<&str>,
    ) -> Result<Registered, MembershipError> {
        let signed = &self.signed;
        let shown = introduction(signed, &self.policy, &[], &[], "", None);
        let body = json!({
            "id": signed.instance_id, "name": signed.identity.get("name"),
            "description": signed.identity.get("description"), "scope": signed.identity.get("scope"),
            "capabilities": shown.get("capabilities"), "public_key": signed.public_key,
            "identity": signed.identity, "identity_signature": signed.signature,
            "key_rotations": shown.get("key_rotations"), "possession": possession,
        });
        let request = AtPlace {
            method: Method::POST,
            path: &["register"],
            query: &[],
            token: replaces,
            body: Some(&body),
            only_if: None,
        };
        let answer = self.client.at_place(place, request, &|_, _| ()).await?;
        Ok(Registered::read(&answer))
    }

    /// The key of the Place, compared with the one that is known, or pinned on first contact.
    async fn place_key(
        &self,
        place: &PeerUrl,
        info: &PlaceInfo,
        record: Option<&Membership>,
        token: &str,
        checks: &mut Checks,
    ) -> Result<Option<PublicKey>, MembershipError> {
        let Some(id) = &info.place_id else {
            return Ok(None);
        };
        let pinned = self.peers.find(id.as_str()).await?.map(|peer| peer.key);
        let known = record.and_then(|record| record.key.clone());
        if let Some(key) = known.filter(|key| pinned.as_ref().is_none_or(|pinned| pinned == key)) {
            checks.pass("key pin", "the key known since this Place was joined");
            return Ok(Some(key));
        }
        let Some(shown) = self.key_at_place(place, id, token).await? else {
            checks.unknown("key pin", "the Place does not show a key of its own");
            return Ok(None);
        };
        let first = pinned.is_none();
        let known = self.pin(id, &info.name, shown, checks).await?;
        checks.pass(
            "key pin",
            match first {
                true => "first contact; the key is remembered from now on",
                false => "the key known of this agent",
            },
        );
        Ok(Some(known))
    }

    /// The key that a Place shows for an agent.
    pub(super) async fn key_at_place(
        &self,
        place: &PeerUrl,
        agent: &AgentId,
        token: &str,
    ) -> Result<Option<PublicKey>, MembershipError> {
        let path = ["keys", agent.as_str()];
        let ask = Ask::get(&path);
        let answer = match self
            .client
            .at_place(place, ask.within(token), &|_, _| ())
            .await
        {
            Err(error) if error.has_status(404) => return Ok(None),
            answer => answer?,
        };
        let pem = answer.get("public_key").and_then(Value::as_str);
        Ok(pem.map(PublicKey::from_pem).transpose()?)
    }

    /// Pins a key that a Place shows, unless another one is pinned.
    pub(super) async fn pin(
        &self,
        agent: &AgentId,
        name: &str,
        key: PublicKey,
        checks: &mut Checks,
    ) -> Result<PublicKey, MembershipError> {
        let identity = VerifiedIdentity {
            agent_id: agent.clone(),
            key,
            name: name.to_owned(),
            rotations: Vec::new(),
        };
        match self.peers.learn(identity).await {
            Ok(peer) => Ok(peer.key),
            Err(error @ crate::peer_manager::PeerError::Table(_)) => {
                Err(fail(checks, "key pin", error.to_string()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks the Place's answer to our challenge.
    fn check_host(
        &self,
        info: &PlaceInfo,
        key: Option<&PublicKey>,
        record: Option<&Membership>,
        nonce: &str,
        answer: &Registered,
        checks: &mut Checks,
    ) -> Result<bool, MembershipError> {
        let name = "key possession";
        let (Some(id), Some(key), Some(proof)) = (&info.place_id, key, &answer.possession.proof)
        else {
            if record.is_some_and(|record| record.proven) {
                let detail = "this Place proved its key before and does not now; somebody else may answer in its stead";
                return Err(fail(checks, name, detail).into());
            }
            checks.unknown(name, "its software cannot prove it");
            return Ok(false);
        };
        let (own, now) = (&self.signed.instance_id, self.clock.now());
        let held = proof.verify(Side::Host, key, id, own, now, self.proof_window);
        match held {
            Ok(()) if proof.nonce == nonce => {
                checks.pass(name, "the Place signed our fresh challenge");
                Ok(true)
            }
            Ok(()) => Err(fail(checks, name, "it signed another challenge").into()),
            Err(error) => Err(fail(checks, name, error.to_string()).into()),
        }
    }

    /// Answers the Place's challenge, if it has one.
    async fn prove(
        &self,
        place: &PeerUrl,
        info: &PlaceInfo,
        token: String,
        first: Registered,
        checks: &mut Checks,
    ) -> Result<(Session, Registered), MembershipError> {
        let now = self.clock.now();
        let session = |token: String, strength, answer: &Registered| Session {
            token,
            strength,
            ends: now.plus(answer.lasts),
        };
        let (Some(nonce), Some(audience)) = (&first.possession.nonce, &first.possession.audience)
        else {
            checks.unknown(
                "our proof",
                "its software does not ask for one, so anybody could copy our registration",
            );
            return Ok((session(token, Strength::Introduced, &first), first));
        };
        if info.place_id.as_ref() != Some(audience) {
            return Err(fail(
                checks,
                "our proof",
                "the challenge names another agent than the Place",
            )
            .into());
        }
        let (keypair, own) = (Arc::clone(&self.keypair), self.signed.instance_id.clone());
        let (nonce, audience) = (nonce.clone(), audience.clone());
        let sign = move || Proof::sign(Side::Guest, &keypair, &own, &audience, &nonce, now);
        let proving = Possession {
            proof: Some(blocking(sign).await??),
            ..Possession::default()
        };
        let last = self
            .post_registration(place, &proving, Some(&token))
            .await?;
        match last.token.clone() {
            Some(token) if last.proven => {
                checks.pass(
                    "our proof",
                    "the Place accepted our answer to its challenge",
                );
                Ok((session(token, Strength::Proven, &last), last))
            }
            _ => {
                let detail = "the Place did not accept our answer to its challenge";
                Err(fail(checks, "our proof", detail).into())
            }
        }
    }
}

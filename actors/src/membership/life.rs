//! Living at one Place in the background: the steps that a [`Rhythm`] asks for, one after the other.
//!
//! Started by the actor for each Place that is joined, and cancelled by it when that one is left or the node stops. No
//! step takes longer than the limits of the client allow, and none is repeated without a pause.

use std::sync::Arc;
use std::time::Duration;

use kairos_place::member::{Draw, Rhythm, Step, Trouble};
use kairos_protocol::crypto;
use kairos_protocol::time::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::Member;
use super::error::MembershipError;
use super::record::Contact;
use super::session::Ask;
use crate::meeting::client::{Listener, PeerUrl};

/// Longest pause in one piece: the clock may be set meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A Place that hangs up sooner than this on whoever listens is not listened to again at once.
const LISTENED_MIN: Duration = Duration::from_secs(30);

/// Lives at the Place at `url` for ever.
pub(super) async fn live(member: Arc<Member>, url: PeerUrl) {
    let mut life = Life::new(member, url);
    loop {
        life.step().await;
    }
}

struct Life {
    member: Arc<Member>,
    url: PeerUrl,
    rhythm: Rhythm,
    listener: Option<(Listener, Timestamp)>,
    /// Not before this is the Place listened to again.
    listen_at: Timestamp,
    trouble: Option<String>,
    /// Whether `trouble`, or that there is none, was written down.
    noted: bool,
}

impl Life {
    fn new(member: Arc<Member>, url: PeerUrl) -> Self {
        let now = member.clock.now();
        Self {
            rhythm: Rhythm::new(member.settings.pace, now),
            member,
            url,
            listener: None,
            listen_at: now,
            trouble: None,
            noted: false,
        }
    }

    async fn step(&mut self) {
        let now = self.member.clock.now();
        let step = self.rhythm.next(now);
        let done = match step {
            Step::Wait(until) => return self.pause(until.since(now).min(PAUSE_MAX)).await,
            Step::Register => self.register().await,
            Step::Tend => self.tend().await,
            Step::Collect => self.collect().await,
            Step::Beat => self.beat().await,
        };
        let now = self.member.clock.now();
        match done {
            Ok(()) => {
                self.rhythm.done(step, now, draw());
                // That it gave us a session does not say that it is good for anything.
                if step != Step::Register {
                    self.tell(None).await;
                }
            }
            Err(error) => {
                let trouble = match error.is_unauthorized() {
                    true => Trouble::Session,
                    false => Trouble::Failed {
                        retry_after: error.client().and_then(|error| error.retry_after()),
                    },
                };
                self.rhythm.failed(trouble, now, draw());
                if trouble != Trouble::Session {
                    self.tell(Some(error.to_string())).await;
                }
            }
        }
    }

    /// Waits, or until the Place tells of mail.
    async fn pause(&mut self, pause: Duration) {
        let Some((listener, since)) = &mut self.listener else {
            return tokio::time::sleep(pause).await;
        };
        let since = *since;
        let event = tokio::select! {
            () = tokio::time::sleep(pause) => return,
            event = listener.event() => event,
        };
        let now = self.member.clock.now();
        match event.as_deref() {
            Some("mail") => self.rhythm.mail(now),
            Some(_) => {}
            None => {
                self.listener = None;
                self.rhythm.listening(false);
                match now.since(since) < LISTENED_MIN {
                    true => self.listen_at = now.plus(self.member.settings.pace.poll),
                    // To be listened to again after the next look for mail, so that none is missed between.
                    false => self.rhythm.mail(now),
                }
            }
        }
    }

    async fn register(&mut self) -> Result<(), MembershipError> {
        self.listener = None;
        self.rhythm.listening(false);
        let record = self.member.record(&self.url).await?;
        let opened = self.member.register(&self.url, Some(&record)).await?;
        self.member.note_registration(&self.url, &opened).await?;
        let now = self.member.clock.now();
        let fades_after = opened.info.fades_after;
        self.rhythm
            .registered(now, opened.lasts, fades_after, draw());
        self.rhythm.has_relay(record.has_relay);
        tracing::info!(
            place.url = %self.url, session.strength = opened.strength.as_str(), anew = opened.is_new,
            "registered at a Place"
        );
        Ok(())
    }

    /// Looks after what we left there. What a Place refuses for good is no reason to do nothing else there; it is tried
    /// again with the next look.
    async fn tend(&self) -> Result<(), MembershipError> {
        match self.member.tend(&self.url).await {
            Err(error) if error.is_final() => {
                tracing::warn!(place.url = %self.url, %error, "not everything is at the Place as it should be");
                Ok(())
            }
            tended => tended,
        }
    }

    async fn collect(&mut self) -> Result<(), MembershipError> {
        self.listen().await;
        self.member.collect(&self.url).await.map(drop)
    }

    /// Begins to listen for mail, before it is fetched, so that none is missed. Without it mail is asked for as often as
    /// the owner wants.
    async fn listen(&mut self) {
        let now = self.member.clock.now();
        if !self.member.settings.listen || self.listener.is_some() || now < self.listen_at {
            return;
        }
        let token = self.member.token(&self.url).await;
        let path = ["relay", "events"];
        match self.member.client.listen(&self.url, &path, &token).await {
            Ok(listener) => {
                self.listener = Some((listener, now));
                self.rhythm.listening(true);
            }
            Err(error) => {
                tracing::debug!(place.url = %self.url, %error, "the Place does not tell of mail; it is asked for");
                let again = error.retry_after().unwrap_or_default();
                self.listen_at = now.plus(again.max(self.member.settings.pace.poll));
            }
        }
    }

    /// A sign of life. A Place without an endpoint for it takes any request of a session for one.
    async fn beat(&self) -> Result<(), MembershipError> {
        let nothing = json!({});
        let ask = Ask::send(Method::POST, &["heartbeat"], &nothing);
        let own = self.member.signed.instance_id.as_str();
        match self.member.ask_once(&self.url, &ask).await {
            Ok(answer)
                if answer.get("status").and_then(Value::as_str) == Some("not_registered") =>
            {
                let lost = crate::meeting::client::ClientError::Refused {
                    status: 401,
                    code: "not_registered".to_owned(),
                    message: "the Place took this agent for gone".to_owned(),
                    retry_after: None,
                };
                Err(lost.into())
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                let path = ["keys", own];
                match self.member.ask_once(&self.url, &Ask::get(&path)).await {
                    Err(error) if error.is_not_found() => Ok(()),
                    answer => answer.map(drop),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Says and writes down how it goes, when that changed.
    async fn tell(&mut self, trouble: Option<String>) {
        if self.noted && trouble.is_some() == self.trouble.is_some() {
            return;
        }
        match &trouble {
            Some(trouble) => {
                tracing::warn!(place.url = %self.url, %trouble, "a Place is not as it should be")
            }
            None => tracing::info!(place.url = %self.url, "living at a Place"),
        }
        self.trouble.clone_from(&trouble);
        let contact = Contact {
            at: self.member.clock.now(),
            trouble,
        };
        let noted = self
            .member
            .change(&self.url, move |record| record.contact = Some(contact));
        match noted.await {
            Ok(()) => self.noted = true,
            // The record may just have gone; then this life ends with it.
            Err(error) => tracing::debug!(%error, "how a Place is could not be written down"),
        }
    }
}

/// Chance, from the system. Without it the pauses are the longest.
fn draw() -> Draw {
    let bytes = crypto::random_bytes().ok();
    let word = bytes.and_then(|bytes| bytes.first_chunk::<4>().copied());
    Draw(word.map_or(u32::MAX, u32::from_le_bytes))
}

//! Other Places through one that was joined: their boards, their agents, and what was left there.
//!
//! Every Place on the way is named by us and signed for what it handed on; none of them is believed more than that.

use actix::Message;
use kairos_place::session::Strength;
use kairos_protocol::crypto;
use kairos_protocol::federation::answer::{Answer, Ask, Carried, Facts, Question, Told};
use kairos_protocol::federation::journey::Journey;
use kairos_protocol::federation::passage::{Passage, Station};
use kairos_protocol::id::AgentId;
use kairos_protocol::skill::findings::findings;
use reqwest::Method;
use serde_json::json;

use super::error::MembershipError;
use super::record::Membership;
use super::session;
use super::{Member, blocking};
use crate::check::Checks;
use crate::meeting::acquire::{measured, readable};
use crate::meeting::client::PeerUrl;
use crate::meeting::encounter::fail;
use crate::quarantine::{Evidence, Held, HeldKind};

/// What the check of the way is called.
const PATH: &str = "path";
/// What the check of the depositor's key is called.
const PIN: &str = "key pin";

/// Asks the last of some Places something, through those in front of it.
#[derive(Debug, Message)]
#[rtype(result = "Result<Looked, MembershipError>")]
pub struct Look {
    /// The Place that was joined.
    pub url: PeerUrl,
    /// The Places behind it, in order; none to ask this one itself.
    pub route: Vec<AgentId>,
    /// What.
    pub ask: Ask,
}

/// What came of a [`Look`].
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was answered.
    pub answer: Answer,
    /// What was checked.
    pub checks: Checks,
    /// What is known of the Place that was joined.
    pub place: Membership,
}

/// Fetches a skill from a Place behind the one that was joined into the quarantine.
#[derive(Debug, Message)]
#[rtype(result = "Result<Held, MembershipError>")]
pub struct AcquireThrough {
    /// The Place that was joined.
    pub url: PeerUrl,
    /// The Places behind it, in order.
    pub route: Vec<AgentId>,
    /// Its name there.
    pub skill_id: String,
    /// Who left it there, where several did.
    pub owner: Option<AgentId>,
}

impl Member {
    pub(super) async fn look(&self, look: Look) -> Result<Looked, MembershipError> {
        let mut checks = Checks::default();
        let Look { url, route, ask } = look;
        let (place, _, told) = self.ask_through(&url, route, ask, &mut checks).await?;
        Ok(Looked {
            answer: told.answer,
            checks,
            place,
        })
    }

    pub(super) async fn acquire_through(
        &self,
        acquire: AcquireThrough,
    ) -> Result<Held, MembershipError> {
        let AcquireThrough {
            url,
            route,
            skill_id,
            owner,
        } = acquire;
        let mut checks = Checks::default();
        let ask = Ask::Skill {
            skill_id: skill_id.clone(),
            owner,
        };
        let (_, question, told) = self.ask_through(&url, route, ask, &mut checks).await?;
        let Told {
            answer: Answer::Skill { facts },
            content: Some(content),
            passage,
        } = told
        else {
            return Err(fail(&mut checks, "content", "the answer holds no text").into());
        };
        let hash = facts.content_hash.to_hex();
        let found = measured(&self.policy, &content, Some(&hash), &mut checks)?;
        readable(&self.policy, &content, Some(&facts.format), &mut checks)?;
        self.compare_depositor(&facts, &mut checks).await?;
        tell_origin(&facts, &mut checks);

        let (from, key_fingerprint) = (facts.depositor.clone(), facts.depositor_key.fingerprint());
        let evidence = Evidence {
            kind: HeldKind::Skill,
            name: skill_id,
            version: None,
            content_hash: found,
            from,
            url: url.to_string(),
            key_fingerprint,
            // Its author was not there: nothing but the signature speaks for it.
            session: Strength::Introduced,
            checks,
            provenance: None,
            carried: Some(Carried {
                question: question.hash(),
                facts: *facts,
                passage,
            }),
            findings: findings(&content),
            acquired_at: self.clock.now(),
        };
        self.hold(&url, evidence, content.into_bytes()).await
    }

    /// Asks, and checks by which hands the answer came.
    pub(super) async fn ask_through(
        &self,
        url: &PeerUrl,
        route: Vec<AgentId>,
        ask: Ask,
        checks: &mut Checks,
    ) -> Result<(Membership, Question, Told), MembershipError> {
        let record = self.enter(url).await?;
        let Some(place_id) = record.place_id.clone() else {
            let detail = "the Place that was joined does not say which it is, so nobody can check what it hands on";
            return Err(fail(checks, PATH, detail).into());
        };
        let question = Question {
            journey: Journey::along(route),
            nonce: hex::encode(crypto::random_bytes()?),
            ask,
        };
        let way = question.journey.back(&place_id);
        let body = json!(question);
        let ask = session::Ask::send(Method::POST, &["federation", "ask"], &body);
        let told = Told::read(self.ask(url, &ask).await?);
        let told = told.map_err(|error| fail(checks, PATH, error.to_string()))?;
        let (asked, own, now) = (
            question.clone(),
            self.signed.instance_id.clone(),
            self.clock.now(),
        );
        let checked = blocking(move || {
            let checked = told.check(&asked, &way, &own, now);
            checked.map(|()| told)
        });
        let told = checked
            .await?
            .map_err(|error| fail(checks, PATH, error.to_string()))?;
        self.compare_places(&record, &told.passage, checks).await?;
        checks.pass(PATH, words(&told.passage));
        Ok((record, question, told))
    }

    /// Compares the keys of the Places on the way with those that are known of them.
    async fn compare_places(
        &self,
        record: &Membership,
        passage: &Passage,
        checks: &mut Checks,
    ) -> Result<(), MembershipError> {
        for Station {
            place_id,
            public_key,
            ..
        } in passage.stations()
        {
            let known = match Some(place_id) == record.place_id.as_ref() {
                true => record.key.clone(),
                false => self
                    .peers
                    .find(place_id.as_str())
                    .await?
                    .map(|peer| peer.key),
            };
            match known {
                Some(known) if known == *public_key => {}
                Some(known) => {
                    let (known, signed) = (known.fingerprint(), public_key.fingerprint());
                    let detail = format!(
                        "{place_id} is known here by the key {known}, it signed with {signed}"
                    );
                    return Err(fail(checks, PATH, detail).into());
                }
                None if public_key.agent_id() == *place_id => {}
                None => {
                    let signed = public_key.fingerprint();
                    let detail =
                        format!("{place_id} is not known here; it signed with the key {signed}");
                    checks.unknown("key of a Place", detail);
                }
            }
        }
        Ok(())
    }

    /// Compares the key of who left something with the one that is known, or pins it if the id follows from it.
    async fn compare_depositor(
        &self,
        facts: &Facts,
        checks: &mut Checks,
    ) -> Result<(), MembershipError> {
        let (id, key) = (&facts.depositor, &facts.depositor_key);
        let known = match id == &self.signed.instance_id {
            true => Some(self.keypair.public().clone()),
            false => self.peers.find(id.as_str()).await?.map(|peer| peer.key),
        };
        match known {
            Some(known) if known == *key => checks.pass(PIN, "the key known of who left it"),
            Some(known) => {
                let (known, signed) = (known.fingerprint(), key.fingerprint());
                let detail =
                    format!("{id} is known here by the key {known}, this is signed with {signed}");
                return Err(fail(checks, PIN, detail).into());
            }
            None if key.agent_id() == *id => {
                self.pin(id, "", key.clone(), checks).await?;
                checks.pass(
                    PIN,
                    "first contact, through the Places; the id follows from the key",
                );
            }
            // Nobody but the Places says so, so it is not remembered.
            None => checks.unknown(
                PIN,
                "the Places say that it is the depositor's; it is not remembered",
            ),
        }
        let signed = format!("signed by {id} ({})", key.fingerprint());
        checks.pass("depositor's signature", signed);
        Ok(())
    }
}

/// Says where a skill was first left.
fn tell_origin(facts: &Facts, checks: &mut Checks) {
    let name = "origin";
    let Some(origin) = &facts.origin else {
        return checks.pass(name, "it was left at that Place first");
    };
    let detail = format!("first left at {} by {}", origin.place, origin.agent);
    let covers = origin.content_hash == Some(facts.content_hash);
    match &origin.public_key {
        Some(key) if covers => {
            checks.pass(name, format!("{detail}, signed ({})", key.fingerprint()));
        }
        _ => checks.unknown(name, format!("{detail}, as its depositor says")),
    }
}

/// `answered by A, handed on by B`.
fn words(passage: &Passage) -> String {
    let shown = |station: &Station| {
        let key = station.public_key.fingerprint();
        format!("{} ({key})", station.place_id)
    };
    let mut words = Vec::new();
    for (n, station) in passage.stations().iter().enumerate() {
        let verb = if n == 0 {
            "answered by"
        } else {
            "handed on by"
        };
        words.push(format!("{verb} {}", shown(station)));
    }
    words.join(", ")
}

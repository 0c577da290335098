//! Questions to this Place, and to others through it: each is answered when it is asked, and nothing of the answers is kept
//! but where a text comes from.

use std::sync::Arc;

use kairos_place::meeting_place::{Deposit, DepositKey, Kind, MeetingPlace, Provenance, Query};
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::federation::agreement::Party;
use kairos_protocol::federation::answer::{
    ANSWER_MAX, Answer, Ask, ENTRIES_MAX, Facts, Origin, Partner, Question, Told, ToldError,
};
use kairos_protocol::federation::journey::{Journey, Next};
use kairos_protocol::federation::passage::Passage;
use kairos_protocol::id::AgentId;
use kairos_protocol::wire::place::BoardEntry;
use serde_json::{Value, json};

use super::tell::signed;
use super::{Federation, FederationError, FederationHandle};
use crate::meeting::client::PeerUrl;
use crate::membership::Carry;

/// An answer, and whether it is this Place's own.
#[derive(Debug)]
pub struct Answered {
    /// What is handed to whoever asked.
    pub told: Told,
    /// Whether no other Place was asked.
    pub here: bool,
}

impl FederationHandle {
    /// Answers what `caller` asks, here or by asking the next Place on its way.
    pub async fn ask(
        &self,
        question: Question,
        caller: AgentId,
    ) -> Result<Answered, FederationError> {
        self.1.ask(question, caller).await
    }
}

impl Federation {
    async fn ask(&self, question: Question, caller: AgentId) -> Result<Answered, FederationError> {
        question.check().map_err(FederationError::Question)?;
        let next = self.place.look(|place| {
            let is_partner =
                |id: &AgentId| place.partner(id).is_some() && !self.witness.is_convicted(id);
            question.journey.arrive(&self.id, &caller, is_partner)
        })?;
        // Of its own agents this Place knows who they are; of those of others it knows that their Place said so.
        if let (true, Ask::Deliver { letter }) = (question.journey.path.is_empty(), &question.ask)
            && letter.from != caller
        {
            return Err(FederationError::NotItsKey(letter.from.clone()));
        }
        let here = next == Next::Here;
        let (answer, content, passage) = match next {
            Next::Here => {
                let (answer, content) = self.answer(question.ask.clone(), &caller).await?;
                (answer, content, Passage::default())
            }
            Next::Onward { to, journey } => {
                let told = self.ask_next(&to, journey, &question).await?;
                self.note_origin(&told).await?;
                (told.answer, told.content, told.passage)
            }
        };
        let (keypair, id, now) = (Arc::clone(&self.keypair), self.id.clone(), self.clock.now());
        let (asked, hash) = (question.hash(), answer.hash());
        let sign = move || passage.signed(&keypair, id, caller, &asked, &hash, now);
        let told = Told {
            passage: signed(sign).await?,
            answer,
            content,
        };
        match json!(told).to_string().len() > ANSWER_MAX {
            true => Err(ToldError::TooLong.into()),
            false => Ok(Answered { told, here }),
        }
    }

    /// Asks the next Place, and believes it nothing that is not signed.
    pub(super) async fn ask_next(
        &self,
        to: &AgentId,
        journey: Journey,
        question: &Question,
    ) -> Result<Told, FederationError> {
        let partner = self.place.look(|place| place.partner(to).cloned());
        // It was a moment ago.
        let partner = partner.ok_or_else(|| FederationError::NotFederated(to.clone()))?;
        let url: PeerUrl = partner.url.parse()?;
        self.is_still(&url, &partner).await?;
        let way = journey.back(to);
        let onward = Question {
            journey,
            ..question.clone()
        };
        let carry = Carry {
            url,
            path: vec!["federation", "ask"],
            body: json!(onward),
        };
        let told = Told::read(self.membership.carry(carry).await?)?;
        let (onward, me, now) = (onward, self.id.clone(), self.clock.now());
        let told =
            tokio::task::spawn_blocking(move || told.check(&onward, &way, &me, now).map(|()| told));
        let told = told.await.map_err(|_| FederationError::Panicked)??;
        self.known_keys(&told.passage, &partner).await?;
        Ok(told)
    }

    /// Checks that the keys of a passage are those by which these Places are known here.
    async fn known_keys(&self, passage: &Passage, last: &Party) -> Result<(), FederationError> {
        let other = |id: &AgentId| FederationError::OtherKey(id.clone());
        for station in passage.stations() {
            let id = &station.place_id;
            if id == &last.place_id {
                if station.public_key != last.public_key {
                    return Err(other(id));
                }
                continue;
            }
            let known = self.peers.find(id.as_str()).await?;
            if known.is_some_and(|peer| peer.key != station.public_key) {
                return Err(other(id));
            }
        }
        Ok(())
    }

    /// Remembers where a text comes from that passes through.
    async fn note_origin(&self, told: &Told) -> Result<(), FederationError> {
        let Answer::Skill { facts } = &told.answer else {
            return Ok(());
        };
        let passed = told.passage.stations().iter();
        let passed = passed.map(|station| station.place_id.to_string());
        let mut origin = match &facts.origin {
            Some(origin) => Provenance {
                origin_place_id: origin.place.clone(),
                origin_agent_id: origin.agent.clone(),
                via: origin.via.clone(),
                hop_count: 0,
                deposited_at_origin: origin.deposited_at.clone(),
                origin_signature: origin.signature.clone(),
                origin_public_key: origin.public_key.as_ref().map(PublicKey::to_pem),
                origin_content_hash: origin.content_hash,
            },
            None => Provenance {
                origin_place_id: passed.clone().next().unwrap_or_default(),
                origin_agent_id: facts.depositor.to_string(),
                via: Vec::new(),
                hop_count: 0,
                deposited_at_origin: facts.deposited_at.wire(),
                origin_signature: Some(facts.depositor_signature.clone()),
                origin_public_key: Some(facts.depositor_key.to_pem()),
                origin_content_hash: Some(facts.content_hash),
            },
        };
        origin.via.extend(passed);
        origin.via.dedup();
        origin.hop_count = u32::try_from(origin.via.len()).unwrap_or(u32::MAX);
        origin.via.push(self.id.to_string());
        Ok(self.place.note_origin(facts.content_hash, origin).await?)
    }

    async fn answer(
        &self,
        ask: Ask,
        caller: &AgentId,
    ) -> Result<(Answer, Option<String>), FederationError> {
        let answer = match ask {
            Ask::Places {} => Answer::Places {
                places: self.place.look(partners),
            },
            Ask::Board {
                kind,
                search,
                tags,
                limit,
            } => {
                let query = Query {
                    kind: kind.map(|kind| Kind::parse(&kind)),
                    search,
                    tags,
                    limit,
                };
                let found = self.place.browse(query).await?;
                Answer::Board {
                    total: found.total as u64,
                    entries: entries(&format!("[{}]", found.entries))?,
                }
            }
            Ask::Profile { agent } => self
                .place
                .look(|place| profile(place, &agent))
                .ok_or(FederationError::NotHere(agent))?,
            Ask::Key { agent } => {
                let key = self.place.look(|place| key(place, &agent));
                Answer::Key {
                    public_key: key.ok_or_else(|| FederationError::NotHere(agent.clone()))?,
                    agent,
                }
            }
            Ask::Prekeys { agent } => self.prekeys(caller.clone(), agent).await?,
            Ask::Deliver { letter } => self.take_in(*letter).await?,
            Ask::Checkpoints {} => Answer::Checkpoints {
                seen: self.seen_of_partners().await?,
            },
            Ask::Skill { skill_id, owner } => {
                let (facts, content) = self.skill(skill_id, owner).await?;
                let facts = Box::new(facts);
                return Ok((Answer::Skill { facts }, Some(content)));
            }
        };
        Ok((answer, None))
    }

    async fn skill(
        &self,
        skill_id: String,
        owner: Option<AgentId>,
    ) -> Result<(Facts, String), FederationError> {
        let unknown = || FederationError::NoSkill(skill_id.clone());
        let named: Option<DepositKey> = self.place.look(|place| {
            let found = place.find_deposit(&skill_id, owner.as_ref());
            found.map(|deposit| deposit.key.clone())
        });
        let stored = self.place.stored(named.ok_or_else(unknown)?).await?;
        let (deposit, content) = stored.ok_or_else(unknown)?;
        let owner = &deposit.key.owner;
        let depositor_key = self.place.look(|place| key(place, owner));
        let facts = facts(&deposit, depositor_key.ok_or_else(unknown)?);
        self.place.count_exchange();
        Ok((facts, content))
    }
}

fn partners(place: &MeetingPlace) -> Vec<Partner> {
    let mut partners: Vec<Partner> = Vec::new();
    for party in place.partners() {
        let partner = Partner {
            place_id: party.place_id.clone(),
            key: party.public_key.hash(),
        };
        if !partners.contains(&partner) {
            partners.push(partner);
        }
    }
    partners
}

/// Entries of a board, as far as another Place reads them.
fn entries(cards: &str) -> Result<Vec<BoardEntry>, FederationError> {
    let cards: Vec<Value> =
        serde_json::from_str(cards).map_err(|_| ToldError::Member("entries"))?;
    Ok(read(cards.iter()))
}

fn read<'v>(cards: impl Iterator<Item = &'v Value>) -> Vec<BoardEntry> {
    let read = cards
        .filter_map(Value::as_object)
        .filter_map(BoardEntry::read);
    read.take(ENTRIES_MAX).collect()
}

fn profile(place: &MeetingPlace, id: &AgentId) -> Option<Answer> {
    let agent = place.agent(id)?;
    let cards: Vec<Value> = place
        .deposits_of(id)
        .take(ENTRIES_MAX)
        .map(|deposit| place.card(deposit))
        .collect();
    Some(Answer::Profile {
        agent: id.clone(),
        name: agent.name.clone(),
        description: agent.description.clone(),
        scope: agent.scope.clone(),
        entries: read(cards.iter()),
    })
}

fn key(place: &MeetingPlace, id: &AgentId) -> Option<PublicKey> {
    place.key(id)?.parse().ok()
}

fn facts(deposit: &Deposit, depositor_key: PublicKey) -> Facts {
    let origin = deposit.provenance.as_ref().map(|from| Origin {
        place: from.origin_place_id.clone(),
        agent: from.origin_agent_id.clone(),
        via: from.via.clone(),
        deposited_at: from.deposited_at_origin.clone(),
        signature: from.origin_signature.clone(),
        public_key: from
            .origin_public_key
            .as_ref()
            .and_then(|pem| PublicKey::from_pem(pem).ok()),
        content_hash: from.origin_content_hash,
    });
    Facts {
        skill_id: deposit.key.skill_id.clone(),
        name: shown_name(deposit),
        format: deposit.facts.format.clone(),
        content_hash: deposit.content_hash,
        depositor: deposit.key.owner.clone(),
        depositor_key,
        depositor_signature: deposit.signature.clone(),
        deposited_at: deposit.first_deposited,
        origin,
    }
}

/// The name of a deposit as one line.
fn shown_name(deposit: &Deposit) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let name: String = deposit.facts.name.chars().map(clean).collect();
    match name.trim().is_empty() {
        true => deposit.key.skill_id.clone(),
        false => name,
    }
}

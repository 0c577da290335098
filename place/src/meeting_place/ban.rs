//! Whom the operator of a Place keeps out: by id, by key, or by network; for a time, or until it is taken back.
//!
//! A ban is no judgement that anybody sees (rule D5): who is banned is neither listed nor looked up, and finds the door
//! closed. What it left here stays stored, and is shown again when the ban ends.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::agent::Presence;
use super::audit::Event;
use super::{Change, Changed, MeetingPlace};
use crate::network::NetworkMap;

mod target;

pub use target::{KeyPrint, Target, TargetError};

/// Longest reason in bytes.
pub const REASON_MAX: usize = 1_000;
/// Most bans at once.
pub const BANS_MAX: usize = 100_000;

/// Who is kept out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who.
    pub target: Target,
    /// For the operator only: at most [`REASON_MAX`] bytes on one line.
    pub reason: Option<String>,
    /// Who decided it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends; not by itself if absent.
    pub until: Option<Timestamp>,
}

/// Why a ban is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BanError {
    /// The Place cannot be kept out of itself.
    #[error("{0} is the Place itself")]
    Own(Target),
    /// The reason is too long, or not on one line.
    #[error("the reason has {0} bytes; at most {REASON_MAX} on one line are kept")]
    Reason(usize),
    /// It would be over before it begins.
    #[error("the ban would have ended already")]
    Over,
    /// No room.
    #[error("{BANS_MAX} bans are kept; take some back first")]
    Full,
    /// There is no such ban.
    #[error("{0} is not banned")]
    Unknown(Target),
    /// There is no such agent.
    #[error("agent {0} is not registered here")]
    NotPresent(AgentId),
}

/// Whoever is at the door, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Visitor<'a> {
    /// Who they say they are.
    pub agent: Option<&'a AgentId>,
    /// Hash of the key that they showed.
    pub key: Option<ContentHash>,
    /// From where they ask.
    pub address: Option<IpAddr>,
}

/// What a ban did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banned {
    /// The ban as it is kept.
    pub ban: Ban,
    /// Agents that were here and are not any more.
    pub left: Vec<AgentId>,
    /// Agents of whom nothing is shown or handed out while it holds; none if it is of a network.
    pub barred: Vec<AgentId>,
}

/// A page of bans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanPage {
    /// In the order of their targets.
    pub bans: Vec<Ban>,
    /// Ask for what is behind this one to read on; nothing if this was all.
    pub next: Option<Target>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bans {
    bans: BTreeMap<Target, Ban>,
    networks: NetworkMap<Target>,
    ends: BTreeSet<(Timestamp, Target)>,
    /// Agents whose deposits are not shown.
    barred: HashSet<AgentId>,
}

impl Bans {
    pub(super) fn len(&self) -> usize {
        self.bans.len()
    }

    pub(super) fn put(&mut self, ban: Ban) {
        self.take(&ban.target);
        if let Target::Network(network) = ban.target {
            self.networks.insert(network, ban.target.clone());
        }
        if let Some(until) = ban.until {
            self.ends.insert((until, ban.target.clone()));
        }
        self.bans.insert(ban.target.clone(), ban);
    }

    fn take(&mut self, target: &Target) -> Option<Ban> {
        let ban = self.bans.remove(target)?;
        if let Target::Network(network) = target {
            self.networks.remove(network);
        }
        if let Some(until) = ban.until {
            self.ends.remove(&(until, target.clone()));
        }
        Some(ban)
    }

    /// The ban that keeps `visitor` out at this time.
    pub(super) fn find(&self, visitor: Visitor<'_>, now: Timestamp) -> Option<&Ban> {
        if self.bans.is_empty() {
            return None;
        }
        let holds = |target: &Target| {
            let ban = self.bans.get(target)?;
            ban.until.is_none_or(|until| until > now).then_some(ban)
        };
        let by_agent = || holds(&Target::Agent(visitor.agent?.clone()));
        let by_key = || holds(&Target::Key(KeyPrint::of(&visitor.key?)));
        let by_network = || self.networks.of(visitor.address?).find_map(holds);
        by_agent().or_else(by_key).or_else(by_network)
    }

    pub(super) fn is_barred(&self, agent: &AgentId) -> bool {
        !self.barred.is_empty() && self.barred.contains(agent)
    }
}

impl MeetingPlace {
    /// Keeps `ban.target` out from now on. Agents it meets leave; what they left here is not shown any more. A ban of
    /// the same target takes the place of the one before.
    pub fn ban(&mut self, ban: Ban, now: Timestamp) -> Result<Banned, BanError> {
        if let Some(reason) = &ban.reason {
            check_reason(reason)?;
        }
        if ban.until.is_some_and(|until| until <= now) {
            return Err(BanError::Over);
        }
        if self.is_own(&ban.target) {
            return Err(BanError::Own(ban.target));
        }
        if self.bans.len() >= BANS_MAX && !self.bans.bans.contains_key(&ban.target) {
            return Err(BanError::Full);
        }
        self.bans.put(ban.clone());
        self.changes.push(Change::Ban(Box::new(ban.clone())));
        self.log(
            now,
            Event::Ban {
                target: ban.target.clone(),
                by: ban.by.clone(),
                reason: ban.reason.clone(),
                until: ban.until,
            },
        );
        let meant = self.meant_by(&ban.target);
        let mut left = Vec::new();
        for id in &meant {
            if self.expel(id, &ban.target, now) {
                left.push(id.clone());
            }
        }
        let barred = match ban.target {
            Target::Network(_) => Vec::new(),
            _ => meant,
        };
        Ok(Banned { ban, left, barred })
    }

    /// Takes a ban back.
    pub fn unban(&mut self, target: &Target, by: &str, now: Timestamp) -> Result<Ban, BanError> {
        let ban = self.lift(target, now);
        let ban = ban.ok_or_else(|| BanError::Unknown(target.clone()))?;
        self.log(
            now,
            Event::Unban {
                target: target.clone(),
                by: by.to_owned(),
            },
        );
        Ok(ban)
    }

    /// Takes an agent off those who are here; its deposits stay, and it may come back at once.
    pub fn kick(
        &mut self,
        id: &AgentId,
        by: &str,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), BanError> {
        if let Some(reason) = reason {
            check_reason(reason)?;
        }
        if self.registry.is_self(id) {
            return Err(BanError::Own(Target::Agent(id.clone())));
        }
        if self.agent(id).is_none() {
            return Err(BanError::NotPresent(id.clone()));
        }
        self.leave(id, Presence::Left(now));
        let event = Event::Kick {
            agent: id.clone(),
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
        };
        self.log(now, event);
        Ok(())
    }

    /// The ban that keeps `visitor` out at this time. An agent that is known here is also met by a ban of its key.
    pub fn banned(&self, visitor: Visitor<'_>, now: Timestamp) -> Option<&Ban> {
        if self.bans.len() == 0 {
            return None;
        }
        let pinned = visitor
            .agent
            .and_then(|id| self.registry.get(id)?.key.as_ref());
        let of_pinned = pinned.and_then(|key| {
            let visitor = Visitor {
                key: Some(key.hash()),
                ..Visitor::default()
            };
            self.bans.find(visitor, now)
        });
        self.bans.find(visitor, now).or(of_pinned)
    }

    /// Whether what `agent` left here is shown: nobody who is banned is spoken of.
    pub fn is_shown(&self, agent: &AgentId) -> bool {
        !self.bans.is_barred(agent)
    }

    /// Whether of some agent nothing is shown.
    pub fn bars_anybody(&self) -> bool {
        !self.bans.barred.is_empty()
    }

    /// Writes down how much mail of those whom a ban meets was waiting, and is withheld while it holds.
    pub fn note_withheld(&mut self, target: Target, messages: u64, bytes: u64, now: Timestamp) {
        let event = Event::MailWithheld {
            target,
            messages,
            bytes,
        };
        self.log(now, event);
    }

    /// A page of bans in force, behind `after`.
    pub fn bans(&self, after: Option<&Target>, limit: usize) -> BanPage {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.bans.bans.range((from, Unbounded));
        let bans: Vec<Ban> = rest
            .by_ref()
            .take(limit)
            .map(|(_, ban)| ban.clone())
            .collect();
        let next = rest.next().and(bans.last().map(|ban| ban.target.clone()));
        BanPage { bans, next }
    }

    /// Lets bans end whose time is over, at most `most`.
    pub(super) fn end_bans(&mut self, now: Timestamp, most: usize) {
        let over = self.bans.ends.iter().take_while(|(until, _)| *until <= now);
        let over: Vec<Target> = over.take(most).map(|(_, target)| target.clone()).collect();
        for target in over {
            if self.lift(&target, now).is_some() {
                self.log(now, Event::BanOver { target });
            }
        }
    }

    /// Hides what those left here whom the bans in force meet; for a Place that was just built.
    pub(super) fn bar_all(&mut self) {
        let targets: Vec<Target> = self.bans.bans.keys().cloned().collect();
        let keys: HashSet<KeyPrint> = targets
            .iter()
            .filter_map(|target| match target {
                Target::Key(key) => Some(*key),
                _ => None,
            })
            .collect();
        let named = targets.iter().filter_map(|target| match target {
            Target::Agent(id) => Some(id.clone()),
            _ => None,
        });
        let mut barred: HashSet<AgentId> = named.collect();
        if !keys.is_empty() {
            let with_key = self.registry.all().filter(|agent| {
                let print = agent.key.as_ref().map(|key| KeyPrint::of(&key.hash()));
                print.is_some_and(|print| keys.contains(&print))
            });
            barred.extend(with_key.map(|agent| agent.id.clone()));
        }
        for id in &barred {
            self.board.hide_deposits(id);
            self.shelf.hide(id);
        }
        self.bans.barred = barred;
    }

    fn is_own(&self, target: &Target) -> bool {
        match target {
            Target::Agent(id) => self.registry.is_self(id),
            Target::Key(print) => {
                let own = self.registry.get(&self.me).and_then(|me| me.key.as_ref());
                own.is_some_and(|key| KeyPrint::of(&key.hash()) == *print)
            }
            Target::Network(_) => false,
        }
    }

    /// Agents that a target means, present or not.
    fn meant_by(&self, target: &Target) -> Vec<AgentId> {
        match target {
            Target::Agent(id) => vec![id.clone()],
            Target::Key(print) => {
                let has_it = self.registry.all().filter(|agent| {
                    let key = agent.key.as_ref();
                    key.is_some_and(|key| KeyPrint::of(&key.hash()) == *print)
                });
                has_it.map(|agent| agent.id.clone()).collect()
            }
            Target::Network(network) => self.origins.from(network),
        }
    }

    /// Makes an agent leave that a ban meets; tells whether it was here.
    fn expel(&mut self, id: &AgentId, target: &Target, now: Timestamp) -> bool {
        // Where somebody asks from says nothing about what it left here.
        if !matches!(target, Target::Network(_)) && self.bans.barred.insert(id.clone()) {
            self.board.hide_deposits(id);
            self.shelf.hide(id);
            self.tell_of_all(id, Changed::Withdrawal, Changed::SkillSetGone);
        }
        let was_here = self.agent(id).is_some();
        if was_here {
            self.leave(id, Presence::Left(now));
        }
        was_here
    }

    /// Tells of every deposit and SkillSet of an agent that it is gone from the board, or there again.
    fn tell_of_all(&mut self, id: &AgentId, deposit: Changed, set: Changed) {
        for skill_id in self.board.deposits_of(id) {
            self.tell(deposit, id, Some(&skill_id));
        }
        for name in self.shelf.names_of(id) {
            self.tell(set, id, Some(name.as_str()));
        }
    }

    fn lift(&mut self, target: &Target, now: Timestamp) -> Option<Ban> {
        let ban = self.bans.take(target)?;
        self.changes.push(Change::BanGone(target.clone()));
        if matches!(target, Target::Network(_)) {
            return Some(ban);
        }
        for id in self.meant_by(target) {
            let visitor = Visitor {
                agent: Some(&id),
                ..Visitor::default()
            };
            if self.banned(visitor, now).is_none() && self.bans.barred.remove(&id) {
                self.board.show_deposits(&id);
                self.shelf.show(&id);
                self.tell_of_all(&id, Changed::Deposit, Changed::SkillSet);
            }
        }
        Some(ban)
    }
}

fn check_reason(reason: &str) -> Result<(), BanError> {
    match reason.len() > REASON_MAX || reason.contains(char::is_control) {
        true => Err(BanError::Reason(reason.len())),
        false => Ok(()),
    }
}

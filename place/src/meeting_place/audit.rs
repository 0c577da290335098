//! What happened at a Place, for whoever runs it: who registered and with which key, who was kept out by whom.
//!
//! Entries are only ever added. There is no content in them: nothing of what agents leave here or write to each other.

use kairos_protocol::id::{AgentId, AgreementId};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ban::Target;
use super::{Agent, Change, MeetingPlace};
use crate::relay::audit::Participant;

/// Most registrations that are kept; what the operator did is kept for good.
pub const REGISTRATIONS_MAX: u64 = 100_000;
/// Most entries of one page.
pub const AUDIT_PAGE_MAX: usize = 1_000;

/// What happened. The words are the reference's where it has such an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event_type", rename_all = "snake_case")]
pub enum Event {
    /// An agent registered, or says something else of itself.
    Registration {
        /// Its id, or what stands for it.
        agent_id: String,
        /// The reference tells whether the agent has an address of its own; here none says so.
        endpoint_present: bool,
        /// Entries of its capabilities.
        capabilities_count: usize,
    },
    /// The key of an agent was pinned.
    KeyRegistration {
        /// Its id, or what stands for it.
        agent_id: String,
        /// The key.
        key_fingerprint: String,
    },
    /// Somebody is kept out.
    Ban {
        /// Who.
        target: Target,
        /// Who decided it.
        by: String,
        /// Why.
        reason: Option<String>,
        /// When it ends.
        until: Option<Timestamp>,
    },
    /// Mail of those whom a ban meets, which waited and is not handed out while the ban holds.
    MailWithheld {
        /// Whom the ban meets.
        target: Target,
        /// How many messages.
        messages: u64,
        /// And their size.
        bytes: u64,
    },
    /// A ban was taken back.
    Unban {
        /// Whose.
        target: Target,
        /// Who decided it.
        by: String,
    },
    /// The time of a ban is over.
    BanOver {
        /// Whose.
        target: Target,
    },
    /// An agreement with another Place took a step.
    Federation {
        /// Which.
        agreement: AgreementId,
        /// The other Place.
        place: AgentId,
        /// How it stands since.
        standing: String,
        /// Who decided it here; nobody, if the other Place took the step.
        by: Option<String>,
    },
    /// An agent was made to leave.
    Kick {
        /// Which.
        agent: AgentId,
        /// Who decided it.
        by: String,
        /// Why.
        reason: Option<String>,
    },
}

impl Event {
    /// Its name, as in its JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Registration { .. } => "registration",
            Self::KeyRegistration { .. } => "key_registration",
            Self::Ban { .. } => "ban",
            Self::MailWithheld { .. } => "mail_withheld",
            Self::Unban { .. } => "unban",
            Self::BanOver { .. } => "ban_over",
            Self::Federation { .. } => "federation",
            Self::Kick { .. } => "kick",
        }
    }

    /// Whether agents cause as many of these as they like, so that only the newest are kept.
    pub fn is_of_agents(&self) -> bool {
        matches!(
            self,
            Self::Registration { .. }
                | Self::KeyRegistration { .. }
                | Self::Federation { by: None, .. }
        )
    }
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its place; a later one has a higher number.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

impl MeetingPlace {
    /// Has an event written down with the decision it belongs to.
    pub(super) fn log(&mut self, at: Timestamp, event: Event) {
        self.changes.push(Change::Logged(at, Box::new(event)));
    }

    /// Writes down that an agent registered: `before` is what was known of it.
    pub(super) fn log_registration(&mut self, id: &AgentId, had_key: bool, at: Timestamp) {
        let Some(agent) = self.registry.get(id) else {
            return;
        };
        let shown = match &self.policy.anonymiser {
            Some(anonymiser) => anonymiser.hide(id),
            None => Participant::of(id),
        };
        let agent_id = shown.as_str().to_owned();
        let registration = Event::Registration {
            agent_id: agent_id.clone(),
            endpoint_present: false,
            capabilities_count: capabilities_count(agent),
        };
        let key = agent.key.as_ref().filter(|_| !had_key);
        let key = key.map(|key| Event::KeyRegistration {
            agent_id,
            key_fingerprint: key.hash().fingerprint(),
        });
        self.log(at, registration);
        if let Some(key) = key {
            self.log(at, key);
        }
    }
}

fn capabilities_count(agent: &Agent) -> usize {
    let capabilities = agent.capabilities();
    let members = capabilities.as_object().map(serde_json::Map::len);
    members
        .or(capabilities.as_array().map(Vec::len))
        .unwrap_or(0)
}

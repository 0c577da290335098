//! Who may do what: the roles of token holders, and one table of what each may do.
//!
//! Every door asks the same table before it asks a handle. The match is exhaustive: an action that is added does not
//! compile before somebody has decided who may do it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the holder of a token is to this agent; the later, the more they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Role {
    /// Reads.
    Guest,
    /// Reads, writes knowledge (L1) and contexts (L2), and proposes what only an owner may do.
    Member,
    /// Everything: the law of the agent (L0), tokens, other agents, and decisions about proposals.
    Owner,
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Invalid role: {}. Must be one of: owner, member, guest", .0.chars().take(64).collect::<String>())]
pub struct RoleError(String);

/// Something that a door does for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// See what the agent knows, its skills, SkillSets and contexts.
    ReadKnowledge,
    /// See the ledger and whether it is intact.
    ReadLedger,
    /// See what oneself has proposed, and what came of it.
    ReadOwnProposals,
    /// See what anyone has proposed.
    ReadProposals,
    /// Ask an owner for something.
    Propose,
    /// Change contexts (L2).
    WriteContext,
    /// Change knowledge (L1).
    WriteKnowledge,
    /// Add a free record to the ledger.
    Record,
    /// Change the law of the agent (L0) or how it is instructed.
    WriteLaw,
    /// Install, switch and remove SkillSets.
    ManageSkillSets,
    /// Approve or reject a proposal, or what waits in the quarantine.
    Decide,
    /// Issue, rotate and revoke tokens.
    ManageTokens,
    /// Speak with other agents in this agent's name, and decide about their keys.
    ManagePeers,
    /// Put another ledger or a backup in place of this one.
    Import,
    /// Read the action log.
    ReadActionLog,
    /// Read the figures of the running node, such as how many requests there were.
    ReadFigures,
    /// Read how the running node is: its peers, the Places it joined, what went wrong.
    ReadStatus,
    /// Run the Meeting Place that is hosted: open and close it, keep agents out, read its audit.
    RunPlace,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 18] = [
        Self::ReadKnowledge,
        Self::ReadLedger,
        Self::ReadOwnProposals,
        Self::ReadProposals,
        Self::Propose,
        Self::WriteContext,
        Self::WriteKnowledge,
        Self::Record,
        Self::WriteLaw,
        Self::ManageSkillSets,
        Self::Decide,
        Self::ManageTokens,
        Self::ManagePeers,
        Self::Import,
        Self::ReadActionLog,
        Self::ReadFigures,
        Self::ReadStatus,
        Self::RunPlace,
    ];

    /// The least role that may do it: the table.
    pub const fn needs(self) -> Role {
        match self {
            Self::ReadKnowledge | Self::ReadLedger | Self::ReadOwnProposals | Self::ReadFigures => {
                Role::Guest
            }
            Self::Propose | Self::WriteContext | Self::WriteKnowledge | Self::Record => {
                Role::Member
            }
            Self::ReadProposals
            | Self::WriteLaw
            | Self::ManageSkillSets
            | Self::Decide
            | Self::ManageTokens
            | Self::ManagePeers
            | Self::Import
            | Self::ReadActionLog
            | Self::ReadStatus
            | Self::RunPlace => Role::Owner,
        }
    }

    /// As it is told and logged.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadKnowledge => "read_knowledge",
            Self::ReadLedger => "read_ledger",
            Self::ReadOwnProposals => "read_own_proposals",
            Self::ReadProposals => "read_proposals",
            Self::Propose => "propose",
            Self::WriteContext => "write_context",
            Self::WriteKnowledge => "write_knowledge",
            Self::Record => "record",
            Self::WriteLaw => "write_law",
            Self::ManageSkillSets => "manage_skillsets",
            Self::Decide => "decide",
            Self::ManageTokens => "manage_tokens",
            Self::ManagePeers => "manage_peers",
            Self::Import => "import",
            Self::ReadActionLog => "read_action_log",
            Self::ReadFigures => "read_figures",
            Self::ReadStatus => "read_status",
            Self::RunPlace => "run_place",
        }
    }
}

/// A role is not enough for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{} needs the role {}, yours is {role}", .action.as_str(), .action.needs())]
pub struct Forbidden {
    /// What was attempted.
    pub action: Action,
    /// By whom.
    pub role: Role,
}

impl Role {
    /// `owner`, `member` or `guest`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Member => "member",
            Self::Owner => "owner",
        }
    }

    /// Whether this role may do `action`.
    pub fn authorize(self, action: Action) -> Result<(), Forbidden> {
        if self >= action.needs() {
            Ok(())
        } else {
            Err(Forbidden { action, role: self })
        }
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "guest" => Ok(Self::Guest),
            "member" => Ok(Self::Member),
            "owner" => Ok(Self::Owner),
            other => Err(RoleError(other.to_owned())),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;
    fn try_from(text: String) -> Result<Self, RoleError> {
        text.parse()
    }
}

impl From<Role> for &'static str {
    fn from(role: Role) -> &'static str {
        role.as_str()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(role: Role) -> Vec<&'static str> {
        let may = |action: &Action| role.authorize(*action).is_ok();
        Action::ALL
            .into_iter()
            .filter(may)
            .map(Action::as_str)
            .collect()
    }

    #[test]
    fn each_role_may_do_what_the_one_below_may_and_more() {
        let guest = ["read_knowledge", "read_ledger", "read_own_proposals"];
        let figures = ["read_figures"];
        assert_eq!(allowed(Role::Guest), [&guest[..], &figures].concat());
        let member = ["propose", "write_context", "write_knowledge", "record"];
        assert_eq!(
            allowed(Role::Member),
            [&guest[..], &member, &figures].concat()
        );
        assert_eq!(allowed(Role::Owner).len(), Action::ALL.len());
        let refused = Role::Member.authorize(Action::ManageTokens).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "manage_tokens needs the role owner, yours is member"
        );
    }

    #[test]
    fn roles_are_read_exactly() {
        for role in [Role::Guest, Role::Member, Role::Owner] {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for text in ["Owner", "root", "", " owner", "admin"] {
            let error = text.parse::<Role>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("Invalid role: {text}. Must be one of: owner, member, guest")
            );
        }
    }
}

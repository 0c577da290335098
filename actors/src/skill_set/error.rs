//! Why a SkillSet was not installed, changed or packaged.

use std::io;
use std::path::PathBuf;

use kairos_protocol::gate::Refusal;
use kairos_protocol::id::{AgentId, SkillSetName};
use kairos_protocol::manifest::ManifestError;
use kairos_protocol::package::{EnvelopeError, PackageError};
use kairos_protocol::provenance::ProvenanceError;
use kairos_protocol::skill_set::{MetadataError, NameError};
use kairos_protocol::version::{RequirementError, VersionError};
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::chain::ChainError;

/// Why something about SkillSets failed. Where the reference has words for it, they are used.
#[derive(Debug, Error)]
pub enum SkillSetError {
    /// No such SkillSet, or it is broken.
    #[error("SkillSet '{0}' not found")]
    NotFound(String),
    /// The directory to install from does not exist. Only for whoever gave the path.
    #[error("Source path not found: {}", .0.display())]
    SourceMissing(PathBuf),
    /// What to install from is a file. Only for whoever gave the path.
    #[error(
        "{} is a file, not a directory; a package is installed with: kairos-chain skillset install-archive FILE",
        .0.display()
    )]
    SourceIsFile(PathBuf),
    /// The directory to install from is no SkillSet. Only for whoever gave the path.
    #[error("skillset.json not found in {}", .0.display())]
    MetadataMissing(PathBuf),
    /// The directory to install from holds what is never copied; one line for each.
    #[error("the source holds what cannot be copied{}", .0.iter().map(|line| format!("\n- {line}")).collect::<String>())]
    UnsafeSource(Vec<String>),
    /// The name is taken and replacing was not asked for. Only for whoever owns the node.
    #[error("SkillSet '{name}' already installed at {}", .path.display())]
    AlreadyInstalled {
        /// The SkillSet.
        name: SkillSetName,
        /// Where it is.
        path: PathBuf,
    },
    /// The name is not acceptable.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `skillset.json` is not acceptable.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The archive is not acceptable, or could not be written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The package is not what it says.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The manifest could not be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The provenance could not be made, or ends here.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// Layer L0 is not switched off, replaced or removed by a command.
    #[error("L0 SkillSet '{name}' requires human approval to {action}")]
    NeedsApproval {
        /// The SkillSet.
        name: SkillSetName,
        /// `disable`, `remove` or `replace`.
        action: &'static str,
    },
    /// Everything is that way already.
    #[error("there is nothing to change about SkillSet '{0}'")]
    Unchanged(SkillSetName),
    /// A person approved something else: the SkillSet, or what it was to become, changed meanwhile.
    #[error("SkillSet '{0}' is not as it was shown any more")]
    NotAsShown(SkillSetName),
    /// A dependency is not installed.
    #[error("Missing dependency: {0}")]
    MissingDependency(SkillSetName),
    /// A dependency is switched off.
    #[error("Dependency not enabled: {0}")]
    DependencyDisabled(SkillSetName),
    /// A dependency has another version than is required.
    #[error("Dependency version mismatch: {name} {version} does not satisfy \"{requirement}\"")]
    DependencyVersion {
        /// The dependency.
        name: SkillSetName,
        /// The version installed.
        version: String,
        /// The version required.
        requirement: String,
    },
    /// A requirement cannot be read.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The version of a dependency cannot be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Others that are enabled need it.
    #[error("Cannot disable/remove '{name}': required by {by}")]
    RequiredBy {
        /// The SkillSet.
        name: SkillSetName,
        /// Who needs it, comma-separated.
        by: String,
    },
    /// It holds more than knowledge; the refusal says what.
    #[error("Only knowledge-only SkillSets can be packaged for exchange")]
    NotExchangeable(#[source] Refusal),
    /// An archive is for the layer that rules this agent, and its owner did not name that layer.
    #[error("L0 SkillSet '{0}' is installed from an archive only with --layer L0")]
    LayerUnnamed(SkillSetName),
    /// A peer sent something for the layer that rules this agent.
    #[error("L0 SkillSet '{0}' cannot come from a peer")]
    LayerFromPeer(SkillSetName),
    /// A peer sent a package without saying what its content hashes to.
    #[error("a package from a peer must declare its content_hash")]
    HashUndeclared,
    /// The manifest is signed in the sender's name but not with the key that is known for it.
    #[error("the manifest is signed in the name of {0} with another key than the one known")]
    ForeignKey(AgentId),
    /// `config.yml` of the SkillSets does not load. It is never replaced.
    #[error("skillsets/config.yml does not load: {0}")]
    Registry(String),
    /// A directory tree is larger than is handled.
    #[error("the directory has more than {0}")]
    TooLarge(String),
    /// Another process changes SkillSets and has not finished in time.
    #[error("the SkillSets are being changed by another process")]
    Locked,
    /// The change could not be recorded, so it was not made. After a timeout it may be in the ledger all the same.
    #[error("cannot record the change, so it was not made: {0}")]
    Unrecorded(#[source] ChainError),
    /// The change is in the ledger but could not be made.
    #[error("the change was recorded but not made: {0}")]
    Unfinished(#[source] Box<SkillSetError>),
    /// The actor did not answer. After [`AskError::Timeout`] a change may or may not happen.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Something broke while the change was made.
    #[error("the work on the SkillSets ended unexpectedly")]
    Crashed,
    /// The system refused.
    #[error("cannot {action}: {}", .source.kind())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SkillSetError {
    /// Whether something was kept out for safety's sake; the reference prints these with `Security error:`.
    pub fn is_security(&self) -> bool {
        matches!(
            self,
            Self::Package(PackageError::Refused(_))
                | Self::Envelope(EnvelopeError::ContentHash { .. })
                | Self::LayerFromPeer(_)
                | Self::LayerUnnamed(_)
                | Self::HashUndeclared
                | Self::ForeignKey(_)
        )
    }

    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

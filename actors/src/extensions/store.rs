//! Extensions on disk: `skills/extensions/NAME.md` with `NAME.json` beside it, and `disabled/NAME.md`.
//!
//! Blocking code: call it from a blocking thread. Whoever writes holds the lock of `skills/`, see [`crate::approvals`].

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_place::proposal::{Change, EXTENSIONS, Person, Proposal};
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::extension::{
    Consent, ENTRIES_MAX, Entry, Extension, ExtensionError, Guard, Registry, RegistryError, State,
    TEXT_MAX, Word, load,
};
use serde::Serialize;
use thiserror::Error;

use super::Offer;
use crate::beneath;

/// Where those lie that were in effect.
const DISABLED: &str = "disabled";
/// Longest note beside a text, in bytes.
const NOTE_MAX: usize = 64 * 1024;
/// How the names of texts end.
const ENDING: &str = ".md";

/// Where an extension stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is advertised, and its actions are known.
    InEffect,
    /// Its text is here, and it is not.
    NotInEffect,
    /// It was, and a person took it out.
    Disabled,
}

/// An extension that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What it is called.
    pub name: Word,
    /// Where it stands.
    pub standing: Standing,
    /// What it declares; nothing where that cannot be read.
    pub extension: Option<Extension>,
    /// Who consented, and when.
    pub consent: Option<Consent>,
    /// Why it is not in effect, and what to do.
    pub why: Vec<String>,
}

/// Why an extension may not change so.
#[derive(Debug, Error)]
pub enum ExtensionFault {
    /// It is no extension.
    #[error("this is no extension: {0}")]
    Text(#[from] ExtensionError),
    /// It is called otherwise.
    #[error("the text is of the extension `{says}`, not of `{wanted}`")]
    Misnamed {
        /// As it was called.
        wanted: Word,
        /// What the text says.
        says: Word,
    },
    /// The guard does not let it pass.
    #[error("the extension `{name}` is refused: {}", .reasons.join("; "))]
    Refused {
        /// Which.
        name: Word,
        /// Everything that keeps it.
        reasons: Vec<String>,
    },
    /// It stands where this leads nowhere.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is no text.
    #[error("the text is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// The disk failed.
    #[error("the extensions could not be read: {0}")]
    Io(#[from] io::Error),
}

/// The extensions below one data directory.
#[derive(Debug, Clone)]
pub(crate) struct ExtensionStore {
    data: PathBuf,
}

/// Where the note on the consent to an extension lies, below the data directory.
pub(crate) fn note_file(name: &Word) -> String {
    format!("{EXTENSIONS}/{name}.json")
}

/// Where the text of an extension lies that is not in effect any more.
pub(crate) fn disabled_file(name: &Word) -> String {
    format!("{EXTENSIONS}/{DISABLED}/{name}{ENDING}")
}

fn text_file(name: &Word) -> String {
    format!("{EXTENSIONS}/{name}{ENDING}")
}

/// An extension and the consent to it.
type Adopted = (Extension, Consent);

impl ExtensionStore {
    pub(crate) fn new(data: &Path) -> Self {
        let data = data.to_owned();
        Self { data }
    }

    /// The names of the texts in `folder`.
    fn names(&self, folder: &str) -> io::Result<Vec<Word>> {
        let entries = match fs::read_dir(self.data.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().into_string().ok();
            let stem = name.as_deref().and_then(|name| name.strip_suffix(ENDING));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
            if names.len() > ENTRIES_MAX {
                let told =
                    format!("{folder} has more than {ENTRIES_MAX} extensions; move some elsewhere");
                return Err(io::Error::other(told));
            }
        }
        names.sort();
        Ok(names)
    }

    /// A plain file: all of it, or one byte more than `max`, which its reader refuses; nothing where there is none.
    fn read(&self, path: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
        match beneath::read(&self.data, path, max as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if beneath::is_link(&error) => {
                let told = format!("{path} is no plain file");
                Err(io::Error::new(ErrorKind::InvalidData, told))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn text(&self, name: &Word) -> io::Result<Option<String>> {
        let there = match self.read(&text_file(name), TEXT_MAX)? {
            None => self.read(&disabled_file(name), TEXT_MAX)?,
            found => found,
        };
        let text = there.map(String::from_utf8).transpose();
        text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// What the text at `path` declares.
    fn declared(&self, name: &Word, path: &str) -> Result<Extension, ExtensionFault> {
        let bytes = self.read(path, TEXT_MAX)?.unwrap_or_default();
        read(name, &bytes)
    }

    /// Whether a person consented to exactly what is there.
    fn consent(&self, name: &Word, extension: &Extension) -> Result<Consent, String> {
        let path = note_file(name);
        let bytes = self
            .read(&path, NOTE_MAX)
            .map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| {
            "nobody consented to it; have it approved: kairos-chain extensions propose".to_owned()
        })?;
        let entry: Entry = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{path} is no note on a consent: {error}"))?;
        let consent = entry.consent.filter(|_| entry.state == State::Adopted);
        let consent = consent.ok_or_else(|| format!("{path} tells of no consent"))?;
        match consent.content_hash == extension.content_hash {
            true => Ok(consent),
            false => Err(
                "its text is another one than was approved; have this one approved: kairos-chain extensions propose"
                    .to_owned(),
            ),
        }
    }

    /// Those in effect in their order, and the rest with the reasons.
    fn look(&self) -> io::Result<(Vec<Adopted>, Vec<Listed>)> {
        let mut rest = Vec::new();
        let mut candidates: Vec<Adopted> = Vec::new();
        for name in self.names(EXTENSIONS)? {
            let listed = |extension, why| Listed {
                name: name.clone(),
                standing: Standing::NotInEffect,
                extension,
                consent: None,
                why: vec![why],
            };
            match self.declared(&name, &text_file(&name)) {
                Err(fault) => rest.push(listed(None, fault.to_string())),
                Ok(extension) => match self.consent(&name, &extension) {
                    Ok(consent) => candidates.push((extension, consent)),
                    Err(why) => rest.push(listed(Some(extension), why)),
                },
            }
        }
        let declared: Vec<_> = candidates.iter().map(|(extension, _)| extension).collect();
        let loaded = load(&declared);
        let mut order: Vec<&Extension> = Vec::new();
        for extension in loaded.order.iter().chain(&loaded.left_out).copied() {
            let rejections = Guard { adopted: &order }.judge(extension);
            match rejections.is_empty() {
                true => order.push(extension),
                false => rest.push(Listed {
                    name: extension.name.clone(),
                    standing: Standing::NotInEffect,
                    extension: Some(extension.clone()),
                    consent: None,
                    why: rejections.iter().map(ToString::to_string).collect(),
                }),
            }
        }
        let consent = |extension: &&Extension| {
            let mut known = candidates.iter();
            known
                .find(|(known, _)| known.name == extension.name)
                .cloned()
        };
        Ok((order.iter().filter_map(consent).collect(), rest))
    }

    pub(super) fn offer(&self) -> io::Result<Offer> {
        let (adopted, rest) = self.look()?;
        for left in rest {
            tracing::debug!(extension = %left.name, why = left.why.join("; "), "an extension is not in effect");
        }
        let extensions = adopted.into_iter().map(|(extension, _)| extension);
        Ok(Offer {
            extensions: extensions.collect(),
        })
    }

    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let (adopted, rest) = self.look()?;
        let adopted = adopted.into_iter().map(|(extension, consent)| Listed {
            name: extension.name.clone(),
            standing: Standing::InEffect,
            extension: Some(extension),
            consent: Some(consent),
            why: Vec::new(),
        });
        let mut all: Vec<_> = adopted.chain(rest).collect();
        for name in self.names(&format!("{EXTENSIONS}/{DISABLED}"))? {
            if all.iter().any(|there| there.name == name) {
                continue;
            }
            let declared = self.declared(&name, &disabled_file(&name));
            let why = declared.as_ref().err().map(ToString::to_string);
            all.push(Listed {
                name,
                standing: Standing::Disabled,
                extension: declared.ok(),
                consent: None,
                why: why.into_iter().collect(),
            });
        }
        Ok(all)
    }

    /// Those in effect, as what became of each.
    fn registry(&self) -> Result<Registry, ExtensionFault> {
        let mut registry = Registry::default();
        for (extension, consent) in self.look()?.0 {
            adopt(&mut registry, extension, consent.at, consent)?;
        }
        Ok(registry)
    }

    /// Whether `change` may be made, whoever wants it.
    pub(crate) fn judge(&self, change: &Change, content: &[u8]) -> Result<(), ExtensionFault> {
        match change {
            Change::ExtensionAdopt { name } => {
                let extension = read(name, content)?;
                let mut registry = self.registry()?;
                // Nobody is told of this one: it is only looked at.
                registry.propose(extension, "whoever proposes it", Timestamp::EPOCH)?;
                evaluated(&mut registry, name)
            }
            Change::ExtensionDisable { name } => Ok(self.registry()?.disable(name)?),
            _ => Ok(()),
        }
    }

    /// What is noted of the consent to `proposal`, which comes with `content`.
    pub(crate) fn note(
        &self,
        proposal: &Proposal,
        content: &[u8],
        (by, at): (&Person, Timestamp),
    ) -> Result<Vec<u8>, ExtensionFault> {
        let Change::ExtensionAdopt { name } = &proposal.change else {
            return Ok(Vec::new());
        };
        let extension = read(name, content)?;
        let consent = Consent {
            by: by.user.to_string(),
            at,
            content_hash: extension.content_hash,
        };
        let mut registry = self.registry()?;
        let known = registry.get(name);
        if known.is_some_and(|known| known.extension.content_hash == extension.content_hash) {
            // Noted by a process that died before it put the text in its place, where the same one was already.
            return Ok(serde_json::to_vec_pretty(&known).map_err(io::Error::from)?);
        }
        registry.propose(extension, proposal.by.user.as_str(), proposal.proposed_at)?;
        evaluated(&mut registry, name)?;
        registry.adopt(name, consent)?;
        let entry = registry.get(name);
        Ok(serde_json::to_vec_pretty(&entry).map_err(io::Error::from)?)
    }
}

/// What `bytes` declare, if they are of the extension `name`.
fn read(name: &Word, bytes: &[u8]) -> Result<Extension, ExtensionFault> {
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|error| ExtensionFault::NotUtf8(error.valid_up_to()))?;
    let extension = Extension::read(text)?;
    match extension.name == *name {
        true => Ok(extension),
        false => Err(ExtensionFault::Misnamed {
            wanted: name.clone(),
            says: extension.name,
        }),
    }
}

/// Lets the guard look at one that was proposed.
fn evaluated(registry: &mut Registry, name: &Word) -> Result<(), ExtensionFault> {
    if registry.evaluate(name)? == State::Evaluating {
        return Ok(());
    }
    let reasons = registry.get(name).map(|entry| entry.reasons.clone());
    Err(ExtensionFault::Refused {
        name: name.clone(),
        reasons: reasons.unwrap_or_default(),
    })
}

fn adopt(
    registry: &mut Registry,
    extension: Extension,
    proposed_at: Timestamp,
    consent: Consent,
) -> Result<(), ExtensionFault> {
    let name = extension.name.clone();
    registry.propose(extension, &consent.by, proposed_at)?;
    evaluated(registry, &name)?;
    Ok(registry.adopt(&name, consent)?)
}

#[cfg(test)]
mod tests;

//! What comes in and goes out: texts of peers, directories of Agent Skills, and the decision to share.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_place::session::Strength;
use kairos_protocol::block::entry::{Entry, KnowledgeAction, KnowledgeUpdate, SkillProvenance};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, SkillName};
use kairos_protocol::provenance::Provenance;
use kairos_protocol::skill::Skill;
use kairos_protocol::skill::agent_skill::{self, PROVENANCE, SIDECAR};
use kairos_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use super::unit::{Guard, Prepared, Step};
use super::{KnowledgeError, KnowledgeStore, MODE, read_file};
use crate::knowledge::catalogue::{Sharing, main_path, sidecar_path};
use crate::passing::FRESH;
use crate::quarantine::Evidence;
use crate::staging::{Held, exists};

/// Version of the sidecar.
const VERSION: u32 = 1;
/// Most names of scripts kept in a sidecar; one would be enough to keep the entry private.
const SCRIPTS_NAMED_MAX: usize = 100;

/// Where a text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The name its sender gave it.
    pub skill_name: String,
    /// Who sent it.
    pub from: AgentId,
    /// Where it was fetched.
    pub url: String,
    /// Fingerprint of the sender's key.
    pub key_fingerprint: String,
    /// How strongly it was established that the sender holds that key.
    pub session: Strength,
    /// When it came.
    pub received_at: Timestamp,
    /// Everyone it went through before its sender, the first holder first.
    pub earlier_holders: Vec<AgentId>,
    /// Checks, findings, signatures, proofs: kept as they are.
    pub evidence: Value,
}

impl From<&Evidence> for Origin {
    fn from(evidence: &Evidence) -> Self {
        let told = [
            ("checks", Some(json!(evidence.checks))),
            ("findings", Some(json!(evidence.findings))),
            ("provenance", evidence.provenance.as_ref().map(|p| json!(p))),
            ("carried", evidence.carried.as_ref().map(|c| json!(c))),
        ];
        let kept = told
            .into_iter()
            .filter_map(|(member, value)| Some((member, value?)));
        Self {
            skill_name: evidence.name.clone(),
            from: evidence.from.clone(),
            url: evidence.url.clone(),
            key_fingerprint: evidence.key_fingerprint.clone(),
            session: evidence.session,
            received_at: evidence.acquired_at,
            earlier_holders: Vec::new(),
            evidence: kept.collect(),
        }
    }
}

impl Origin {
    /// Everyone it went through, the sender last.
    pub fn holders(&self) -> Vec<String> {
        let holders = self.earlier_holders.iter().chain([&self.from]);
        holders.map(AgentId::to_string).collect()
    }

    /// What the ledger is told.
    fn record(&self, stored: &Stored, now: Timestamp) -> Entry {
        let holders = self.holders();
        Entry::SkillProvenance(SkillProvenance {
            skill_name: self.skill_name.clone(),
            original_hash: stored.content_hash,
            content_hash: stored.content_hash,
            received_from: self.from.to_string(),
            received_at: self.received_at,
            origin: holders.first().cloned(),
            hop_count: self.earlier_holders.len() as u64,
            provenance_chain: holders,
            stored_path: stored.path.clone(),
            recorded_at: now,
        })
    }

    fn sidecar(&self, original_hash: ContentHash) -> Value {
        json!({
            "version": VERSION,
            "skill_name": self.skill_name,
            "received_from": self.from,
            "received_at": self.received_at.wire(),
            "url": self.url,
            "key_fingerprint": self.key_fingerprint,
            "session": self.session,
            "original_hash": original_hash,
            "provenance_chain": self.holders(),
            "share": false,
            "evidence": self.evidence,
        })
    }
}

/// Who authored an entry and handed it on, as signed by each of them, if its sidecar holds it.
pub fn signed_provenance(sidecar: &Map<String, Value>) -> Option<Provenance> {
    let provenance = sidecar.get("evidence")?.get("provenance")?;
    Provenance::from_value(provenance).ok()
}

/// Whose work a text is, as far as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorship {
    /// It was written or changed here.
    Ours,
    /// It is as it came from a peer, with what its author and holders signed, if they did.
    Theirs(Option<Box<Provenance>>),
}

impl Authorship {
    /// Reads the authorship of the text with `hash` from the sidecar of its entry.
    pub fn of(sidecar: Option<&Map<String, Value>>, hash: &ContentHash) -> Self {
        let received = sidecar.filter(|s| s.contains_key("received_from"));
        let as_it_came = |s: &&Map<String, Value>| s.get("original_hash") == Some(&json!(hash));
        match received.filter(as_it_came) {
            None => Self::Ours,
            Some(sidecar) => {
                let signed = signed_provenance(sidecar).filter(|p| p.content_hash == *hash);
                Self::Theirs(signed.map(Box::new))
            }
        }
    }
}

/// A knowledge entry as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name here.
    pub name: SkillName,
    /// Its main text, below the data directory.
    pub path: String,
    /// Hash of the main text.
    pub content_hash: ContentHash,
    /// Hash of the main text it replaced.
    pub previous_hash: Option<ContentHash>,
}

/// An Agent Skill as it was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Where it is.
    pub stored: Stored,
    /// Whether peers may see its main text.
    pub shared: bool,
    /// What of it can run. With any, it is never shared.
    pub scripts: Vec<String>,
}

impl KnowledgeStore {
    /// Prepares storing a text that was approved, its bytes unchanged, with a sidecar that says where it came from
    /// and that it is not shared. With `replace` a whole entry of that name gives way.
    pub(in crate::knowledge) fn receive(
        &self,
        held: Held,
        name: &SkillName,
        bytes: &[u8],
        origin: &Origin,
        replace: bool,
        now: Timestamp,
    ) -> Result<Prepared<Stored>, KnowledgeError> {
        let skill = Skill::parse(&main_path(name.as_str()), bytes, &self.policy.read)?;
        let main = agent_skill::File {
            path: format!("{name}.md"),
            bytes: bytes.to_vec(),
            executable: false,
        };
        let sidecar = origin.sidecar(skill.content_hash);
        let mut prepared = self.put(held, name, &[main], sidecar, replace, now)?;
        let provenance = origin.record(&prepared.done, now);
        prepared.blocks.push(vec![provenance.to_text()]);
        Ok(prepared)
    }

    /// Prepares taking in an Agent Skill directory, every file as it is. It is shared if that is wanted and nothing
    /// in it can run.
    pub(in crate::knowledge) fn import(
        &self,
        held: Held,
        directory: &Path,
        public: bool,
        replace: bool,
        now: Timestamp,
    ) -> Result<Prepared<Imported>, KnowledgeError> {
        let directory = fs::canonicalize(directory)?;
        let called = directory
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let called = called
            .parse()
            .unwrap_or_else(|_| SkillName::sanitized(called));
        let entry = agent_skill::import(&called, &self.files(&directory)?)?;
        let main = format!("{}.md", entry.name);
        for file in entry.files.iter().filter(|f| f.path == main) {
            Skill::parse(
                &main_path(entry.name.as_str()),
                &file.bytes,
                &self.policy.read,
            )?;
        }
        let mut scripts = agent_skill::scripts(&entry.files);
        let shared = public && scripts.is_empty();
        let named: Vec<_> = scripts.iter().take(SCRIPTS_NAMED_MAX).collect();
        let sidecar = json!({
            "version": VERSION,
            "imported_from": called,
            "imported_at": now.wire(),
            "share": shared,
            "scripts": named,
        });
        let prepared = self.put(held, &entry.name, &entry.files, sidecar, replace, now)?;
        scripts.sort();
        Ok(prepared.map(|stored| Imported {
            stored,
            shared,
            scripts,
        }))
    }

    /// An entry as an Agent Skill directory.
    pub fn as_agent_skill(&self, name: &str) -> Result<agent_skill::Directory, KnowledgeError> {
        let name = self.require(name)?;
        let files = self.files(&self.root().join(name.as_str()))?;
        Ok(agent_skill::export(&name, &files)?)
    }

    /// Writes an entry as an Agent Skill directory below `target`; returns where.
    pub fn export(&self, name: &str, target: &Path) -> Result<PathBuf, KnowledgeError> {
        let exported = self.as_agent_skill(name)?;
        fs::create_dir_all(target)?;
        let staging = Held::unlocked(target, MODE).stage()?;
        for file in &exported.files {
            staging.write(&file.path, &file.bytes, file.executable)?;
        }
        match staging.commit(exported.name.as_str(), false) {
            Ok(()) => Ok(target.join(exported.name.as_str())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let name = exported.name.to_string();
                Err(KnowledgeError::TargetExists { name })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides whether the main text of the entry `name` is public, in its sidecar; its bytes stay.
    ///
    /// Fails with [`KnowledgeError::CarriesScripts`] for an imported entry in which something can run.
    pub(in crate::knowledge) fn set_share(
        &self,
        _held: &Held,
        name: &str,
        share: bool,
    ) -> Result<(), KnowledgeError> {
        let name = self.require(name)?;
        let folder = self.root().join(name.as_str());
        let mut sidecar = self.sidecar(name.as_str())?.unwrap_or_else(|| {
            let version = ("version".to_owned(), Value::from(VERSION));
            Map::from_iter([version])
        });
        if share && (sidecar.contains_key("scripts") || folder.join(SIDECAR).is_file()) {
            let files = agent_skill::scripts(&self.files(&folder)?);
            if !files.is_empty() || Sharing::carries_scripts(&sidecar) {
                return Err(KnowledgeError::CarriesScripts {
                    name: name.to_string(),
                    files,
                });
            }
        }
        sidecar.insert("share".to_owned(), Value::Bool(share));
        let mut fresh = tempfile::Builder::new()
            .prefix(FRESH)
            .tempfile_in(&folder)?;
        fresh.write_all(&pretty(&Value::Object(sidecar)))?;
        fresh.as_file().sync_all()?;
        let target = self.data.join(sidecar_path(name.as_str()));
        fresh.persist(target).map_err(|e| e.error)?;
        fs::File::open(&folder)?.sync_all()?;
        Ok(())
    }

    /// Prepares an entry whole: its files, its sidecar and the record that it is there.
    fn put(
        &self,
        held: Held,
        name: &SkillName,
        files: &[agent_skill::File],
        sidecar: Value,
        replace: bool,
        now: Timestamp,
    ) -> Result<Prepared<Stored>, KnowledgeError> {
        let replaces = exists(&held.path().join(name.as_str()))?;
        if replaces && !replace {
            let name = name.to_string();
            return Err(KnowledgeError::Exists { name });
        }
        let (main, path) = (format!("{name}.md"), main_path(name.as_str()));
        let previous = read_file(&self.data.join(&path), self.policy.entry_bytes);
        let previous_hash = previous.ok().map(ContentHash::of);
        let staging = held.stage()?;
        let mut content_hash = ContentHash::of([]);
        for file in files.iter().filter(|f| f.path != PROVENANCE) {
            staging.write(&file.path, &file.bytes, file.executable)?;
            if file.path == main {
                content_hash = ContentHash::of(&file.bytes);
            }
        }
        staging.write(PROVENANCE, &pretty(&sidecar), false)?;
        let (held, staged) = staging.seal()?;
        let aside = Step::aside();
        let steps = match replaces {
            false => vec![Step::rename(staged, name.as_str())],
            true => vec![
                Step::rename(name.as_str(), aside.as_str()),
                Step::rename(staged, name.as_str()),
                Step::remove(aside),
            ],
        };
        let guard = match (replaces, previous_hash) {
            (false, _) => Some(Guard {
                path: name.to_string(),
                hash: None,
            }),
            (true, Some(_)) => Some(Guard {
                path: format!("{name}/{main}"),
                hash: previous_hash,
            }),
            // What gives way has no main text to be recognised by.
            (true, None) => None,
        };
        let action = match previous_hash {
            None => KnowledgeAction::Create,
            Some(_) => KnowledgeAction::Update,
        };
        let hashes = (previous_hash, Some(content_hash));
        let update = KnowledgeUpdate::new(name.as_str(), action, hashes, None, now);
        Ok(Prepared {
            held,
            name: name.to_string(),
            blocks: vec![vec![Entry::KnowledgeUpdate(update).to_text()]],
            guards: guard.into(),
            steps,
            approval: None,
            done: Stored {
                name: name.clone(),
                path,
                content_hash,
                previous_hash,
            },
        })
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use kairos_protocol::crypto::Keypair;
    use kairos_protocol::provenance::Kind;

    use super::*;
    use crate::check::Checks;
    use crate::knowledge::KnowledgePolicy;
    use crate::quarantine::HeldKind;

    #[test]
    fn who_signed_a_text_is_still_told_after_it_was_stored() {
        let (text, author) = ("# Tea\n", Keypair::generate().unwrap());
        let (hash, id) = (ContentHash::of(text), author.public().agent_id());
        let now = Timestamp::from_secs(1_771_000_000);
        let signed = Provenance::authored(Kind::Skill, "tea", hash, id.clone(), &author, now);
        let evidence = Evidence {
            kind: HeldKind::Skill,
            name: "tea".to_owned(),
            version: None,
            content_hash: hash,
            from: id,
            url: "http://192.0.2.7".to_owned(),
            key_fingerprint: author.public().fingerprint(),
            session: Strength::Proven,
            checks: Checks::default(),
            provenance: Some(signed.unwrap()),
            carried: None,
            findings: Vec::new(),
            acquired_at: now,
        };
        let data = tempfile::tempdir().unwrap();
        let store = KnowledgeStore::new(data.path(), KnowledgePolicy::default());
        let name = "tea".parse().unwrap();
        let origin = Origin::from(&evidence);
        store
            .received(&name, text.as_bytes(), &origin, false)
            .unwrap();
        let sidecar = store.provenance("tea").unwrap().unwrap();
        let told = signed_provenance(&sidecar);
        assert_eq!(told, evidence.provenance);
        told.unwrap().verify(&hash).unwrap();
    }

    #[test]
    fn what_came_from_a_peer_is_never_taken_for_our_own_work() {
        let hash = ContentHash::of("as it came");
        let sidecar = json!({"received_from": "a", "original_hash": hash, "evidence": {}});
        let sidecar = sidecar.as_object();
        assert_eq!(Authorship::of(sidecar, &hash), Authorship::Theirs(None));
        let changed = ContentHash::of("changed here");
        assert_eq!(Authorship::of(sidecar, &changed), Authorship::Ours);
        assert_eq!(Authorship::of(None, &hash), Authorship::Ours);
        let imported = json!({"share": true});
        assert_eq!(
            Authorship::of(imported.as_object(), &hash),
            Authorship::Ours
        );
    }
}

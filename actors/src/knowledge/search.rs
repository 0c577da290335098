//! Search over all layers: an index in memory, brought up to date before a query, and kept as a cache on disk.
//!
//! Owns: `storage/search/`. The cache is derived: one that is missing, damaged or of another version is built anew,
//! and a disk that cannot be written costs only that. Blocking code, reached through [`KnowledgeHandle`]; queries run
//! side by side, and wait only for an update.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fs_err as fs;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::search::{Document, Hit, Index, Layer, Query, snippet};
use kairos_protocol::skill::Skill;
use kairos_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::catalogue::{Catalogue, is_main};
use super::store::KnowledgeStore;
use super::{KnowledgeError, KnowledgeHandle, Shared};
use crate::beneath;
use crate::passing::FRESH;

mod law;

use law::{Section, sections};

/// Below the data directory.
const FOLDER: &str = "storage/search";
const FILE: &str = "index.bin";
/// Longest cache read, in bytes.
const CACHE_MAX: u64 = 512 * 1024 * 1024;
/// Longest text that is indexed, in bytes; the rest of a longer one is not found.
const TEXT_MAX: u64 = 1024 * 1024;
/// Changes after which the cache is written again, where that is more than a share of the index.
const SAVE_AFTER: usize = 64;
/// The share: writing costs as much as the index, so it waits for a part of it to change.
const SAVE_SHARE: usize = 16;

/// A document that was found, with a line of its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Where it is: a resource, or a path below the data directory.
    pub uri: String,
    /// `L0`, `L1` or `L2`.
    pub layer: Layer,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// How well it matches; comparable within one answer only.
    pub score: f32,
    /// Its text around the rarest word of the query.
    pub snippet: Option<String>,
}

/// What a search found, and in what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The best first.
    pub hits: Vec<Found>,
    /// How many documents there are.
    pub documents: usize,
    /// How many there is no room for.
    pub left_out: usize,
}

/// The index and how true it is.
#[derive(Debug, Default)]
pub(super) struct Search(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// When it was last brought up to date; never, at first.
    checked: Option<Timestamp>,
    left_out: usize,
    /// Documents that changed since the cache was written.
    unsaved: usize,
}

/// Something to be indexed, not yet read.
struct Source {
    layer: Layer,
    stamp: u64,
    content: Content,
}

enum Content {
    /// A skill of the catalogue: what is known of it, and its path.
    Skill(Box<Skill>),
    /// A text of a session: its path, and the name of its entry.
    Context { path: String, name: String },
    /// A section of the law.
    Law(Section),
}

impl KnowledgeHandle {
    /// Finds what matches `query`, in an index that is at most `max_age` old.
    ///
    /// With `rebuild` the index is built from nothing first.
    pub async fn search(
        &self,
        query: Query,
        max_age: Duration,
        rebuild: bool,
    ) -> Result<Answer, KnowledgeError> {
        let now = self.shared.clock.now();
        let since = now.minus(max_age);
        if rebuild || self.shared.search.is_older(since) {
            let _one_at_a_time = self.searching.lock().await;
            if rebuild || self.shared.search.is_older(since) {
                let catalogue = self.fresh(max_age).await;
                self.with_shared(move |shared| {
                    shared
                        .search
                        .refresh(&shared.store, &catalogue, now, rebuild);
                    Ok(())
                })
                .await?;
            }
        }
        self.with_shared(move |shared| Ok(shared.search.answer(&shared.store, &query)))
            .await
    }

    async fn with_shared<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, KnowledgeError> + Send + 'static,
    ) -> Result<T, KnowledgeError> {
        let _turn = self.reads.acquire().await.map_err(io::Error::other)?;
        let shared = Arc::clone(&self.shared);
        super::blocking(move || work(&shared)).await
    }
}

impl Search {
    fn is_older(&self, since: Timestamp) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.checked.is_none_or(|checked| checked < since)
    }

    /// Brings the index up to date: what changed is read and put, what is gone is taken out.
    fn refresh(
        &self,
        store: &KnowledgeStore,
        catalogue: &Catalogue,
        now: Timestamp,
        rebuild: bool,
    ) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let cache = store.search_folder().join(FILE);
        if rebuild {
            *state = State::default();
        } else if state.checked.is_none() {
            state.index = load(&cache).unwrap_or_default();
        }
        let sources = store.sources(catalogue);
        let known: HashMap<String, u64> = state
            .index
            .stamps()
            .map(|(key, stamp)| (key.to_owned(), stamp))
            .collect();
        for key in known.keys().filter(|key| !sources.contains_key(*key)) {
            state.index.remove(key);
            state.unsaved += 1;
        }
        state.left_out = 0;
        for (key, source) in &sources {
            if known.get(key) != Some(&source.stamp) {
                match store.put_into(&mut state.index, key, source) {
                    Some(true) => state.unsaved += 1,
                    Some(false) => state.left_out += 1,
                    None => {}
                }
            }
        }
        state.checked = Some(now);
        let due = SAVE_AFTER.max(state.index.len() / SAVE_SHARE);
        if state.unsaved > due
            || (rebuild && state.unsaved > 0)
            || (!cache.exists() && state.unsaved > 0)
        {
            match save(&cache, &state.index.encode()) {
                Ok(()) => state.unsaved = 0,
                Err(error) => tracing::warn!(%error, "the search index could not be kept"),
            }
        }
    }

    fn answer(&self, store: &KnowledgeStore, query: &Query) -> Answer {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let hits = state.index.search(query);
        let (documents, left_out) = (state.index.len(), state.left_out);
        drop(state);
        Answer {
            hits: hits.into_iter().map(|hit| store.shown(hit)).collect(),
            documents,
            left_out,
        }
    }
}

impl KnowledgeStore {
    fn search_folder(&self) -> PathBuf {
        self.data().join(FOLDER)
    }

    /// Everything that can be found, by key.
    fn sources(&self, catalogue: &Catalogue) -> HashMap<String, Source> {
        let mut sources = HashMap::new();
        for file in ["kairos.md", "kairos.rb"] {
            let path = format!("skills/{file}");
            let Some(text) = self.text(&path) else {
                continue;
            };
            for section in sections(file, &text) {
                let key = format!("l0://{file}#{}", section.id);
                let source = Source {
                    layer: Layer::L0,
                    stamp: stamp(format!("{}\n{}", section.title, section.text(&text))),
                    content: Content::Law(section),
                };
                sources.insert(key, source);
            }
        }
        for skill in catalogue.all() {
            let source = Source {
                layer: Layer::L1,
                stamp: stamp(skill.content_hash.as_bytes()),
                content: Content::Skill(Box::new(skill.clone())),
            };
            sources.insert(skill.path.clone(), source);
        }
        match self.context_files() {
            Ok(files) => sources.extend(files.into_iter().map(|(path, name, stamp)| {
                let source = Source {
                    layer: Layer::L2,
                    stamp,
                    content: Content::Context {
                        path: path.clone(),
                        name,
                    },
                };
                (path, source)
            })),
            Err(error) => {
                tracing::warn!(%error, "the contexts cannot be looked over for the search")
            }
        }
        sources
    }

    /// The texts of all sessions: path, name, and a stamp that changes with the file.
    fn context_files(&self) -> io::Result<Vec<(String, String, u64)>> {
        let mut files = Vec::new();
        for (path, name) in self.context_paths()? {
            if let Ok(found) = fs::symlink_metadata(self.data().join(&path))
                && found.is_file()
            {
                let seen = (
                    found.mtime(),
                    found.mtime_nsec(),
                    found.ctime(),
                    found.ctime_nsec(),
                );
                let stamp = stamp(format!("{seen:?} {} {}", found.size(), found.ino()));
                files.push((path, name, stamp));
            }
        }
        Ok(files)
    }

    /// Reads a source and puts it; whether there was room. Nothing where it cannot be read: it is not found then.
    fn put_into(&self, index: &mut Index, key: &str, source: &Source) -> Option<bool> {
        let (path, name, known) = match &source.content {
            Content::Law(section) => {
                let path = format!("skills/{}", section.file);
                let text = self.text(&path)?;
                return Some(index.put(&Document {
                    key,
                    layer: source.layer,
                    stamp: source.stamp,
                    name: &section.id,
                    tags: &[],
                    description: &section.title,
                    body: section.text(&text),
                }));
            }
            Content::Skill(skill) => (&skill.path, &skill.name, Some(skill)),
            Content::Context { path, name } => (path, name, None),
        };
        let Some(text) = self.text(path) else {
            index.remove(key);
            return None;
        };
        let parsed = match known {
            Some(_) => None,
            None => Skill::parse(path, text.as_bytes(), &self.read_options()).ok(),
        };
        let skill = known.map(|skill| &**skill).or(parsed.as_ref());
        let tags: Vec<String> = skill.map(|skill| words(&skill.tags)).unwrap_or_default();
        Some(
            index.put(&Document {
                key,
                layer: source.layer,
                stamp: source.stamp,
                name,
                tags: &tags,
                description: skill
                    .map(|skill| skill.summary.as_str())
                    .unwrap_or_default(),
                body: &text,
            }),
        )
    }

    /// A hit with a line of its text as it is now.
    fn shown(&self, hit: Hit) -> Found {
        let Hit {
            key,
            layer,
            name,
            description,
            tags,
            score,
            at,
        } = hit;
        let (path, section) = match key
            .strip_prefix("l0://")
            .and_then(|law| law.split_once('#'))
        {
            Some((file, id)) => (
                format!("skills/{file}"),
                Some((file.to_owned(), id.to_owned())),
            ),
            None => (key.clone(), None),
        };
        let text = at.and_then(|_| self.text(&path));
        let snippet = at.zip(text).map(|(at, text)| match &section {
            None => snippet(&text, at),
            Some((file, id)) => {
                let found = sections(file, &text);
                let section = found.iter().find(|section| section.id == *id);
                snippet(section.map_or("", |section| section.text(&text)), at)
            }
        });
        Found {
            uri: uri(key),
            layer,
            name,
            description,
            tags,
            score,
            snippet,
        }
    }

    /// The beginning of a text file, if it can be read.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = beneath::read(self.data(), path, TEXT_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The name of a document for people and for `resource read`, where it has one.
fn uri(key: String) -> String {
    let parts: Vec<&str> = key.splitn(4, '/').collect();
    match parts.as_slice() {
        ["knowledge", entry, ..] if is_main(&key) => format!("knowledge://{entry}"),
        ["knowledge", entry, main] if *main == kairos_protocol::skill::agent_skill::MAIN => {
            format!("knowledge://{entry}")
        }
        [
            "knowledge",
            entry,
            folder @ ("scripts" | "assets" | "references"),
            rest,
        ] => {
            format!("knowledge://{entry}/{folder}/{rest}")
        }
        ["context", session, name, _] => format!("context://{session}/{name}"),
        _ => key,
    }
}

fn words(tags: &[Value]) -> Vec<String> {
    let word = |tag: &Value| tag.as_str().map_or_else(|| tag.to_string(), str::to_owned);
    tags.iter().map(word).collect()
}

/// A number that differs where the content does, but for one chance in 2⁶⁴.
fn stamp(content: impl AsRef<[u8]>) -> u64 {
    let hash = ContentHash::of(content);
    hash.as_bytes()
        .iter()
        .take(8)
        .fold(0, |stamp, byte| stamp << 8 | u64::from(*byte))
}

fn load(cache: &Path) -> Option<Index> {
    let (folder, name) = (cache.parent()?, cache.file_name()?.to_str()?);
    match beneath::read(folder, name, CACHE_MAX) {
        Ok(bytes) => match Index::decode(&bytes) {
            Ok(index) => return Some(index),
            Err(error) => tracing::info!(%error, "the search index is built anew"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "the search index cannot be read"),
    }
    None
}

/// Replaces the cache. Not synced: it is found to be damaged if it is.
fn save(cache: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = cache.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut fresh = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    fresh.write_all(bytes)?;
    fresh.persist(cache).map_err(|error| error.error)?;
    Ok(())
}

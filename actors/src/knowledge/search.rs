//! Search over all layers: an index in memory, brought up to date before a query, and kept as a cache on disk.
//!
//! Owns: `storage/search/`. The cache is derived: one that is missing, damaged or of another version is built anew,
//! and a disk that cannot be written costs only that. Blocking code, reached through [`KnowledgeHandle`]; queries run
//! side by side, and wait only for an update.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fs_err as fs;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::search::{Document, Hit, Index, Layer, Query, snippet};
use kairos_protocol::skill::Skill;
use kairos_protocol::time::{Clock, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::catalogue::{Catalogue, is_main};
use super::store::{KnowledgeStore, Stamp};
use super::{KnowledgeError, KnowledgeHandle, Shared};
use crate::beneath;
use crate::passing::FRESH;

mod law;

use law::{Section, sections};

/// Below the data directory.
const FOLDER: &str = "storage/search";
const FILE: &str = "index.bin";
/// The files of the law.
const LAW: [&str; 2] = ["kairos.md", "kairos.rb"];
/// Longest cache read, in bytes.
const CACHE_MAX: u64 = 512 * 1024 * 1024;
/// Longest text that is indexed, in bytes; the rest of a longer one is not found.
const TEXT_MAX: u64 = 1024 * 1024;
/// Most documents among which a query is answered at once, on the thread that asks: it takes less than handing it over.
const AT_ONCE_MAX: usize = 500;
/// Texts kept in memory to show what was found, in bytes.
const TEXTS_MAX: usize = 1024 * 1024;
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
pub(super) struct Search {
    state: RwLock<State>,
    texts: Mutex<Texts>,
}

/// Texts of documents that were found lately, by key: of what is found once, most is found again.
#[derive(Debug, Default)]
struct Texts {
    kept: HashMap<String, Arc<str>>,
    bytes: usize,
}

impl Texts {
    fn keep(&mut self, key: &str, text: &Arc<str>) {
        if self.bytes + text.len() > TEXTS_MAX {
            *self = Self::default();
        }
        if text.len() <= TEXTS_MAX && self.kept.insert(key.to_owned(), Arc::clone(text)).is_none() {
            self.bytes += text.len();
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some(text) = self.kept.remove(key) {
            self.bytes -= text.len();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// When it was last brought up to date; never, at first.
    checked: Option<Timestamp>,
    /// Changes of this process before that.
    changes: u64,
    /// What the index was made from.
    seen: Option<Seen>,
    left_out: usize,
    /// Documents that changed since the cache was written.
    unsaved: usize,
}

/// What tells one state of all that can be found from another, without reading it.
#[derive(Debug)]
struct Seen {
    catalogue: Arc<Catalogue>,
    law: [Option<Stamp>; 2],
    contexts: Vec<(String, String, u64)>,
}

impl Seen {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalogue, &other.catalogue)
            && self.law == other.law
            && self.contexts == other.contexts
    }
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
        let is_old = || {
            rebuild
                || self
                    .shared
                    .search
                    .is_older(&*self.shared.clock, since, self.shared.changes())
        };
        if is_old() {
            let _one_at_a_time = self.searching.lock().await;
            if is_old() {
                let catalogue = self.fresh(max_age).await;
                let changes = self.shared.changes();
                self.with_shared(move |shared| {
                    let looked = (now, changes);
                    shared
                        .search
                        .refresh(&shared.store, &catalogue, looked, rebuild);
                    Ok(())
                })
                .await?;
            }
        }
        if let Some(answer) = self.shared.search.answer_at_once(&query) {
            return Ok(answer);
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

impl State {
    fn answer(&self, hits: Vec<Found>) -> Answer {
        Answer {
            hits,
            documents: self.index.len(),
            left_out: self.left_out,
        }
    }
}

impl Search {
    /// Whether it was last brought up to date before `since` or before the last of so many `changes`.
    fn is_older(&self, clock: &dyn Clock, since: Timestamp, changes: u64) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let saw = |checked| clock.saw_since(checked, since);
        state.changes != changes || !state.checked.is_some_and(saw)
    }

    /// Brings the index up to date as of a time and a number of changes: what changed is read and put, what is gone is
    /// taken out.
    fn refresh(
        &self,
        store: &KnowledgeStore,
        catalogue: &Arc<Catalogue>,
        (now, changes): (Timestamp, u64),
        rebuild: bool,
    ) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = store.search_folder().join(FILE);
        if rebuild {
            *state = State::default();
        } else if state.checked.is_none() {
            state.index = load(&cache).unwrap_or_default();
        }
        let seen = store.seen(catalogue);
        (state.checked, state.changes) = (Some(now), changes);
        if state.seen.as_ref().is_some_and(|old| old.is_same(&seen)) {
            return;
        }
        let sources = store.sources(&seen);
        let mut whole = true;
        let known: HashMap<String, u64> = state
            .index
            .stamps()
            .map(|(key, stamp)| (key.to_owned(), stamp))
            .collect();
        for key in known.keys().filter(|key| !sources.contains_key(*key)) {
            state.index.remove(key);
            texts.forget(key);
            state.unsaved += 1;
        }
        state.left_out = 0;
        for (key, source) in &sources {
            if known.get(key) != Some(&source.stamp) {
                texts.forget(key);
                match store.put_into(&mut state.index, key, source) {
                    Some(true) => state.unsaved += 1,
                    Some(false) => state.left_out += 1,
                    None => whole = false,
                }
            }
        }
        // What could not be read may be readable at the next look, though nothing shows it.
        state.seen = whole.then_some(seen);
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
        // Held to the end, so that no text is kept that an update is about to forget.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let hits = state.index.search(query).into_iter();
        let hits = hits.map(|hit| {
            let text = hit.at.and_then(|_| self.text(store, &hit.key));
            found(hit, text.as_deref())
        });
        state.answer(hits.collect())
    }

    /// The answer, where it takes no waiting and no disk.
    fn answer_at_once(&self, query: &Query) -> Option<Answer> {
        let state = self.state.try_read().ok()?;
        if state.index.len() > AT_ONCE_MAX {
            return None;
        }
        let texts = self.texts.try_lock().ok()?;
        let hits = state.index.search(query).into_iter();
        let hits = hits.map(|hit| match hit.at {
            None => Some(found(hit, None)),
            Some(_) => {
                let text = texts.kept.get(&hit.key)?;
                Some(found(hit, Some(text)))
            }
        });
        let hits = hits.collect::<Option<Vec<_>>>()?;
        Some(state.answer(hits))
    }

    /// The text of a document, if it can be read.
    fn text(&self, store: &KnowledgeStore, key: &str) -> Option<Arc<str>> {
        let lock = || self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = lock().kept.get(key) {
            return Some(Arc::clone(text));
        }
        let text: Arc<str> = store.text_of(key)?.into();
        lock().keep(key, &text);
        Some(text)
    }
}

impl KnowledgeStore {
    fn search_folder(&self) -> PathBuf {
        self.data().join(FOLDER)
    }

    /// Looks everything over.
    fn seen(&self, catalogue: &Arc<Catalogue>) -> Seen {
        let contexts = self.context_files().unwrap_or_else(|error| {
            tracing::warn!(%error, "the contexts cannot be looked over for the search");
            Vec::new()
        });
        let stamp = |file| {
            let found = fs::metadata(self.data().join("skills").join(file));
            found.ok().map(|found| Stamp::of(&found))
        };
        Seen {
            catalogue: Arc::clone(catalogue),
            law: LAW.map(stamp),
            contexts,
        }
    }

    /// Everything that can be found, by key.
    fn sources(&self, seen: &Seen) -> HashMap<String, Source> {
        let mut sources = HashMap::new();
        for file in LAW {
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
        for skill in seen.catalogue.all() {
            let source = Source {
                layer: Layer::L1,
                stamp: stamp(skill.content_hash.as_bytes()),
                content: Content::Skill(Box::new(skill.clone())),
            };
            sources.insert(skill.path.clone(), source);
        }
        sources.extend(seen.contexts.iter().map(|(path, name, stamp)| {
            let source = Source {
                layer: Layer::L2,
                stamp: *stamp,
                content: Content::Context {
                    path: path.clone(),
                    name: name.clone(),
                },
            };
            (path.clone(), source)
        }));
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

    /// The text of the document `key` as it is now.
    fn text_of(&self, key: &str) -> Option<String> {
        let law = key.strip_prefix("l0://");
        let Some((file, id)) = law.and_then(|law| law.split_once('#')) else {
            return self.text(key);
        };
        let text = self.text(&format!("skills/{file}"))?;
        let found = sections(file, &text);
        let section = found.iter().find(|section| section.id == id)?;
        Some(section.text(&text).to_owned())
    }

    /// The beginning of a text file, if it can be read.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = beneath::read(self.data(), path, TEXT_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A hit with a line of its text.
fn found(hit: Hit, text: Option<&str>) -> Found {
    Found {
        snippet: hit.at.zip(text).map(|(at, text)| snippet(text, at)),
        uri: uri(hit.key),
        layer: hit.layer,
        name: hit.name,
        description: hit.description,
        tags: hit.tags,
        score: hit.score,
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

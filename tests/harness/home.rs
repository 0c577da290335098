//! A directory that goes away with the test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use kairos_protocol::hash::ContentHash;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Call, Ended};

/// Folders of the data directory that a node builds at will: the log over the ledger, and the search index.
const DERIVED: [&str; 2] = ["storage/tlog", "storage/search"];

/// A place for one agent: its data directory, and room beside it for what a test wants to write.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// Makes an empty one; there is no data directory yet.
    #[expect(clippy::new_without_default, reason = "it touches the disk")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("kairos-test-")
            .tempdir()
            .expect("a temporary directory can be made");
        Self { dir }
    }

    /// Makes one whose data directory `init` has filled.
    pub fn initialized() -> Self {
        let home = Self::new();
        Call::new(["init"]).home(&home).run().done();
        home
    }

    /// Runs a command on this agent to its end.
    pub fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Ended {
        Call::new(args).home(self).run()
    }

    /// Runs a command with `--json` that must succeed, and returns its result.
    #[track_caller]
    pub fn json<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Value {
        Call::new(["--json"]).args(args).home(self).run().json()
    }

    /// Writes a skill into the knowledge, as its owner's editor would.
    pub fn skill(&self, name: &str, text: &str) {
        let folder = self.data_dir().join("knowledge").join(name);
        fs::create_dir_all(&folder).expect("a directory can be made");
        fs::write(folder.join(format!("{name}.md")), text).expect("a file can be written");
    }

    /// Writes a SkillSet of one topic into a directory beside the data directory, and returns where.
    pub fn skill_set(&self, name: &str) -> PathBuf {
        let folder = self.path().join("sets").join(name);
        let topic = folder.join("knowledge/topic");
        fs::create_dir_all(&topic).expect("a directory can be made");
        let metadata = json!({
            "name": name, "version": "1.0.0", "layer": "L1", "description": "A set of a test", "author": "Ada",
        });
        fs::write(folder.join("skillset.json"), metadata.to_string())
            .and_then(|()| fs::write(topic.join("topic.md"), format!("# {name}\n")))
            .expect("a file can be written");
        folder
    }

    /// Returns every file of the data directory with its bytes, but for locks.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.data_dir()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a directory can be listed") {
                let path = entry.expect("a directory can be listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension() != Some(OsStr::new("lock")) && !path.ends_with(".lock") {
                    let bytes = fs::read(&path).expect("a file can be read");
                    let below = path.strip_prefix(self.data_dir()).expect("it is below");
                    found.insert(below.to_owned(), bytes);
                }
            }
        }
        found
    }

    /// Returns every file of the data directory with the hash of its bytes, but for locks and what is derived from
    /// the rest when it is first needed: equal before and after where nothing was changed.
    pub fn state(&self) -> BTreeMap<PathBuf, String> {
        let derived = |path: &Path| DERIVED.iter().any(|folder| path.starts_with(folder));
        let kept = self.files().into_iter().filter(|(path, _)| !derived(path));
        kept.map(|(path, bytes)| (path, ContentHash::of(bytes).to_hex()))
            .collect()
    }

    /// Returns the directory itself, which commands also start in.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the data directory, which need not exist yet.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join(".kairos")
    }
}

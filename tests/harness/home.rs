//! A directory that goes away with the test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Call;

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

    /// Returns the directory itself, which commands also start in.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the data directory, which need not exist yet.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join(".kairos")
    }
}

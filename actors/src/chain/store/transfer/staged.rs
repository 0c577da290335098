//! A verified ledger in a file of its own, on its way to its place.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::ledger::{LoadState, Problem, VerifyReport};
use tempfile::{NamedTempFile, TempPath};

use super::{Held, Progress, TransferError, read};
use crate::passing::FRESH;

/// How blocks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON array, exactly as the reference writes its ledger file.
    Json,
    /// One compact JSON object a line.
    JsonLines,
}

/// Writes blocks one after the other.
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    form: Form,
    tip: Option<BlockRef>,
    what: std::path::PathBuf,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, which errors call `what`.
    pub fn new(out: W, form: Form, what: &Path) -> Self {
        Self {
            out: BufWriter::with_capacity(256 * 1024, out),
            form,
            tip: None,
            what: what.to_owned(),
        }
    }

    /// Adds the next block.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn add(&mut self, block: &Block) -> Result<(), TransferError> {
        let written = match self.form {
            Form::Json => {
                let before: &[u8] = if self.tip.is_none() {
                    b"[\n  "
                } else {
                    b",\n  "
                };
                self.out
                    .write_all(before)
                    .and_then(|()| self.out.write_all(block.file_form().as_bytes()))
            }
            Form::JsonLines => serde_json::to_writer(&mut self.out, block)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
        };
        self.tip = Some(block.to_ref());
        written.map_err(TransferError::io("write", &self.what))
    }

    /// Writes the end and everything that was held back; gives back what it wrote to and the last block.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn end(mut self) -> Result<(W, Option<BlockRef>), TransferError> {
        let end: &[u8] = match (self.form, self.tip) {
            (Form::Json, Some(_)) => b"\n]",
            (Form::Json, None) => b"[]",
            (Form::JsonLines, _) => b"",
        };
        let done = self.out.write_all(end).and_then(|()| self.out.flush());
        done.map_err(TransferError::io("write", &self.what))?;
        let out = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error);
        Ok((
            out.map_err(TransferError::io("write", &self.what))?,
            self.tip,
        ))
    }
}

impl Writer<NamedTempFile> {
    /// Writes to a new file in the folder of `path`, where it can be renamed to `path`.
    pub(super) fn beside(path: &Path) -> Result<Self, TransferError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(FRESH).tempfile_in(folder));
        let file = made.map_err(TransferError::io("write beside", path))?;
        Ok(Self::new(file, Form::Json, path))
    }

    /// Makes what was written durable.
    pub(super) fn finish(self) -> Result<Staged, TransferError> {
        let what = self.what.clone();
        let (file, tip) = self.end()?;
        file.as_file()
            .sync_all()
            .map_err(TransferError::io("sync", &what))?;
        let tip = tip.ok_or_else(|| TransferError::Empty(what.display().to_string()))?;
        Ok(Staged { file, tip })
    }
}

/// See the module. Dropped, it is gone.
pub struct Staged {
    file: NamedTempFile,
    tip: BlockRef,
}

impl Staged {
    /// Reads and checks all of `text`, which errors call `what`, into a file beside `path`.
    ///
    /// # Errors
    ///
    /// [`TransferError::Bad`], [`TransferError::Empty`], and what the system says.
    pub fn read(
        text: impl Read,
        what: &str,
        path: &Path,
        told: Progress<'_>,
    ) -> Result<Self, TransferError> {
        let mut writer = Writer::beside(path)?;
        let text = BufReader::with_capacity(256 * 1024, text);
        let report = read(text, |block| {
            told(block.index() + 1);
            writer.add(block)
        })?;
        good(report, what)?;
        writer.finish()
    }

    /// Copies and checks all of `held` into a file beside `path`.
    ///
    /// # Errors
    ///
    /// [`TransferError::Absent`], those of [`read`](Self::read).
    pub fn copy(held: &Held, path: &Path, told: Progress<'_>) -> Result<Self, TransferError> {
        let mut writer = Writer::beside(path)?;
        let mut failed = Ok(());
        let report = held.blocks(&mut |block| {
            if failed.is_ok() {
                told(block.index() + 1);
                failed = writer.add(block);
            }
        })?;
        failed?;
        if report.state == LoadState::Absent {
            return Err(TransferError::Absent(held.path().to_owned()));
        }
        good(report, &held.path().display().to_string())?;
        writer.finish()
    }

    /// The last block.
    pub fn tip(&self) -> BlockRef {
        self.tip
    }

    /// How many blocks there are.
    pub fn length(&self) -> u64 {
        self.tip.index.saturating_add(1)
    }

    /// The block at `index`; nothing behind the end.
    pub(super) fn at(&self, index: u64) -> Result<Option<BlockRef>, TransferError> {
        let mut found = None;
        self.each(|block| {
            if block.index() == index {
                found = Some(block.to_ref());
            }
            Ok::<_, TransferError>(())
        })?;
        Ok(found)
    }

    /// Hands each block to `seen`.
    ///
    /// # Errors
    ///
    /// Those of `seen`, and what the system says.
    pub fn each<E: From<TransferError>>(
        &self,
        seen: impl FnMut(&Block) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.file.path();
        let file = File::open(path).map_err(TransferError::io("read", path))?;
        let report = read(BufReader::with_capacity(256 * 1024, file), seen)?;
        Ok(good(report, &path.display().to_string())?)
    }

    pub(super) fn into_path(self) -> TempPath {
        self.file.into_temp_path()
    }
}

/// Fails unless `report` is about a chain.
fn good(report: VerifyReport, what: &str) -> Result<(), TransferError> {
    match (report.state, report.problem) {
        (LoadState::Readable, _) => Ok(()),
        (_, Some(problem)) => Err(TransferError::Bad {
            what: what.to_owned(),
            problem,
        }),
        (LoadState::Absent, None) => Err(TransferError::Bad {
            what: what.to_owned(),
            problem: Problem::Io("it is not there".to_owned()),
        }),
        (_, None) => Err(TransferError::Empty(what.to_owned())),
    }
}

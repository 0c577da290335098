//! The files of the log: tiles, and the last checkpoint that was signed.
//!
//! ```text
//! storage/tlog/tile/<L>/<N>[.p/<W>]   tiles, as C2SP `tlog-tiles` lays them out
//! storage/tlog/built                  which blocks the tiles are made of
//! storage/tlog/checkpoint             the last checkpoint we signed
//! storage/tlog/cosigned-<size>        those that others cosigned, one for each number of blocks
//! ```
//!
//! The ledger is the truth and tiles are derived: they are not synced to disk, every use of them is checked, and what
//! does not fit is built anew from the ledger. The checkpoint is not derived. It is durable before anyone sees it,
//! and a ledger that does not continue it is an error that nothing here repairs: somebody cut or rewrote it.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::tlog::block_leaf;
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::proof::{Head, ProofError, verify_consistency};
use kairos_protocol::tlog::tile::{
    TILE_WIDTH, TileBuilder, TileId, TileSource, TileTree, parse_tile, tile_bytes,
};
use kairos_protocol::tlog::tree::Frontier;
use serde::{Deserialize, Serialize};

use super::TlogError;
use crate::chain::store::{BlockStore, HISTORY_MAX};
use crate::passing::{FRESH, LOCK};
use crate::{durable, file_lock};

const TILES: &str = "tile";
const BUILT: &str = "built";
/// The last checkpoint we signed.
const SIGNED: &str = "checkpoint";
/// What the files of checkpoints that others cosigned begin with.
const COSIGNED: &str = "cosigned";
/// Most checkpoints that others cosigned.
const COSIGNED_MAX: usize = 64;
/// Where tiles are built anew.
const REBUILT: &str = ".new-tiles";
/// Version of the file `built`.
const VERSION: u32 = 1;

/// Which blocks the tiles are made of. The hash of the last one stands for all before it, as blocks are linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Built {
    v: u32,
    size: u64,
    root: ContentHash,
    tip: ContentHash,
}

/// The files of the log of one ledger.
pub(super) struct TlogStore {
    dir: PathBuf,
    ledger: Arc<dyn BlockStore>,
    /// The last ledger that was found not to continue what was signed. To find that out means to read all of it, which
    /// nobody shall be able to demand again and again.
    refused: Mutex<Option<Refused>>,
}

/// A ledger by its last block, and the head that it does not continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    tip: BlockRef,
    signed: Head,
}

/// Keeps other processes out until it is dropped.
pub(super) struct Held(#[expect(dead_code, reason = "released when closed")] File);

impl TlogStore {
    /// The log in the directory `dir`, which is made when something is first written.
    pub(super) fn new(dir: &Path, ledger: Arc<dyn BlockStore>) -> Self {
        Self {
            dir: dir.to_owned(),
            ledger,
            refused: Mutex::default(),
        }
    }

    /// Takes the lock that every change needs.
    pub(super) fn lock(&self) -> Result<Held, TlogError> {
        let lock = file_lock::hold(&self.dir.join(LOCK));
        lock.map(Held).map_err(TlogError::Io)
    }

    /// The last checkpoint that was signed. One that cannot be read is an error: it may be the only witness of a
    /// history.
    pub(super) fn signed(&self) -> Result<Option<SignedCheckpoint>, TlogError> {
        self.kept(SIGNED)
    }

    /// Keeps a checkpoint as the last one that was signed, durably.
    pub(super) fn keep_signed(
        &self,
        _held: &Held,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), TlogError> {
        self.keep(SIGNED, checkpoint)
    }

    /// The checkpoints that others cosigned, the largest first.
    pub(super) fn cosigned(&self) -> Result<Vec<SignedCheckpoint>, TlogError> {
        let mut cosigned = Vec::new();
        for name in self.names().map_err(TlogError::Io)? {
            if is_cosigned(&name) {
                cosigned.extend(self.kept(&name)?);
            }
        }
        cosigned.sort_by_key(|checkpoint| Reverse(checkpoint.head().size));
        Ok(cosigned)
    }

    /// Keeps a checkpoint with what witnesses added, durably, beside those of other sizes. Where that makes too many,
    /// the smallest of them goes: whoever cosigned a larger one vouched for its beginning as well.
    pub(super) fn keep_cosigned(
        &self,
        _held: &Held,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), TlogError> {
        let size = checkpoint.head().size;
        self.keep(&cosigned_name(size), checkpoint)?;
        let mut others = self.cosigned()?;
        others.retain(|other| other.head().size != size);
        for other in others.iter().skip(COSIGNED_MAX - 1) {
            let path = self.dir.join(cosigned_name(other.head().size));
            absent_is_fine(fs::remove_file(path)).map_err(TlogError::Io)?;
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn kept(&self, name: &str) -> Result<Option<SignedCheckpoint>, TlogError> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => match text.parse() {
                Ok(checkpoint) => Ok(Some(checkpoint)),
                Err(source) => Err(TlogError::Damaged { path, source }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TlogError::Io(error)),
        }
    }

    fn keep(&self, name: &str, checkpoint: &SignedCheckpoint) -> Result<(), TlogError> {
        let (path, text) = (self.dir.join(name), checkpoint.to_string());
        durable::replace(&path, text.as_bytes()).map_err(TlogError::Io)
    }

    /// Brings the tiles up to the ledger, and checks that the ledger continues the checkpoint `signed`. Returns the
    /// head; nothing if there is no ledger yet.
    pub(super) fn catch_up(
        &self,
        held: &Held,
        signed: Option<Head>,
    ) -> Result<Option<Head>, TlogError> {
        let Some(tip) = self.ledger.tip()? else {
            return match signed {
                None => Ok(None),
                Some(signed) => Err(TlogError::Rewritten { signed, blocks: 0 }),
            };
        };
        let length = tip.index.saturating_add(1);
        if let Some(signed) = signed
            && *self.refused() == Some(Refused { tip, signed })
        {
            let blocks = length;
            return Err(TlogError::Rewritten { signed, blocks });
        }
        if let Some(built) = self.built()
            && (built.size, built.tip) == (length, tip.hash)
            && signed.is_some_and(|head| (head.size, head.root) == (built.size, built.root))
        {
            return Ok(signed);
        }
        let found = self.compare_and_build(held, length, signed);
        if let (Some(signed), Err(TlogError::Rewritten { .. })) = (signed, &found) {
            *self.refused() = Some(Refused { tip, signed });
        }
        found
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare_and_build(
        &self,
        held: &Held,
        length: u64,
        signed: Option<Head>,
    ) -> Result<Option<Head>, TlogError> {
        match self.extend(length) {
            Ok(Some(head)) if self.continues(signed, head) => Ok(Some(head)),
            Ok(_) => self.rebuild(held, length, signed).map(Some),
            Err(error @ (TlogError::Tiles(_) | TlogError::Io(_))) => {
                tracing::warn!(%error, "the tiles of the log are not usable");
                self.rebuild(held, length, signed).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the tree of `head`, which is in the tiles, continues that of `signed`.
    fn continues(&self, signed: Option<Head>, head: Head) -> bool {
        let Some(signed) = signed else { return true };
        let mut tree = self.tree(head.size);
        let proof = tree.prove_consistency(signed.size);
        proof.is_ok_and(|proof| verify_consistency(signed, head, &proof).is_ok())
    }

    /// The tree of the first `size` blocks. Only for sizes that the tiles were brought up to.
    pub(super) fn tree(&self, size: u64) -> TileTree<Files> {
        TileTree::new(Files(self.dir.clone()), size)
    }

    /// The block at `index`.
    pub(super) fn block(&self, index: u64) -> Result<Block, TlogError> {
        let block = self.ledger.blocks(index, 1)?.pop();
        block.ok_or(TlogError::NoBlock { index })
    }

    /// Compares the ledger with the head that was `signed`, without a look at the tiles.
    pub(super) fn compare(&self, signed: Head) -> Result<(), TlogError> {
        let mut frontier = Frontier::default();
        let blocks = self
            .ledger
            .tip()?
            .map_or(0, |tip| tip.index.saturating_add(1));
        if blocks >= signed.size {
            self.walk(0, signed.size, |block| {
                frontier.push(block_leaf(&block.hash()));
                Ok(())
            })?;
        }
        match (frontier.size(), frontier.root()) == (signed.size, signed.root) {
            true => Ok(()),
            false => Err(TlogError::Rewritten { signed, blocks }),
        }
    }

    /// Makes the tiles anew, whatever they were.
    pub(super) fn renew(&self, held: &Held, signed: Option<Head>) -> Result<(), TlogError> {
        let tip = self.ledger.tip()?.ok_or(TlogError::NoLedger)?;
        self.rebuild(held, tip.index.saturating_add(1), signed)
            .map(drop)
    }

    fn built(&self) -> Option<Built> {
        let bytes = fs::read(self.dir.join(BUILT)).ok()?;
        let built: Built = serde_json::from_slice(&bytes).ok()?;
        (built.v == VERSION && built.size > 0).then_some(built)
    }

    /// Adds the blocks that the tiles lack; nothing if the tiles are not of this ledger.
    fn extend(&self, length: u64) -> Result<Option<Head>, TlogError> {
        let Some(built) = self.built().filter(|built| built.size <= length) else {
            return Ok(None);
        };
        if self.block(built.size - 1)?.hash() != built.tip {
            return Ok(None);
        }
        let mut builder = TileBuilder::resume(Files(self.dir.clone()), built.size)?;
        let (size, root) = (built.size, built.root);
        if builder.head() != (Head { size, root }) {
            return Ok(None);
        }
        self.add(&self.dir, &mut builder, length, None)?;
        Ok(Some(builder.head()))
    }

    /// Makes all tiles from the ledger, and puts them in place once it is known to continue `signed`.
    fn rebuild(&self, _held: &Held, length: u64, signed: Option<Head>) -> Result<Head, TlogError> {
        tracing::info!(
            blocks = length,
            "building the tiles of the log from the ledger"
        );
        let fresh = self.dir.join(REBUILT);
        remove_dir(&fresh)?;
        let mut builder = TileBuilder::default();
        if let Some(signed) = signed.filter(|signed| signed.size > length) {
            let blocks = length;
            return Err(TlogError::Rewritten { signed, blocks });
        }
        let done = self.add(&fresh, &mut builder, length, signed);
        if let Err(error) = done {
            remove_dir(&fresh)?;
            return Err(error);
        }
        let swap = || {
            let tiles = self.dir.join(TILES);
            // Until `built` is there again, what lies here counts for nothing.
            absent_is_fine(fs::remove_file(self.dir.join(BUILT)))?;
            absent_is_fine(fs::remove_dir_all(&tiles))?;
            fs::rename(fresh.join(TILES), &tiles)?;
            fs::rename(fresh.join(BUILT), self.dir.join(BUILT))?;
            fs::remove_dir_all(&fresh)
        };
        swap().map_err(TlogError::Io)?;
        Ok(builder.head())
    }

    /// Adds blocks to `builder` until it has `length`, and writes the tiles that makes below `dir`. Fails where the tree
    /// is not that of `signed` when it has that size.
    fn add(
        &self,
        dir: &Path,
        builder: &mut TileBuilder,
        length: u64,
        signed: Option<Head>,
    ) -> Result<(), TlogError> {
        let mut tip = None;
        let mut full = Vec::new();
        self.walk(builder.head().size, length, |block| {
            builder.push(block_leaf(&block.hash()), |id, hashes| {
                full.push(id);
                write(&dir.join(id.path()), &tile_bytes(hashes)).map_err(TlogError::Io)
            })?;
            tip = Some(block.hash());
            let due = signed.filter(|signed| signed.size == block.index().saturating_add(1));
            match due.filter(|signed| *signed != builder.head()) {
                None => Ok(()),
                Some(signed) => Err(TlogError::Rewritten {
                    signed,
                    blocks: length,
                }),
            }
        })?;
        let Some(tip) = tip else { return Ok(()) };
        let mut finish = || {
            for (id, hashes) in builder.partial() {
                write(&dir.join(id.path()), &tile_bytes(hashes))?;
            }
            let Head { size, root } = builder.head();
            let built = Built {
                v: VERSION,
                size,
                root,
                tip,
            };
            write(&dir.join(BUILT), &serde_json::to_vec(&built)?)?;
            // What was narrower is contained in what is there now.
            for id in full.drain(..) {
                let narrower = TileId { width: 1, ..id }.path();
                let folder = dir.join(narrower);
                absent_is_fine(fs::remove_dir_all(folder.parent().unwrap_or(&folder)))?;
            }
            for (id, _) in builder.partial() {
                remove_narrower(&dir.join(id.path()), id.width)?;
            }
            io::Result::Ok(())
        };
        finish().map_err(TlogError::Io)
    }

    /// Hands the blocks from `first` to before `end` to `each`.
    fn walk(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(&Block) -> Result<(), TlogError>,
    ) -> Result<(), TlogError> {
        let mut at = first;
        while at < end {
            let limit = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(HISTORY_MAX);
            let blocks = self.ledger.blocks(at, limit)?;
            if blocks.is_empty() {
                return Err(TlogError::NoBlock { index: at });
            }
            for block in &blocks {
                each(block)?;
                at += 1;
            }
        }
        Ok(())
    }
}

/// The tiles below a directory.
pub(super) struct Files(PathBuf);

impl TileSource for Files {
    type Error = TlogError;

    /// Where a tile has grown since, the wider one serves as well.
    fn tile(&mut self, id: TileId) -> Result<Vec<ContentHash>, TlogError> {
        for width in id.width..=TILE_WIDTH {
            let path = self.0.join(TileId { width, ..id }.path());
            match fs::read(path) {
                Ok(bytes) => {
                    let hashes = parse_tile(&bytes);
                    let whole = hashes.filter(|hashes| hashes.len() == usize::from(width));
                    return whole.ok_or(TlogError::Tiles(ProofError::Length));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(TlogError::Io(error)),
            }
        }
        Err(TlogError::Tiles(ProofError::Length))
    }
}

fn cosigned_name(size: u64) -> String {
    format!("{COSIGNED}-{size}")
}

fn is_cosigned(name: &str) -> bool {
    let size = name
        .strip_prefix(COSIGNED)
        .and_then(|rest| rest.strip_prefix('-'));
    size.is_some_and(|size| size.parse::<u64>().is_ok())
}

/// Writes a file beside its place and renames it in. Not synced: see the module.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// Removes the partial tiles beside `path` that are narrower than `width`.
fn remove_narrower(path: &Path, width: u16) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let other: Option<u16> = name.to_str().and_then(|name| name.parse().ok());
        if other.is_some_and(|other| other < width) {
            absent_is_fine(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn remove_dir(path: &Path) -> Result<(), TlogError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(TlogError::Io)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

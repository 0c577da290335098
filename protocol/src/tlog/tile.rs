//! Tiles: the hashes of a tree in files of 256, and proofs made from a few of them.
//!
//! A tile of level 0 holds leaves; each hash of a tile of level 1 is the root over a full tile of level 0, and so
//! on. The hashes in between are computed when they are needed. See C2SP `tlog-tiles`.

use std::collections::HashMap;

use super::proof::{Head, ProofError};
use super::tree::{Frontier, node_hash};
use crate::hash::ContentHash;

/// Hashes of a full tile.
pub const TILE_WIDTH: u16 = 256;
/// Levels of a tree that one tile spans: the logarithm of [`TILE_WIDTH`].
const TILE_HEIGHT: u32 = 8;
/// Bytes of one hash in a tile.
pub const HASH_BYTES: usize = 32;

/// Names a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// 0 for leaves.
    pub level: u8,
    /// Its position on the level.
    pub index: u64,
    /// How many hashes it holds: 1 to [`TILE_WIDTH`].
    pub width: u16,
}

impl TileId {
    /// Whether there are hashes to come.
    pub fn is_partial(&self) -> bool {
        self.width < TILE_WIDTH
    }

    /// Where the tile is kept, below the directory of the log: `tile/<L>/<N>[.p/<W>]`.
    pub fn path(&self) -> String {
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        let path = format!("tile/{}/{}", self.level, groups.join("/"));
        match self.is_partial() {
            true => format!("{path}.p/{}", self.width),
            false => path,
        }
    }
}

/// Where tiles come from.
pub trait TileSource {
    /// Why a tile did not come.
    type Error: From<ProofError>;

    /// The hashes of a tile, at least as many as its width says.
    fn tile(&mut self, id: TileId) -> Result<Vec<ContentHash>, Self::Error>;
}

/// A tree of known size whose hashes are read from tiles. Each tile is read once.
pub struct TileTree<S> {
    source: S,
    size: u64,
    read: HashMap<(u8, u64), Vec<ContentHash>>,
}

impl<S: TileSource> TileTree<S> {
    /// The tree of the first `size` leaves.
    pub fn new(source: S, size: u64) -> Self {
        Self {
            source,
            size,
            read: HashMap::new(),
        }
    }

    /// The right edge, from which the tree can grow.
    pub fn frontier(&mut self) -> Result<Frontier, S::Error> {
        let mut roots = Vec::new();
        let mut begin = 0;
        for height in (0..u64::BITS).rev() {
            if self.size >> height & 1 == 1 {
                roots.push(self.complete(height, begin >> height)?);
                begin += 1 << height;
            }
        }
        Frontier::of(self.size, roots).ok_or_else(|| ProofError::Length.into())
    }

    /// Number of leaves, and the root over them.
    pub fn head(&mut self) -> Result<Head, S::Error> {
        let root = self.frontier()?.root();
        let size = self.size;
        Ok(Head { size, root })
    }

    /// The leaf at `index`.
    pub fn leaf(&mut self, index: u64) -> Result<ContentHash, S::Error> {
        let size = self.size;
        match index < size {
            true => self.complete(0, index),
            false => Err(ProofError::OutOfRange { index, size }.into()),
        }
    }

    /// The hashes that show that the leaf at `index` is in the tree, from its sibling upwards.
    pub fn prove_inclusion(&mut self, index: u64) -> Result<Vec<ContentHash>, S::Error> {
        let size = self.size;
        if index >= size {
            return Err(ProofError::OutOfRange { index, size }.into());
        }
        let (mut begin, mut end) = (0, size);
        let mut proof = Vec::new();
        while end - begin > 1 {
            let middle = begin + left_half(end - begin);
            if index < middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(begin, middle)?);
                begin = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// The hashes that show that the tree begins with its first `old` leaves.
    pub fn prove_consistency(&mut self, old: u64) -> Result<Vec<ContentHash>, S::Error> {
        let new = self.size;
        if old > new {
            return Err(ProofError::Backwards { old, new }.into());
        }
        let mut proof = Vec::new();
        if old == 0 || old == new {
            return Ok(proof);
        }
        let (mut begin, mut end) = (0, new);
        // Ends where the old tree does, since that end is the right end of some subtree.
        while old != end {
            let middle = begin + left_half(end - begin);
            if old <= middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(begin, middle)?);
                begin = middle;
            }
        }
        // The whole old tree needs no hash: its root is known to whoever asks.
        if begin > 0 {
            proof.push(self.range(begin, end)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The root over the leaves from `begin` to before `end`, a subtree of a tree in which `begin` is a multiple of
    /// the largest power of two not above its size.
    fn range(&mut self, mut begin: u64, end: u64) -> Result<ContentHash, S::Error> {
        let mut subtrees = Vec::new();
        while begin < end {
            let size = match (end - begin).is_power_of_two() {
                true => end - begin,
                false => left_half(end - begin),
            };
            let height = size.trailing_zeros();
            subtrees.push(self.complete(height, begin >> height)?);
            begin += size;
        }
        let last = subtrees.pop().ok_or(ProofError::Length)?;
        let folded = subtrees.iter().rev();
        Ok(folded.fold(last, |right, left| node_hash(left, &right)))
    }

    /// The root of the `index`th complete subtree with 2^`height` leaves.
    fn complete(&mut self, height: u32, index: u64) -> Result<ContentHash, S::Error> {
        let level = u8::try_from(height / TILE_HEIGHT).unwrap_or(u8::MAX);
        let (above, width) = (height % TILE_HEIGHT, u64::from(TILE_WIDTH));
        let first = index << above;
        let hashes = self.tile(level, first / width)?;
        let offset = usize::try_from(first % width).unwrap_or(usize::MAX);
        let part = hashes.get(offset..offset.saturating_add(1 << above));
        part.and_then(subtree_root)
            .ok_or_else(|| ProofError::Length.into())
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[ContentHash], S::Error> {
        if !self.read.contains_key(&(level, index)) {
            let on_level = self.size >> (TILE_HEIGHT * u32::from(level));
            let left = on_level.saturating_sub(index.saturating_mul(u64::from(TILE_WIDTH)));
            let width = u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
            let id = TileId {
                level,
                index,
                width,
            };
            let hashes = match width {
                0 => return Err(ProofError::Length.into()),
                _ => self.source.tile(id)?,
            };
            self.read.insert((level, index), hashes);
        }
        let read = self.read.get(&(level, index));
        Ok(read.map(Vec::as_slice).unwrap_or_default())
    }
}

/// The largest power of two below `size`, which is at least 2: how RFC 6962 splits a tree.
fn left_half(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root over a power of two of hashes.
fn subtree_root(hashes: &[ContentHash]) -> Option<ContentHash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        more => {
            let (left, right) = more.split_at_checked(more.len() / 2)?;
            Some(node_hash(&subtree_root(left)?, &subtree_root(right)?))
        }
    }
}

/// Adds leaves to a tree and says which tiles that makes.
#[derive(Debug, Clone, Default)]
pub struct TileBuilder {
    frontier: Frontier,
    /// The unfinished tile of each level.
    edge: Vec<Vec<ContentHash>>,
}

impl TileBuilder {
    /// Goes on behind the tree of the first `size` leaves whose tiles `source` has.
    pub fn resume<S: TileSource>(source: S, size: u64) -> Result<Self, S::Error> {
        let mut tree = TileTree::new(source, size);
        let frontier = tree.frontier()?;
        let mut edge = Vec::new();
        let mut level = 0;
        let mut on_level = size;
        while on_level > 0 {
            let width = u64::from(TILE_WIDTH);
            let partial = usize::try_from(on_level % width).unwrap_or_default();
            let mut hashes = match partial {
                0 => Vec::new(),
                _ => tree.tile(level, on_level / width)?.to_vec(),
            };
            hashes.truncate(partial);
            edge.push(hashes);
            level += 1;
            on_level >>= TILE_HEIGHT;
        }
        Ok(Self { frontier, edge })
    }

    /// The tree so far.
    pub fn head(&self) -> Head {
        Head {
            size: self.frontier.size(),
            root: self.frontier.root(),
        }
    }

    /// Adds a leaf. Hands each tile that it completes to `full`.
    pub fn push<E>(
        &mut self,
        leaf: ContentHash,
        mut full: impl FnMut(TileId, &[ContentHash]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.frontier.push(leaf);
        let mut carried = Some(leaf);
        let mut level = 0_u8;
        while let Some(hash) = carried.take() {
            if self.edge.len() == usize::from(level) {
                self.edge.push(Vec::new());
            }
            let Some(tile) = self.edge.get_mut(usize::from(level)) else {
                break;
            };
            tile.push(hash);
            if tile.len() == usize::from(TILE_WIDTH) {
                let on_level = self.frontier.size() >> (TILE_HEIGHT * u32::from(level));
                let id = TileId {
                    level,
                    index: (on_level / u64::from(TILE_WIDTH)).saturating_sub(1),
                    width: TILE_WIDTH,
                };
                full(id, tile)?;
                carried = subtree_root(tile);
                tile.clear();
            }
            level += 1;
        }
        Ok(())
    }

    /// The unfinished tiles, leaves first.
    pub fn partial(&self) -> impl Iterator<Item = (TileId, &[ContentHash])> {
        let levels = self.edge.iter().zip(0_u8..);
        levels
            .filter(|(tile, _)| !tile.is_empty())
            .map(|(tile, level)| {
                let on_level = self.frontier.size() >> (TILE_HEIGHT * u32::from(level));
                let id = TileId {
                    level,
                    index: on_level / u64::from(TILE_WIDTH),
                    width: u16::try_from(tile.len()).unwrap_or(TILE_WIDTH),
                };
                (id, tile.as_slice())
            })
    }
}

/// A tile as bytes.
pub fn tile_bytes(hashes: &[ContentHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The hashes in the bytes of a tile; nothing if they are not a whole number of hashes from 1 to [`TILE_WIDTH`].
pub fn parse_tile(bytes: &[u8]) -> Option<Vec<ContentHash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    let whole = rest.is_empty() && (1..=usize::from(TILE_WIDTH)).contains(&hashes.len());
    whole.then(|| hashes.iter().map(|hash| ContentHash::from(*hash)).collect())
}

#[cfg(test)]
mod tests;

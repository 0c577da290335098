//! Values while code is evaluated. They live in one heap that ends with the evaluation, so nothing is dropped in
//! depth, and a list that contains itself leaks nothing.

use std::sync::Arc;

/// A value; texts, lists and hashes are places in the heap.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(TextId),
    Symbol(TextId),
    Array(ArrayId),
    Map(MapId),
    Range { from: i64, to: i64, exclusive: bool },
    Lambda(LambdaId),
    Error(ErrorId),
    Object(Object),
}

/// What the law and the host are made of, as code sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// A skill, by its place in the law.
    Skill(usize),
    /// The behavior of a skill.
    Behavior(usize),
    /// The rules of a skill.
    Rules(usize),
    Ledger,
    Blocks,
    /// The first or the last block.
    Block {
        last: bool,
    },
    /// What the grammar made of a text that is Ruby.
    Parsed,
}

/// A text in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextId(u32);
/// A list in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ArrayId(u32);
/// A hash in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapId(u32);
/// A lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LambdaId(pub(super) usize);
/// An error that was rescued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ErrorId(pub(super) usize);

impl Value {
    pub(super) fn is_truthy(self) -> bool {
        !matches!(self, Self::Nil | Self::Bool(false))
    }
}

/// All texts, lists and hashes.
#[derive(Debug, Default)]
pub(super) struct Heap {
    texts: Vec<Arc<str>>,
    arrays: Vec<Vec<Value>>,
    maps: Vec<Vec<(Value, Value)>>,
}

/// The number of the next of so many.
///
/// The bytes of an evaluation are bounded far below what would exceed 32 bits.
fn next(so_far: usize) -> u32 {
    u32::try_from(so_far).unwrap_or(u32::MAX)
}

fn place(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

impl Heap {
    pub(super) fn add_text(&mut self, text: Arc<str>) -> TextId {
        let id = TextId(next(self.texts.len()));
        self.texts.push(text);
        id
    }

    pub(super) fn add_array(&mut self, items: Vec<Value>) -> ArrayId {
        let id = ArrayId(next(self.arrays.len()));
        self.arrays.push(items);
        id
    }

    pub(super) fn add_map(&mut self, pairs: Vec<(Value, Value)>) -> MapId {
        let id = MapId(next(self.maps.len()));
        self.maps.push(pairs);
        id
    }

    pub(super) fn text(&self, id: TextId) -> Arc<str> {
        self.texts.get(place(id.0)).cloned().unwrap_or_default()
    }

    pub(super) fn str(&self, id: TextId) -> &str {
        self.texts
            .get(place(id.0))
            .map(|text| &**text)
            .unwrap_or_default()
    }

    pub(super) fn array(&self, id: ArrayId) -> &[Value] {
        self.arrays
            .get(place(id.0))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    pub(super) fn array_mut(&mut self, id: ArrayId) -> Option<&mut Vec<Value>> {
        self.arrays.get_mut(place(id.0))
    }

    pub(super) fn map(&self, id: MapId) -> &[(Value, Value)] {
        self.maps
            .get(place(id.0))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    pub(super) fn map_mut(&mut self, id: MapId) -> Option<&mut Vec<(Value, Value)>> {
        self.maps.get_mut(place(id.0))
    }
}

//! The hash chain of this node.

pub mod store;

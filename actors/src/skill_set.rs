//! SkillSets.

mod error;
pub mod store;

pub use error::SkillSetError;

//! What is fuzzed, for libFuzzer and for the plain runner alike.
//!
//! Each module has one `run`, which takes any bytes and panics where the code under test breaks a promise. It returns
//! a few words on what came of the input: the plain runner keeps inputs that lead somewhere new.

pub mod archive;
pub mod backup;
pub mod dsl;
pub mod envelope;
pub mod eval;
pub mod extension;
pub mod frontmatter;
pub mod ledger;
pub mod ledger_text;
pub mod proposal;
pub mod records;
pub mod relay;
pub mod resource;
pub mod skillset_json;
pub mod state;
pub mod tlog;
pub mod tokens;

/// The first words of an error; what follows is mostly made of the input.
fn words(error: impl std::fmt::Display) -> String {
    error.to_string().chars().take(40).collect()
}

/// A fuzz target.
pub type Target = fn(&[u8]) -> String;

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("archive", archive::run),
    ("backup", backup::run),
    ("dsl", dsl::run),
    ("envelope", envelope::run),
    ("eval", eval::run),
    ("extension", extension::run),
    ("frontmatter", frontmatter::run),
    ("ledger", ledger::run),
    ("ledger_text", ledger_text::run),
    ("proposal", proposal::run),
    ("records", records::run),
    ("relay", relay::run),
    ("resource", resource::run),
    ("skillset_json", skillset_json::run),
    ("state", state::run),
    ("tlog", tlog::run),
    ("tokens", tokens::run),
];

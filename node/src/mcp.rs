//! The MCP door: a language model asks for what its owner could ask for at the command line, and the owner stays in
//! charge.
//!
//! Like every door it extracts, checks the caller, asks a handle and maps the answer. What the protocol says is the
//! business of the SDK; here is what tools there are ([`tools`]), what each takes and gives ([`tool`]), who may call
//! which ([`call`]), how a person is asked ([`consent`]), what can be
//! read by name ([`resources`], [`skills`]), which guides there are ([`prompts`]), and how lines come in and go out ([`stdio`]).
//!
//! Nothing that a model says is a person's consent: no argument of a tool decides about a proposal.

pub mod agent;
pub mod call;
mod consent;
mod failure;
mod law;
pub mod message;
mod page;
mod prompts;
mod resources;
mod schema;
pub mod server;
mod skills;
pub mod stdio;
pub mod tool;
mod tools;
mod watch;

pub use agent::AgentDoor;
pub use watch::{Stamp, Stamps};

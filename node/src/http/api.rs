//! Routes below `/api/v1`: for people and programs that act for this agent's owner, with a bearer token.
//!
//! Their tokens are those of [`kairos_actors::auth`], not sessions of peers. `/mcp` will take the same ones.

pub(super) mod approvals;
pub(super) mod guard;
pub(super) mod whoami;

//! Rules of the doors at which strangers knock: deterministic, synchronous, the time is an argument.
//!
//! [`session`] keeps who may come in and how often; [`allowance`] bounds what one address may ask for;
//! [`network`] says what an address is; [`quota`] bounds what is
//! done by one key, from one address and in all;
//! [`nonce`] hands out challenges that are good once; [`token`] tells who acts for the owner, and [`role`] what they
//! may do; [`proposal`] is what a person has yet to decide; [`relay`] lets sealed messages wait for agents that cannot be
//! reached; [`member`] tells an agent when to do what at a Place it joined. Nothing here knows HTTP, actors or, save the stores of the relay, files.
#![warn(missing_docs)]

pub mod allowance;
pub mod meeting_place;
pub mod member;
pub mod network;
pub mod nonce;
pub mod proposal;
pub mod quota;
pub mod relay;
pub mod role;
pub mod session;
pub mod token;

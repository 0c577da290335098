//! The kairos-chain binary as a library: command line, configuration, HTTP, MCP.

pub mod agent;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod condition;
pub mod config;
pub mod crash;
pub mod data_dir;
pub mod doctor;
pub mod hosted;
pub mod hosting;
pub mod http;
pub mod identity;
pub mod local;
pub mod mcp;
pub mod metrics;
pub mod node;
pub mod operate;
pub mod reload;
pub mod rlimits;
pub mod room;
pub mod serving;
pub mod status;
pub mod telemetry;
pub mod upgrade;
pub mod watchdog;

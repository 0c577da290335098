//! `kairos-deploy`: makes the container image, and tries networks of containers.
//!
//! It knows the program only as its users do: as a file to run, and by what it prints.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod build;
mod compose;
mod elf;
mod image;
mod process;
mod testnet;

/// Make the container image of kairos-chain, and try networks of containers
#[derive(Debug, Parser)]
#[command(name = "kairos-deploy", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the static program and make a container image of it, the same bytes each time
    Image(image::ImageArgs),
    /// Print a Compose file for a network of agents and Meeting Places
    Compose(compose::ComposeArgs),
    /// Bring a network of containers up, have things go wrong in it, and say what came of it
    Testnet(testnet::TestnetArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Image(args) => image::run(&args),
        Command::Compose(args) => compose::run(&args),
        Command::Testnet(args) => testnet::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            process::note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

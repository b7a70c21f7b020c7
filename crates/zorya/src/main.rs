//! `zorya`: the one binary. Every process of a region is a subcommand of it, and so is the operator's tool.

mod agent_client;
mod cli;
mod commands;
mod exit;
mod output;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let code = exit::code(&error);
            eprintln!("zorya: {error:#}");
            code
        }
    }
}

//! `zorya`: the one binary. Every process of a region is a subcommand of it, and so is the operator's tool.

mod agent_client;
mod cli;
mod commands;
mod exit;
mod output;
mod wiring;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// A storage node and a mount allocate for every message; the system's allocator grows and shrinks its arenas meanwhile,
/// with system calls that stop the process's other threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Where it cannot be said, on a full disk for one, the code still tells; `eprintln` would panic.
            let _ = writeln!(std::io::stderr(), "zorya: {error:#}");
            exit::code(&error)
        }
    }
}

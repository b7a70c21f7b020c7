//! `zorya storage-node` and `zorya mount`: the processes that the agent starts.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use zorya_compute::key;

use crate::cli::{Mount, StorageNode};
use crate::wiring;

/// Runs a storage node until it is told to stop.
pub fn storage_node(options: StorageNode) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let key = key::read(&options.key_file)?;
    wiring::storage_node(options, key)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a mount daemon until it is told to stop.
pub fn mount(options: Mount) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let key = key::read(&options.key_file)?;
    wiring::mount(options, key)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes this process's log to stderr, which its supervisor has put where it belongs. `RUST_LOG` says how much.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,fuser=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A log on a full disk loses lines. Telling stderr of it, as is the default, would panic: stderr is that log.
    log.log_internal_errors(false).init();
}

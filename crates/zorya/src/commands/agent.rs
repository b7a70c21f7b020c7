//! `zorya agent`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use zorya_compute::agent::{self, AgentOptions};
use zorya_compute::key;

use super::Invocation;
use super::processes::log_to_stderr;
use crate::wiring::StorageVolumes;

/// Runs the supervisor until it is asked to end.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let runtime = runtime()?;
    let options = options(invocation)?;
    let outcome = runtime.block_on(agent::run(options));
    // A thread that waits in a mount which never answers must not keep the agent from ending.
    runtime.shutdown_background();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// The runtime of the agent and of whoever stands in for it.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the event loop")
}

/// What an agent of this home needs.
pub fn options(invocation: &Invocation) -> anyhow::Result<AgentOptions> {
    let key = key::read(&invocation.home.key_file())?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(AgentOptions { home: invocation.home.clone(), program, volumes: Arc::new(StorageVolumes::new(key)) })
}

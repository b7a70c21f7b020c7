//! `zorya down`: by the agent if one runs, else in its place.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use zorya_compute::agent::lock;
use zorya_compute::agent::protocol::Request;
use zorya_compute::agent::take_down;

use super::{Invocation, agent};
use crate::agent_client;
use crate::exit::NoAgent;

/// How long an agent may take to end once everything is stopped.
const AGENT_END: Duration = Duration::from_secs(15);

/// Stops everything.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    if !invocation.home.region_file().exists() {
        return invocation.say(&json!({ "state": "stopped" }), "there is no region here; nothing runs");
    }
    bring_down(invocation)?;
    invocation.say(&json!({ "state": "stopped" }), "everything is stopped")
}

/// Stops everything and waits until nothing is left, the agent included.
pub fn bring_down(invocation: &Invocation) -> anyhow::Result<()> {
    let home = &invocation.home;
    match agent_client::ask(home, Request::Shutdown {}, |_| {}) {
        Ok(_) => return wait_for_agent(invocation),
        Err(error) if error.is::<NoAgent>() => {}
        // It may have ended while it was asked, or have been killed: then the rest is done here.
        Err(error) if !agent_client::is_there(home) => drop(error),
        Err(error) => return Err(error),
    }
    wait_for_agent(invocation)?;
    let runtime = agent::runtime()?;
    let outcome = runtime.block_on(take_down(agent::options(invocation)?));
    runtime.shutdown_background();
    Ok(outcome?)
}

fn wait_for_agent(invocation: &Invocation) -> anyhow::Result<()> {
    let asked = Instant::now();
    while let Some(pid) = lock::holder(&invocation.home.lock_file()) {
        if asked.elapsed() > AGENT_END {
            bail!(
                "process {pid} still holds {}: end it, then try again",
                invocation.home.lock_file().display()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

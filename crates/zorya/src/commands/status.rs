//! `zorya status`: what the agent knows, or, without one, what can be seen.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use zorya_compute::agent::protocol::Request;
use zorya_compute::agent::status::{self, Document};
use zorya_compute::key;
use zorya_compute::volumes::Volumes;

use super::Invocation;
use crate::agent_client;
use crate::cli::Output;
use crate::exit::NoAgent;
use crate::wiring::StorageVolumes;

/// Shows everything.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let document = document(invocation)?;
    match invocation.output {
        Output::Json => crate::output::json(&document)?,
        Output::Table => crate::output::text(&crate::output::document(&document))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The state of everything.
pub fn document(invocation: &Invocation) -> anyhow::Result<Document> {
    match agent_client::ask(&invocation.home, Request::Status {}, |_| {}) {
        Ok(value) => serde_json::from_value(value)
            .context("the agent's answer is malformed: is it another version of zorya?"),
        Err(error) if error.is::<NoAgent>() => look(invocation),
        // It was dying while it was asked.
        Err(_) if !agent_client::is_there(&invocation.home) => look(invocation),
        Err(error) => Err(error),
    }
}

fn look(invocation: &Invocation) -> anyhow::Result<Document> {
    let region = invocation.region()?;
    let volumes: Arc<dyn Volumes> = Arc::new(StorageVolumes::new(key::read(&invocation.home.key_file())?));
    let seen = status::look(&invocation.home, &region, &volumes);
    Ok(status::document(&invocation.home, &region, &seen))
}

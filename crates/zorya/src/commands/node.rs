//! `zorya node …`.

use std::process::ExitCode;

use serde_json::json;
use zorya_compute::agent::protocol::Request;

use super::{Invocation, status};
use crate::cli::{Node, Output};

/// Does what is asked of storage nodes.
pub fn run(invocation: &Invocation, command: Node) -> anyhow::Result<ExitCode> {
    match command {
        Node::List => list(invocation),
        Node::Start { id, wait } => {
            invocation.ask(Request::StartNode { id: id.clone(), wait_seconds: wait.seconds })?;
            invocation.say(&json!({ "id": id, "state": "running" }), &format!("storage node {id} runs"))
        }
        Node::Stop { id } => {
            let value = invocation.ask(Request::StopNode { id: id.clone() })?;
            invocation.say(&value, &format!("storage node {id} is stopped"))
        }
        Node::Kill { id } => {
            let value = invocation.ask(Request::KillNode { id: id.clone() })?;
            invocation.say(
                &value,
                &format!("storage node {id} is killed and stays stopped until `zorya node start {id}`"),
            )
        }
    }
}

fn list(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let document = status::document(invocation)?;
    match invocation.output {
        Output::Json => crate::output::json(&document.nodes)?,
        Output::Table => crate::output::text(&crate::output::nodes(&document))?,
    }
    Ok(ExitCode::SUCCESS)
}

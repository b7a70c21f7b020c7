//! Asking the agent.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use serde_json::Value;
use zorya_compute::agent::protocol::{Envelope, Progress, Reply, Request, VERSION};
use zorya_compute::home::Home;

use crate::exit::NoAgent;

/// Whether an agent answers connections now.
pub fn is_there(home: &Home) -> bool {
    UnixStream::connect(home.socket()).is_ok()
}

/// Asks the agent and waits for the outcome; progress is told on the way.
pub fn ask(home: &Home, request: Request, mut tell: impl FnMut(&Progress)) -> anyhow::Result<Value> {
    let mut stream = match UnixStream::connect(home.socket()) {
        Ok(stream) => stream,
        Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            bail!(NoAgent { home: home.root().display().to_string() })
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot connect to {}", home.socket().display()));
        }
    };
    let mut line = serde_json::to_vec(&Envelope { version: VERSION, request })?;
    line.push(b'\n');
    stream.write_all(&line).context("cannot ask the agent")?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("the agent went away before it answered: see `zorya status`")?;
        match serde_json::from_str(&line)
            .context("the agent's answer is malformed: is it another version of zorya?")?
        {
            Reply::Progress(progress) => tell(&progress),
            Reply::Done(value) => return Ok(value),
            Reply::Failed(failure) => return Err(failure.into()),
        }
    }
    bail!("the agent went away before it answered: see `zorya status`")
}

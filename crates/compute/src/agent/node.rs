//! Supervises one storage node.
//!
//! ```text
//!            start / adopt            listens               dies
//!  stopped ───────────────▶ starting ─────────▶ running ──────────▶ restarting ──▶ starting
//!     ▲                                            │                    └─ crash loop ─▶ failed
//!     └──────────────── stop, kill ────────────────┘
//! ```
//! A node that does not answer is shown as such and left alone: its peers make up for it, and it catches up later.

use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Shared, Want, Wish};
use crate::home::make_dir;
use crate::logs;
use crate::ports;
use crate::process::{self, Entry, Exit, Process, Spawn};
use crate::region::{NodeSpec, Region};
use crate::restart::{Decision, RestartPolicy};
use crate::volumes::{NodeReport, VolumesError};

/// How long a node may take to stop in order.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often a starting node's status file is looked at.
const READY_POLL: Duration = Duration::from_millis(10);
/// How often a running node is asked for its state, and how long it may take.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodePhase {
    /// Its process runs but does not listen yet.
    Starting,
    /// It listens.
    Running,
    /// Its process runs but does not answer.
    Unresponsive,
    /// It died and will be started again.
    Restarting,
    /// It was stopped by an operator, or the region is down.
    Stopped,
    /// It dies again and again.
    Failed,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// How it is.
    pub phase: NodePhase,
    /// Its process, while there is one.
    pub pid: Option<i32>,
    /// Why it is as it is, when that needs saying.
    pub reason: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// What it last said of itself; `None` while it does not answer.
    pub report: Option<NodeReport>,
}

/// A supervised node.
pub struct NodeHandle {
    /// What it is.
    pub spec: NodeSpec,
    /// What is wished of it.
    pub wish: watch::Sender<Wish>,
    /// How it is.
    pub state: watch::Receiver<NodeState>,
}

impl NodeHandle {
    /// Stops the node and waits until it is.
    pub fn stop(&self) -> impl Future<Output = ()> + use<> {
        super::wish(&self.wish, Want::Stopped);
        let mut state = self.state.clone();
        async move {
            // An error means that the supervisor is gone, and with it the runtime.
            let _ = state.wait_for(|state| state.phase == NodePhase::Stopped && state.pid.is_none()).await;
        }
    }
}

/// Starts supervising a node.
pub fn supervise(shared: Arc<Shared>, spec: NodeSpec, wish: Wish) -> NodeHandle {
    let (state, seen) = watch::channel(NodeState {
        phase: NodePhase::Starting,
        pid: None,
        reason: None,
        restarts: 0,
        report: None,
    });
    let (wish, wished) = watch::channel(wish);
    let supervisor = Supervisor { shared, spec: spec.clone(), state, policy: RestartPolicy::default() };
    tokio::spawn(supervisor.run(wished));
    NodeHandle { spec, wish, state: seen }
}

struct Supervisor {
    shared: Arc<Shared>,
    spec: NodeSpec,
    state: watch::Sender<NodeState>,
    policy: RestartPolicy,
}

impl Supervisor {
    async fn run(mut self, mut wished: watch::Receiver<Wish>) {
        let mut process = self.adopt();
        loop {
            let wish = *wished.borrow_and_update();
            match wish.want {
                Want::Running => match self.keep_running(&mut process, &mut wished).await {
                    Ok(()) => {}
                    Err(SupervisorGone) => return,
                },
                Want::Stopped => self.end(process.take(), Signal::TERM, "").await,
                Want::Killed => self.end(process.take(), Signal::KILL, "killed by an operator").await,
                Want::Deleted => return self.end(process.take(), Signal::TERM, "").await,
            }
            if wish.want != Want::Running && wished.changed().await.is_err() {
                return;
            }
        }
    }

    /// Starts the node and keeps it running until something else is wished.
    async fn keep_running(
        &mut self,
        process: &mut Option<Process>,
        wished: &mut watch::Receiver<Wish>,
    ) -> Result<(), SupervisorGone> {
        let running = match process {
            Some(process) => process.clone(),
            None => match self.spawn() {
                Ok(started) => process.insert(started).clone(),
                Err(reason) => {
                    self.publish(NodePhase::Failed, None, Some(reason));
                    return changed(wished).await;
                }
            },
        };
        self.publish(NodePhase::Starting, Some(running.pid()), None);
        let exit = tokio::select! {
            exit = running.exited() => exit,
            never = self.serve(&running) => match never {},
            gone = changed_away(wished) => return gone,
        };
        *process = None;
        self.died(&running, exit, wished).await
    }

    async fn died(
        &mut self,
        process: &Process,
        exit: Exit,
        wished: &mut watch::Receiver<Wish>,
    ) -> Result<(), SupervisorGone> {
        let id = &self.spec.id;
        tracing::warn!(node = %id, pid = process.pid(), %exit, "a storage node died");
        match self.policy.died(exit, process.held_for()) {
            Decision::RestartAfter(delay) => {
                let reason = format!("it {exit}");
                self.publish(NodePhase::Restarting, None, Some(reason));
                self.state.send_modify(|state| state.restarts += 1);
                tokio::select! {
                    () = tokio::time::sleep(delay) => Ok(()),
                    gone = changed(wished) => gone,
                }
            }
            Decision::GiveUp => {
                let last = logs::tail(&self.shared.home.node_log(&id.0), 5).join("\n");
                let reason = format!(
                    "it {exit}; when the cause is mended: zorya node start {id}\nits log ends with:\n{last}"
                );
                self.publish(NodePhase::Failed, None, Some(reason));
                let gone = changed(wished).await;
                self.policy.reset();
                gone
            }
        }
    }

    /// Waits until the process listens, then asks it for its state again and again.
    async fn serve(&self, process: &Process) -> std::convert::Infallible {
        let mut asked = Instant::now();
        while !self.listens(process) {
            tokio::time::sleep(READY_POLL).await;
            // On a full disk it listens and cannot say so in its file.
            if asked.elapsed() >= REPORT_EVERY {
                if matches!(self.report().await, Some(Ok(_))) {
                    break;
                }
                asked = Instant::now();
            }
        }
        self.publish(NodePhase::Running, Some(process.pid()), None);
        loop {
            match self.report().await {
                Some(Ok(report)) => self.publish_report(process, Some(report), None),
                Some(Err(error)) => self.publish_report(process, None, Some(chain(&error))),
                None => {}
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    }

    /// Asks the node for its state; `None` if the asking itself came to nothing.
    async fn report(&self) -> Option<Result<NodeReport, VolumesError>> {
        let (volumes, address) = (self.shared.volumes.clone(), self.spec.address());
        tokio::task::spawn_blocking(move || volumes.report(&address, REPORT_EVERY)).await.ok()
    }

    /// Whether the status file is this process's own.
    fn listens(&self, process: &Process) -> bool {
        #[derive(Deserialize)]
        struct Ready {
            pid: i32,
        }
        let path = self.shared.home.node_status(&self.spec.id.0);
        let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Ready>(&bytes).ok());
        read.is_some_and(|ready| ready.pid == process.pid())
    }

    fn adopt(&self) -> Option<Process> {
        let status = self.shared.home.node_status(&self.spec.id.0);
        let arguments = [OsStr::new("--status-file"), status.as_os_str()];
        let found = process::by_arguments(nix::unistd::geteuid().as_raw(), &arguments)?;
        tracing::info!(node = %self.spec.id, pid = found.pid(), "adopted a storage node");
        Some(found)
    }

    /// Picks and keeps another port if somebody else took this node's before it ever listened. Later its volumes
    /// remember the address, and it stays.
    fn free_port(&mut self) -> Result<(), String> {
        let spec = &self.spec;
        let Some((host, port)) = spec.listen.rsplit_once(':') else { return Ok(()) };
        let Ok(port) = port.parse() else { return Ok(()) };
        let has_listened = self.shared.home.node_status(&spec.id.0).exists();
        if has_listened || spec.netns.is_some() || ports::is_free(host, port) {
            return Ok(());
        }
        let taken = |node: &NodeSpec| node.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let reserved = self.shared.region().nodes.iter().filter_map(taken).collect();
        let first = ports::first_node_port(self.shared.home.root());
        let picked = ports::pick(host, first, &reserved).map_err(|error| chain(&error))?;
        let (id, listen) = (spec.id.clone(), format!("{host}:{picked}"));
        tracing::warn!(node = %id, taken = port, picked, "the port is taken; using another");
        let keep = |region: &mut Region| {
            region
                .nodes
                .iter_mut()
                .filter(|node| node.id == id)
                .for_each(|node| node.listen = listen.clone());
        };
        self.shared.store.update(keep).map_err(|error| chain(&error))?;
        self.spec.listen = listen;
        Ok(())
    }

    fn spawn(&mut self) -> Result<Process, String> {
        self.free_port()?;
        let home = &self.shared.home;
        let id = &self.spec.id.0;
        make_dir(&home.node(id), 0o700).map_err(|error| chain(&error))?;
        make_dir(&self.spec.data, 0o700).map_err(|error| chain(&error))?;
        let mut what = Spawn::new(self.shared.program.clone(), home.node_log(id))
            .argument("storage-node")
            .option("--id", id)
            .option("--zone", &self.spec.zone)
            .option("--data", &self.spec.data)
            .option("--listen", &self.spec.listen)
            .option("--key-file", home.key_file())
            .option("--status-file", home.node_status(id));
        what.entry = Entry::default().network(self.spec.netns.as_deref()).map_err(|error| chain(&error))?;
        process::spawn(what).map_err(|error| chain(&error))
    }

    async fn end(&self, process: Option<Process>, signal: Signal, reason: &str) {
        if let Some(process) = process {
            process.end(signal, STOP_GRACE).await;
        }
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        self.publish(NodePhase::Stopped, None, reason);
    }

    fn publish(&self, phase: NodePhase, pid: Option<i32>, reason: Option<String>) {
        self.state.send_modify(|state| {
            *state = NodeState { phase, pid, reason, restarts: state.restarts, report: None };
        });
        self.shared.touch();
    }

    fn publish_report(&self, process: &Process, report: Option<NodeReport>, reason: Option<String>) {
        let phase = if report.is_some() { NodePhase::Running } else { NodePhase::Unresponsive };
        self.state.send_modify(|state| {
            *state = NodeState { phase, pid: Some(process.pid()), reason, restarts: state.restarts, report };
        });
        self.shared.touch();
    }
}

/// Nobody holds the supervisor's handle any more.
pub(super) struct SupervisorGone;

pub(super) async fn changed(wished: &mut watch::Receiver<Wish>) -> Result<(), SupervisorGone> {
    wished.changed().await.map_err(|_| SupervisorGone)
}

/// Waits until something else than running is wished.
pub(super) async fn changed_away(wished: &mut watch::Receiver<Wish>) -> Result<(), SupervisorGone> {
    wished.wait_for(|wish| wish.want != Want::Running).await.map(drop).map_err(|_| SupervisorGone)
}

/// An error with its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

//! The region under test, driven by the `zorya` commands as an operator would.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::engine::{BadEndpoint, Cluster, Database, Engine};
use crate::process::Process;
use crate::shell::{self, ShellError};
use crate::wait::{self, WaitError};

/// What the status says of a cluster that does not run because it was told so.
const STOPPED: &str = "stopped";
/// How long the region may take to be up.
const UP: Duration = Duration::from_secs(120);

/// A region that does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A command failed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// Something did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// `zorya status` printed something else.
    #[error("`zorya status --output json` printed something else than was agreed: {text}")]
    Status {
        /// What it printed.
        text: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Something that should run does not.
    #[error("{0} does not run: {1}")]
    NotRunning(String, String),
    /// The endpoint is not one.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
}

/// `zorya status --output json`, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The supervisor.
    #[serde(default)]
    pub agent: Option<AgentStatus>,
    /// The storage nodes.
    pub nodes: Vec<NodeStatus>,
    /// The clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterStatus>,
}

/// The supervisor.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentStatus {
    /// Its pid; `None` while it does not run.
    pub pid: Option<i32>,
}

/// One storage node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// Its pid; `None` while it does not run.
    pub pid: Option<i32>,
    /// Its state in words.
    pub state: String,
}

/// One cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub id: String,
    /// Its state in words.
    pub state: String,
    /// A URL that the engine's clients accept.
    pub endpoint: Option<String>,
    /// Its volume.
    #[serde(default)]
    pub volume: Value,
    /// Its instances.
    #[serde(default)]
    pub instances: Vec<InstanceStatus>,
}

/// One engine with its mount.
#[derive(Clone, Debug, Deserialize)]
pub struct InstanceStatus {
    /// The engine's first process.
    pub pid: Option<i32>,
    /// The mount daemon.
    pub mount_pid: Option<i32>,
}

impl Status {
    /// The states of everything, in one line.
    fn in_words(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("{} {}", node.id, node.state));
        let clusters = self.clusters.iter().map(|cluster| {
            let segments = cluster.volume["segments"].as_array().into_iter().flatten();
            let segments = segments.map(|segment| {
                let facts = &segment["facts"];
                format!("{} scl {} tail {}", segment["node"], facts["scl"], facts["tail"])
            });
            let segments: Vec<_> = segments.collect();
            format!(
                "{} {} ({}; {})",
                cluster.id,
                cluster.state,
                cluster.volume["reason"],
                segments.join(", ")
            )
        });
        nodes.chain(clusters).collect::<Vec<_>>().join("; ")
    }
}

/// A region under test.
#[derive(Debug)]
pub struct Region {
    binary: PathBuf,
    home: PathBuf,
    layout: PathBuf,
    /// Set in the environment of every process of the region.
    planted: Option<String>,
    /// The one cluster that runs and is under test.
    cluster: &'static Cluster,
}

impl Region {
    /// A region that is not up yet, with the cluster that it will begin with.
    #[must_use]
    pub fn new(
        binary: &Path,
        home: &Path,
        layout: &Path,
        planted: Option<String>,
        cluster: &'static Cluster,
    ) -> Region {
        Region {
            binary: binary.to_owned(),
            home: home.to_owned(),
            layout: layout.to_owned(),
            planted,
            cluster,
        }
    }

    /// The region's directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The binary under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs a command of the region to its end.
    pub fn zorya(&self, arguments: &[&str]) -> Result<String, ShellError> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("ZORYA_HOME", &self.home);
        if let Some(bug) = &self.planted {
            command.env("ZORYA_PLANTED_BUG", bug);
        }
        shell::output(&mut command)
    }

    /// Starts what does not run.
    pub fn up(&self) -> Result<(), RegionError> {
        let layout = self.layout.to_string_lossy();
        let mut arguments = vec!["up", "--detach", "--layout", &layout];
        // A new region comes with a cluster of PostgreSQL.
        if self.cluster.engine != Engine::Postgres {
            arguments.push("--no-cluster");
        }
        self.zorya(&arguments)?;
        Ok(())
    }

    /// Puts another cluster under test: makes it or starts it, and stops the others. Their volumes stay on the nodes, and
    /// whatever happens to the nodes happens to them.
    pub fn switch_to(&mut self, cluster: &'static Cluster) -> Result<(), RegionError> {
        let there = self.status()?.clusters;
        for other in there.iter().filter(|other| other.id != cluster.name && other.state != STOPPED) {
            self.zorya(&["cluster", "stop", &other.id])?;
        }
        self.cluster = cluster;
        match there.iter().find(|found| found.id == cluster.name) {
            Some(found) if found.state != STOPPED => {}
            Some(_) => drop(self.zorya(&["cluster", "start", cluster.name])?),
            None => self.create()?,
        }
        self.wait_healthy(UP)
    }

    fn create(&self) -> Result<(), ShellError> {
        let Cluster { name, engine, parameters } = self.cluster;
        let mut arguments = vec!["cluster", "create", name, "--engine", engine.name()];
        arguments.extend(parameters.iter().flat_map(|parameter| ["--parameter", parameter]));
        self.zorya(&arguments).map(drop)
    }

    /// Stops the cluster and starts it again.
    pub fn restart_cluster(&self, limit: Duration) -> Result<(), RegionError> {
        for action in ["stop", "start"] {
            self.zorya(&["cluster", action, self.cluster.name])?;
        }
        self.wait_healthy(limit)
    }

    /// Stops everything; gives up after a minute, since whoever tears down kills what is left.
    pub fn down(&self) -> Result<(), ShellError> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60"]).arg(&self.binary).arg("down").env("ZORYA_HOME", &self.home);
        shell::output(&mut command).map(drop)
    }

    /// What the region says about itself, as it says it.
    pub fn status_text(&self) -> Result<String, ShellError> {
        self.zorya(&["status", "--output", "json"])
    }

    /// What the region says about itself.
    pub fn status(&self) -> Result<Status, RegionError> {
        let text = self.status_text()?;
        serde_json::from_str(&text).map_err(|source| RegionError::Status { text, source })
    }

    /// Stops a node and leaves it stopped.
    pub fn stop_node(&self, id: &str) -> Result<(), RegionError> {
        self.zorya(&["node", "stop", id])?;
        Ok(())
    }

    /// Starts a stopped node.
    pub fn start_node(&self, id: &str) -> Result<(), RegionError> {
        self.zorya(&["node", "start", id])?;
        Ok(())
    }

    /// A node's process.
    pub fn node(&self, id: &str) -> Result<Process, RegionError> {
        let status = self.status()?;
        let node = status.nodes.iter().find(|node| node.id == id);
        let state = node.map_or("unknown", |node| &node.state).to_owned();
        let process = node.and_then(|node| Process::find(node.pid?));
        process.ok_or_else(|| RegionError::NotRunning(format!("storage node {id}"), state))
    }

    /// The supervisor's process.
    pub fn agent(&self) -> Result<Process, RegionError> {
        let process = self.status()?.agent.and_then(|agent| Process::find(agent.pid?));
        process.ok_or_else(|| RegionError::NotRunning("the agent".to_owned(), "no pid".to_owned()))
    }

    /// The engine's first process and the mount daemon's.
    pub fn writer(&self) -> Result<(Process, Process), RegionError> {
        let cluster = self.cluster()?;
        let found = cluster
            .instances
            .first()
            .and_then(|instance| Some((Process::find(instance.pid?)?, Process::find(instance.mount_pid?)?)));
        found.ok_or_else(|| self.not_running(cluster.state))
    }

    /// The cluster's state.
    pub fn cluster(&self) -> Result<ClusterStatus, RegionError> {
        let found = self.status()?.clusters.into_iter().find(|cluster| cluster.id == self.cluster.name);
        found.ok_or_else(|| self.not_running("not in the status".to_owned()))
    }

    /// How clients connect.
    pub fn endpoint(&self) -> Result<String, RegionError> {
        let cluster = self.cluster()?;
        cluster.endpoint.ok_or_else(|| self.not_running(cluster.state))
    }

    /// The database.
    pub fn database(&self) -> Result<Arc<dyn Database>, RegionError> {
        Ok(self.cluster.engine.database(&self.endpoint()?)?)
    }

    /// The cluster that is under test.
    #[must_use]
    pub fn under_test(&self) -> &'static Cluster {
        self.cluster
    }

    fn not_running(&self, state: String) -> RegionError {
        RegionError::NotRunning(format!("cluster {}", self.cluster.name), state)
    }

    /// Waits until every node and the cluster's instance run.
    pub fn wait_healthy(&self, limit: Duration) -> Result<(), RegionError> {
        let waited = wait::until_true("every process of the region running", limit, || self.is_healthy());
        waited.map_err(|error| match error {
            WaitError::TooLong { what, limit } => {
                let state = self.status().map_or_else(|error| error.to_string(), |status| status.in_words());
                WaitError::TooLong { what: format!("{what} (status: {state})"), limit }.into()
            }
            other => other.into(),
        })
    }

    fn is_healthy(&self) -> bool {
        let Ok(status) = self.status() else { return false };
        let runs = |pid: Option<i32>| pid.and_then(Process::find).is_some();
        let instance = |cluster: &ClusterStatus| {
            cluster.instances.iter().any(|instance| runs(instance.pid) && runs(instance.mount_pid))
        };
        runs(status.agent.and_then(|agent| agent.pid))
            && status.nodes.iter().all(|node| runs(node.pid))
            && status.clusters.iter().any(|cluster| cluster.id == self.cluster.name && instance(cluster))
    }

    /// Waits until every replica has what was durable when this was called.
    pub fn wait_caught_up(&self, limit: Duration) -> Result<(), RegionError> {
        let durable = self.cluster()?.volume["vdl"].as_u64().unwrap_or(0);
        let behind = || {
            let volume = self.cluster().ok()?.volume;
            let segments = volume["segments"].as_array()?;
            let has_it = |segment: &Value| segment["facts"]["scl"].as_u64().is_some_and(|scl| scl >= durable);
            Some(segments.iter().filter(|segment| !has_it(segment)).map(Value::to_string).collect::<Vec<_>>())
        };
        let waited =
            wait::until_true("every replica caught up", limit, || behind().is_some_and(|b| b.is_empty()));
        waited.map_err(|error| match error {
            WaitError::TooLong { what, limit } => {
                let behind = behind().unwrap_or_default().join(", ");
                WaitError::TooLong { what: format!("{what} with {durable} (behind: {behind})"), limit }.into()
            }
            other => other.into(),
        })
    }

    /// Waits until a node that was away has every durable byte again, or says that its peers let go of the log that it
    /// lacks, so that only layers can bring it up to date. Which of the two.
    pub fn wait_returned(&self, node: &str, limit: Duration) -> Result<&'static str, RegionError> {
        let durable = self.cluster()?.volume["vdl"].as_u64().unwrap_or(0);
        let state = || {
            let volume = self.cluster().ok()?.volume;
            let segment =
                volume["segments"].as_array()?.iter().find(|segment| segment["node"] == node)?.clone();
            let caught_up = segment["facts"]["scl"].as_u64()? >= durable;
            let needs_layers = segment["facts"]["needs_layers"].as_bool()?;
            caught_up.then_some("caught up").or(needs_layers.then_some("needs layers"))
        };
        wait::until_true(&format!("storage node {node} back or in need of layers"), limit, || {
            state().is_some()
        })?;
        Ok(state().unwrap_or("neither any more"))
    }

    /// Brings the region up and waits until it is whole.
    pub fn up_and_healthy(&self) -> Result<(), RegionError> {
        self.up()?;
        self.wait_healthy(UP)
    }

    /// The log of the cluster's mount daemons.
    #[must_use]
    pub fn log_of_mount(&self) -> String {
        std::fs::read_to_string(self.home.join("clusters").join(self.cluster.name).join("mount.log"))
            .unwrap_or_default()
    }

    /// The log of a storage node, for evidence.
    #[must_use]
    pub fn log_of_node(&self, id: &str) -> String {
        std::fs::read_to_string(self.home.join("nodes").join(id).join("node.log")).unwrap_or_default()
    }
}

//! The region under measurement, made by the `zorya` binary with a home of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use zorya_compute::agent::instance::MountReport;
use zorya_wire::handshake::RegionKey;

use crate::process::{Role, Watched};
use crate::stop::{self, ChildError, Interrupt};
use crate::target::{BadEndpoint, Endpoint, Server, Side};

/// A region that could not be made or asked.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The binary failed.
    #[error("{step} failed: {source}")]
    Command {
        /// What was tried.
        step: &'static str,
        /// The cause.
        source: ChildError,
    },
    /// Its status is not JSON.
    #[error("`zorya status --output json` printed no JSON")]
    NotJson(#[source] serde_json::Error),
    /// Its status lacks something.
    #[error("`zorya status --output json` has no {0}: the region is not up")]
    Missing(&'static str),
    /// Its key cannot be read.
    #[error(transparent)]
    Key(#[from] zorya_compute::key::KeyError),
    /// Its endpoint is not understood.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
}

const UP_LIMIT: Duration = Duration::from_secs(90);
const STATUS_LIMIT: Duration = Duration::from_secs(20);
const DOWN_LIMIT: Duration = Duration::from_secs(60);
const CLUSTER: &str = "bench";
/// The cluster that a new region comes with.
const FIRST_CLUSTER: &str = "main";

/// A running region with one cluster; taken down when dropped.
#[derive(Debug)]
pub struct Region {
    zorya: PathBuf,
    home: PathBuf,
    /// The cluster's name.
    cluster: &'static str,
    endpoint: Endpoint,
    watched: Vec<Watched>,
    /// The nodes' names and addresses.
    nodes: Vec<(String, String)>,
    /// `None` until the region has one.
    key: Option<RegionKey>,
}

impl Region {
    /// Makes a region at `home` and a cluster in it.
    pub fn start(
        zorya: &Path,
        home: &Path,
        parameters: &[(String, String)],
        interrupt: &Interrupt,
    ) -> Result<Region, RegionError> {
        let mut region = Region::at(zorya, home, CLUSTER);
        region.command("zorya up", &["up", "--detach", "--no-cluster"], UP_LIMIT, interrupt)?;
        let settings: Vec<String> =
            parameters.iter().map(|(name, value)| format!("--parameter={name}={value}")).collect();
        let mut create = vec!["cluster", "create", CLUSTER];
        create.extend(settings.iter().map(String::as_str));
        region.command("zorya cluster create", &create, UP_LIMIT, interrupt)?;
        region.learn(interrupt)?;
        Ok(region)
    }

    /// Makes a region at `home` with the cluster that it comes with.
    pub fn first(zorya: &Path, home: &Path, interrupt: &Interrupt) -> Result<Region, RegionError> {
        let mut region = Region::at(zorya, home, FIRST_CLUSTER);
        region.up(interrupt)?;
        Ok(region)
    }

    fn at(zorya: &Path, home: &Path, cluster: &'static str) -> Region {
        Region {
            zorya: zorya.to_owned(),
            home: home.to_owned(),
            cluster,
            endpoint: Endpoint { host: String::new(), port: 0, user: String::new(), password: None },
            watched: Vec::new(),
            nodes: Vec::new(),
            key: None,
        }
    }

    /// Brings it up with everything that it had.
    pub fn up(&mut self, interrupt: &Interrupt) -> Result<(), RegionError> {
        self.command("zorya up", &["up", "--detach"], UP_LIMIT, interrupt)?;
        self.learn(interrupt)
    }

    /// Takes it down; its data stay.
    pub fn down(&self, interrupt: &Interrupt) -> Result<(), RegionError> {
        self.command("zorya down", &["down"], DOWN_LIMIT, interrupt).map(drop)
    }

    /// Learns its processes and addresses anew.
    pub fn learn(&mut self, interrupt: &Interrupt) -> Result<(), RegionError> {
        let status = self.status(interrupt)?;
        let cluster = cluster(&status, self.cluster)?;
        self.endpoint = endpoint(cluster)?;
        self.watched = watched(&status, cluster)?;
        self.nodes = node_addresses(&status);
        self.key = Some(zorya_compute::key::read(&self.home.join("region.key"))?);
        Ok(())
    }

    /// The processes of the writer: its engine and its mount daemon.
    #[must_use]
    pub fn writer(&self) -> Vec<u32> {
        let is_writers = |watched: &&Watched| matches!(watched.role, Role::Engine | Role::Mount);
        self.watched.iter().filter(is_writers).map(|watched| watched.pid).collect()
    }

    /// The mount daemon that last said that it serves.
    #[must_use]
    pub fn serving_mount(&self) -> Option<u32> {
        let path = self.home.join("clusters").join(self.cluster).join("mount.json");
        u32::try_from(MountReport::read(&path)?.pid).ok()
    }

    fn status(&self, interrupt: &Interrupt) -> Result<Value, RegionError> {
        let text = self.command("zorya status", &["status", "--output", "json"], STATUS_LIMIT, interrupt)?;
        serde_json::from_str(&text).map_err(RegionError::NotJson)
    }

    fn command(
        &self,
        step: &'static str,
        arguments: &[&str],
        limit: Duration,
        interrupt: &Interrupt,
    ) -> Result<String, RegionError> {
        let mut command = Command::new(&self.zorya);
        command.args(arguments).arg("--home").arg(&self.home);
        let output = stop::run(&mut command, limit, interrupt);
        output.map(|output| output.stdout).map_err(|source| RegionError::Command { step, source })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Not interruptible: whatever ends the run, nothing is to stay behind.
        if let Err(error) = self.command("zorya down", &["down"], DOWN_LIMIT, &Interrupt::default()) {
            eprintln!("{error}; stop it with: zorya down --home {}", self.home.display());
        }
    }
}

impl Server for Region {
    fn side(&self) -> Side {
        Side::Zorya
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn watched(&self) -> Vec<Watched> {
        self.watched.clone()
    }

    fn node_syncs(&self) -> Vec<(String, u64)> {
        let Some(key) = &self.key else { return Vec::new() };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Vec::new();
        };
        let ask = |(name, address): &(String, String)| {
            let asked = zorya_storage::client::node_status(address, key);
            let answer = runtime.block_on(async { tokio::time::timeout(STATUS_LIMIT, asked).await });
            Some((name.clone(), syncs(&answer.ok()?.ok()?)?))
        };
        self.nodes.iter().filter_map(ask).collect()
    }
}

fn cluster<'a>(status: &'a Value, name: &str) -> Result<&'a Value, RegionError> {
    let clusters = status["clusters"].as_array().ok_or(RegionError::Missing("clusters"))?;
    clusters.iter().find(|cluster| cluster["id"] == name).ok_or(RegionError::Missing("cluster"))
}

fn endpoint(cluster: &Value) -> Result<Endpoint, RegionError> {
    let url = cluster["endpoint"].as_str().ok_or(RegionError::Missing("endpoint"))?;
    Ok(Endpoint::parse(url)?)
}

fn watched(status: &Value, cluster: &Value) -> Result<Vec<Watched>, RegionError> {
    let instance = &cluster["instances"][0];
    let mut watched = vec![
        Watched {
            role: Role::Engine,
            name: "postgres".to_owned(),
            pid: pid(&instance["pid"], "engine pid")?,
        },
        Watched {
            role: Role::Mount,
            name: "mount".to_owned(),
            pid: pid(&instance["mount_pid"], "mount pid")?,
        },
        Watched {
            role: Role::Agent,
            name: "agent".to_owned(),
            pid: pid(&status["agent"]["pid"], "agent pid")?,
        },
    ];
    for node in status["nodes"].as_array().ok_or(RegionError::Missing("nodes"))? {
        let name = node["id"].as_str().ok_or(RegionError::Missing("node id"))?.to_owned();
        watched.push(Watched { role: Role::Node, name, pid: pid(&node["pid"], "node pid")? });
    }
    Ok(watched)
}

fn pid(value: &Value, what: &'static str) -> Result<u32, RegionError> {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or(RegionError::Missing(what))
}

fn node_addresses(status: &Value) -> Vec<(String, String)> {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address =
        |node: &Value| Some((node["id"].as_str()?.to_owned(), node["address"].as_str()?.to_owned()));
    nodes.iter().filter_map(address).collect()
}

/// How many syncs of its log a node tells of.
fn syncs(node_status: &str) -> Option<u64> {
    serde_json::from_str::<Value>(node_status).ok()?["log"]["syncs"].as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "agent": {"pid": 5},
            "nodes": [{"id": "az1-a", "zone": "az1", "pid": 7, "state": "serving", "address": "127.0.0.1:7101"}],
            "clusters": [{
                "id": "bench", "engine": "postgres", "state": "available",
                "endpoint": "postgresql://postgres:p@127.0.0.1:5433/postgres",
                "instances": [{"id": "bench-1", "role": "writer", "pid": 8, "mount_pid": 9}],
            }],
        })
    }

    #[test]
    fn a_status_names_every_process() {
        let status = status();
        let cluster = cluster(&status, CLUSTER).unwrap();
        let pids: Vec<(Role, u32)> =
            watched(&status, cluster).unwrap().iter().map(|w| (w.role, w.pid)).collect();
        assert_eq!(pids, [(Role::Engine, 8), (Role::Mount, 9), (Role::Agent, 5), (Role::Node, 7)]);
        assert_eq!(endpoint(cluster).unwrap().port, 5433);
        assert_eq!(node_addresses(&status), [("az1-a".to_owned(), "127.0.0.1:7101".to_owned())]);
    }

    #[test]
    fn a_nodes_syncs_are_read() {
        assert_eq!(syncs(r#"{"node": "az1-a", "log": {"syncs": 12}}"#), Some(12));
        assert_eq!(syncs("{}"), None);
        assert_eq!(syncs("no JSON"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut half = status();
        half["clusters"][0]["instances"][0]["mount_pid"] = Value::Null;
        let error = watched(&half, &half["clusters"][0]).unwrap_err();
        assert!(error.to_string().contains("mount pid"));
        assert!(cluster(&json!({"clusters": []}), CLUSTER).is_err());
        assert!(endpoint(&json!({})).is_err());
        assert!(node_addresses(&json!({})).is_empty());
    }
}

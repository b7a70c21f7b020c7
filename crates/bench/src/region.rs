//! The region under measurement, made by the `zorya` binary with a home of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use zorya_compute::agent::instance::MountReport;
use zorya_compute::region::Engine;
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
/// The cluster that a new region comes with.
const FIRST_CLUSTER: &str = "main";

/// A running region; taken down when dropped.
#[derive(Debug)]
pub struct Region {
    zorya: PathBuf,
    home: PathBuf,
    /// The clusters that are to be running.
    clusters: Vec<Cluster>,
    /// The processes that all clusters share.
    shared: Vec<Watched>,
    /// The nodes' names and addresses.
    nodes: Vec<(String, String)>,
    /// `None` until the region has one.
    key: Option<RegionKey>,
}

/// A cluster of a region.
#[derive(Debug)]
struct Cluster {
    name: &'static str,
    endpoint: Endpoint,
    /// Its engine and its mount daemon.
    writer: Vec<Watched>,
}

impl Region {
    /// Makes a region at `home`, without clusters.
    pub fn start(zorya: &Path, home: &Path, interrupt: &Interrupt) -> Result<Region, RegionError> {
        let region = Region::at(zorya, home);
        region.command("zorya up", &["up", "--detach", "--no-cluster"], UP_LIMIT, interrupt)?;
        Ok(region)
    }

    /// Makes a cluster.
    pub fn create(
        &mut self,
        engine: Engine,
        parameters: &[(String, String)],
        interrupt: &Interrupt,
    ) -> Result<(), RegionError> {
        let name = cluster_name(engine);
        let settings: Vec<String> =
            parameters.iter().map(|(name, value)| format!("--parameter={name}={value}")).collect();
        let mut create = vec!["cluster", "create", name, "--engine", name];
        create.extend(settings.iter().map(String::as_str));
        self.command("zorya cluster create", &create, UP_LIMIT, interrupt)?;
        self.expect(name, engine);
        self.learn(interrupt)
    }

    /// Makes a region at `home` with the cluster that it comes with.
    pub fn first(zorya: &Path, home: &Path, interrupt: &Interrupt) -> Result<Region, RegionError> {
        let mut region = Region::at(zorya, home);
        region.expect(FIRST_CLUSTER, Engine::Postgres);
        region.up(interrupt)?;
        Ok(region)
    }

    fn at(zorya: &Path, home: &Path) -> Region {
        Region {
            zorya: zorya.to_owned(),
            home: home.to_owned(),
            clusters: Vec::new(),
            shared: Vec::new(),
            nodes: Vec::new(),
            key: None,
        }
    }

    fn expect(&mut self, name: &'static str, engine: Engine) {
        let endpoint = Endpoint { engine, host: String::new(), port: 0, user: String::new(), password: None };
        self.clusters.push(Cluster { name, endpoint, writer: Vec::new() });
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

    /// Stops the cluster of `engine`, if there is one, for as long as the region lives.
    pub fn stop(&mut self, engine: Engine, interrupt: &Interrupt) -> Result<(), RegionError> {
        let Some(at) = self.clusters.iter().position(|cluster| cluster.endpoint.engine == engine) else {
            return Ok(());
        };
        let cluster = self.clusters.remove(at);
        self.command("zorya cluster stop", &["cluster", "stop", cluster.name], DOWN_LIMIT, interrupt)
            .map(drop)
    }

    /// Learns its processes and addresses anew.
    pub fn learn(&mut self, interrupt: &Interrupt) -> Result<(), RegionError> {
        let status = self.status(interrupt)?;
        for cluster in &mut self.clusters {
            let shown = shown(&status, cluster.name)?;
            cluster.endpoint = endpoint(shown)?;
            cluster.writer = writer(shown)?;
        }
        self.shared = shared(&status)?;
        self.nodes = node_addresses(&status);
        self.key = Some(zorya_compute::key::read(&self.home.join("region.key"))?);
        Ok(())
    }

    /// The cluster of `engine`.
    #[must_use]
    pub fn server(&self, engine: Engine) -> Option<RegionServer<'_>> {
        let cluster = self.clusters.iter().find(|cluster| cluster.endpoint.engine == engine)?;
        Some(RegionServer { region: self, cluster })
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

/// A cluster of a running region, with the processes that serve it.
#[derive(Clone, Copy, Debug)]
pub struct RegionServer<'a> {
    region: &'a Region,
    cluster: &'a Cluster,
}

impl RegionServer<'_> {
    /// The processes of the writer: its engine and its mount daemon.
    #[must_use]
    pub fn writer(&self) -> Vec<u32> {
        self.cluster.writer.iter().map(|watched| watched.pid).collect()
    }

    /// The mount daemon.
    #[must_use]
    pub fn mount(&self) -> Option<u32> {
        let mount = self.cluster.writer.iter().find(|watched| watched.role == Role::Mount);
        mount.map(|watched| watched.pid)
    }

    /// What the mount daemon that serves says of itself.
    #[must_use]
    pub fn mount_report(&self) -> Option<MountReport> {
        MountReport::read(&self.region.home.join("clusters").join(self.cluster.name).join("mount.json"))
    }
}

impl Server for RegionServer<'_> {
    fn side(&self) -> Side {
        Side::Zorya
    }

    fn endpoint(&self) -> &Endpoint {
        &self.cluster.endpoint
    }

    fn watched(&self) -> Vec<Watched> {
        self.cluster.writer.iter().chain(&self.region.shared).cloned().collect()
    }

    fn node_syncs(&self) -> Vec<(String, u64)> {
        let Some(key) = &self.region.key else { return Vec::new() };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Vec::new();
        };
        let ask = |(name, address): &(String, String)| {
            let asked = zorya_storage::client::node_status(address, key);
            let answer = runtime.block_on(async { tokio::time::timeout(STATUS_LIMIT, asked).await });
            Some((name.clone(), syncs(&answer.ok()?.ok()?)?))
        };
        self.region.nodes.iter().filter_map(ask).collect()
    }
}

/// The name of a benchmark's cluster: what `--engine` calls its engine.
fn cluster_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgres",
        Engine::Mariadb => "mariadb",
    }
}

fn shown<'a>(status: &'a Value, name: &str) -> Result<&'a Value, RegionError> {
    let clusters = status["clusters"].as_array().ok_or(RegionError::Missing("clusters"))?;
    clusters.iter().find(|cluster| cluster["id"] == name).ok_or(RegionError::Missing("cluster"))
}

fn endpoint(cluster: &Value) -> Result<Endpoint, RegionError> {
    let url = cluster["endpoint"].as_str().ok_or(RegionError::Missing("endpoint"))?;
    Ok(Endpoint::parse(url)?)
}

fn writer(cluster: &Value) -> Result<Vec<Watched>, RegionError> {
    let instance = &cluster["instances"][0];
    let engine = cluster["engine"].as_str().ok_or(RegionError::Missing("engine"))?.to_owned();
    Ok(vec![
        Watched { role: Role::Engine, name: engine, pid: pid(&instance["pid"], "engine pid")? },
        Watched {
            role: Role::Mount,
            name: "mount".to_owned(),
            pid: pid(&instance["mount_pid"], "mount pid")?,
        },
    ])
}

fn shared(status: &Value) -> Result<Vec<Watched>, RegionError> {
    let agent = pid(&status["agent"]["pid"], "agent pid")?;
    let mut shared = vec![Watched { role: Role::Agent, name: "agent".to_owned(), pid: agent }];
    for node in status["nodes"].as_array().ok_or(RegionError::Missing("nodes"))? {
        let name = node["id"].as_str().ok_or(RegionError::Missing("node id"))?.to_owned();
        shared.push(Watched { role: Role::Node, name, pid: pid(&node["pid"], "node pid")? });
    }
    Ok(shared)
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
        let cluster = shown(&status, "bench").unwrap();
        let watched = [writer(cluster).unwrap(), shared(&status).unwrap()].concat();
        let pids: Vec<(Role, u32)> = watched.iter().map(|w| (w.role, w.pid)).collect();
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
        let error = writer(&half["clusters"][0]).unwrap_err();
        assert!(error.to_string().contains("mount pid"));
        assert!(shown(&json!({"clusters": []}), "bench").is_err());
        assert!(shared(&json!({"agent": {"pid": 5}})).is_err());
        assert!(endpoint(&json!({})).is_err());
        assert!(node_addresses(&json!({})).is_empty());
    }
}

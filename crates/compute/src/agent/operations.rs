//! What the control socket's requests do.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use zorya_types::{Profile, VolumeId};

use super::cluster::{ClusterPhase, ClusterState};
use super::node::{NodePhase, NodeState, chain};
use super::protocol::{Failure, FailureKind, NewCluster, Progress, Request};
use super::{Agent, Want, status, wish};
use crate::disk::{self, Watermark};
use crate::engine::{Installed, ParameterError};
use crate::ports;
use crate::region::{ClusterSpec, Desired, Phase, Region, RegionError, check_name, default_cache_bytes};

type Telling = mpsc::Sender<Progress>;

fn failed(error: impl std::error::Error) -> Failure {
    Failure::new(FailureKind::Failed, chain(&error))
}

fn invalid(error: impl std::error::Error) -> Failure {
    Failure::new(FailureKind::Invalid, chain(&error))
}

/// What is waited for: nodes and clusters by name.
struct Awaited {
    nodes: Vec<String>,
    clusters: Vec<String>,
}

impl Agent {
    /// Does what is asked.
    pub(super) async fn perform(&self, request: Request, tell: Telling) -> Result<Value, Failure> {
        match request {
            Request::Status {} => self.status(),
            Request::Up { wait_seconds } => self.up(wait_seconds, &tell).await,
            Request::Shutdown {} => {
                self.stop_everything().await;
                Ok(Value::Null)
            }
            Request::CreateCluster { cluster, wait_seconds } => {
                let name = cluster.name.clone();
                self.create_cluster(cluster).await?;
                self.wait_for(Awaited::cluster(&name), wait_seconds, &tell).await
            }
            Request::StartCluster { name, wait_seconds } => {
                self.start_cluster(&name).await?;
                self.wait_for(Awaited::cluster(&name), wait_seconds, &tell).await
            }
            Request::StopCluster { name } => {
                self.wish_cluster(&name, Want::Stopped)?;
                self.wait_cluster(&name, ClusterPhase::Stopped).await
            }
            Request::DeleteCluster { name } => self.delete_cluster(&name).await,
            Request::StartNode { id, wait_seconds } => {
                self.start_node(&id).await?;
                let awaited = Awaited { nodes: vec![id], clusters: Vec::new() };
                self.wait_for(awaited, wait_seconds, &tell).await
            }
            Request::StopNode { id } => {
                self.wish_node(&id, Want::Stopped)?;
                self.wait_node_stopped(&id).await
            }
            Request::KillNode { id } => {
                self.wish_node(&id, Want::Killed)?;
                self.wait_node_stopped(&id).await
            }
        }
    }

    fn status(&self) -> Result<Value, Failure> {
        let nodes = self.nodes().iter().map(|(id, node)| (id.clone(), node.state.borrow().clone())).collect();
        let clusters = self
            .clusters()
            .iter()
            .map(|(name, cluster)| (name.clone(), cluster.state.borrow().clone()))
            .collect();
        let seen = status::Seen { agent: i32::try_from(std::process::id()).ok(), nodes, clusters };
        serde_json::to_value(status::document(&self.shared.home, &self.shared.region(), &seen))
            .map_err(failed)
    }

    async fn up(&self, wait_seconds: u64, tell: &Telling) -> Result<Value, Failure> {
        let region = self.shared.region();
        let nodes: Vec<String> = region.nodes.iter().map(|node| node.id.0.clone()).collect();
        let clusters: Vec<String> = region
            .clusters
            .iter()
            .filter(|cluster| cluster.phase != Phase::Deleting)
            .map(|cluster| cluster.name.clone())
            .collect();
        for id in &nodes {
            self.start_node(id).await?;
        }
        for name in &clusters {
            self.start_cluster(name).await?;
        }
        self.wait_for(Awaited { nodes, clusters }, wait_seconds, tell).await
    }

    async fn start_node(&self, id: &str) -> Result<(), Failure> {
        let state = self.nodes().get(id).map(|node| node.state.clone());
        let has_failed = |state: &NodeState| state.phase == NodePhase::Failed;
        start_anew(state, has_failed, || self.wish_node(id, Want::Running)).await
    }

    async fn start_cluster(&self, name: &str) -> Result<(), Failure> {
        let state = self.clusters().get(name).map(|cluster| cluster.state.clone());
        let has_failed = |state: &ClusterState| state.phase == ClusterPhase::Failed;
        start_anew(state, has_failed, || self.wish_cluster(name, Want::Running)).await
    }

    /// Remembers and passes on what is wanted of a node.
    fn wish_node(&self, id: &str, want: Want) -> Result<(), Failure> {
        let desired = if want == Want::Running { Desired::Running } else { Desired::Stopped };
        let found = self.shared.store.update(|region| {
            region.nodes.iter_mut().find(|node| node.id.0 == id).map(|node| node.desired = desired)
        });
        if found.map_err(failed)?.is_none() {
            return Err(unknown_node(id, &self.shared.region()));
        }
        if let Some(node) = self.nodes().get(id) {
            wish(&node.wish, want);
        }
        Ok(())
    }

    /// Remembers and passes on what is wanted of a cluster.
    fn wish_cluster(&self, name: &str, want: Want) -> Result<(), Failure> {
        let found = self.shared.store.update(|region| {
            let cluster = region.clusters.iter_mut().find(|cluster| cluster.name == name)?;
            match want {
                Want::Running => cluster.desired = Desired::Running,
                Want::Stopped | Want::Killed => cluster.desired = Desired::Stopped,
                Want::Deleted => cluster.phase = Phase::Deleting,
            }
            Some(())
        });
        if found.map_err(failed)?.is_none() {
            return Err(unknown_cluster(name, &self.shared.region()));
        }
        if let Some(cluster) = self.clusters().get(name) {
            wish(&cluster.wish, want);
        }
        Ok(())
    }

    async fn create_cluster(&self, new: NewCluster) -> Result<(), Failure> {
        check_name(&new.name).map_err(invalid)?;
        let region = self.shared.region();
        let profile = new.profile.clone().unwrap_or_else(|| region.profile.clone());
        let profile = Profile::named(&profile).map_err(invalid)?;
        let installed = Installed::find(new.engine, new.bin_dir.as_deref()).map_err(failed)?;
        let parameters = new.engine.check(&new.parameters).map_err(invalid)?;
        self.check_with_engine(&installed, &parameters).await?;
        self.check_room(&region)?;
        let added = self.shared.store.update(|region| add_cluster(region, new, &profile, parameters));
        let spec = added.map_err(|error: RegionError| failed(error))??;
        let wish = super::Wish::of(spec.desired);
        self.supervise_cluster(spec, wish);
        self.shared.touch();
        Ok(())
    }

    /// Lets the engine itself judge names and values, before they could keep it from starting.
    async fn check_with_engine(
        &self,
        installed: &Installed,
        parameters: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        for (name, value) in parameters {
            let trial = installed.trial(name, value);
            let output = Command::new(trial.program)
                .args(trial.arguments)
                .uid(installed.uid.as_raw())
                .gid(installed.gid.as_raw())
                .output()
                .await
                .map_err(failed)?;
            if let Some(message) = refusal(output.status.success(), &String::from_utf8_lossy(&output.stderr))
            {
                let (name, value) = (name.clone(), value.clone());
                let engine = installed.name();
                return Err(invalid(ParameterError::Refused { engine, name, value, message }));
            }
        }
        Ok(())
    }

    fn check_room(&self, region: &Region) -> Result<(), Failure> {
        for node in &region.nodes {
            let Ok(found) = disk::usage(&node.data) else { continue };
            if found.watermark == Watermark::Refuse {
                return Err(Failure::new(
                    FailureKind::Failed,
                    format!(
                        "the disk of storage node {} ({}) is {} % full: make room before you create a cluster",
                        node.id,
                        node.data.display(),
                        found.used_percent
                    ),
                ));
            }
        }
        Ok(())
    }

    async fn delete_cluster(&self, name: &str) -> Result<Value, Failure> {
        self.wish_cluster(name, Want::Deleted)?;
        let done = self.wait_cluster(name, ClusterPhase::Deleted).await;
        self.clusters().remove(name);
        done
    }

    async fn wait_cluster(&self, name: &str, phase: ClusterPhase) -> Result<Value, Failure> {
        let state = self.clusters().get(name).map(|cluster| cluster.state.clone());
        let Some(mut state) = state else { return Err(unknown_cluster(name, &self.shared.region())) };
        // An error means that the supervisor is gone, which it is only after deleting.
        let _ = state.wait_for(|state| state.phase == phase).await;
        Ok(json!({ "id": name, "state": phase }))
    }

    async fn wait_node_stopped(&self, id: &str) -> Result<Value, Failure> {
        let state = self.nodes().get(id).map(|node| node.state.clone());
        let Some(mut state) = state else { return Err(unknown_node(id, &self.shared.region())) };
        let _ = state.wait_for(|state| state.phase == NodePhase::Stopped).await;
        Ok(json!({ "id": id, "state": NodePhase::Stopped }))
    }

    /// Waits until all serve, and tells what is missing meanwhile. Fails as soon as one of them has failed for good.
    async fn wait_for(&self, awaited: Awaited, wait_seconds: u64, tell: &Telling) -> Result<Value, Failure> {
        let mut changed = self.shared.changed.subscribe();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(wait_seconds);
        loop {
            changed.mark_unchanged();
            let progress = self.progress(&awaited)?;
            if progress.done == progress.of {
                return self.status();
            }
            // A full queue means that nobody reads; the next line will say more.
            let _ = tell.try_send(progress.clone());
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    let message = format!(
                        "not up after {wait_seconds} s: {}\nIt goes on in the background: see `zorya status`",
                        progress.message
                    );
                    return Err(Failure::new(FailureKind::TimedOut, message));
                }
            }
        }
    }

    fn progress(&self, awaited: &Awaited) -> Result<Progress, Failure> {
        let mut waiting = Vec::new();
        for id in &awaited.nodes {
            let state = self.nodes().get(id).map(|node| node.state.borrow().clone());
            waiting.extend(state.map(|state| node_waits(id, &state)).transpose()?.flatten());
        }
        for name in &awaited.clusters {
            let state = self.clusters().get(name).map(|cluster| cluster.state.borrow().clone());
            waiting.extend(state.map(|state| cluster_waits(name, &state)).transpose()?.flatten());
        }
        let of = awaited.nodes.len() + awaited.clusters.len();
        Ok(Progress { done: of - waiting.len(), of, message: waiting.join("; ") })
    }
}

impl Awaited {
    fn cluster(name: &str) -> Awaited {
        Awaited { nodes: Vec::new(), clusters: vec![name.to_owned()] }
    }
}

/// Wishes for a start. If the last one failed, waits until this one has begun: what is seen until then is the old failure.
async fn start_anew<S>(
    state: Option<watch::Receiver<S>>,
    has_failed: impl FnOnce(&S) -> bool,
    wish: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(mut state) = state else { return wish() };
    let failed_before = has_failed(&state.borrow_and_update());
    wish()?;
    if failed_before {
        // An error means that the supervisor is gone; whoever waits for its state will see that.
        let _ = state.changed().await;
    }
    Ok(())
}

fn node_waits(id: &str, state: &NodeState) -> Result<Option<String>, Failure> {
    match state.phase {
        NodePhase::Running | NodePhase::Unresponsive => Ok(None),
        NodePhase::Failed => Err(Failure::new(
            FailureKind::Failed,
            format!("storage node {id} failed: {}", state.reason.as_deref().unwrap_or("unknown")),
        )),
        NodePhase::Starting | NodePhase::Restarting | NodePhase::Stopped => {
            Ok(Some(format!("storage node {id}")))
        }
    }
}

fn cluster_waits(name: &str, state: &ClusterState) -> Result<Option<String>, Failure> {
    match state.phase {
        ClusterPhase::Available => Ok(None),
        ClusterPhase::Failed => Err(Failure::new(
            FailureKind::Failed,
            format!("cluster {name} failed: {}", state.reason.as_deref().unwrap_or("unknown")),
        )),
        _ => Ok(Some(match &state.reason {
            Some(reason) => format!("cluster {name}: {reason}"),
            None => format!("cluster {name}"),
        })),
    }
}

/// Why an engine refuses a parameter: PostgreSQL's FATAL or MariaDB's ERROR. MariaDB exits well when a plugin refuses.
fn refusal(success: bool, stderr: &str) -> Option<String> {
    let errors: Vec<&str> = ["FATAL:", "[ERROR]"]
        .iter()
        .flat_map(|mark| stderr.lines().filter_map(move |line| line.split_once(mark)))
        .map(|(_, words)| words.trim())
        .collect();
    if success && errors.is_empty() {
        return None;
    }
    Some(if errors.is_empty() { stderr.trim().to_owned() } else { errors.join("; ") })
}

fn add_cluster(
    region: &mut Region,
    new: NewCluster,
    profile: &Profile,
    parameters: std::collections::BTreeMap<String, String>,
) -> Result<ClusterSpec, Failure> {
    if region.cluster(&new.name).is_some() {
        let message = format!("there is a cluster {:?} already: choose another name", new.name);
        return Err(Failure::new(FailureKind::Exists, message));
    }
    let nodes = region.place(profile).map_err(invalid)?;
    let reserved: BTreeSet<u16> = region.clusters.iter().map(|cluster| cluster.port).collect();
    let first = ports::first_engine_port(new.engine);
    let port = match new.port {
        Some(port) if reserved.contains(&port) => {
            let message = format!("port {port} belongs to another cluster: choose another --port or none");
            return Err(Failure::new(FailureKind::Invalid, message));
        }
        Some(port) => port,
        // In another network namespace every port but the region's own is free.
        None if region.compute.netns.is_some() => {
            (first..).find(|port| !reserved.contains(port)).unwrap_or(first)
        }
        None => ports::pick(region.engine_host(), first, &reserved).map_err(failed)?,
    };
    let spec = ClusterSpec {
        name: new.name,
        engine: new.engine,
        volume: VolumeId(rand::random()),
        profile: profile.name.clone(),
        nodes,
        port,
        parameters,
        cache_bytes: new.cache_bytes.unwrap_or_else(default_cache_bytes),
        bin_dir: new.bin_dir,
        phase: Phase::Creating,
        desired: Desired::Running,
    };
    region.wants_first_cluster = false;
    region.clusters.push(spec.clone());
    Ok(spec)
}

fn unknown_node(id: &str, region: &Region) -> Failure {
    let names: Vec<_> = region.nodes.iter().map(|node| node.id.0.as_str()).collect();
    Failure::new(
        FailureKind::NotFound,
        format!("there is no storage node {id:?}; there are: {}", names.join(", ")),
    )
}

fn unknown_cluster(name: &str, region: &Region) -> Failure {
    let names: Vec<_> = region.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let there_are = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Failure::new(FailureKind::NotFound, format!("there is no cluster {name:?}; there are: {there_are}"))
}

//! What an operator is told: the state of everything as one document, with or without an agent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zorya_types::{NodeId, Profile};

use super::cluster::{ClusterPhase, ClusterState};
use super::instance::MountReport;
use super::lock;
use super::node::{NodePhase, NodeState};
use crate::disk::{self, DiskUse, Watermark};
use crate::home::Home;
use crate::process::pid_by_arguments;
use crate::region::{ClusterSpec, NodeSpec, Region, RegionId};
use crate::volumes::Volumes;

/// How long a node may take to answer when no agent knows its state.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// The state of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The region's id.
    pub region: RegionId,
    /// Its home.
    pub home: String,
    /// Its supervisor.
    pub agent: AgentStatus,
    /// Its storage nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// The supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// `running` or `stopped`.
    pub state: String,
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub id: NodeId,
    /// Its availability zone.
    pub zone: String,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// How it is.
    pub state: NodePhase,
    /// Why, when that needs saying.
    pub reason: Option<String>,
    /// Where it listens.
    pub address: String,
    /// Its data directory.
    pub data: String,
    /// The disk of its data directory, if that is there.
    pub disk: Option<DiskUse>,
    /// How often it was started again.
    pub restarts: u32,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub id: String,
    /// Its engine.
    pub engine: String,
    /// How it is.
    pub state: ClusterPhase,
    /// Why, when that needs saying.
    pub reason: Option<String>,
    /// A URL that psql accepts, with the password; `None` until the password is there.
    pub endpoint: Option<String>,
    /// The engine's parameters that the operator set.
    pub parameters: BTreeMap<String, String>,
    /// Its volume.
    pub volume: VolumeStatus,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its id.
    pub id: String,
    /// Its protection profile.
    pub profile: String,
    /// `available`, or `blocked` when its writes wait, or `unknown`.
    pub state: String,
    /// Why writes wait.
    pub reason: Option<String>,
    /// Its writer's epoch, while it is mounted.
    pub epoch: Option<Value>,
    /// Its volume durable LSN, while it is mounted.
    pub vdl: Option<Value>,
    /// What else the mount says of itself.
    pub mount: Map<String, Value>,
    /// Its replicas, by slot.
    pub segments: Vec<SegmentStatus>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// Its place in the membership.
    pub slot: usize,
    /// Its node.
    pub node: NodeId,
    /// Its zone.
    pub zone: String,
    /// `available` if its node answers for it, else the node's state.
    pub state: String,
    /// What its node says of it.
    pub facts: Map<String, Value>,
}

/// An instance: an engine with its mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub id: String,
    /// `writer`.
    pub role: String,
    /// The engine's process, if it runs.
    pub pid: Option<i32>,
    /// The mount daemon's process, if it runs.
    pub mount_pid: Option<i32>,
    /// How often the pair was started again.
    pub restarts: u32,
}

/// What is known of the processes.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The agent's process, if it runs.
    pub agent: Option<i32>,
    /// By name.
    pub nodes: BTreeMap<String, NodeState>,
    /// By name.
    pub clusters: BTreeMap<String, ClusterState>,
}

/// Makes the document of what was seen.
#[must_use]
pub fn document(home: &Home, region: &Region, seen: &Seen) -> Document {
    let nodes: Vec<_> = region.nodes.iter().map(|node| node_status(node, seen)).collect();
    let clusters: Vec<_> = region.clusters.iter().map(|c| cluster_status(home, region, c, seen)).collect();
    let mut warnings = warnings(&nodes, &clusters, seen.agent.is_some());
    warnings.extend(disk::usage(home.root()).ok().and_then(|found| home_warning(home, found)));
    Document {
        region: region.id,
        home: home.root().display().to_string(),
        agent: AgentStatus {
            pid: seen.agent,
            state: if seen.agent.is_some() { "running" } else { "stopped" }.to_owned(),
        },
        nodes,
        clusters,
        warnings,
    }
}

fn node_status(node: &NodeSpec, seen: &Seen) -> NodeStatus {
    let state = seen.nodes.get(&node.id.0);
    NodeStatus {
        id: node.id.clone(),
        zone: node.zone.clone(),
        pid: state.and_then(|state| state.pid),
        state: state.map_or(NodePhase::Stopped, |state| state.phase),
        reason: state.and_then(|state| state.reason.clone()),
        address: node.listen.clone(),
        data: node.data.display().to_string(),
        disk: disk::usage(&node.data).ok(),
        restarts: state.map_or(0, |state| state.restarts),
    }
}

fn cluster_status(home: &Home, region: &Region, cluster: &ClusterSpec, seen: &Seen) -> ClusterStatus {
    let state = seen.clusters.get(&cluster.name);
    ClusterStatus {
        id: cluster.name.clone(),
        engine: cluster.engine.to_string(),
        state: state.map_or(ClusterPhase::Stopped, |state| state.phase),
        reason: state.and_then(|state| state.reason.clone()),
        endpoint: endpoint(home, region, cluster),
        parameters: cluster.parameters.clone(),
        volume: volume_status(home, region, cluster, seen, state.and_then(|state| state.mount_pid)),
        instances: vec![InstanceStatus {
            id: format!("{}-1", cluster.name),
            role: "writer".to_owned(),
            pid: state.and_then(|state| state.pid),
            mount_pid: state.and_then(|state| state.mount_pid),
            restarts: state.map_or(0, |state| state.restarts),
        }],
    }
}

/// The URL that the engine's clients accept, once the password is there.
#[must_use]
pub fn endpoint(home: &Home, region: &Region, cluster: &ClusterSpec) -> Option<String> {
    let password = fs::read_to_string(home.password(&cluster.name)).ok()?;
    let (host, port) = (region.engine_host(), cluster.port);
    Some(cluster.engine.endpoint(host, port, password.trim()))
}

fn volume_status(
    home: &Home,
    region: &Region,
    cluster: &ClusterSpec,
    seen: &Seen,
    mount_pid: Option<i32>,
) -> VolumeStatus {
    let report =
        MountReport::read(&home.mount_status(&cluster.name)).filter(|report| Some(report.pid) == mount_pid);
    let segments = segments(region, cluster, seen);
    let lost = quorum_lost(cluster, &segments);
    let blocked = lost.or_else(|| report.as_ref().and_then(MountReport::blocked));
    let state = match (&blocked, &report) {
        (Some(_), _) => "blocked",
        (None, Some(_)) => "available",
        (None, None) => "unknown",
    };
    let mut facts = report.map(|report| report.facts).unwrap_or_default();
    VolumeStatus {
        id: cluster.volume.to_string(),
        profile: cluster.profile.clone(),
        state: state.to_owned(),
        reason: blocked,
        epoch: facts.remove("epoch"),
        vdl: facts.remove("vdl"),
        mount: facts,
        segments,
    }
}

fn segments(region: &Region, cluster: &ClusterSpec, seen: &Seen) -> Vec<SegmentStatus> {
    let segment = |(slot, id): (usize, &NodeId)| {
        let state = seen.nodes.get(&id.0);
        let report = state.and_then(|state| state.report.as_ref());
        let own = report.and_then(|report| report.segments.iter().find(|s| s.volume == cluster.volume));
        let state = match (own, state) {
            (Some(_), _) => "available".to_owned(),
            (None, Some(state)) if report.is_none() => word(state.phase),
            (None, Some(_)) => "missing".to_owned(),
            (None, None) => word(NodePhase::Stopped),
        };
        SegmentStatus {
            slot,
            node: id.clone(),
            zone: region.node(&id.0).map(|node| node.zone.clone()).unwrap_or_default(),
            state,
            facts: own.map(|segment| segment.facts.clone()).unwrap_or_default(),
        }
    };
    cluster.nodes.iter().enumerate().map(segment).collect()
}

fn word(phase: NodePhase) -> String {
    format!("{phase:?}").to_lowercase()
}

/// Why a volume's writes wait: too few of its replicas are there.
fn quorum_lost(cluster: &ClusterSpec, segments: &[SegmentStatus]) -> Option<String> {
    let profile = Profile::named(&cluster.profile).ok()?;
    let there = segments.iter().filter(|segment| segment.state == "available").count();
    if there >= usize::from(profile.write_quorum) {
        return None;
    }
    let missing: Vec<_> = segments
        .iter()
        .filter(|segment| segment.state != "available")
        .map(|segment| format!("{} ({})", segment.node, segment.state))
        .collect();
    Some(format!(
        "write quorum lost: {there} of {} replicas answer, {} are needed; missing: {}; start them with \
         `zorya node start NODE`",
        segments.len(),
        profile.write_quorum,
        missing.join(", ")
    ))
}

/// What a full disk of the home means: nodes may keep their data elsewhere.
fn home_warning(home: &Home, disk: DiskUse) -> Option<String> {
    (disk.watermark != Watermark::Ok).then(|| {
        format!(
            "the disk of {} is {} % full: free space there, or queries that need temporary files fail, logs lose lines and \
             an instance that ended does not start",
            home.root().display(),
            disk.used_percent
        )
    })
}

fn warnings(nodes: &[NodeStatus], clusters: &[ClusterStatus], agent_runs: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let anything_runs = nodes.iter().any(|node| node.pid.is_some())
        || clusters
            .iter()
            .flat_map(|cluster| &cluster.instances)
            .any(|i| i.pid.is_some() || i.mount_pid.is_some());
    if !agent_runs && anything_runs {
        warnings.push(
            "no agent supervises this region: start it with `zorya up`, or stop everything with `zorya down`"
                .to_owned(),
        );
    }
    for node in nodes {
        if let Some(disk) = node.disk.filter(|disk| disk.watermark != Watermark::Ok) {
            warnings.push(format!(
                "the disk of storage node {} ({}) is {} % full",
                node.id, node.data, disk.used_percent
            ));
        }
    }
    for cluster in clusters.iter().filter(|cluster| cluster.state != ClusterPhase::Stopped) {
        if let Some(reason) = &cluster.volume.reason {
            warnings.push(format!("writes of cluster {} wait: {reason}", cluster.id));
        }
    }
    warnings
}

/// What can be seen without an agent: processes by their arguments, nodes by asking them.
#[must_use]
pub fn look(home: &Home, region: &Region, volumes: &Arc<dyn Volumes>) -> Seen {
    let own = nix::unistd::geteuid().as_raw();
    let node = |node: &NodeSpec| {
        let status = home.node_status(&node.id.0);
        let pid = pid_by_arguments(own, &[OsStr::new("--status-file"), status.as_os_str()]);
        let report = pid.and_then(|_| volumes.report(&node.address(), ASK_LIMIT).ok());
        let phase = match (pid, &report) {
            (None, _) => NodePhase::Stopped,
            (Some(_), Some(_)) => NodePhase::Running,
            (Some(_), None) => NodePhase::Unresponsive,
        };
        (node.id.0.clone(), NodeState { phase, pid, reason: None, restarts: 0, report })
    };
    let nodes = std::thread::scope(|scope| {
        let asking: Vec<_> = region.nodes.iter().map(|spec| scope.spawn(move || node(spec))).collect();
        asking.into_iter().filter_map(|asked| asked.join().ok()).collect()
    });
    let clusters =
        region.clusters.iter().map(|c| (c.name.clone(), look_at_cluster(home, region, c, own))).collect();
    Seen { agent: lock::holder(&home.lock_file()), nodes, clusters }
}

fn look_at_cluster(home: &Home, region: &Region, cluster: &ClusterSpec, own: u32) -> ClusterState {
    let status = home.mount_status(&cluster.name);
    let mount_pid = pid_by_arguments(own, &[OsStr::new("--status-file"), status.as_os_str()]);
    let data = Home::cluster_runtime(region.id, &cluster.name).join("mnt").join(cluster.engine.data());
    let pid = pid_by_arguments(cluster.engine.runs_as(), &cluster.engine.known_by(&data));
    let phase = match (pid, mount_pid) {
        (Some(_), Some(_)) => ClusterPhase::Available,
        (None, None) => ClusterPhase::Stopped,
        _ => ClusterPhase::Recovering,
    };
    ClusterState { phase, pid, mount_pid, reason: None, restarts: 0 }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

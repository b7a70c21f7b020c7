//! A region: which nodes and clusters there should be. Kept in `HOME/region.json` ([`store`]).

mod memory;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zorya_types::{NodeId, Profile, VolumeId};

use crate::volumes::NodeAddress;

pub use memory::default_cache_bytes;
pub use store::{RegionError, RegionStore};

/// The newest format of `region.json` that this binary reads and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// A region's id. Printed as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionId(pub u128);

/// What should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// It should run whenever the region is up.
    Running,
    /// An operator stopped it.
    Stopped,
}

/// A region's desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// See [`FORMAT_VERSION`].
    pub version: u32,
    /// Its id.
    pub id: RegionId,
    /// The protection profile of new clusters.
    pub profile: String,
    /// Its storage nodes.
    pub nodes: Vec<NodeSpec>,
    /// Where mounts and engines run.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// Whether the cluster that a new region starts with is still to be created. False once there was any cluster.
    #[serde(default)]
    pub wants_first_cluster: bool,
    /// Its clusters.
    pub clusters: Vec<ClusterSpec>,
}

/// A storage node as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub id: NodeId,
    /// Its availability zone.
    pub zone: String,
    /// Its data directory.
    pub data: PathBuf,
    /// `host:port`. Volumes remember it, so it never changes once there is a cluster.
    pub listen: String,
    /// The network namespace that it runs in; `None`: the agent's.
    pub netns: Option<String>,
    /// Whether it should run.
    pub desired: Desired,
}

/// Where mounts and engines run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeSpec {
    /// The network namespace; `None`: the agent's.
    #[serde(default)]
    pub netns: Option<String>,
    /// The address that engines listen on; `None`: 127.0.0.1.
    #[serde(default)]
    pub listen: Option<String>,
}

/// Which engine a cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL 15.
    Postgres,
    /// MariaDB 10.11.
    Mariadb,
}

/// How far a cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its volume or its database is not there yet. Creating goes on where it stopped.
    Creating,
    /// Its database is there.
    Ready,
    /// It is being deleted. Deleting goes on where it stopped.
    Deleting,
}

/// A cluster as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: Engine,
    /// Its volume.
    pub volume: VolumeId,
    /// Its volume's protection profile.
    pub profile: String,
    /// The nodes with its volume's replicas, by slot.
    pub nodes: Vec<NodeId>,
    /// The port that its engine listens on.
    pub port: u16,
    /// The operator's engine parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The mount daemon's block cache, in bytes.
    pub cache_bytes: u64,
    /// Where the engine's binaries are; `None`: the distribution's place.
    #[serde(default)]
    pub bin_dir: Option<PathBuf>,
    /// How far it has come.
    pub phase: Phase,
    /// Whether it should run.
    pub desired: Desired,
}

/// There are too few nodes for a profile.
#[derive(Debug, thiserror::Error)]
#[error(
    "profile {profile} needs {per_zone} storage nodes in each of {zones} zones; this region has {}: \
     choose another --profile or start the region with more nodes", describe(.have)
)]
pub struct TooFewNodes {
    profile: String,
    per_zone: u8,
    zones: u8,
    have: BTreeMap<String, usize>,
}

fn describe(zones: &BTreeMap<String, usize>) -> String {
    let parts: Vec<_> = zones.iter().map(|(zone, count)| format!("{count} in {zone}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// A name that does not fit paths, socket addresses and connection strings.
#[derive(Debug, thiserror::Error)]
#[error("a name is 1 to 40 characters of a-z, 0-9 and -, and starts with a letter or a digit")]
pub struct BadName;

/// Whether a node or a cluster can have this name.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || name.starts_with('-') || !name.chars().all(fits) {
        return Err(BadName);
    }
    Ok(())
}

impl Region {
    /// A region without clusters.
    #[must_use]
    pub fn new(profile: &Profile, nodes: Vec<NodeSpec>, compute: ComputeSpec) -> Region {
        Region {
            version: FORMAT_VERSION,
            id: RegionId(rand::random()),
            profile: profile.name.clone(),
            nodes,
            compute,
            wants_first_cluster: false,
            clusters: Vec::new(),
        }
    }

    /// The cluster of that name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&ClusterSpec> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.id.0 == id)
    }

    /// The address that engines listen on.
    #[must_use]
    pub fn engine_host(&self) -> &str {
        self.compute.listen.as_deref().unwrap_or("127.0.0.1")
    }

    /// The addresses of a cluster's nodes, by slot.
    #[must_use]
    pub fn addresses(&self, cluster: &ClusterSpec) -> Vec<NodeAddress> {
        cluster.nodes.iter().filter_map(|id| self.node(&id.0)).map(NodeSpec::address).collect()
    }

    /// Chooses the nodes of a new volume: as many of each zone as the profile wants, those with the fewest volumes first.
    pub fn place(&self, profile: &Profile) -> Result<Vec<NodeId>, TooFewNodes> {
        let load = |node: &NodeSpec| self.clusters.iter().filter(|c| c.nodes.contains(&node.id)).count();
        let mut zones: BTreeMap<&str, Vec<&NodeSpec>> = BTreeMap::new();
        for node in &self.nodes {
            zones.entry(&node.zone).or_default().push(node);
        }
        let per_zone = profile.replicas / profile.zones;
        let mut fitting: Vec<_> =
            zones.values().filter(|nodes| nodes.len() >= usize::from(per_zone)).cloned().collect();
        if fitting.len() < usize::from(profile.zones) {
            let have = zones.iter().map(|(zone, nodes)| ((*zone).to_owned(), nodes.len())).collect();
            let (profile, zones) = (profile.name.clone(), profile.zones);
            return Err(TooFewNodes { profile, per_zone, zones, have });
        }
        for nodes in &mut fitting {
            nodes.sort_by_key(|node| (load(node), node.id.clone()));
        }
        fitting.sort_by_key(|nodes| (load(nodes[0]), nodes[0].zone.clone()));
        let chosen = fitting.iter().take(usize::from(profile.zones));
        let mut placed: Vec<_> = chosen
            .flat_map(|nodes| nodes.iter().take(usize::from(per_zone)))
            .map(|node| node.id.clone())
            .collect();
        placed.sort();
        Ok(placed)
    }
}

impl NodeSpec {
    /// Its address with its name and zone.
    #[must_use]
    pub fn address(&self) -> NodeAddress {
        NodeAddress { id: self.id.clone(), zone: self.zone.clone(), address: self.listen.clone() }
    }
}

impl RegionId {
    /// The first eight digits: enough for names on one host.
    #[must_use]
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A region id that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a region id is 32 hexadecimal digits, not {0:?}")]
pub struct BadRegionId(String);

impl FromStr for RegionId {
    type Err = BadRegionId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 {
            return Err(BadRegionId(text.to_owned()));
        }
        u128::from_str_radix(text, 16).map(RegionId).map_err(|_| BadRegionId(text.to_owned()))
    }
}

impl TryFrom<String> for RegionId {
    type Error = BadRegionId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RegionId> for String {
    fn from(id: RegionId) -> String {
        id.to_string()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Postgres => f.write_str("postgres"),
            Engine::Mariadb => f.write_str("mariadb"),
        }
    }
}

#[cfg(test)]
mod tests;

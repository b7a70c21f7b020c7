//! The seam to storage: what the agent asks of volumes and nodes. The binary implements it with the storage client.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zorya_types::{NodeId, Profile, VolumeId};

/// Where a storage node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Its name.
    pub id: NodeId,
    /// Its availability zone.
    pub zone: String,
    /// `host:port`.
    pub address: String,
}

/// What a storage node says of itself and of the replicas that it keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// One for each replica.
    pub segments: Vec<SegmentReport>,
}

/// One replica's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// The volume.
    pub volume: VolumeId,
    /// What else the node says: slot, epoch, positions, tail.
    #[serde(flatten)]
    pub facts: serde_json::Map<String, serde_json::Value>,
}

/// Something that storage did not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct VolumesError {
    /// What was tried, with its ids.
    pub doing: String,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Storage as the agent sees it. Calls block and may be repeated: creating what exists and deleting what is gone succeed.
pub trait Volumes: Send + Sync + 'static {
    /// Makes an empty volume with its replicas on `nodes`, in the order of the slots. Succeeds once enough of them have
    /// it that it can be opened.
    fn create(&self, volume: VolumeId, profile: &Profile, nodes: &[NodeAddress]) -> Result<(), VolumesError>;

    /// Makes every reachable node forget the volume.
    fn delete(&self, volume: VolumeId, nodes: &[NodeAddress]) -> Result<(), VolumesError>;

    /// Asks a node for its state; gives up after `limit`.
    fn report(&self, node: &NodeAddress, limit: Duration) -> Result<NodeReport, VolumesError>;
}

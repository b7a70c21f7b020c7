//! How much room a volume's nodes have: asked now and then, so that whoever wants to know need not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zorya_wire::message::node::{DiskSpace, MeasureDisk, NodeResponse};
use zorya_wire::message::{Request, Response};

use crate::net::Peer;

const EVERY: Duration = Duration::from_secs(5);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// In [`Room::free_bytes`]: not known yet.
const UNKNOWN: u64 = u64::MAX;

/// What is known of the room on a volume's nodes.
#[derive(Debug)]
pub struct Room {
    free_bytes: AtomicU64,
}

impl Default for Room {
    fn default() -> Room {
        Room { free_bytes: AtomicU64::new(UNKNOWN) }
    }
}

impl Room {
    /// Bytes that a write quorum has room for, as last heard; `None` until a write quorum said anything.
    pub fn free_bytes(&self) -> Option<u64> {
        Some(self.free_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    /// Asks every node again and again until `stop`. A node that does not answer counts with what it said last.
    pub async fn watch(self: Arc<Self>, nodes: Vec<Arc<Peer>>, write_quorum: usize, stop: CancellationToken) {
        let hosts: Vec<&str> = nodes.iter().map(|node| host(node.address())).collect();
        let mut said = vec![None; nodes.len()];
        loop {
            ask_all(&nodes, &mut said).await;
            if let Some(bytes) = of_quorum(&hosts, &said, write_quorum) {
                self.free_bytes.store(bytes, Ordering::Relaxed);
            }
            // Until a quorum has spoken somebody may wait to hear of it.
            let pause = if self.free_bytes().is_some() { EVERY } else { EVERY / 50 };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }
}

async fn ask_all(nodes: &[Arc<Peer>], said: &mut [Option<DiskSpace>]) {
    let mut asking = JoinSet::new();
    for (index, node) in nodes.iter().cloned().enumerate() {
        asking.spawn(async move {
            let request = Request::Node(MeasureDisk {}.into());
            (index, tokio::time::timeout(PATIENCE, node.ask(&request)).await)
        });
    }
    while let Some(answer) = asking.join_next().await {
        if let Ok((index, Ok(Ok(Response::Node(NodeResponse::Disk(space)))))) = answer {
            said[index] = Some(space);
        }
    }
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// What a write quorum has room for: each member keeps a copy of everything, and members on one file system share it.
/// `None` if fewer said anything.
fn of_quorum(hosts: &[&str], said: &[Option<DiskSpace>], write_quorum: usize) -> Option<u64> {
    let disks: Vec<_> = hosts.iter().zip(said).filter_map(|(host, said)| Some((host, (*said)?))).collect();
    let share = |(host, space): &(&&str, DiskSpace)| {
        let same = |(other, there): &&(&&str, DiskSpace)| {
            space.file_system != 0 && (other, there.file_system) == (host, space.file_system)
        };
        space.free_bytes / disks.iter().filter(same).count().max(1) as u64
    };
    let mut room: Vec<u64> = disks.iter().map(share).collect();
    room.sort_unstable_by(|a, b| b.cmp(a));
    room.get(write_quorum.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(bytes: u64, file_system: u64) -> Option<DiskSpace> {
        Some(DiskSpace { total_bytes: 1000, free_bytes: bytes, file_system })
    }

    #[test]
    fn a_write_quorum_has_the_room_of_its_fullest_member() {
        let own = |bytes| free(bytes, 0);
        for (said, expected) in [
            ([own(60), own(50), own(40), own(30), own(20), own(10)], Some(30)),
            ([own(0), own(50), own(0), own(50), own(50), own(50)], Some(50)),
            ([own(0), own(50), own(0), own(0), own(50), own(50)], Some(0)),
            ([None, own(9), own(8), None, own(7), own(6)], Some(6)),
            ([None, own(9), own(8), None, own(7), None], None),
        ] {
            assert_eq!(of_quorum(&["h"; 6], &said, 4), expected, "{said:?}");
        }
    }

    #[test]
    fn nodes_on_one_disk_share_its_room() {
        let same = [free(60, 7); 6];
        assert_eq!(of_quorum(&["h"; 6], &same, 4), Some(10));
        let hosts = ["a", "a", "b", "b", "c", "c"];
        assert_eq!(of_quorum(&hosts, &same, 4), Some(30), "the number counts on its host");
        let mixed = [free(60, 7), free(60, 7), free(60, 8), free(60, 9), free(60, 0), free(60, 0)];
        assert_eq!(of_quorum(&["h"; 6], &mixed, 4), Some(60));
        assert_eq!(of_quorum(&["h"; 6], &mixed, 6), Some(30));
    }
}

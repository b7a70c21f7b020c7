//! Where the binary's processes meet the layers that they run: storage node, mount daemon, and the agent's view of
//! storage.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use zorya_compute::restart::{CANNOT_WORK, TRY_AGAIN};
use zorya_compute::volumes::{NodeAddress, NodeReport, SegmentReport, Volumes, VolumesError};
use zorya_log::file::OpenError;
use zorya_storage::client::{self, ClientError, ClientOptions, CreateOptions, Placement};
use zorya_storage::node::{self, DiskError, NodeError, NodeLimits, NodeOptions, RecoveryError};
use zorya_types::{NodeId, Profile, VolumeId};
use zorya_volume::volume::LoadError;
use zorya_volume::{EngineClass, MountError, MountOptions};
use zorya_wire::handshake::RegionKey;

use crate::cli::{Class, Mount, StorageNode};
use crate::exit::WithCode;

/// The exit code of a mount that another process fenced.
const FENCED: u8 = 76;
/// Threads that answer FUSE requests. None of them ever waits for storage.
const FUSE_THREADS: usize = 4;

/// Runs a storage node until it is told to stop.
pub fn storage_node(options: StorageNode, key: RegionKey) -> anyhow::Result<()> {
    let ended = node::run(NodeOptions {
        id: NodeId(options.id),
        zone: options.zone,
        data: options.data,
        listen: options.listen,
        key,
        status_file: options.status_file,
        limits: NodeLimits::default(),
    });
    ended.map_err(|error| coded(error.into()))
}

/// Opens a volume and serves its mount until it is told to stop or loses the volume.
pub fn mount(options: Mount, key: RegionKey) -> anyhow::Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        zorya_volume::mount::enter_user_namespace().map_err(MountError::from)?;
    }
    let store = client::open(ClientOptions {
        volume: options.volume,
        addresses: options.nodes,
        key,
        reaped: options.reaped,
        progress: Arc::new(|step| tracing::info!(step, "opening the volume")),
    })
    .map_err(opening_failed)?;
    let mounted = zorya_volume::run(
        MountOptions {
            mountpoint: options.mountpoint,
            class: match options.class {
                Class::None => EngineClass::None,
                Class::Postgres => EngineClass::Postgres,
                Class::Mariadb => EngineClass::Mariadb,
            },
            cache_bytes: options.cache_bytes,
            local_dir: options.local_dir,
            status_file: options.status_file,
            threads: FUSE_THREADS,
            private_namespace: is_root,
            volume: options.volume,
            owner: options.owner,
        },
        store,
    );
    match mounted {
        Err(error) if error.is_fenced() => {
            Err(WithCode { code: FENCED, message: format!("volume {}: {error}", options.volume) }.into())
        }
        other => other.with_context(|| format!("volume {}", options.volume)).map_err(coded),
    }
}

/// Gives an error of a supervised process the exit code that says whether another start may end otherwise.
fn coded(error: anyhow::Error) -> anyhow::Error {
    let caused_by = |kind| {
        let is = |cause: &io::Error| cause.kind() == kind;
        error.chain().any(|cause| cause.downcast_ref().is_some_and(is))
    };
    if caused_by(io::ErrorKind::StorageFull) {
        return WithCode { code: TRY_AGAIN as u8, message: format!("{error:#}: free space there") }.into();
    }
    if caused_by(io::ErrorKind::ReadOnlyFilesystem) {
        let remedy = "mount that disk read-write; the kernel's log may say why it is not";
        return WithCode { code: CANNOT_WORK as u8, message: format!("{error:#}: {remedy}") }.into();
    }
    let node = error.downcast_ref().is_some_and(node_cannot_work);
    let mount = error.downcast_ref().is_some_and(|error| {
        matches!(error, MountError::Load(LoadError::OtherEngine { .. } | LoadError::NoFormat))
    });
    if node || mount {
        return WithCode { code: CANNOT_WORK as u8, message: format!("{error:#}") }.into();
    }
    error
}

/// Whether a node's files are of a newer format, or not its own.
fn node_cannot_work(error: &NodeError) -> bool {
    match error {
        NodeError::Disk(error) | NodeError::Recovery(RecoveryError::Disk(error)) => matches!(
            error,
            DiskError::NewerFormat { .. } | DiskError::OtherNode { .. } | DiskError::NotANode(_)
        ),
        NodeError::Recovery(RecoveryError::Log(error)) => matches!(
            error,
            OpenError::NewerFormat { .. } | OpenError::UnknownCipher { .. } | OpenError::OtherLog { .. }
        ),
        NodeError::Recovery(RecoveryError::Pages { source, .. }) => {
            matches!(source, zorya_pages::OpenError::NewerFormat { .. })
        }
        _ => false,
    }
}

fn opening_failed(error: ClientError) -> anyhow::Error {
    match error {
        // Every node that answered said no; one that has not answered yet may know better.
        ClientError::Open(error) => {
            WithCode { code: TRY_AGAIN as u8, message: format!("cannot open the volume: {error}") }.into()
        }
        error => error.into(),
    }
}

/// Storage as the agent asks it: by the storage client's administrative requests.
pub struct StorageVolumes {
    key: RegionKey,
}

impl StorageVolumes {
    /// For a region's key.
    pub fn new(key: RegionKey) -> StorageVolumes {
        StorageVolumes { key }
    }
}

/// Runs an administrative request to its end on the calling thread, which may block.
fn wait<T>(request: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(request))
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    doing: String,
) -> impl FnOnce(E) -> VolumesError {
    move |error| VolumesError { doing, source: error.into() }
}

impl Volumes for StorageVolumes {
    fn create(&self, volume: VolumeId, profile: &Profile, nodes: &[NodeAddress]) -> Result<(), VolumesError> {
        let doing = || format!("create volume {volume}");
        let place = |node: &NodeAddress| Placement {
            node: node.id.clone(),
            zone: node.zone.clone(),
            address: node.address.clone(),
        };
        let options = CreateOptions {
            volume,
            profile: profile.clone(),
            nodes: nodes.iter().map(place).collect(),
            key: self.key.clone(),
        };
        wait(client::create_volume(&options)).map_err(failed(doing()))?.map_err(failed(doing()))?;
        Ok(())
    }

    fn delete(&self, volume: VolumeId, nodes: &[NodeAddress]) -> Result<(), VolumesError> {
        for node in nodes {
            let doing = || format!("delete volume {volume} on storage node {}", node.id);
            wait(client::delete_volume(&node.address, &self.key, volume))
                .map_err(failed(doing()))?
                .map_err(failed(doing()))?;
        }
        Ok(())
    }

    fn report(&self, node: &NodeAddress, limit: Duration) -> Result<NodeReport, VolumesError> {
        let doing = || format!("ask storage node {}", node.id);
        let asking =
            async { tokio::time::timeout(limit, client::node_status(&node.address, &self.key)).await };
        let text = wait(asking)
            .map_err(failed(doing()))?
            .map_err(|_| failed(doing())(format!("no answer within {} ms", limit.as_millis())))?
            .map_err(failed(doing()))?;
        parse_report(&text).map_err(failed(doing()))
    }
}

fn parse_report(text: &str) -> Result<NodeReport, serde_json::Error> {
    #[derive(Deserialize)]
    struct Status {
        volumes: Vec<SegmentReport>,
    }
    Ok(NodeReport { segments: serde_json::from_str::<Status>(text)?.volumes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_says_whether_another_start_may_end_otherwise() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let no_room = OpenError::NoRoom { name: "1.log".to_owned(), bytes: 9, source: full };
        let newer = DiskError::NewerFormat { path: "node.json".into(), found: 9 };
        let another = OpenError::NewerFormat { name: "1.log".to_owned(), found: 2, known: 1 };
        let denied = DiskError::Io {
            step: "open",
            path: "node.json".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        let read_only = DiskError::Io {
            step: "open",
            path: "node.json".into(),
            source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        };
        for (error, code) in [
            (NodeError::from(RecoveryError::from(no_room)), Some(75)),
            (NodeError::from(RecoveryError::from(newer)), Some(78)),
            (NodeError::from(RecoveryError::from(another)), Some(78)),
            (NodeError::from(denied), None),
            (NodeError::from(read_only), Some(78)),
        ] {
            let coded = coded(error.into());
            assert_eq!(coded.downcast_ref().map(|coded: &WithCode| coded.code), code, "{coded:#}");
        }
    }

    #[test]
    fn a_nodes_status_names_its_replicas() {
        let volume = VolumeId(7);
        let text = format!(r#"{{"node": "a", "volumes": [{{"volume": "{volume}", "slot": 2, "scl": 9}}]}}"#);
        let report = parse_report(&text).unwrap();
        assert_eq!(report.segments[0].volume, volume);
        assert_eq!(report.segments[0].facts["scl"], 9);
        assert!(parse_report("{}").is_err());
    }
}

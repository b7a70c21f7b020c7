//! One storage node: the log replicas and page segments of every volume that has a replica here.
//!
//! | task | owns | born | dies |
//! |---|---|---|---|
//! | core (`core.rs`) | every volume's log replica, the peers | start | shutdown |
//! | connection (`connection.rs`) | one accepted connection | accept | peer gone, shutdown |
//! | read | one read request | request | answer |
//! | log flusher (`zorya_log::file`) | the node log's files | start | shutdown |
//! | layers (`layers.rs`) | flushing, compaction, scrub of all volumes | start | shutdown |
//!
//! The core is one task that takes one event at a time and applies it without waiting (`core.rs`), so a replica's
//! decisions never interleave. Reads of pages go past it: they need only the promised epoch and the applied position.
//! A crash at any point loses nothing that was acknowledged: what a replica vouches for is in the node log, and pages
//! are made again from there.

mod connection;
mod core;
mod disk;
mod layers;
mod reads;
mod recovery;
mod status;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zorya_types::NodeId;
use zorya_wire::handshake::RegionKey;

use crate::net::Listener;
pub use disk::DiskError;
pub use recovery::RecoveryError;

/// How to run a storage node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its name, unique in the region; written to the disk at first use and checked ever after.
    pub id: NodeId,
    /// Its availability zone.
    pub zone: String,
    /// Its directory: nobody else's.
    pub data: PathBuf,
    /// Where it listens, `host:port`.
    pub listen: String,
    /// The region's key.
    pub key: RegionKey,
    /// Where to say that it is ready: JSON with pid, address, incarnation and state.
    pub status_file: Option<PathBuf>,
    /// Sizes and limits.
    pub limits: NodeLimits,
}

/// A node's sizes and limits.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Bytes of one log file.
    pub log_file_bytes: u64,
    /// Bytes of log between two flushes of pages to layers.
    pub flush_bytes: u64,
    /// Bytes that the index of the newest log may take, over all volumes, before the log waits for layers.
    pub index_bytes: usize,
    /// Bytes of layer blocks that are kept in memory, over all volumes.
    pub cache_bytes: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits {
            log_file_bytes: 64 << 20,
            flush_bytes: 16 << 20,
            index_bytes: 64 << 20,
            cache_bytes: 32 << 20,
        }
    }
}

/// Why a storage node could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What is in its directory cannot be read back.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Its address is taken or not this host's.
    #[error("storage node {id} cannot listen on {address}")]
    Listen {
        /// The node.
        id: NodeId,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system refused threads or timers.
    #[error("storage node {id} cannot start its event loop")]
    Runtime {
        /// The node.
        id: NodeId,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs a storage node until SIGTERM or SIGINT.
pub fn run(options: NodeOptions) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| NodeError::Runtime { id: options.id.clone(), source })?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let signalled = stop.clone();
        tokio::spawn(async move {
            wait_for_signal().await;
            signalled.cancel();
        });
        serve(options, stop).await
    })
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

/// Runs a storage node until `stop`, on the current (single-threaded) runtime.
pub async fn serve(options: NodeOptions, stop: CancellationToken) -> Result<(), NodeError> {
    let disk = disk::NodeDisk::open(&options.data, &options.id, &options.zone)?;
    let incarnation = disk.incarnation();
    let listen =
        |source| NodeError::Listen { id: options.id.clone(), address: options.listen.clone(), source };
    let listener = Listener::bind(&options.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?.to_string();
    let (events, inbox) = core::channel();
    let recovered = recovery::recover(&disk, &options, &events)?;
    tracing::info!(id = %options.id, zone = %options.zone, %address, "storage node is serving");
    let shared = recovered.shared.clone();
    let layers = layers::start(shared.clone(), events.clone(), stop.clone());
    let core = core::Core::new(disk, recovered, options.key.clone(), events.clone(), stop.clone());
    status::write_ready(options.status_file.as_deref(), &options.id, &address, incarnation);
    let connections = connection::accept_all(listener, Arc::new(options.key), events, shared, stop.clone());
    tokio::join!(core.run(inbox), connections);
    layers.join();
    Ok(())
}

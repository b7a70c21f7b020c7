//! The client of a volume: opens it with a new epoch, appends to its log, reads its blocks.
//!
//! | task | owns | born | dies |
//! |---|---|---|---|
//! | sender, one per replica (`sender.rs`) | the connection that appends go out on | open | shutdown, volume lost |
//! | waker (`writer.rs`) | one wake-up for all senders | open | shutdown |
//! | sealer (`writer.rs`) | the timer that sends what nobody waits for | open | shutdown |
//! | read, four at most (`read_queue.rs`, `reader.rs`) | one request, its retries and hedges | `read` | nothing waits |
//! | scan (`reader.rs`) | one scan | `scan` | answer, volume lost |
//! | room (`room.rs`) | what the nodes have room for | open | shutdown |
//!
//! The writer's decisions are `zorya_log::writer::Writer`'s; they are taken under one short lock (`writer.rs`), from
//! whatever thread appends. Nothing here retries an append: a batch is kept until a write quorum has it, and a replica
//! that was too slow to be sent it gets it from its peers. A process that dies here leaves a volume that the next
//! opening brings to its highest consistency point.

mod admin;
mod opening;
mod read_queue;
mod reader;
mod room;
mod sender;
mod writer;

use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use zorya_types::{Epoch, GroupId, Key, Lineage, Lsn, VolumeId, VolumePositions};
use zorya_wire::handshake::RegionKey;

pub use admin::{
    AdminError, CreateOptions, Placement, create_volume, delete_volume, describe_volume, node_status,
};
pub use opening::OpenError;

use crate::store::{AppendRefused, Done, NewRecord, ReadFailed, VolumeLost, VolumeStore};

/// The most bytes that the log may be ahead of VDL. A constant of the format: an opening leaves so much room above the
/// cut, because no older writer can have gone further (`docs/POSITIONS.md`).
pub const ALLOCATION_LIMIT: u64 = 32 << 20;

/// How to open a volume.
#[derive(Clone)]
pub struct ClientOptions {
    /// The volume.
    pub volume: VolumeId,
    /// Addresses of storage nodes, `host:port`; those of the volume's replicas among them.
    pub addresses: Vec<String>,
    /// The region's key.
    pub key: RegionKey,
    /// The old writer is known to be dead: its lease need not be waited out.
    pub reaped: bool,
    /// Told what the opening waits for whenever that changes.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Why a volume was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The opening failed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system refused threads.
    #[error("cannot start the storage client's thread")]
    Thread(#[source] std::io::Error),
    /// The thread ended before the volume was open.
    #[error("the storage client's thread ended before volume {0} was open")]
    Ended(VolumeId),
}

/// An open volume; the real [`VolumeStore`]. Dropping it shuts the client down.
pub struct Client {
    writer: Arc<writer::WriterShared>,
    reader: Arc<reader::Reader>,
    reads: Arc<read_queue::ReadQueue>,
    lineage: Lineage,
    room: Arc<room::Room>,
    runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Opens a volume: raises its epoch, fences whoever wrote it, and serves it. Blocks until it is open, for as long as
/// that takes.
pub fn open(options: ClientOptions) -> Result<Arc<Client>, ClientError> {
    let (report, opened) = oneshot::channel();
    let volume = options.volume;
    let stop = CancellationToken::new();
    let token = stop.clone();
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = report.send(Err(ClientError::Thread(error)));
                return;
            }
        };
        let handle = runtime.handle().clone();
        runtime.block_on(async move {
            let outcome = opening::open_volume(&options, &token).await;
            let _ = report.send(outcome.map(|parts| (parts, handle)).map_err(ClientError::from));
            token.cancelled().await;
        });
    };
    let thread = std::thread::Builder::new().name("storage-client".to_owned()).spawn(run);
    let thread = thread.map_err(ClientError::Thread)?;
    let (parts, runtime) = opened.blocking_recv().map_err(|_| ClientError::Ended(volume))??;
    let opening::OpenVolume { writer, reader, lineage, room } = parts;
    let reads = read_queue::ReadQueue::new(reader.clone(), runtime.clone());
    Ok(Arc::new(Client { writer, reader, reads, lineage, room, runtime, stop, thread: Some(thread) }))
}

impl Client {
    /// The volume's history.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Calls `done` if the volume is lost to this process.
    pub fn when_lost(&self, done: Done<VolumeLost>) {
        self.writer.when_lost(done);
    }

    /// What each replica is known to have, for status: (node, zone, connected, SCL).
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.writer.replicas()
    }
}

/// A replica of the log as its writer sees it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReplicaStatus {
    /// The storage node.
    pub node: String,
    /// Its zone.
    pub zone: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// What it has acknowledged.
    pub scl: Lsn,
    /// Why it refuses, if it does.
    pub refusal: Option<String>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.writer.lose(VolumeLost::ShutDown);
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl VolumeStore for Client {
    fn append(&self, record: NewRecord<'_>) -> Result<Lsn, AppendRefused> {
        self.writer.append(std::slice::from_ref(&record))
    }

    fn append_atomically(&self, records: &[NewRecord<'_>]) -> Result<Lsn, AppendRefused> {
        self.writer.append(records)
    }

    fn when_room(&self, done: Done<Result<(), VolumeLost>>) {
        self.writer.when_room(done);
    }

    fn when_durable(&self, lsn: Lsn, done: Done<Result<(), VolumeLost>>) {
        self.writer.when_durable(lsn, done);
    }

    fn vdl(&self) -> Lsn {
        self.writer.vdl()
    }

    fn positions(&self) -> VolumePositions {
        self.writer.positions()
    }

    fn epoch(&self) -> Epoch {
        self.writer.epoch()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.room.free_bytes()
    }

    fn read(&self, keys: &[(GroupId, Key)], done: Done<Result<Vec<Option<Bytes>>, ReadFailed>>) {
        self.reads.read(keys.to_vec(), done);
    }

    fn scan(&self, group: GroupId, from: Key, to: Key) -> Result<Vec<(Key, Bytes)>, ReadFailed> {
        let reader = self.reader.clone();
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            let _ = answer.send(reader.scan(group, from, to).await);
        });
        answered.blocking_recv().unwrap_or(Err(ReadFailed::Lost(VolumeLost::ShutDown)))
    }
}

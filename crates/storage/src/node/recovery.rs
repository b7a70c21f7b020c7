//! From what is on the disk to running volumes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use zorya_log::file::{FileConfig, NodeLog, OpenError, Position, Scars};
use zorya_log::replica::{Entry, RecoverError, Replica, ReplicaConfig};
use zorya_pages::{NodeMemory, PagesConfig, VolumePages};
use zorya_types::{Epoch, Incarnation, NodeId, VolumeId};
use zorya_wire::message::log::Tail;

use super::core::{Event, Events};
use super::disk::{DiskError, NodeDisk, VolumeFile};
use super::reads::{SharedVolume, SharedVolumes};
use super::volume::{Stored, VolumeHost};
use super::{NodeLimits, NodeOptions};

/// The writer's lease, in milliseconds.
const LEASE_MS: u64 = 2000;
/// How far a batch may be stamped ahead of a replica's clock, in microseconds.
const MAX_CLOCK_AHEAD_US: u64 = 1_000_000;
/// How much a replica asks of a peer at a time, in bytes.
const FETCH_BYTES: u32 = 1 << 20;

/// Why what is on the disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The directory's descriptions.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The node log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A volume's layers.
    #[error("the layers of volume {volume} cannot be opened")]
    Pages {
        /// The volume.
        volume: VolumeId,
        /// Why.
        source: zorya_pages::OpenError,
    },
    /// A volume's entries in the node log.
    #[error("the log of volume {volume} cannot be read back")]
    Replica {
        /// The volume.
        volume: VolumeId,
        /// Why.
        source: RecoverError,
    },
    /// The node is not one of the volume's replicas.
    #[error("storage node {node} is not among the replicas of volume {volume}")]
    NotAMember {
        /// The node.
        node: NodeId,
        /// The volume.
        volume: VolumeId,
    },
}

/// What every volume of a node is made with.
#[derive(Clone, Debug)]
pub struct VolumeSettings {
    node: NodeId,
    incarnation: Incarnation,
    pages: PagesConfig,
}

/// A node's state as of its disk.
pub struct Recovered {
    /// The node log.
    pub log: NodeLog,
    /// Its volumes.
    pub volumes: HashMap<VolumeId, VolumeHost>,
    /// The same for reads.
    pub shared: SharedVolumes,
    /// What new volumes are made with.
    pub settings: VolumeSettings,
}

/// The smallest log file that the disk's size asks for: it takes the longest entry.
const LEAST_LOG_FILE_BYTES: u64 = 20 << 20;
/// A log file takes at most this part of a disk that is large enough for it: the log has three of them, and layers need
/// room for it to give any back.
const LOG_FILE_PART: u64 = 8;

fn log_file_bytes(disk: &NodeDisk, limits: &NodeLimits) -> u64 {
    // A disk that does not tell its size has the usual one; what is wrong with it shows when it is used.
    let part = disk.space().map_or(u64::MAX, |space| space.total_bytes / LOG_FILE_PART);
    let part = part.max(LEAST_LOG_FILE_BYTES) >> 20 << 20;
    limits.log_file_bytes.min(part)
}

/// Reads a node's disk back.
pub fn recover(disk: &NodeDisk, options: &NodeOptions, events: &Events) -> Result<Recovered, RecoveryError> {
    let settings = VolumeSettings {
        node: disk.id().clone(),
        incarnation: disk.incarnation(),
        pages: pages_config(&options.limits),
    };
    let mut positions: HashMap<VolumeId, Vec<Position>> = HashMap::new();
    let config = FileConfig { file_bytes: log_file_bytes(disk, &options.limits), ..FileConfig::default() };
    let events = events.clone();
    let (log, _) = NodeLog::open(
        &disk.log(),
        config,
        |found| positions.entry(found.volume).or_default().push(found.position),
        move |event| events.send(Event::Disk(event)),
    )?;
    let mut volumes = HashMap::new();
    for file in disk.list()? {
        let (volume, found) = (file.volume, positions.remove(&file.volume).unwrap_or_default());
        volumes.insert(volume, settings.recovered_volume(disk, &log, file, &found)?);
    }
    let shared: HashMap<_, _> = volumes.iter().map(|(id, host)| (*id, host.shared.clone())).collect();
    Ok(Recovered { log, volumes, shared: Arc::new(shared.into()), settings })
}

fn pages_config(limits: &NodeLimits) -> PagesConfig {
    PagesConfig {
        flush_bytes: limits.flush_bytes,
        node: NodeMemory::new(limits.index_bytes, limits.cache_bytes),
        ..PagesConfig::default()
    }
}

impl VolumeSettings {
    fn replica_config(&self, file: &VolumeFile) -> Result<ReplicaConfig, RecoveryError> {
        let not_a_member = || RecoveryError::NotAMember { node: self.node.clone(), volume: file.volume };
        Ok(ReplicaConfig {
            volume: file.volume,
            log: file.log,
            slot: file.membership.slot_of(&self.node).ok_or_else(not_a_member)?,
            incarnation: self.incarnation,
            membership: file.membership.clone(),
            lease_ms: LEASE_MS,
            max_clock_ahead_us: MAX_CLOCK_AHEAD_US,
            fetch_max_bytes: FETCH_BYTES,
        })
    }

    fn open_pages(&self, disk: &NodeDisk, file: &VolumeFile) -> Result<Arc<VolumePages>, RecoveryError> {
        let pages = VolumePages::open(&disk.pages(file.volume), file.volume, file.log, self.pages.clone());
        pages.map(Arc::new).map_err(|source| RecoveryError::Pages { volume: file.volume, source })
    }

    /// A volume that has just been created here.
    pub fn empty_volume(&self, disk: &NodeDisk, file: VolumeFile) -> Result<VolumeHost, RecoveryError> {
        let replica = Replica::new(self.replica_config(&file)?);
        let pages = self.open_pages(disk, &file)?;
        self.host(file, replica, pages, VecDeque::new(), None)
    }

    fn recovered_volume(
        &self,
        disk: &NodeDisk,
        log: &NodeLog,
        file: VolumeFile,
        positions: &[Position],
    ) -> Result<VolumeHost, RecoveryError> {
        let config = self.replica_config(&file)?;
        let pages = self.open_pages(disk, &file)?;
        let tail = tail_of(log, positions);
        let (mut stored, mut snapshot) = (VecDeque::with_capacity(positions.len()), None);
        let entries = positions.iter().zip(1..).filter_map(|(position, seq)| {
            let found =
                log.read(*position).map_err(|error| tracing::error!(%error, "an entry cannot be read again"));
            let found = found.ok()?;
            let entry = Entry::decode(found.kind, found.payload);
            let entry = entry.map_err(|error| tracing::error!(%error, "an entry cannot be decoded")).ok()?;
            stored.push_back(Stored { seq, position: *position });
            if matches!(entry, Entry::Snapshot(_)) {
                snapshot = stored.back().copied();
            }
            Some((seq, entry))
        });
        let bound = promise_beyond_damage(log, file.volume);
        let binding = bound.map(|epoch| (positions.len() as u64 + 1, Entry::Promise { epoch }));
        let replica = Replica::recover(config, entries.chain(binding), tail, pages.persisted())
            .map_err(|source| RecoveryError::Replica { volume: file.volume, source })?;
        let mut host = self.host(file, replica, pages, stored, snapshot)?;
        host.write_down_again = bound.is_some();
        Ok(host)
    }

    fn host(
        &self,
        file: VolumeFile,
        replica: Replica,
        pages: Arc<VolumePages>,
        stored: VecDeque<Stored>,
        snapshot: Option<Stored>,
    ) -> Result<VolumeHost, RecoveryError> {
        let slot = self.replica_config(&file)?.slot;
        let shared = SharedVolume {
            promised: AtomicU64::new(replica.promised().0),
            applied: watch::Sender::new(pages.applied()),
            pages,
        };
        Ok(VolumeHost {
            file,
            slot,
            replica,
            durable_seq: stored.back().map_or(0, |stored: &Stored| stored.seq),
            stored,
            snapshot,
            coming_snapshot: None,
            released: 0,
            moving: None,
            write_down_again: false,
            deliveries: VecDeque::new(),
            shared: Arc::new(shared),
        })
    }
}

/// The highest epoch that was promised in entries beyond damage: such a promise binds, although the log before it is
/// missing.
fn promise_beyond_damage(log: &NodeLog, volume: VolumeId) -> Option<Epoch> {
    let promise = |position: &Position| {
        let found = log.read(*position).ok().filter(|found| found.volume == volume)?;
        match Entry::decode(found.kind, found.payload).ok()? {
            Entry::Promise { epoch } => Some(epoch),
            Entry::Accept { truncation } => Some(truncation.own().epoch),
            Entry::Snapshot(state) => Some(state.promised),
            _ => None,
        }
    };
    log.beyond_damage().iter().filter_map(promise).max()
}

/// How far a volume's replica vouches for its end, as the node log's scars tell.
fn tail_of(log: &NodeLog, positions: &[Position]) -> Tail {
    let scars = log.scars();
    if scars == Scars::default() { Tail::Clean } else { scars.tail_above(vouched_at(log, positions)) }
}

/// The newest entry that says how far the replica vouches for its end: scars of the node log below it are accounted
/// for.
fn vouched_at(log: &NodeLog, positions: &[Position]) -> Position {
    let says = |position: &&Position| {
        let found = log.read(**position).ok();
        let entry = found.and_then(|found| Entry::decode(found.kind, found.payload).ok());
        matches!(entry, Some(Entry::Vouch { .. } | Entry::Snapshot(_)))
    };
    positions.iter().rev().find(says).copied().unwrap_or_default()
}

//! What a volume's file system needs of storage: one ordered log to append to, and versioned reads.
//!
//! [`VolumeStore`] is the seam between the layers `volume` and `storage`. The client of real storage nodes
//! implements it; tests of the layers above implement it in memory.

use bytes::Bytes;
use zorya_types::{Epoch, GroupId, Key, Lsn, VolumePositions};

/// The codec and content of a record to append; the store gives it its place, epoch, time and links.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// How to read the payload (`zorya_wire::record::CODEC_*`).
    pub codec: u16,
    /// The payload in pieces; the store copies it once. Together at most `zorya_wire::record::MAX_RECORD_LEN` less
    /// the header.
    pub payload: &'a [&'a [u8]],
    /// Every group that a touched key lives in, each once.
    pub groups: &'a [GroupId],
}

/// Why a record was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// The log is as far ahead of VDL as it may be. Wait with [`VolumeStore::when_room`] and try again.
    #[error("storage cannot keep up: the log is at its allocation limit")]
    AtAllocationLimit,
    /// The volume is lost to this process.
    #[error(transparent)]
    Lost(#[from] VolumeLost),
}

/// Why this process can no longer write the volume. Final: the mount has to be aborted and the volume opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeLost {
    /// Another process opened the volume.
    #[error("fenced: the volume was opened with epoch {by}, this process has {own}")]
    Fenced {
        /// The epoch that replaced this one.
        by: Epoch,
        /// This process's epoch.
        own: Epoch,
    },
    /// The client was shut down.
    #[error("the storage client was shut down")]
    ShutDown,
}

/// Why a read got no answer. Never answered with zeroes instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailed {
    /// The volume is lost to this process.
    #[error(transparent)]
    Lost(#[from] VolumeLost),
    /// The position is below the volume's horizon.
    #[error("position {at} is below the volume's horizon {gc}")]
    BelowHorizon {
        /// Where the read was.
        at: Lsn,
        /// The horizon.
        gc: Lsn,
    },
    /// Every replica says that it cannot read this.
    #[error("no replica can read {key:?}: {reason}")]
    Unreadable {
        /// The key.
        key: Key,
        /// The last replica's reason.
        reason: String,
    },
}

/// Called once with the outcome of a wait.
pub type Done<T> = Box<dyn FnOnce(T) + Send + 'static>;

/// An open volume.
///
/// `append` is ordered by the caller: two calls by one thread are in the log in that order. Callbacks run on a thread
/// of the store, must not block, and may be called before the registering call returns.
pub trait VolumeStore: Send + Sync + 'static {
    /// Appends one record and returns its LSN, without waiting for anything. Every record ends a consistency point.
    fn append(&self, record: NewRecord<'_>) -> Result<Lsn, AppendRefused>;

    /// Appends records that become visible together: only the last ends a consistency point.
    fn append_atomically(&self, records: &[NewRecord<'_>]) -> Result<Lsn, AppendRefused>;

    /// Calls `done` once there is room below the allocation limit, or the volume is lost.
    fn when_room(&self, done: Done<Result<(), VolumeLost>>);

    /// Calls `done` once VDL has reached `lsn`, or the volume is lost. Says that somebody waits: storage syncs now.
    fn when_durable(&self, lsn: Lsn, done: Done<Result<(), VolumeLost>>);

    /// The volume durable LSN now.
    fn vdl(&self) -> Lsn;

    /// Every position, for status.
    fn positions(&self) -> VolumePositions;

    /// The epoch that this process opened the volume with.
    fn epoch(&self) -> Epoch;

    /// How many bytes storage still has room for, as last heard; `None` before it said anything. Never waits.
    fn free_bytes(&self) -> Option<u64>;

    /// Reads the newest versions at or below VDL-at-the-call: `None` where the key does not exist (a block: zeroes).
    /// Retries and hedges until an answer is there; there is no time-out, a lost volume ends it. What was appended but
    /// is not yet durable is not seen: the caller keeps it.
    fn read(&self, keys: &[(GroupId, Key)], done: Done<Result<Vec<Option<Bytes>>, ReadFailed>>);

    /// Reads every entry of `from..to` in a group as of VDL-at-the-call, blocking the calling thread.
    fn scan(&self, group: GroupId, from: Key, to: Key) -> Result<Vec<(Key, Bytes)>, ReadFailed>;
}

//! What can go wrong with a node's log, one type per situation.

use std::io;
use std::sync::Arc;

use super::Position;

/// Whether a call failed because there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why the log takes no entry.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeLogError {
    /// There is no room for the next log file. What was appended waits in memory and is written once there is room.
    #[error(
        "the disk is full: no room for the next log file; free some space, the log then goes on by itself"
    )]
    Full(#[source] Arc<io::Error>),
    /// A write or a sync failed. Final: what the disk holds is unknown until the log is opened again.
    #[error("the log stopped because {step} failed: check the disk, then restart the node")]
    Stopped {
        /// What failed.
        step: &'static str,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The entry is longer than the log takes.
    #[error("an entry of {len} bytes is over the log's limit of {max}")]
    TooLong {
        /// Its payload, in bytes.
        len: u64,
        /// The longest payload, in bytes.
        max: u64,
    },
    /// The log was shut down.
    #[error("the log was shut down")]
    Closed,
}

impl NodeLogError {
    /// Whether it may go away when there is room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, NodeLogError::Full(_))
    }
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A step failed.
    #[error("cannot {step} {name} of the node's log")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Of which file.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no room for the file that the log has to begin or to go on with.
    #[error(
        "no room on the disk for {name} of the node's log: free {bytes} bytes, then start the node again"
    )]
    NoRoom {
        /// The file.
        name: String,
        /// Its length, in bytes.
        bytes: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the node's log in {dir} is in use by another process ({holder}): stop that one first")]
    Locked {
        /// The directory.
        dir: String,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// A newer program wrote it.
    #[error("{name} has log format {found}, this binary knows up to {known}: run a newer zorya")]
    NewerFormat {
        /// Which file.
        name: String,
        /// Its format.
        found: u16,
        /// The newest that is known here.
        known: u16,
    },
    /// It is encrypted in a way that this program cannot read.
    #[error("{name} is encrypted with cipher {cipher}, which this binary does not know: run a newer zorya")]
    UnknownCipher {
        /// Which file.
        name: String,
        /// Its cipher.
        cipher: u16,
    },
    /// Files of two logs in one directory.
    #[error("{name} belongs to another log ({found:016x}, the others to {expected:016x}): move it away")]
    OtherLog {
        /// Which file.
        name: String,
        /// The incarnation in its header.
        found: u64,
        /// The incarnation of the others.
        expected: u64,
    },
    /// There are files and not one can be identified.
    #[error(
        "no file of the node's log has a readable header: its content is lost; \
         move the log directory away so that the node starts as a new, empty one"
    )]
    NothingReadable,
    /// Settings that cannot work.
    #[error(
        "log files of {file_bytes} bytes are not possible: choose a multiple of 4096, from {min} to {max}"
    )]
    BadFileBytes {
        /// What was asked for.
        file_bytes: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

impl OpenError {
    pub(super) fn io(step: &'static str, name: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let name = name.into();
        move |source| OpenError::Io { step, name, source }
    }

    pub(super) fn making(name: String, bytes: u64, source: io::Error) -> OpenError {
        match is_full(&source) {
            true => OpenError::NoRoom { name, bytes, source },
            false => OpenError::Io { step: "make", name, source },
        }
    }
}

/// Why an entry could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log no longer has it, or never had.
    #[error("the node's log has no position {0}: it was released, or never written")]
    NotThere(Position),
    /// The file has something else there.
    #[error("the entry at {0} of the node's log is damaged")]
    Damaged(Position),
    /// More was asked for than there is.
    #[error("the entry at {position} of the node's log has {len} bytes, not {skip} and {take} more")]
    OutOfRange {
        /// The entry.
        position: Position,
        /// Its payload, in bytes.
        len: u32,
        /// Bytes to skip.
        skip: u32,
        /// Bytes to take.
        take: u32,
    },
    /// The file cannot be read.
    #[error("cannot read the node's log at {position}")]
    Io {
        /// Where.
        position: Position,
        /// Why.
        source: io::Error,
    },
}

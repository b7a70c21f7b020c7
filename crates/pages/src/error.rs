//! Why an operation on pages failed.

use std::io;
use std::path::PathBuf;

use zorya_redo::Underivable;
use zorya_types::{GroupId, LogId, Lsn, VolumeId};

/// Why the pages of a volume cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A newer binary wrote it.
    #[error("{} has format {found}, this binary reads up to {known}: use a newer zorya", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest that is understood.
        known: u16,
    },
    /// No manifest can be trusted: the segment has to be rebuilt from its peers.
    #[error("{} is damaged ({reason}): rebuild this node's pages of the volume from its peers", path.display())]
    Damaged {
        /// The newest damaged file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to something else.
    #[error("{} holds log {found_log} of volume {found}, not log {log} of volume {volume}", path.display())]
    OtherVolume {
        /// The directory.
        path: PathBuf,
        /// What was to be opened.
        volume: VolumeId,
        /// What was to be opened.
        log: LogId,
        /// What is there.
        found: VolumeId,
        /// What is there.
        found_log: LogId,
    },
}

/// Why a record was not applied. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A record before this one is missing.
    #[error("the record at {lsn} follows {prev}, but the log was applied up to {have} only")]
    Gap {
        /// The record.
        lsn: Lsn,
        /// What it follows.
        prev: Lsn,
        /// Up to where the log was applied.
        have: Lsn,
    },
    /// A record of the group before this one is missing, or one too many is there.
    #[error("the record at {lsn} follows {prev} in group {group}, whose last applied record is {have}")]
    GroupGap {
        /// The record.
        lsn: Lsn,
        /// The group.
        group: GroupId,
        /// What it follows in the group.
        prev: Lsn,
        /// The group's last record here.
        have: Lsn,
    },
    /// What the record touches cannot be told. The segment stops here rather than serve wrong versions.
    #[error("the record at {lsn} cannot be read")]
    Underivable {
        /// The record.
        lsn: Lsn,
        /// Why.
        source: Underivable,
    },
    /// The index is at its limit: apply again after [`crate::VolumePages::work`].
    #[error("the index over the newest log is full: flush first")]
    Backlog,
}

/// Why there is no answer to a read. Never answered with zeroes instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Versions below the horizon may be gone.
    #[error("the read is below the horizon {gc}")]
    BelowHorizon {
        /// The horizon.
        gc: Lsn,
    },
    /// The log was not applied that far yet: wait and ask again.
    #[error("the log was applied up to {applied} only")]
    NotApplied {
        /// How far.
        applied: Lsn,
    },
    /// A layer's bytes are not what was written.
    #[error("{} is damaged: {reason}", file.display())]
    Damaged {
        /// The layer's file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A layer could not be read.
    #[error("cannot read {}: {reason}", file.display())]
    Io {
        /// The layer's file.
        file: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A version cannot be made from the log.
    #[error(transparent)]
    Underivable(#[from] Underivable),
    /// The lineage names a log whose pages are not here.
    #[error("the pages of log {log} are not on this node")]
    UnknownLog {
        /// The log.
        log: LogId,
    },
}

/// Why background work did not finish. Nothing is lost: the next call tries again.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A file could not be written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A layer or version to compact could not be read.
    #[error("cannot compact")]
    Unreadable(#[from] ReadError),
}

impl WorkError {
    /// Whether the disk is full: there is nothing to repair, only room to make.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(self, WorkError::Io { source, .. } if full(source))
    }
}

//! Layers: immutable, checksummed files of versions. Drawn in `docs/formats/layer.md`.
//!
//! A *delta layer* holds every version of a key range by the records of an interval of the log, and the range
//! tombstones. An *image layer* holds the whole value of every key of a range at an LSN; a key of the range that is
//! not in it was absent then. A layer counts from when a manifest names it; a file that none names is removed.

mod entry;
mod filter;
mod format;
mod iter;
mod reader;
mod writer;

use zorya_types::{GroupId, Key, LogId, Lsn, VolumeId};

pub(crate) use format::{LAYER_VERSION, header_version};
pub(crate) use iter::LayerIter;
pub(crate) use reader::{Layer, LayerIndex};
pub(crate) use writer::LayerWriter;

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LayerKind {
    /// Every version of an interval.
    Delta = 1,
    /// Whole values at an LSN.
    Image = 2,
}

/// What a layer is, apart from its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerIdentity {
    pub kind: LayerKind,
    pub volume: VolumeId,
    pub log: LogId,
    pub group: GroupId,
    /// Exclusive lower end of the interval; for an image the same as `upto`.
    pub after: Lsn,
    /// Inclusive upper end; the LSN of an image.
    pub upto: Lsn,
}

/// A layer as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDesc {
    /// The file's number, unique in its directory.
    pub file: u64,
    /// What it holds.
    pub kind: LayerKind,
    /// 0 for a delta layer as it was flushed, 1 for a merged one and for images.
    pub level: u8,
    /// Whose.
    pub group: GroupId,
    /// Exclusive lower end of its interval; for an image the same as `upto`.
    pub after: Lsn,
    /// Inclusive upper end; the LSN of an image.
    pub upto: Lsn,
    /// The first key that it may have something about.
    pub from: Key,
    /// The exclusive end.
    pub to: Key,
    /// Readers at or above this LSN find all of it in other layers. `None` while there are none.
    pub superseded: Option<Lsn>,
    /// How many versions and tombstones.
    pub entries: u64,
    /// The file's length in bytes.
    pub bytes: u64,
    /// SHA-256 of the plaintext's checksums; equal on all replicas.
    pub hash: [u8; 32],
}

impl LayerDesc {
    /// The name of its file in `log`'s directory.
    pub(crate) fn file_name(&self, log: LogId) -> String {
        file_name(log, self.group, self.kind, self.after, self.upto, self.file)
    }

    /// Whether it may have something about a key.
    pub(crate) fn covers(&self, key: Key) -> bool {
        self.from <= key && key < self.to
    }

    /// Whether it may have something about a key in `from..to`.
    pub(crate) fn overlaps(&self, from: Key, to: Key) -> bool {
        self.from < to && from < self.to
    }
}

/// The suffix of every layer's file.
pub(crate) const FILE_SUFFIX: &str = ".layer";

fn file_name(log: LogId, group: GroupId, kind: LayerKind, after: Lsn, upto: Lsn, file: u64) -> String {
    let kind = match kind {
        LayerKind::Delta => "delta",
        LayerKind::Image => "image",
    };
    format!(
        "{log:08}-{group:08}-{kind}-{after:016x}-{upto:016x}-{file:08x}{FILE_SUFFIX}",
        log = log.0,
        group = group.0,
        after = after.0,
        upto = upto.0
    )
}

#[cfg(test)]
mod tests;

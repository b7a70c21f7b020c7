//! Versioned keys: the page segments of a volume on one node.
//!
//! [`VolumePages`] takes the records of a volume's log in order and serves any key at any LSN between the horizon
//! (gc) and what was applied. The newest log is an index in memory; below it are immutable *layers*: delta layers
//! hold every version of an interval of the log, image layers whole values at an LSN. Which intervals and which key
//! ranges is a function of the log alone, so that all replicas build equal layers (`docs/pages.md`).
//!
//! Promises: a read gives the bytes that the log says or an error, never zeroes in place of an answer; nothing that
//! is called persisted is lost by a crash; no read waits for the I/O of background work. Relies on the caller for
//! order (every record of the log, once, and none that is not durable) and for calling [`VolumePages::work`].
//! After a crash, [`VolumePages::open`] finds everything up to [`VolumePages::persisted`]; the caller applies the log
//! above it again.

mod cache;
mod chain;
mod clears;
mod compaction;
mod config;
mod error;
mod group;
mod layer;
mod layer_set;
mod lineage;
mod manifest;
mod memory;
mod merge;
mod recovery;
mod volume;
mod work;

pub use chain::{Chain, Change};
pub use config::{NodeMemory, PagesConfig};
pub use error::{ApplyError, OpenError, ReadError, WorkError};
pub use layer::{LayerDesc, LayerKind};
pub use lineage::{Scanned, VersionSource, Window, read_lineage};
pub use volume::{LayersUsage, PagesUsage, VolumePages};

//! An open volume as a file system, without FUSE: requests in, replies through callbacks.
//!
//! One mutex guards one [`State`]: namespace, open files, block cache and the order of the log. A request that changes
//! something plans under the lock, appends one record, and makes the change true, so that log order, operation order
//! and namespace order are the same. Nobody waits while holding the lock, and no caller's thread ever waits at all:
//!
//! - a change that storage has no room for, or that needs a block which is not at hand, is parked in one ordered
//!   queue ([`queue`]); later changes queue behind it; reads go on;
//! - a read of blocks that are not at hand, and an fsync, are answered from a callback of the store.
//!
//! | module | what it owns |
//! |---|---|
//! | [`state`] | the guarded state; appending a record |
//! | [`queue`] | [`Volume`]: the lock, the queue of parked changes, effects after unlocking |
//! | [`load`] | formatting and opening |
//! | [`write`] | WRITE: reassembly, diffs, one record |
//! | [`read`] | READ: cache, holes, fetching |
//! | [`resize`] | truncation and holes |
//! | [`handles`] | OPEN, RELEASE, FSYNC, heads at their end |
//! | [`names`] | everything that changes the namespace |
//! | [`ship`] | local files that get a shipped name |
//!
//! After a crash of this process the volume is what the durable prefix of the log says; nothing else is kept.

pub mod handles;
pub mod load;
pub mod names;
pub mod queue;
pub mod read;
pub mod resize;
pub mod ship;
pub mod state;
pub mod write;

pub use load::{LoadError, VolumeOptions};
pub use queue::{Chore, Volume};
pub use state::{State, Stop, Wait};

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

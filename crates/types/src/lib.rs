//! Identities, positions and the few shared rules that every layer speaks in.
//!
//! This crate knows nothing of files, sockets or engines. Every identity and every position in a log is a
//! newtype here, so that an [`Lsn`] cannot be passed where an [`Epoch`] is meant. `docs/POSITIONS.md` lists the
//! positions by name; [`positions`] executes the inequality chain that must hold between them.

pub mod ids;
pub mod key;
pub mod lineage;
pub mod planted;
pub mod positions;
pub mod profile;

pub use ids::{Epoch, GroupId, Incarnation, LogId, Lsn, NodeId, SegmentId, Slot, VolumeId};
pub use key::{BLOCK_SIZE, FileKey, Fork, Key, KeyClass};
pub use lineage::{Annulled, Lineage, Span, Truncation};
pub use positions::{SegmentPositions, VolumePositions};
pub use profile::{Member, Membership, Profile};

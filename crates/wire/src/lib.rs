//! Bytes that cross a boundary: log records, frames on a connection, the storage protocol's messages and the
//! handshake that authenticates a peer.
//!
//! Encoding and checking only: no sockets, no files. Everything is little-endian, except keys, which are
//! big-endian so that they order bytewise. Drawn in `docs/formats/`.

pub mod codec;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod record;

pub use codec::{Malformed, Reader};
pub use frame::{FrameError, FrameHeader};
pub use record::{GroupLink, Record, RecordBuilder, RecordError, RecordHeader};

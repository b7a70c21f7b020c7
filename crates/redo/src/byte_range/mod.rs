//! The byte-range codec: a payload is a list of operations on keys. Drawn in `docs/formats/byte-range.md`.
//!
//! Entries (inodes, directory entries, extents, facts) are put and deleted whole. The bytes of files are written at
//! an offset; consecutive writes to one file that ascend share one *write group*, so that the ranges in which a page
//! differs cost a few bytes each. A clear removes a range of keys.
//!
//! A touch refers to the byte at which its operation starts; for a write that is its group.

mod decode;
mod encode;
mod patch;

pub use decode::{Malformed, Op, decode};
pub use encode::Encoder;

pub(crate) use decode::touches_into;
pub(crate) use patch::{apply_delta, extract};

/// The longest value of an entry, in bytes.
pub const MAX_VALUE_LEN: usize = 64 << 10;

const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_WRITE: u8 = 3;
const OP_CLEAR: u8 = 4;

#[cfg(test)]
mod tests;

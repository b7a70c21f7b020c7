//! File content, pure: what a write changes ([`diff`]), split writes put together again ([`reassembly`]), the newest
//! blocks at hand ([`cache`]), and where blocks live ([`extents`]).

pub mod cache;
pub mod diff;
pub mod extents;
pub mod reassembly;

use bytes::Bytes;
use zorya_types::BLOCK_SIZE;

/// The size of a block in bytes, as the type of offsets.
pub const BLOCK: u64 = BLOCK_SIZE as u64;

static ZEROES: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

/// A block of zeroes. Costs no memory.
#[must_use]
pub fn zero_block() -> Bytes {
    Bytes::from_static(&ZEROES)
}

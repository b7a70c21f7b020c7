//! What the fuzz targets do with their input, and what must hold whatever it is.
//!
//! * [`family`]: redo of one record on one block, for every family of records;
//! * [`decoder`]: the log's bytes, well-formed logs cut into chunks, single records;
//! * [`visibility`]: bits of the visibility map;
//! * [`metadata`]: what follows records beside blocks, and what a server starts from.
//!
//! The property of all: no panic (overflow included), an end, and nothing outside the block. The last one holds by type:
//! redo gets a `&mut [u8; 8192]` and the crate has no `unsafe`, so that a write elsewhere is a panic, which is found.
//!
//! The crate's tests include this file and replay the corpora through [`TARGETS`] on stable Rust.

mod decoder;
mod family;
pub mod input;
pub mod log;
mod metadata;
mod visibility;

pub use decoder::decoder;
pub use metadata::metadata;
pub use visibility::visibility;
use zorya_redo::postgres::manager;

/// What a target does with its input.
pub type Body = fn(&[u8]);

/// The targets by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("decoder", decoder),
    ("heap", heap),
    ("heap2", heap2),
    ("btree", btree),
    ("sequence", sequence),
    ("images", images),
    ("visibility", visibility),
    ("gin", gin),
    ("hash", hash),
    ("gist", gist),
    ("spgist", spgist),
    ("brin", brin),
    ("metadata", metadata),
];

/// Redo of records of Heap.
pub fn heap(input: &[u8]) {
    family::redo_any(&[manager::HEAP], input);
}

/// Redo of records of Heap2.
pub fn heap2(input: &[u8]) {
    family::redo_any(&[manager::HEAP2], input);
}

/// Redo of records of Btree.
pub fn btree(input: &[u8]) {
    family::redo_any(&[manager::BTREE], input);
}

/// Redo of records of Sequence.
pub fn sequence(input: &[u8]) {
    family::redo_any(&[manager::SEQ], input);
}

/// Redo of page images, and of generic records.
pub fn images(input: &[u8]) {
    family::redo_any(&[manager::XLOG, manager::GENERIC], input);
}

/// Redo of records of Gin.
pub fn gin(input: &[u8]) {
    family::redo_any(&[manager::GIN], input);
}

/// Redo of records of Hash.
pub fn hash(input: &[u8]) {
    family::redo_any(&[manager::HASH], input);
}

/// Redo of records of Gist.
pub fn gist(input: &[u8]) {
    family::redo_any(&[manager::GIST], input);
}

/// Redo of records of SPGist.
pub fn spgist(input: &[u8]) {
    family::redo_any(&[manager::SPGIST], input);
}

/// Redo of records of BRIN.
pub fn brin(input: &[u8]) {
    family::redo_any(&[manager::BRIN], input);
}

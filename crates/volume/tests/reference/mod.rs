//! The reference test: the same random operations on a mounted volume and on a plain directory, step by step, with
//! equal answers and equal trees; and after a crash a tree that some prefix of the operations explains.
//!
//! | module | what it is |
//! |---|---|
//! | [`operation`] | what is done |
//! | [`random`] | random operations |
//! | [`side`] | one of the two directories: does an operation, says what came of it |
//! | [`tree`] | everything below a directory, and how two trees compare |
//! | [`content`] | the bytes of a file, holes left out |
//! | [`locality`] | which names are local to the mount, and which files are written in pages |
//! | [`pair`] | both sides, in step, with the state after every operation |
//! | [`explain`] | which states a crash may leave |
//! | [`raw`] | system calls without a safe wrapper |
//!
//! The reference directory is a tmpfs, whose inode numbers are never given out twice.
#![allow(dead_code, reason = "each test crate uses a part of it")]

pub mod content;
pub mod explain;
pub mod locality;
pub mod operation;
pub mod pair;
pub mod random;
pub mod raw;
pub mod side;
pub mod tree;

/// Seconds since 1970 below which a time was set by an operation; above it is a clock's.
pub const SET_TIMES_BELOW: i64 = 1_500_000_000;
/// A file that operations on the mount alone may leave.
pub const SCRATCH: &str = "flood";

//! A cluster volume as a POSIX file system: the layer between storage's ordered log and FUSE.
//!
//! Promises: every change is one record of the volume's log, in the order in which the changes were made; an answered
//! fsync means that every change answered before it is durable; after a crash the volume is exactly what some prefix
//! of the log says, and that prefix holds everything that an fsync was answered for. Relies on the order of
//! [`VolumeStore::append`](zorya_storage::store::VolumeStore::append) and on nothing else. The layer's page is
//! `docs/volume.md`.
//!
//! - [`namespace`], [`file`](mod@file), [`path_class`]: pure; what a request means.
//! - [`volume`]: one state under one lock, the queue of changes, parked replies.
//! - [`fuse`], [`mount`], [`daemon`], [`status`]: the kernel's side.

pub mod daemon;
pub mod errno;
pub mod file;
pub mod fuse;
pub mod local;
pub mod mount;
pub mod namespace;
pub mod path_class;
pub mod status;
pub mod volume;

pub use daemon::{MountError, MountOptions, run};
pub use path_class::EngineClass;

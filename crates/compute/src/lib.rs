//! The compute layer: one agent per host that keeps storage nodes, volume mounts and database engines running.
//!
//! * [`home`], [`region`], [`layout`], [`key`], [`ports`], [`disk`]: what a region is and where it is kept.
//! * [`process`]: spawning, watching, adopting and ending processes, by pidfd.
//! * [`restart`]: when a process that died is started again (pure).
//! * [`fusectl`]: aborting the connection of a mount that hangs.
//! * [`engine`]: the seam to the engines; [`postgres`] and [`mariadb`] are its adapters.
//! * [`agent`]: the supervisor itself, its control socket and its status.
//! * [`volumes`]: the seam to storage: creating, deleting and asking about volumes.
//!
//! `docs/compute.md` lists the tasks and what each owns.

pub mod agent;
pub mod disk;
pub mod engine;
pub mod fusectl;
pub mod home;
pub mod key;
pub mod layout;
pub mod logs;
pub mod mariadb;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod region;
pub mod restart;
pub mod volumes;

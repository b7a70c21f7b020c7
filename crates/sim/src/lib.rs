//! Seeded simulation of the quorum log: the real replicas, writers and openings on simulated disks, a simulated
//! network and simulated clocks.
//!
//! One thread, one random generator, one queue of events: a seed gives the same run every time, and a failing seed
//! replays with the command that the failure prints. A run breaks things for a while, then heals everything and
//! requires that the volume opens, writes become durable and all replicas agree. What must hold is in
//! [`invariants`], one file each; what happened is in the [`ledger`].

pub mod config;
pub mod invariants;
pub mod ledger;
pub mod lineage;

mod client;
mod disk;
mod faults;
mod network;
mod node;
mod session;
mod trace;
mod world;

pub use config::Config;
pub use world::{Report, Simulation};

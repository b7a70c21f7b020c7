//! Chaos on real processes: a region under load and faults, with a ledger of what it acknowledged.
//!
//! One run builds a *stage* (zones as network namespaces, every storage node on its own loop-mounted file system),
//! starts a region on it with the `zorya` binary, and plays *rounds*: clients write and keep a ledger, one fault is
//! injected and seen in effect, healed, and then everything that was acknowledged must be there and nothing that was
//! aborted. *Scenarios* are scripted and measure promises about time. A seed decides everything that is chosen, so that
//! one command replays a round.
//!
//! ```text
//! main ── runner ── round ── faults/*      what is done to the processes, disks and network
//!            │        ├───── load ── plan/*       clients that write, and what they were told; what they write (pure)
//!            │        ├───── verify ── ledger/*   what must be there (pure)
//!            │        └───── engine/*     how to speak to PostgreSQL and MariaDB, and their own checks
//!            ├── scenarios/*
//!            └── stage/* ── region        network namespaces, loop file systems; the zorya commands
//! ```
//! Needs root. Everything that it makes carries a name derived from its work directory, so that leftovers of a run that
//! was itself killed are found and removed by the next one.

pub mod engine;
pub mod faults;
pub mod ledger;
pub mod load;
pub mod options;
pub mod plan;
pub mod process;
pub mod region;
pub mod round;
pub mod runner;
pub mod scenarios;
pub mod seed;
pub mod shell;
pub mod stage;
pub mod summary;
pub mod verify;
pub mod wait;

//! What makes a stock PostgreSQL the engine of a Zorya cluster.
//!
//! * [`binaries`]: where the distribution keeps it, which version it is, as which user it runs.
//! * [`settings`]: the parameters that Zorya sets, the ones that it pins, and why.
//! * [`database`]: making the data directory, and judging one that is there.
//! * [`probe`]: whether it answers.

pub mod binaries;
pub mod database;
pub mod probe;
pub mod settings;

pub use binaries::{BinariesError, Postgres};

/// The superuser and the database that every cluster starts with.
pub const SUPERUSER: &str = "postgres";
/// The major version that this adapter is written for.
pub const MAJOR: &str = "15";

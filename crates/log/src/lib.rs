//! The volume's log: replicas, the writer's quorums and openings.
//!
//! What decides is pure: [`replica`], [`writer`] and [`opening`] take an event and the time and return effects,
//! without async, clock, randomness or I/O. The simulation runs exactly this code. [`file`] is the driver's part: one
//! node's log on disk. The whole is described in `docs/log.md`.

pub mod file;
pub mod opening;
pub mod replica;
#[cfg(test)]
mod testkit;
pub mod writer;

/// The time as a driver sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back, since any moment.
    pub monotonic_ms: u64,
    /// Microseconds since 1970 on the wall clock, which may be wrong.
    pub clock_us: u64,
}

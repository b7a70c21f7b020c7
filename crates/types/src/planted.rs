//! Planted bugs: the harnesses must be able to fail.
//!
//! With the feature `planted-bugs`, code that holds a promise asks [`is_planted`] whether to break it. A thread may
//! plant a bug for itself ([`plant`], for the simulation), a process by the environment variable
//! `ZORYA_PLANTED_BUG` (for chaos on real processes). Without the feature the answer is a constant `false`.

/// The bugs that simulation or chaos must catch (the list is DESIGN's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlantedBug {
    /// The writer counts three of six as a write quorum.
    AckAtThree,
    /// A replica acknowledges without syncing.
    NoFdatasync,
    /// A replica forgets an accepted truncation at restart.
    TruncationNotPersisted,
    /// An opening counts a segment's SCL from before its promise.
    SclBeforePromise,
    /// The head of a split page write is logged instead of dropped.
    HeadNotDropped,
    /// FSYNC is answered before VDL covers the writes before it.
    FsyncAnsweredEarly,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [PlantedBug; 6] = [
        PlantedBug::AckAtThree,
        PlantedBug::NoFdatasync,
        PlantedBug::TruncationNotPersisted,
        PlantedBug::SclBeforePromise,
        PlantedBug::HeadNotDropped,
        PlantedBug::FsyncAnsweredEarly,
    ];

    /// The name used in `ZORYA_PLANTED_BUG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PlantedBug::AckAtThree => "ack-at-three",
            PlantedBug::NoFdatasync => "no-fdatasync",
            PlantedBug::TruncationNotPersisted => "truncation-not-persisted",
            PlantedBug::SclBeforePromise => "scl-before-promise",
            PlantedBug::HeadNotDropped => "head-not-dropped",
            PlantedBug::FsyncAnsweredEarly => "fsync-answered-early",
        }
    }
}

#[cfg(feature = "planted-bugs")]
mod enabled {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::PlantedBug;

    thread_local! {
        static HERE: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    fn of_the_process() -> Option<PlantedBug> {
        static BUG: OnceLock<Option<PlantedBug>> = OnceLock::new();
        *BUG.get_or_init(|| {
            let name = std::env::var("ZORYA_PLANTED_BUG").ok()?;
            PlantedBug::ALL.into_iter().find(|bug| bug.name() == name)
        })
    }

    /// Plants a bug for the current thread, or removes it.
    pub fn plant(bug: Option<PlantedBug>) {
        HERE.set(bug);
    }

    /// Whether `bug` is planted here.
    #[must_use]
    pub fn is_planted(bug: PlantedBug) -> bool {
        HERE.get() == Some(bug) || of_the_process() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use enabled::{is_planted, plant};

/// Whether `bug` is planted here: never, in a build without the feature.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
#[must_use]
pub fn is_planted(_bug: PlantedBug) -> bool {
    false
}

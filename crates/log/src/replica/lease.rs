//! The writer's lease as one replica grants it: nobody else is promised while it runs.

use crate::Now;

/// The lease that this replica granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// None was granted.
    None,
    /// The node restarted and cannot know: one is assumed to have been granted just now.
    Unknown,
    /// One runs until then, in monotonic milliseconds.
    Until(u64),
}

impl Lease {
    /// At the first step after a restart: starts the assumed one.
    pub fn start(&mut self, now: Now, lease_ms: u64) {
        if *self == Lease::Unknown {
            self.grant(now, lease_ms);
        }
    }

    /// The writer was heard.
    pub fn grant(&mut self, now: Now, lease_ms: u64) {
        *self = Lease::Until(now.monotonic_ms + lease_ms);
    }

    /// For how much longer it runs, in milliseconds.
    pub fn remaining_ms(self, now: Now) -> u64 {
        match self {
            Lease::Until(until) => until.saturating_sub(now.monotonic_ms),
            Lease::None | Lease::Unknown => 0,
        }
    }
}

//! The writer's lease as one replica grants it: nobody else is promised while it runs.

use crate::Now;

/// The lease that this replica granted, and whether somebody waits for its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    granted: Granted,
    /// Until then it is not renewed, in monotonic milliseconds: an opener waits for it to run out. An opener that goes
    /// on waiting asks again; one that is gone is forgotten.
    wanted_until_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Granted {
    /// None was granted.
    #[default]
    None,
    /// The node restarted and cannot know: one is assumed to have been granted just now.
    Unknown,
    /// One runs until then, in monotonic milliseconds.
    Until(u64),
}

impl Lease {
    /// After a restart: one may have been granted just before.
    pub fn unknown() -> Lease {
        Lease { granted: Granted::Unknown, wanted_until_ms: 0 }
    }

    /// At the first step after a restart: starts the assumed one.
    pub fn start(&mut self, now: Now, lease_ms: u64) {
        if self.granted == Granted::Unknown {
            self.granted = Granted::Until(now.monotonic_ms + lease_ms);
        }
    }

    /// The writer was heard: renews its lease, unless somebody waits for the end of it. Says whether.
    pub fn renew(&mut self, now: Now, lease_ms: u64) -> bool {
        let renews = now.monotonic_ms >= self.wanted_until_ms;
        if renews {
            self.granted = Granted::Until(now.monotonic_ms + lease_ms);
        }
        renews
    }

    /// A new writer is promised or accepted: its lease begins.
    pub fn begin(&mut self, now: Now, lease_ms: u64) {
        *self = Lease { granted: Granted::Until(now.monotonic_ms + lease_ms), wanted_until_ms: 0 };
    }

    /// An opener found the lease running and will ask again: it is not renewed for twice its length.
    pub fn want(&mut self, now: Now, lease_ms: u64) {
        self.wanted_until_ms = now.monotonic_ms + 2 * lease_ms;
    }

    /// For how much longer it runs, in milliseconds.
    pub fn remaining_ms(self, now: Now) -> u64 {
        match self.granted {
            Granted::Until(until) => until.saturating_sub(now.monotonic_ms),
            Granted::None | Granted::Unknown => 0,
        }
    }
}

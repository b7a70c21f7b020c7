//! The process's clocks, as the pure cores want them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zorya_log::Now;

/// A monotonic clock that started with its owner, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts the monotonic clock. Times of two clocks do not compare.
    #[must_use]
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: self.started.elapsed().as_millis() as u64, clock_us: wall.as_micros() as u64 }
    }
}

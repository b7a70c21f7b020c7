//! Two faults, the second a while after the first.

use std::time::Duration;

use super::{Fault, FaultError, Scene};
use crate::wait;

/// Two faults.
#[derive(Debug)]
pub struct Both<A, B> {
    first: A,
    second: B,
    apart: Duration,
}

impl<A: Fault, B: Fault> Both<A, B> {
    /// The second comes `apart_ms` after the first was seen.
    #[must_use]
    pub fn new(first: A, second: B, apart_ms: u64) -> Both<A, B> {
        Both { first, second, apart: Duration::from_millis(apart_ms) }
    }
}

impl<A: Fault, B: Fault> Fault for Both<A, B> {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        self.first.inject(scene)?;
        wait::last(self.apart)?;
        self.second.inject(scene)
    }

    fn seen(&mut self, scene: Scene<'_>) -> Option<String> {
        Some(format!("{}; {}", self.first.seen(scene)?, self.second.seen(scene)?))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        // The first is what the second may need to be healed.
        self.first.heal(scene)?;
        self.second.heal(scene)
    }
}

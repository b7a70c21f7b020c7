//! When commits were acknowledged, in steps of a tenth of a second.

use std::time::{Duration, Instant};

use super::shelf::Shelf;

const STEP: Duration = Duration::from_millis(100);

/// Counts of acknowledgements by time.
#[derive(Debug)]
pub struct Timeline {
    begun: Instant,
    counts: Shelf<Vec<u32>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline { begun: Instant::now(), counts: Shelf::default() }
    }
}

impl Timeline {
    /// One more, now.
    pub(super) fn count(&self) {
        let step = self.step(Instant::now());
        let mut counts = self.counts.lock();
        if counts.len() <= step {
            counts.resize(step + 1, 0);
        }
        counts[step] += 1;
    }

    fn step(&self, at: Instant) -> usize {
        (at.saturating_duration_since(self.begun).as_millis() / STEP.as_millis()) as usize
    }

    /// Acknowledgements per second between two moments.
    #[must_use]
    pub fn rate(&self, from: Instant, to: Instant) -> f64 {
        let (first, end) = (self.step(from), self.step(to));
        let counts = self.counts.lock();
        let sum: u32 = counts.iter().take(end).skip(first).sum();
        f64::from(sum) / (end.saturating_sub(first).max(1) as f64 * STEP.as_secs_f64())
    }

    /// The longest time without an acknowledgement between two moments, in steps of a tenth of a second.
    #[must_use]
    pub fn longest_stall(&self, from: Instant, to: Instant) -> Duration {
        let counts = self.counts.lock();
        let (mut longest, mut current) = (0, 0);
        for step in self.step(from)..self.step(to) {
            current = if counts.get(step).is_some_and(|count| *count > 0) { 0 } else { current + 1 };
            longest = longest.max(current);
        }
        STEP * longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_stalls_are_read_off_the_counts() {
        let timeline = Timeline::default();
        *timeline.counts.lock() = vec![5, 5, 0, 0, 0, 10, 0];
        let at = |step: u32| timeline.begun + STEP * step;
        assert!((timeline.rate(at(0), at(2)) - 50.0).abs() < 1e-9);
        assert!((timeline.rate(at(2), at(4)) - 0.0).abs() < 1e-9);
        assert_eq!(timeline.longest_stall(at(0), at(6)), STEP * 3);
        assert_eq!(timeline.longest_stall(at(0), at(12)), STEP * 6, "after the last count nothing came");
    }
}

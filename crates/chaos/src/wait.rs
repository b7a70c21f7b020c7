//! Waiting for conditions, never for a time alone; ended at once when the operator interrupts the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A wait that ended without its condition.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It took too long.
    #[error("{what} did not come true within {} s", .limit.as_secs_f32())]
    TooLong {
        /// The condition.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The operator pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Ends every wait, now and later.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether the run was interrupted.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Waits until `look` gives something, for at most `limit`.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> Result<T, WaitError> {
    until_every(LOOK, what, limit, look)
}

/// The same, looking only every so often: where a look costs what is looked at.
pub fn until_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if is_interrupted() {
            return Err(WaitError::Interrupted);
        }
        if begun.elapsed() > limit {
            return Err(WaitError::TooLong { what: what.to_owned(), limit });
        }
        std::thread::sleep(pause);
    }
}

/// Waits until `look` says so, for at most `limit`, also in an interrupted run: for what removes things.
pub fn until_removed(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<(), WaitError> {
    let begun = Instant::now();
    while !look() {
        if begun.elapsed() > limit {
            return Err(WaitError::TooLong { what: what.to_owned(), limit });
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits until `look` says so, for at most `limit`.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<(), WaitError> {
    until(what, limit, || look().then_some(()))
}

/// Lets a fault last, or a load run: the one wait whose condition is time.
pub fn last(time: Duration) -> Result<(), WaitError> {
    let end = Instant::now() + time;
    until_true("the end of a pause", time + Duration::from_secs(5), || Instant::now() >= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_its_condition_or_says_what_did_not_come() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some("found")
        });
        assert_eq!(found.unwrap(), "found");
        let error = until_true("the impossible", Duration::ZERO, || false).unwrap_err();
        assert!(error.to_string().contains("the impossible"), "{error}");
    }
}

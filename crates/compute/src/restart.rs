//! When a process that died is started again. Pure: deaths and times go in, a decision comes out.
//!
//! ```text
//! died ── lived long ──────────────────────────────▶ restart at once
//!   └──── died young ── n-th in a row ─────────────▶ restart after FIRST_DELAY · 2^(n-2), at most MAX_DELAY
//!            └── by its own failure, GIVE_UP in a row ▶ failed, until an operator starts it again
//! ```
//! Being killed from outside (SIGKILL, SIGTERM, SIGINT) is no failure of the process: it delays, but never gives up.
//! Neither does a process that says "try again later" ([`TRY_AGAIN`]), such as a mount whose storage is away. One that
//! says that no other start will end otherwise ([`CANNOT_WORK`]) is believed at once.

use std::time::Duration;

use crate::process::Exit;

/// The exit code by which a process says that it will work once something else does (`EX_TEMPFAIL` of sysexits.h).
pub const TRY_AGAIN: i32 = 75;
/// The exit code by which a process says that it cannot work until somebody changes something (`EX_CONFIG`): its files are
/// of a newer format, or another's.
pub const CANNOT_WORK: i32 = 78;
/// A process that lived so long did not die of its start.
pub const LIVED_LONG: Duration = Duration::from_secs(10);
/// The delay before the second attempt in a row.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
pub const MAX_DELAY: Duration = Duration::from_secs(5);
/// So many own failures in a row are a crash loop.
pub const GIVE_UP: u32 = 6;

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this time.
    RestartAfter(Duration),
    /// It would only die again.
    GiveUp,
}

/// The deaths of one process, or of one pair of mount and engine.
#[derive(Clone, Debug, Default)]
pub struct RestartPolicy {
    young_deaths: u32,
    own_failures: u32,
}

impl RestartPolicy {
    /// Takes note of a death after `lived` and decides.
    pub fn died(&mut self, exit: Exit, lived: Duration) -> Decision {
        if exit == Exit::Code(CANNOT_WORK) {
            return Decision::GiveUp;
        }
        if lived >= LIVED_LONG {
            *self = RestartPolicy::default();
            return Decision::RestartAfter(Duration::ZERO);
        }
        self.young_deaths += 1;
        if is_own_failure(exit) {
            self.own_failures += 1;
        }
        if self.own_failures >= GIVE_UP {
            return Decision::GiveUp;
        }
        Decision::RestartAfter(match self.young_deaths {
            1 => Duration::ZERO,
            n => (FIRST_DELAY * 2u32.saturating_pow(n - 2)).min(MAX_DELAY),
        })
    }

    /// Forgets every death: an operator starts it again.
    pub fn reset(&mut self) {
        *self = RestartPolicy::default();
    }
}

fn is_own_failure(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code != TRY_AGAIN,
        Exit::Signal(signal) => ![libc::SIGKILL, libc::SIGTERM, libc::SIGINT].contains(&signal),
        Exit::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_millis(10);

    fn decisions(exits: &[Exit]) -> Vec<Decision> {
        let mut policy = RestartPolicy::default();
        exits.iter().map(|exit| policy.died(*exit, YOUNG)).collect()
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        let delays: Vec<_> = decisions(&[Exit::Signal(libc::SIGKILL); 9])
            .into_iter()
            .map(|decision| match decision {
                Decision::RestartAfter(delay) => delay.as_millis(),
                Decision::GiveUp => panic!("killing from outside is not a crash loop"),
            })
            .collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn own_failures_in_a_row_are_given_up() {
        for exit in [Exit::Code(1), Exit::Code(0), Exit::Signal(libc::SIGSEGV)] {
            let decided = decisions(&[exit; 6]);
            assert_eq!(decided[5], Decision::GiveUp, "{exit:?}");
            assert!(decided[..5].iter().all(|decision| *decision != Decision::GiveUp), "{exit:?}");
        }
    }

    #[test]
    fn waiting_for_something_else_is_never_given_up() {
        assert!(!decisions(&[Exit::Code(TRY_AGAIN); 50]).contains(&Decision::GiveUp));
        assert!(!decisions(&[Exit::Unknown; 50]).contains(&Decision::GiveUp));
    }

    #[test]
    fn who_cannot_work_is_not_started_again() {
        let mut policy = RestartPolicy::default();
        assert_eq!(policy.died(Exit::Code(CANNOT_WORK), LIVED_LONG), Decision::GiveUp);
    }

    #[test]
    fn a_long_life_forgives() {
        let mut policy = RestartPolicy::default();
        for _ in 0..5 {
            policy.died(Exit::Code(1), YOUNG);
        }
        assert_eq!(policy.died(Exit::Code(1), LIVED_LONG), Decision::RestartAfter(Duration::ZERO));
        assert_eq!(policy.died(Exit::Code(1), YOUNG), Decision::RestartAfter(Duration::ZERO));
    }
}

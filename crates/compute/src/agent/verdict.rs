//! Whether a pair of mount and engine is well. Pure: what was seen goes in, a verdict comes out.

use std::time::Duration;

/// Silence for so long means hung.
pub const HUNG: Duration = Duration::from_secs(10);

/// What was seen of a pair whose processes are both alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Since when the mount's status has not changed. The daemon rewrites it every second.
    pub mount_silent: Duration,
    /// Why the mount says that writes wait, if it does.
    pub blocked: Option<String>,
    /// Since when the engine has not answered, not counting time in which writes waited.
    pub engine_silent: Duration,
}

/// What that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Well,
    /// Writes wait for storage. Restarting would help nothing: it goes on by itself when storage does.
    Blocked(String),
    /// The mount daemon does nothing any more: abort, then restart.
    MountHung,
    /// The engine does not answer: abort, then restart.
    EngineHung,
}

/// Judges what was seen.
#[must_use]
pub fn judge(seen: &Observation) -> Verdict {
    if seen.mount_silent >= HUNG {
        return Verdict::MountHung;
    }
    if let Some(reason) = &seen.blocked {
        return Verdict::Blocked(reason.clone());
    }
    if seen.engine_silent >= HUNG {
        return Verdict::EngineHung;
    }
    Verdict::Well
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let short = Duration::from_secs(9);
        let blocked = || Verdict::Blocked("quorum".to_owned());
        for (mount_silent, is_blocked, engine_silent, verdict) in [
            (short, false, short, Verdict::Well),
            (short, false, HUNG, Verdict::EngineHung),
            (HUNG, false, short, Verdict::MountHung),
            (HUNG, true, HUNG, Verdict::MountHung),
            (short, true, short, blocked()),
            // An engine that waits for storage is not hung.
            (short, true, HUNG * 100, blocked()),
        ] {
            let blocked = is_blocked.then(|| "quorum".to_owned());
            let seen = Observation { mount_silent, blocked, engine_silent };
            assert_eq!(judge(&seen), verdict, "{seen:?}");
        }
    }
}

//! The exit codes, in one table.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the message says why and what to do |
//! | 2 | the request makes no sense: unknown option, pinned parameter, impossible layout |
//! | 3 | there is no region here, or no agent runs |
//! | 4 | no such cluster or node |
//! | 5 | it exists already |
//! | 6 | it takes longer than `--wait`; it goes on in the background |
//! | 75 | (`zorya mount`, `zorya storage-node`) not now: it will work once storage answers, or the full disk has room |
//! | 76 | (`zorya mount`) fenced: another process opened the volume |
//! | 78 | (`zorya mount`, `zorya storage-node`) not on these files: they are of a newer format, or another's |

use std::process::ExitCode;

use zorya_compute::agent::protocol::{Failure, FailureKind};
use zorya_compute::layout::LayoutError;
use zorya_compute::region::RegionError;

/// A command that makes no sense as given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// No agent listens.
#[derive(Debug, thiserror::Error)]
#[error("no agent runs for {home}: start the region with `zorya up`")]
pub struct NoAgent {
    /// The home.
    pub home: String,
}

/// A process that ended with a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct WithCode {
    /// The code.
    pub code: u8,
    /// What happened.
    pub message: String,
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(error))
}

fn number(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return match failure.kind {
            FailureKind::Invalid => 2,
            FailureKind::NotFound => 4,
            FailureKind::Exists => 5,
            FailureKind::TimedOut => 6,
            FailureKind::Failed => 1,
        };
    }
    if let Some(coded) = error.downcast_ref::<WithCode>() {
        return coded.code;
    }
    if error.is::<Usage>() || error.is::<LayoutError>() {
        return 2;
    }
    if error.is::<NoAgent>() || matches!(error.downcast_ref(), Some(RegionError::Missing { .. })) {
        return 3;
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_to_do() {
        let failure = |kind| anyhow::Error::from(Failure::new(kind, "x"));
        assert_eq!(number(&failure(FailureKind::Invalid)), 2);
        assert_eq!(number(&failure(FailureKind::NotFound)), 4);
        assert_eq!(number(&failure(FailureKind::Exists)), 5);
        assert_eq!(number(&failure(FailureKind::TimedOut)), 6);
        assert_eq!(number(&NoAgent { home: "/h".to_owned() }.into()), 3);
        assert_eq!(number(&RegionError::Missing { path: "/h".into() }.into()), 3);
        assert_eq!(number(&Usage("x".to_owned()).into()), 2);
        assert_eq!(number(&WithCode { code: 75, message: String::new() }.into()), 75);
        assert_eq!(number(&anyhow::anyhow!("x")), 1);
    }
}

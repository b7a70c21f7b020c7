//! The control socket's protocol: one request per connection, as one line of JSON; any number of progress lines; one last
//! line with the outcome. Only the home's owner can connect.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::region::Engine;

/// The protocol's version. The agent refuses another: a region's binary and its agent may differ after an upgrade.
pub const VERSION: u32 = 1;
/// The longest line.
pub const MAX_LINE: u64 = 1 << 20;

/// A request's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// See [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What an agent is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state of everything.
    Status {},
    /// Start all nodes and clusters, and wait until they serve.
    Up {
        /// Nothing is waited for longer.
        wait_seconds: u64,
    },
    /// Stop everything, then end.
    Shutdown {},
    /// Create a cluster and wait until it serves.
    CreateCluster {
        /// What to create.
        cluster: NewCluster,
        /// Nothing is waited for longer.
        wait_seconds: u64,
    },
    /// Start a cluster and wait until it serves.
    StartCluster {
        /// Its name.
        name: String,
        /// Nothing is waited for longer.
        wait_seconds: u64,
    },
    /// Stop a cluster and wait until it is.
    StopCluster {
        /// Its name.
        name: String,
    },
    /// Delete a cluster with its volume.
    DeleteCluster {
        /// Its name.
        name: String,
    },
    /// Start a storage node and wait until it listens.
    StartNode {
        /// Its name.
        id: String,
        /// Nothing is waited for longer.
        wait_seconds: u64,
    },
    /// Stop a storage node in order.
    StopNode {
        /// Its name.
        id: String,
    },
    /// Stop a storage node with SIGKILL.
    KillNode {
        /// Its name.
        id: String,
    },
}

/// A cluster to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCluster {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: Engine,
    /// Its protection profile; `None`: the region's.
    pub profile: Option<String>,
    /// Its port; `None`: a free one.
    pub port: Option<u16>,
    /// Engine parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The mount daemon's block cache; `None`: the default.
    pub cache_bytes: Option<u64>,
    /// Where the engine's binaries are; `None`: the distribution's place.
    pub bin_dir: Option<PathBuf>,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Something goes on.
    Progress(Progress),
    /// It is done. The last line.
    Done(Value),
    /// It failed. The last line.
    Failed(Failure),
}

/// How far something is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that are done.
    pub done: usize,
    /// Steps in all.
    pub of: usize,
    /// What is waited for.
    pub message: String,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: FailureKind,
    /// What happened, and what to do.
    pub message: String,
}

/// What a caller can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Ask for something else.
    Invalid,
    /// Name something that exists.
    NotFound,
    /// Choose another name.
    Exists,
    /// Wait, or look at what it waits for.
    TimedOut,
    /// Read the message.
    Failed,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back_as_they_are_written() {
        let create = Request::CreateCluster {
            cluster: NewCluster {
                name: "main".to_owned(),
                engine: Engine::Postgres,
                profile: None,
                port: Some(5433),
                parameters: BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
                cache_bytes: None,
                bin_dir: None,
            },
            wait_seconds: 60,
        };
        for request in [Request::Status {}, Request::KillNode { id: "az1-a".to_owned() }, create] {
            let line =
                serde_json::to_string(&Envelope { version: VERSION, request: request.clone() }).unwrap();
            assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap().request, request);
        }
        let line = r#"{"version":1,"request":{"do":"stop-node","id":"az1-a"}}"#;
        assert_eq!(
            serde_json::from_str::<Envelope>(line).unwrap().request,
            Request::StopNode { id: "az1-a".to_owned() }
        );
    }

    #[test]
    fn an_unknown_request_is_an_error() {
        for line in
            [r#"{"version":1,"request":{"do":"dance"}}"#, r#"{"version":1,"request":{"do":"status","x":1}}"#]
        {
            assert!(serde_json::from_str::<Envelope>(line).is_err(), "{line}");
        }
    }
}

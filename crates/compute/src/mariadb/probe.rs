//! Whether an engine answers: one connection that is kept, and `SELECT 1` on it.

use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};

use super::SUPERUSER;
use super::settings::SOCKET;
use crate::engine::Answer;

/// `ER_SERVER_SHUTDOWN`.
const SHUTTING_DOWN: u16 = 1053;

/// The prober of one engine.
pub struct Probe {
    options: OptsBuilder,
    connection: Option<Conn>,
}

impl Probe {
    /// A prober by the engine's own socket, so that it needs no network.
    #[must_use]
    pub fn new(socket_directory: &Path, password: &str) -> Probe {
        let socket = socket_directory.join(SOCKET).display().to_string();
        let options = OptsBuilder::default()
            .socket(Some(socket))
            .user(Some(SUPERUSER))
            .pass(Some(password))
            .prefer_socket(false);
        Probe { options, connection: None }
    }

    /// Asks, for at most `limit`. A connection that did not answer is given up.
    pub async fn ask(&mut self, limit: Duration) -> Answer {
        let answer = match tokio::time::timeout(limit, self.select()).await {
            Ok(Ok(())) => return Answer::Alive,
            Ok(Err(Error::Server(error))) if error.code == SHUTTING_DOWN => Answer::NotYet,
            // It answered, if only to say that there are too many connections or another password.
            Ok(Err(Error::Server(_))) => Answer::Alive,
            Ok(Err(_)) | Err(_) => Answer::Silent,
        };
        self.connection = None;
        answer
    }

    async fn select(&mut self) -> Result<(), Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(Conn::new(self.options.clone()).await?),
        };
        connection.query_drop("SELECT 1").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_silence() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::new(dir.path(), "x");
        assert_eq!(probe.ask(Duration::from_secs(5)).await, Answer::Silent);
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_is_silent_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let _mute = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let mut probe = Probe::new(dir.path(), "x");
        let asked = std::time::Instant::now();
        assert_eq!(probe.ask(Duration::from_millis(50)).await, Answer::Silent);
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
}

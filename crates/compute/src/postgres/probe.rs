//! Whether an engine answers: one connection that is kept, and `SELECT 1` on it.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::SUPERUSER;
use crate::engine::Answer;

/// The prober of one engine.
pub struct Probe {
    config: Config,
    client: Option<Client>,
}

impl Probe {
    /// A prober by the engine's own socket, so that it needs no network.
    #[must_use]
    pub fn new(socket_directory: PathBuf, port: u16, password: &str) -> Probe {
        let mut config = Config::new();
        config
            .host_path(socket_directory)
            .port(port)
            .user(SUPERUSER)
            .password(password)
            .dbname(SUPERUSER)
            .application_name("zorya agent");
        Probe { config, client: None }
    }

    /// Asks, for at most `limit`. A connection that did not answer is given up.
    pub async fn ask(&mut self, limit: Duration) -> Answer {
        let answer = match tokio::time::timeout(limit, self.select()).await {
            Ok(Ok(())) => return Answer::Alive,
            Ok(Err(error)) => judge(&error),
            Err(_) => Answer::Silent,
        };
        self.client = None;
        answer
    }

    async fn select(&mut self) -> Result<(), Error> {
        if let Some(client) = &self.client
            && !client.is_closed()
        {
            return client.simple_query("SELECT 1").await.map(drop);
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        // Ends with the client or with the engine; its error is seen by the next question.
        tokio::spawn(connection);
        client.simple_query("SELECT 1").await?;
        self.client = Some(client);
        Ok(())
    }
}

fn judge(error: &Error) -> Answer {
    match error.code() {
        Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => Answer::NotYet,
        // The session was ended from inside: by a shutdown, by recovery in place, or by an operator.
        Some(code) if [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code) => Answer::NotYet,
        Some(_) => Answer::Alive,
        None => Answer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_silence() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::new(dir.path().to_owned(), 5432, "x");
        assert_eq!(probe.ask(Duration::from_secs(5)).await, Answer::Silent);
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_is_silent_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let _mute = std::os::unix::net::UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let mut probe = Probe::new(dir.path().to_owned(), 5432, "x");
        let asked = std::time::Instant::now();
        assert_eq!(probe.ask(Duration::from_millis(50)).await, Answer::Silent);
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
}

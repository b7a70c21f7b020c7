//! Ending the clients' sessions.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::DATABASE;

/// How long a session may finish its statement before it is killed: in Aria a statement that is killed halfway stays half.
const FINISH: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);
/// `ER_NO_SUCH_THREAD`.
const NO_SUCH_SESSION: u16 = 1094;

/// Kills every session of the clients and waits until none is left.
pub(super) async fn end(conn: &mut Conn) -> Result<(), Error> {
    let begun = Instant::now();
    let find = format!(
        "SELECT id, command = 'Sleep' FROM information_schema.processlist \
         WHERE db = '{DATABASE}' AND id <> CONNECTION_ID()"
    );
    loop {
        let sessions: Vec<(u64, bool)> = conn.query(&find).await?;
        if sessions.is_empty() {
            return Ok(());
        }
        for (id, idle) in sessions {
            if idle || begun.elapsed() > FINISH {
                kill(conn, id).await?;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn kill(conn: &mut Conn, id: u64) -> Result<(), Error> {
    match conn.query_drop(format!("KILL CONNECTION {id}")).await {
        Err(Error::Server(error)) if error.code == NO_SUCH_SESSION => Ok(()),
        other => other,
    }
}

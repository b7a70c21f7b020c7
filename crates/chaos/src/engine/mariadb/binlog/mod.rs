//! The binary log: read as the engine's own `mariadb-binlog` prints it, and held against tables and ledger.
//!
//! * [`reading`]: what is printed, line by line (pure).
//! * [`judgement`]: what it must say (pure).

mod judgement;
mod reading;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

pub(super) use judgement::judge;
pub(super) use reading::Logged;

use super::Mariadb;
use crate::engine::{self, AskError};
use crate::shell::ShellError;

/// Where a server is in its binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// Its files and their lengths in bytes, oldest first.
    files: Vec<(String, u64)>,
    /// `@@gtid_binlog_pos`: the newest transaction of each domain in the log.
    binlog: String,
    /// `@@gtid_current_pos`: the newest transaction that was carried out.
    current: String,
}

/// Where the server is; `None` without a binary log.
pub(super) fn positions(database: &Mariadb) -> Result<Option<Positions>, AskError> {
    engine::answer(Box::pin(async move {
        let mut conn = database.conn().await?;
        let query = "SELECT @@log_bin, @@gtid_binlog_pos, @@gtid_current_pos";
        let found: Option<(bool, String, String)> = conn.query_first(query).await?;
        let Some((true, binlog, current)) = found else { return Ok(None) };
        let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await?;
        let files = files.iter().filter_map(|row| row.get(0).zip(row.get(1))).collect();
        conn.disconnect().await?;
        Ok(Some(Positions { files, binlog, current }))
    }))
}

/// What the tool says of a file that ends within an event.
const CUT_OFF: &str = "binlog truncated in the middle of event";

/// Reads the whole log, from its oldest file on, through the server.
///
/// A server that is killed, or whose host is, can leave the newest file with a part of what it had not synced yet. When it is
/// started again it rolls back the transaction that is cut off, begins a new file, and lets the old one be: MariaDB
/// 10.11 on a disk does so too (`docs/chaos.md`). So each file but the newest may end within an event.
pub(super) fn read(database: &Mariadb, positions: &Positions) -> Result<Logged, AskError> {
    let mut reader = reading::Reader::default();
    for (index, (file, len)) in positions.files.iter().enumerate() {
        let is_newest = index + 1 == positions.files.len();
        match read_file(database, file, &mut reader) {
            Err(ShellError::Failed { said, .. }) if !is_newest && said.contains(CUT_OFF) => {
                eprintln!(
                    "chaos: {file} ends within an event, after {len} bytes: the engine was killed meanwhile"
                );
            }
            outcome => outcome?,
        }
        reader.file_ends();
    }
    Ok(reader.end())
}

fn read_file(database: &Mariadb, file: &str, reader: &mut reading::Reader) -> Result<(), ShellError> {
    let opts = &database.opts;
    let mut command = Command::new("mariadb-binlog");
    command
        .args(["--no-defaults", "--read-from-remote-server"])
        .args(["--base64-output=decode-rows", "--verbose", "--skip-annotate-row-events"])
        .arg(format!("--host={}", opts.ip_or_hostname()))
        .arg(format!("--port={}", opts.tcp_port()))
        .arg(format!("--user={}", opts.user().unwrap_or_default()))
        .arg(file)
        .env("MYSQL_PWD", opts.pass().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = |source| ShellError::Start { command: "mariadb-binlog".to_owned(), source };
    let mut child = command.spawn().map_err(start)?;
    if let Some(printed) = child.stdout.take() {
        let mut printed = BufReader::new(printed);
        let mut line = Vec::new();
        while printed.read_until(b'\n', &mut line).map_err(start)? > 0 {
            reader.line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            line.clear();
        }
    }
    let ended = child.wait_with_output().map_err(start)?;
    if !ended.status.success() {
        let command = format!("mariadb-binlog {file}");
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        return Err(ShellError::Failed { command, status: ended.status, said });
    }
    Ok(())
}

/// Begins a new file and drops all before it.
pub(super) async fn forget(conn: &mut Conn) -> Result<(), mysql_async::Error> {
    let is_on: Option<bool> = conn.query_first("SELECT @@log_bin").await?;
    if is_on == Some(true) {
        conn.query_drop("FLUSH BINARY LOGS").await?;
        let newest: Option<mysql_async::Row> = conn.query_first("SHOW MASTER STATUS").await?;
        if let Some(name) = newest.and_then(|row| row.get::<String, _>(0)) {
            conn.query_drop(format!("PURGE BINARY LOGS TO '{name}'")).await?;
        }
    }
    Ok(())
}

//! A stock server on the derived data directory: it starts without replay and answers the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use zorya_redo::postgres::decode::stream::LogFormat;

use crate::check::Checker;
use crate::server::{Server, run_quietly};

/// Files that are no part of the log: settings, and the version.
const SETTINGS: &[&str] = &["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

/// Makes a data directory out of what was derived up to now, below the original's directory, and starts a server on it.
fn start(original: &Path, name: &str, checker: &mut Checker, format: LogFormat) -> Result<Server> {
    let time_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let mut derived = Server::sibling(original, name)?;
    let start =
        checker.write_data_directory(&derived.data(), format, time_s).context("writing what was derived")?;
    for name in SETTINGS {
        fs::copy(original.join("data").join(name), derived.data().join(name))?;
    }
    if nix::unistd::geteuid().is_root() {
        run_quietly(Command::new("chown").args(["-R", "postgres:postgres"]).arg(derived.data()))?;
    }
    eprintln!("starting a server on the derived data directory, at {start}");
    derived.start().context("on the derived data directory")?;
    Ok(derived)
}

/// What a server on derived files says that does not fit: it replayed something, or its indexes and heaps disagree.
fn check(derived: &Server) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let log = derived.log()?;
    if !log.contains("redo is not required") {
        findings.push(format!("the derived server did not start without redo: {log}"));
    }
    // What is prepared may lock what is checked.
    let prepared = derived.psql("postgres", "select database || '|' || gid from pg_prepared_xacts")?;
    for (database, gid) in prepared.lines().filter_map(|line| line.split_once('|')) {
        derived.psql(database, &format!("rollback prepared '{}'", gid.replace('\'', "''")))?;
    }
    let mut amcheck = derived.program("pg_amcheck");
    let output = amcheck.args(["--all", "--heapallindexed", "--install-missing"]).output()?;
    if !output.status.success() {
        findings.push(format!("pg_amcheck: {}", String::from_utf8_lossy(&output.stdout)));
    }
    Ok(findings)
}

/// Starts a server on what was derived up to some record, while the original writes on. Returns what does not fit.
pub fn on_the_way(original: &Path, checker: &mut Checker, format: LogFormat) -> Result<Vec<String>> {
    let mut derived = start(original, "on-the-way", checker, format)?;
    let findings = check(&derived)?;
    derived.stop()?;
    fs::remove_dir_all(derived.dir())?;
    Ok(findings)
}

/// Starts a server on what was derived and compares it with the original, which is stopped and is started again.
/// Returns what differs.
pub fn compare(original: &mut Server, checker: &mut Checker, format: LogFormat) -> Result<Vec<String>> {
    let mut derived = start(original.dir(), "derived", checker, format)?;
    eprintln!("comparing dumps");
    dump(&derived, "derived.sql")?;
    // After the dump: this installs an extension.
    let mut findings = check(&derived)?;
    derived.stop()?;
    original.start()?;
    dump(original, "original.sql")?;
    original.stop()?;
    let read = |server: &Server, name: &str| fs::read(server.dir().join(name));
    let (theirs, ours) = (read(original, "original.sql")?, read(&derived, "derived.sql")?);
    let lines = |dump: &[u8]| dump.split(|&byte| byte == b'\n').filter(|line| !is_expected(line)).count();
    if lines(&theirs) < 1000 {
        findings.push("the dump is too short to say anything".to_owned());
    }
    let mut theirs_lines = theirs.split(|&byte| byte == b'\n').filter(|line| !is_expected(line));
    let mut ours_lines = ours.split(|&byte| byte == b'\n').filter(|line| !is_expected(line));
    loop {
        match (theirs_lines.next(), ours_lines.next()) {
            (None, None) => break,
            (theirs, ours) if theirs == ours => {}
            (theirs, ours) => {
                let text = |line: Option<&[u8]>| line.map(|line| String::from_utf8_lossy(line).into_owned());
                findings.push(format!("the dumps differ: {:?} and {:?}", text(theirs), text(ours)));
                break;
            }
        }
    }
    Ok(findings)
}

/// Sequences count up to what they logged: the derived one is ahead. Every dump has a token of its own.
fn is_expected(line: &[u8]) -> bool {
    [&b"SELECT pg_catalog.setval("[..], b"\\restrict ", b"\\unrestrict "]
        .iter()
        .any(|start| line.starts_with(start))
}

fn dump(server: &Server, name: &str) -> Result<()> {
    let mut dump = server.program("pg_dumpall");
    // A server that starts as after a crash empties unlogged tables.
    run_quietly(dump.args(["--no-unlogged-table-data", "-f"]).arg(server.dir().join(name)))
}

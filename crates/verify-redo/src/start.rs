//! A stock server on the derived data directory: it starts without replay and answers the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::check::{Checker, Oracle};
use crate::server::{Server, run_quietly};

/// Files that are no part of the log: settings, and the version.
const SETTINGS: &[&str] = &["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

/// Makes a data directory out of what was derived up to now, below the original's directory.
pub fn prepare(original: &Path, name: &str, checker: &mut Checker) -> Result<Server> {
    let time_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let derived = Server::copy_of(checker.format.major, &original.join("base"), original, name)?;
    let start = checker.write_data_directory(&derived.data(), time_s).context("writing what was derived")?;
    copy_settings(original, &derived)?;
    eprintln!("a derived data directory that starts at {start}");
    Ok(derived)
}

/// Gives a server the settings of the original.
pub fn copy_settings(original: &Path, server: &Server) -> Result<()> {
    for name in SETTINGS {
        fs::copy(original.join("data").join(name), server.data().join(name))?;
    }
    if nix::unistd::geteuid().is_root() {
        run_quietly(Command::new("chown").args(["-R", "postgres:postgres"]).arg(server.data()))?;
    }
    Ok(())
}

/// Starts a server on what was derived; it must have nothing to replay.
pub fn run(derived: &mut Server, checker: &mut Checker) -> Result<()> {
    derived.start().context("on the derived data directory")?;
    checker.tally.starts += 1;
    let log = derived.log()?;
    if !log.contains("redo is not required") {
        checker.report(format_args!("the derived server did not start without redo: {log}"));
    }
    Ok(())
}

/// Checks that indexes and heaps agree on a server on derived files.
pub fn check(derived: &Server, checker: &mut Checker) -> Result<()> {
    // What is prepared may lock what is checked.
    let prepared = derived.psql("postgres", "select database || '|' || gid from pg_prepared_xacts")?;
    for (database, gid) in prepared.lines().filter_map(|line| line.split_once('|')) {
        derived.psql(database, &format!("rollback prepared '{}'", gid.replace('\'', "''")))?;
    }
    let mut amcheck = derived.program("pg_amcheck");
    let output = amcheck.args(["--all", "--heapallindexed", "--install-missing"]).output()?;
    if !output.status.success() {
        checker.report(format_args!("pg_amcheck: {}", String::from_utf8_lossy(&output.stdout)));
    }
    Ok(())
}

/// Starts a server on what was derived up to some record, while the original writes on.
pub fn on_the_way(original: &Path, checker: &mut Checker) -> Result<()> {
    let mut derived = prepare(original, "on-the-way", checker)?;
    run(&mut derived, checker)?;
    check(&derived, checker)?;
    derived.stop()?;
    Ok(fs::remove_dir_all(derived.dir())?)
}

/// Starts a server on what was derived and compares it with the original, which is stopped and is started again.
pub fn compare(original: &mut Server, checker: &mut Checker) -> Result<()> {
    let mut derived = prepare(original.dir(), "derived", checker)?;
    run(&mut derived, checker)?;
    eprintln!("comparing dumps");
    dump(&derived, "derived.sql")?;
    // After the dump: this installs an extension.
    check(&derived, checker)?;
    derived.stop()?;
    original.start()?;
    dump(original, "original.sql")?;
    original.stop()?;
    let (ours, theirs) = (derived.dir().join("derived.sql"), original.dir().join("original.sql"));
    if let Some(finding) = compare_dumps(&ours, &theirs, Oracle::Primary)? {
        checker.report(format_args!("{finding}"));
    }
    Ok(fs::remove_dir_all(derived.dir())?)
}

/// Compares what two servers said; says where they differ first.
pub fn compare_dumps(ours: &Path, theirs: &Path, oracle: Oracle) -> Result<Option<String>> {
    let (ours, theirs) = (fs::read(ours)?, fs::read(theirs)?);
    // A standby may be asked when there is little more than the catalogs yet.
    let least = if oracle == Oracle::Standby { 100 } else { 1000 };
    if says(&theirs, oracle).count() < least {
        return Ok(Some("the dump is too short to say anything".to_owned()));
    }
    let (mut ours, mut theirs) = (says(&ours, oracle), says(&theirs, oracle));
    loop {
        match (theirs.next(), ours.next()) {
            (None, None) => return Ok(None),
            (theirs, ours) if theirs == ours => {}
            (theirs, ours) => {
                let text = |line: Option<&[u8]>| line.map(|line| String::from_utf8_lossy(line).into_owned());
                return Ok(Some(format!("the dumps differ: {:?} and {:?}", text(theirs), text(ours))));
            }
        }
    }
}

/// The lines of a dump that must be equal. Every dump has a token of its own; sequences count up to what they logged,
/// so that the derived one is ahead of the server that wrote the log.
fn says(dump: &[u8], oracle: Oracle) -> impl Iterator<Item = &[u8]> {
    let tokens = [&b"\\restrict "[..], b"\\unrestrict "];
    dump.split(|&byte| byte == b'\n').filter(move |line| {
        let is_sequence = line.starts_with(b"SELECT pg_catalog.setval(");
        !tokens.iter().any(|start| line.starts_with(start)) && (oracle == Oracle::Standby || !is_sequence)
    })
}

/// Writes down all that a server answers.
pub fn dump(server: &Server, name: &str) -> Result<()> {
    let mut dump = server.program("pg_dumpall");
    // A server that starts as after a crash empties unlogged tables.
    run_quietly(dump.args(["--no-unlogged-table-data", "-f"]).arg(server.dir().join(name)))
}

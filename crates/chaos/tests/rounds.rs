//! A few rounds on real processes, and planted bugs that rounds must catch.
//!
//! Needs root, FUSE, loop devices and the release binary (`ZORYA_BIN`, or `target/release/zorya` of the workspace); the
//! planted bugs need a binary with the feature `planted-bugs` (`ZORYA_PLANTED_BIN`). What is missing is printed, and the
//! test passes without having tested anything.
#![allow(clippy::unwrap_used, reason = "in a test, what must not fail may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The binary, or why nothing can be tested.
fn binary(variable: &str, default: Option<&str>) -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    for needed in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(needed).exists() {
            return Err(format!("needs {needed}"));
        }
    }
    let named = std::env::var_os(variable).map(PathBuf::from).or(default.map(|path| workspace().join(path)));
    let path = named.ok_or_else(|| format!("needs {variable}"))?;
    path.canonicalize().map_err(|error| format!("there is no binary {}: {error}", path.display()))
}

/// Each run starts a region of its own; one at a time leaves it the machine.
static MACHINE: Mutex<()> = Mutex::new(());

struct Played {
    code: Option<i32>,
    summary: Value,
    said: String,
}

fn play(zorya: &Path, arguments: &[&str]) -> Played {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let work = tempfile::Builder::new().prefix("zorya-chaos-").tempdir_in("/var/tmp").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zorya-chaos"))
        .arg("--zorya")
        .arg(zorya)
        .arg("--work")
        .arg(work.path().join("w"))
        .args(arguments)
        .output()
        .unwrap();
    let summary = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Played { code: output.status.code(), summary, said: String::from_utf8_lossy(&output.stderr).into_owned() }
}

fn holds(fault: &str, seed: &str) {
    let zorya = match binary("ZORYA_BIN", Some("target/release/zorya")) {
        Ok(zorya) => zorya,
        Err(why) => return println!("skipped: {why}"),
    };
    let played = play(&zorya, &["--rounds", "1", "--fault", fault, "--seed", seed]);
    assert_eq!(played.code, Some(0), "{}\n{:#}", played.said, played.summary);
    assert_eq!(played.summary["counted"], 1, "{:#}", played.summary);
}

/// A bug is caught when a promise is broken in one of a few rounds.
fn is_caught(bug: &str, engine: &str, fault: &str) {
    let zorya = match binary("ZORYA_PLANTED_BIN", None) {
        Ok(zorya) => zorya,
        Err(why) => return println!("skipped: {why}"),
    };
    let planted = ["--plant", bug, "--engine", engine, "--fault", fault];
    let played = play(&zorya, &[&planted[..], &["--rounds", "3", "--until-broken", "--seed", "1"]].concat());
    assert_eq!(
        played.code,
        Some(1),
        "{bug} was not caught by {fault}: {}\n{:#}",
        played.said,
        played.summary
    );
    let broken = played.summary["rounds"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|round| round["broken"].as_array().unwrap());
    let lost =
        broken.filter_map(Value::as_str).any(|what| what.starts_with("lost") || what.contains("status"));
    assert!(lost, "{bug} was caught, but not by what it loses: {:#}", played.summary);
}

#[test]
fn a_power_cut_of_everything_loses_nothing_acknowledged() {
    holds("power-cut-all-and-kill-writer", "1");
}

fn has_mariadb() -> bool {
    ["/usr/sbin/mariadbd", "/usr/bin/mariadb-binlog"].iter().all(|program| Path::new(program).exists())
}

/// One round without and one with the binary log.
#[test]
fn a_power_cut_of_everything_loses_nothing_that_mariadb_acknowledged() {
    let zorya = match binary("ZORYA_BIN", Some("target/release/zorya")) {
        Ok(zorya) if has_mariadb() => zorya,
        Ok(_) => return println!("skipped: needs MariaDB with its client"),
        Err(why) => return println!("skipped: {why}"),
    };
    let cut = ["--fault", "power-cut-all-and-kill-writer", "--seed", "2"];
    let played = play(&zorya, &[&["--engine", "mariadb", "--rounds", "2"], &cut[..]].concat());
    let summary = &played.summary;
    assert_eq!(played.code, Some(0), "{}\n{summary:#}", played.said);
    assert_eq!((&summary["counted"], &summary["power_cuts"]), (&2.into(), &2.into()), "{summary:#}");
    let [plain, binlog] = &summary["rounds"].as_array().unwrap()[..] else { panic!("{summary:#}") };
    assert_eq!((&plain["cluster"], &plain["logged"]), (&"plain".into(), &Value::Null));
    assert!(binlog["logged"].as_u64() >= binlog["acknowledged"].as_u64(), "{summary:#}");
    assert!(plain["statements"].as_u64() > Some(0) && binlog["statements"].as_u64() > Some(0));
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    holds("kill-writer", "2");
}

#[test]
fn a_lost_zone_loses_nothing_acknowledged() {
    holds("freeze-zone", "3");
}

#[test]
fn replicas_that_do_not_sync_are_caught_by_a_power_cut_of_all() {
    is_caught("no-fdatasync", "postgres", "power-cut-all-and-kill-writer");
}

#[test]
fn a_sync_that_is_answered_early_is_caught_when_an_isolated_writer_dies() {
    is_caught("fsync-answered-early", "postgres", "isolate-and-kill-writer");
}

/// In InnoDB, in Aria and in the binary log.
#[test]
fn a_sync_that_is_answered_early_is_caught_by_mariadb_too() {
    if !has_mariadb() {
        return println!("skipped: needs MariaDB with its client");
    }
    is_caught("fsync-answered-early", "mariadb", "isolate-and-kill-writer");
}

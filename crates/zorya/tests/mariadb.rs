//! MariaDB beside PostgreSQL in one region: the adapter from creation to recovery after a kill, on the real engine.
//!
//! Needs root, /dev/fuse, PostgreSQL 15 and MariaDB 10.11. Without them a test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Region, eventually};

const MARIADBD: &str = "/usr/sbin/mariadbd";

fn cluster(region: &Region, name: &str) -> Value {
    let status = region.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["id"] == name).unwrap().clone()
}

fn pid(cluster: &Value, which: &str) -> Pid {
    Pid::from_raw(i32::try_from(cluster["instances"][0][which].as_i64().unwrap()).unwrap())
}

fn try_query(region: &Region, statement: &str) -> Option<String> {
    let output = region.zorya(&["sql", "second", "--", "-N", "-B", "-e", statement]);
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn query(region: &Region, statement: &str) -> String {
    eventually(statement, || try_query(region, statement))
}

/// A region with PostgreSQL as `main` and MariaDB, with the binary log on, as `second`.
fn both_engines() -> Option<Region> {
    if !Path::new(MARIADBD).exists() {
        eprintln!("skipped: needs MariaDB 10.11");
        return None;
    }
    let region = Region::up()?;
    region.run(&["cluster", "create", "second", "--engine", "mariadb", "--parameter", "log-bin=bin"]);
    Some(region)
}

#[test]
fn mariadb_serves_beside_postgresql_and_keeps_what_it_acknowledged_over_a_kill() {
    let Some(region) = both_engines() else { return };
    let second = cluster(&region, "second");
    assert_eq!((&second["engine"], &second["state"]), (&"mariadb".into(), &"available".into()));
    assert!(second["endpoint"].as_str().unwrap().starts_with("mysql://root:"), "{second}");
    assert_eq!(region.sql("SELECT 1"), "1");

    query(&region, "CREATE DATABASE d");
    query(&region, "CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB");
    query(&region, "CREATE TABLE d.a (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1");
    query(&region, "INSERT INTO d.t SELECT seq, REPEAT('x', 150) FROM d.seq_1_to_2000");
    query(&region, "INSERT INTO d.a VALUES (1), (2)");
    let position = query(&region, "SELECT @@gtid_binlog_pos");
    for which in ["pid", "mount_pid"] {
        kill(pid(&second, which), Signal::SIGKILL).unwrap();
    }
    eventually("another engine", || {
        let now = cluster(&region, "second");
        (now["state"] == "available" && now["instances"][0]["pid"] != second["instances"][0]["pid"])
            .then_some(())
    });
    assert_eq!(query(&region, "SELECT COUNT(*), SUM(LENGTH(v)) FROM d.t"), "2000\t300000");
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.a"), "2");
    assert_eq!(query(&region, "SELECT @@gtid_binlog_pos"), position);
    let checked = query(&region, "CHECK TABLE d.t, d.a EXTENDED");
    assert!(checked.lines().all(|line| line.ends_with("OK")), "{checked}");
    assert_eq!(region.sql("SELECT 1"), "1", "the other cluster was not touched");

    region.run(&["cluster", "stop", "second"]);
    assert_eq!(cluster(&region, "second")["state"], "stopped");
    region.run(&["cluster", "start", "second"]);
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.t"), "2000");
    region.run(&["cluster", "delete", "second", "--yes"]);
    assert!(region.refused(&["sql", "second"]).contains("no cluster"));
}

#[test]
fn what_would_void_the_promise_is_refused_with_a_reason() {
    let Some(region) = both_engines() else { return };
    for (parameter, reason) in [
        ("innodb-flush-log-at-trx-commit=0", "four of six copies"),
        ("sync_binlog=0", "fall behind"),
        ("tmpdir=/tmp", "stay on the host"),
        ("log_bin=/var/log/mysql/bin", "give a name without a directory"),
        ("no_such_thing=1", "unknown variable"),
        ("innodb_flush_neighbors=x", "innodb_flush_neighbors"),
    ] {
        let said =
            region.refused(&["cluster", "create", "third", "--engine", "mariadb", "--parameter", parameter]);
        assert!(said.contains(reason), "{parameter}: {said}");
    }
    let shown = "innodb_doublewrite innodb_flush_method innodb_flush_log_at_trx_commit sync_binlog log_bin";
    for (name, value) in shown.split(' ').zip(["0", "O_DIRECT", "1", "1", "1"]) {
        assert_eq!(query(&region, &format!("SELECT @@{name}")), value, "{name}");
    }
}

//! MariaDB beside PostgreSQL in one region: the adapter from creation to recovery after a kill, on the real engine.
//!
//! Needs root, /dev/fuse, PostgreSQL 15 and MariaDB 10.11. Without them a test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{PlainMount, Region, eventually, run};

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
    let create = ["cluster", "create", "second", "--engine", "mariadb"];
    region.run(&[&create[..], &["--parameter", "log-bin=bin", "--parameter", "max-connections=77"]].concat());
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
    for (name, value) in [
        ("innodb_doublewrite", "0"),
        ("innodb_flush_method", "O_DIRECT"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("sync_binlog", "1"),
        ("log_bin", "1"),
        ("max_connections", "77"),
    ] {
        assert_eq!(query(&region, &format!("SELECT @@{name}")), value, "{name}");
    }

    // Statements of a dump that place a table elsewhere succeed, and the table is in the volume all the same.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), PermissionsExt::from_mode(0o777)).unwrap();
    query(&region, "CREATE DATABASE d");
    // Aria does not even warn: it has no such option.
    for (engine, warning) in [("InnoDB", "option ignored"), ("MyISAM", "option ignored"), ("Aria", "")] {
        let create = format!(
            "CREATE TABLE d.{engine} (id INT PRIMARY KEY) ENGINE={engine} DATA DIRECTORY='{}'; SHOW WARNINGS",
            elsewhere.path().display()
        );
        let said = query(&region, &create);
        assert!(said.contains(warning), "{engine}: {said}");
        query(&region, &format!("INSERT INTO d.{engine} VALUES (1)"));
    }
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn both_engines_at_once_under_load() {
    let Some(region) = both_engines() else { return };
    region.sql("CREATE TABLE t (n int)");
    query(&region, "CREATE DATABASE d");
    query(&region, "CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    let each = 250;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let script = "INSERT INTO t VALUES (1);\n".repeat(each);
                feed(region.command(&["sql", "main", "--", "-Xq", "-v", "ON_ERROR_STOP=1"]), &script);
            });
            scope.spawn(|| {
                let script = "INSERT INTO d.t VALUES (1);\n".repeat(each);
                feed(region.command(&["sql", "second"]), &script);
            });
        }
    });
    assert_eq!(region.sql("SELECT count(*) FROM t"), (4 * each).to_string());
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.t"), (4 * each).to_string());
}

/// Runs a client on a script, every statement of which has to succeed.
fn feed(mut client: Command, script: &str) {
    let mut client = client.stdin(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(client.wait().unwrap().success());
}

#[test]
fn without_a_write_quorum_mariadb_reads_and_its_writes_wait() {
    let Some(region) = both_engines() else { return };
    query(&region, "CREATE DATABASE d");
    query(&region, "CREATE TABLE d.t (n INT) ENGINE=InnoDB");
    query(&region, "CREATE TABLE d.u AS SELECT seq FROM d.seq_1_to_1000");
    for node in ["az1-a", "az1-b", "az2-a"] {
        region.run(&["node", "kill", node]);
    }
    let before = cluster(&region, "second");
    let mut insert = region.command(&["sql", "second", "--", "-e", "INSERT INTO d.t VALUES (1)"]);
    let mut insert = insert.spawn().unwrap();
    let reason = eventually("status to say why", || {
        let volume = cluster(&region, "second")["volume"].clone();
        (volume["state"] == "blocked").then(|| volume["reason"].as_str().unwrap_or_default().to_owned())
    });
    assert!(reason.contains("3 of 6"), "{reason}");
    assert!(insert.try_wait().unwrap().is_none(), "acknowledged by three of six");
    // A table with a commit under way cannot be opened by others: the engine holds a latch of it over the sync.
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.u"), "1000", "reads go on");
    region.run(&["node", "start", "az2-a"]);
    assert!(insert.wait().unwrap().success());
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.t"), "1");
    let now = cluster(&region, "second");
    assert_eq!(now["instances"][0]["pid"], before["instances"][0]["pid"], "waiting restarts nothing");
}

#[test]
fn a_data_directory_of_another_server_is_refused_once_and_kept() {
    let Some(region) = both_engines() else { return };
    query(&region, "CREATE DATABASE d");
    query(&region, "CREATE TABLE d.t AS SELECT seq FROM d.seq_1_to_1000");
    region.run(&["cluster", "stop", "second"]);
    let version = |version: &str| {
        let mount = PlainMount::of_cluster(&region, "second");
        let file = mount.path("mysqldata/mysql_upgrade_info");
        run(mount.inside("sh").args(["-c", &format!("printf {version} > {}", file.display())]));
    };
    version("11.8.2-MariaDB");
    let restarts = |region: &Region| cluster(region, "second")["instances"][0]["restarts"].clone();
    let before = restarts(&region);
    let said = region.refused(&["cluster", "start", "second"]);
    for part in ["mariadb 11.8.2", "the engine is mariadb 10.11", "dump it", "zorya cluster start second"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let failed = cluster(&region, "second");
    let log = std::fs::read_to_string(region.home().join("agent.log")).unwrap();
    assert_eq!(failed["state"], "failed", "{failed}: {log}");
    assert_eq!(restarts(&region), before, "tried again though nothing had changed: {log}");
    version("10.11.14-MariaDB");
    region.run(&["cluster", "start", "second"]);
    assert_eq!(query(&region, "SELECT COUNT(*) FROM d.t"), "1000");
}

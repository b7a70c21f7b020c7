//! Other versions of the engines, from directories that ZORYA_OTHER_SERVERS names: `engine=DIR,engine=DIR,…`. Without it
//! the test says so and passes; `make other-servers` gets two and runs it.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Region, eventually, send};

/// One engine in its own words.
struct Words {
    /// The client's arguments before a statement.
    client: &'static [&'static str],
    version: &'static str,
    fill: &'static str,
    /// Says `0` if nothing is wrong.
    check: &'static str,
}

const POSTGRES: Words = Words {
    client: &["-XAtq", "-v", "ON_ERROR_STOP=1", "-c"],
    version: "SHOW server_version",
    fill: "CREATE TABLE t AS SELECT n, repeat('x', 200) v FROM generate_series(1, 20000) n; CREATE INDEX ON t (n)",
    check: "SELECT count(*) - 20000 + coalesce(sum(checksum_failures), 0) FROM t, pg_stat_database WHERE datname = 'postgres'",
};
const MARIADB: Words = Words {
    client: &["-N", "-B", "-e"],
    version: "SELECT VERSION()",
    fill: "CREATE DATABASE d; CREATE TABLE d.t (n INT PRIMARY KEY, v VARCHAR(200)); \
           INSERT INTO d.t SELECT seq, REPEAT('x', 200) FROM d.seq_1_to_20000",
    check: "SELECT COUNT(*) - 20000 FROM d.t",
};

fn servers() -> Vec<(String, String)> {
    let given = std::env::var("ZORYA_OTHER_SERVERS").unwrap_or_default();
    let server = |text: &str| text.split_once('=').map(|(name, dir)| (name.to_owned(), dir.to_owned()));
    given.split(',').filter_map(server).collect()
}

fn answer(region: &Region, words: &Words, statement: &str) -> String {
    eventually(statement, || {
        let output = region.zorya(&[&["sql", "other", "--"], words.client, &[statement]].concat());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    })
}

fn instance(region: &Region) -> Value {
    let status = region.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["id"] == "other").unwrap()["instances"][0].clone()
}

#[test]
fn another_version_runs_and_recovers() {
    let servers = servers();
    if servers.is_empty() {
        eprintln!("skipped: ZORYA_OTHER_SERVERS names no other servers: see `make other-servers`");
    }
    for (engine, directory) in servers {
        let Some(region) = Region::up() else { return };
        let words = if engine == "postgres" { POSTGRES } else { MARIADB };
        region.run(&["cluster", "create", "other", "--engine", &engine, "--bin-dir", &directory]);
        println!("{engine} in {directory} says {}", answer(&region, &words, words.version));
        answer(&region, &words, words.fill);
        let pid = |which: &str| instance(&region)[which].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let (before, mount) = (pid("pid"), pid("mount_pid"));
        send(before, Signal::SIGKILL);
        send(mount, Signal::SIGKILL);
        eventually("another engine", || pid("pid").filter(|now| Some(*now) != before));
        assert_eq!(answer(&region, &words, words.check), "0");
        region.run(&["cluster", "stop", "other"]);
        region.run(&["cluster", "start", "other"]);
        assert_eq!(answer(&region, &words, words.check), "0");
        region.run(&["cluster", "delete", "other", "--yes"]);
    }
}

//! The disk of the compute's own files fills up: region state, status files, logs and everything that is never shipped,
//! such as temporary files. Storage has its room elsewhere. Nothing acknowledged is lost and nothing falls over; what
//! needs the disk says so, and goes on by itself when there is room.
//!
//! Needs root, /dev/fuse and PostgreSQL 15; without them the test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use support::{Region, disk, eventually, send};

/// A mount that did not rewrite its status for ten seconds is taken for hung, an engine that did not answer as well.
const LONGER_THAN_HUNG: Duration = Duration::from_secs(14);

#[test]
fn a_full_disk_of_the_compute_stops_only_what_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let Some(region) = Region::at(&home) else { return };
    disk::small(&home, "64m");
    let layout = disk::layout(directory.path());
    region.run(&["up", "--detach", "--layout", layout.to_str().unwrap()]);
    region.sql("CREATE TABLE t (n int)");
    let mut rows = 0;
    let mut insert = |region: &Region| {
        region.sql(&format!("INSERT INTO t VALUES ({rows})"));
        rows += 1;
    };
    insert(&region);
    let before = region.pids();

    let filler = disk::fill(&home);
    let full_since = Instant::now();
    while full_since.elapsed() < LONGER_THAN_HUNG {
        insert(&region);
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = region.zorya(&["sql", "main", "--", "-Xqc", "SET work_mem = '64kB'", "-c", SORT]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("could not write to file \"base/pgsql_tmp/"), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    insert(&region);
    assert_eq!(region.pids().all(), before.all(), "nothing was started again");
    assert_eq!(region.cluster()["state"], "available");
    send(Some(before.nodes[0]), Signal::SIGKILL);
    eventually("the killed node to run again", || {
        let node = region.status()["nodes"][0].clone();
        (node["state"] == "running" && node["pid"] != before.nodes[0]).then_some(())
    });
    insert(&region);
    let warnings = region.status()["warnings"].to_string();
    assert!(warnings.contains(home.to_str().unwrap()) && warnings.contains("free space there"), "{warnings}");

    send(before.engine, Signal::SIGKILL);
    let reason = eventually("the status to say why it does not start", || {
        let cluster = region.cluster();
        let reason = cluster["reason"].as_str()?.to_owned();
        (cluster["state"] == "recovering" && reason.contains("is full")).then_some(reason)
    });
    assert!(reason.contains(home.to_str().unwrap()) && reason.contains("when there is room"), "{reason}");
    let restarts = region.cluster()["instances"][0]["restarts"].as_u64().unwrap();
    // The next agent needs no room either.
    send(before.agent, Signal::SIGKILL);
    let output = region.zorya(&["up", "--detach", "--wait", "3"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{message}");
    assert!(message.contains("is full"), "{message}");
    assert!(restarts <= 2, "a crash loop: {restarts} restarts");

    fs::remove_file(&filler).unwrap();
    insert(&region);
    assert_eq!(region.sql("SELECT count(*), count(DISTINCT n) FROM t"), format!("{rows}|{rows}"));
    region.sql(&format!("SET work_mem = '64kB'; {SORT}"));
    assert_eq!(region.pids().nodes[1..], before.nodes[1..], "the other storage nodes noticed nothing");
    let log = fs::read_to_string(home.join("agent.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

const SORT: &str =
    "SELECT count(*) FROM (SELECT n FROM generate_series(1, 500000) n ORDER BY -n OFFSET 1) sorted";

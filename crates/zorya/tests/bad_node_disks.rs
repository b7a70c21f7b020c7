//! One storage node's disk fills up or is read-only, another's was written by a newer binary: words that say what to do, a database that
//! goes on with the others, nothing lost, and a node that catches up once its disk is mended.
//!
//! Needs root, /dev/fuse and PostgreSQL 15; without them the test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::fs;

use serde_json::Value;
use support::{Region, disk, eventually};

fn node(region: &Region, id: &str) -> Value {
    let status = region.status();
    status["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap().clone()
}

/// How far a node's replica of the volume of `main` is.
fn scl(region: &Region, id: &str) -> Option<u64> {
    let cluster = region.cluster();
    let segments = cluster["volume"]["segments"].as_array()?;
    segments.iter().find(|segment| segment["node"] == id)?["facts"]["scl"].as_u64()
}

fn caught_up(region: &Region, id: &str) {
    let vdl = region.cluster()["volume"]["vdl"].as_u64();
    eventually("the node to have everything again", || (scl(region, id) >= vdl).then_some(()));
}

#[test]
fn a_node_with_a_full_or_read_only_disk_or_a_newer_format_is_named_and_missed_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let Some(region) = Region::at(&directory.path().join("home")) else { return };
    let small = directory.path().join("az1-a");
    disk::small(&small, "100m");
    let layout = disk::layout(directory.path());
    region.run(&["up", "--detach", "--layout", layout.to_str().unwrap()]);
    region.sql("CREATE TABLE t AS SELECT n, repeat('x', 500) filler FROM generate_series(1, 1000) n");
    region.run(&["node", "stop", "az1-a"]);
    disk::make_read_only(&small, true);
    let message = region.refused(&["node", "start", "az1-a"]);
    for part in ["Read-only file system", "mount that disk read-write", "zorya node start az1-a"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let failed = node(&region, "az1-a");
    assert_eq!((&failed["state"], &failed["restarts"]), (&"failed".into(), &0.into()), "no crash loop");
    disk::make_read_only(&small, false);
    region.run(&["node", "start", "az1-a"]);
    caught_up(&region, "az1-a");

    let before = node(&region, "az1-a");
    let filler = disk::fill(&small);
    // More than the log has files of its own for, so that it does notice.
    eventually("the node to notice that its disk is full", || {
        region.sql("INSERT INTO t SELECT n, repeat('y', 500) FROM generate_series(1, 10000) n");
        let warnings = region.status()["warnings"].to_string();
        let log = fs::read_to_string(region.home().join("nodes/az1-a/node.log")).unwrap();
        (warnings.contains("az1-a") && log.contains("full")).then_some(())
    });
    let rows = region.sql("SELECT count(*) FROM t");
    let now = node(&region, "az1-a");
    assert_eq!((&now["pid"], &now["state"]), (&before["pid"], &"running".into()), "it did not fall over");
    fs::remove_file(filler).unwrap();
    caught_up(&region, "az1-a");

    region.run(&["node", "stop", "az2-b"]);
    let description = directory.path().join("az2-b/node.json");
    let text = fs::read_to_string(&description).unwrap();
    let newer = text.replacen("\"format\": 1", "\"format\": 99", 1);
    let newer = newer.replacen("\"format\":1", "\"format\":99", 1);
    assert_ne!(newer, text);
    fs::write(&description, newer).unwrap();
    let message = region.refused(&["node", "start", "az2-b"]);
    for part in ["node.json", "has format 99", "use a newer zorya", "zorya node start az2-b"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let failed = node(&region, "az2-b");
    assert_eq!((&failed["state"], &failed["restarts"]), (&"failed".into(), &0.into()), "no crash loop");
    region.sql("INSERT INTO t VALUES (0, 'newest')");
    fs::write(&description, text).unwrap();
    region.run(&["node", "start", "az2-b"]);
    caught_up(&region, "az2-b");
    let count: u64 = region.sql("SELECT count(*) FROM t").parse().unwrap();
    assert_eq!(count, rows.parse::<u64>().unwrap() + 1);
}

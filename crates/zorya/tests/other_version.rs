//! A data directory that another PostgreSQL made is refused in words, once, and stays as it is.
//!
//! Needs root, /dev/fuse and PostgreSQL 15; without them the test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use support::{PlainMount, Region, run};

/// Replaces the content of `PG_VERSION` in the volume of a stopped cluster.
fn set_version(region: &Region, version: &str) {
    let mount = PlainMount::of(region);
    let script = format!("echo {version} > {}", mount.path("pgdata/PG_VERSION").display());
    run(mount.inside("sh").args(["-c", &script]));
}

#[test]
fn a_data_directory_of_another_version_is_refused_once_and_kept() {
    let Some(region) = Region::up() else { return };
    region.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    region.run(&["cluster", "stop", "main"]);
    set_version(&region, "14");

    let message = region.refused(&["cluster", "start", "main"]);
    for part in ["postgresql 14", "the engine is postgresql 15", "dump it", "zorya cluster start main"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let cluster = region.cluster();
    assert_eq!(cluster["state"], "failed", "{cluster}");
    assert!(cluster["reason"].as_str().unwrap().contains("postgresql 14"), "{cluster}");
    assert_eq!(cluster["instances"][0]["restarts"], 0, "it was tried again though nothing had changed");
    assert_eq!(region.pids().mount, None, "a mount is left");
    region.run(&["down"]);
    let message = region.refused(&["up", "--detach"]);
    assert!(message.contains("postgresql 14"), "{message}");

    set_version(&region, "15");
    region.run(&["cluster", "start", "main"]);
    assert_eq!(region.sql("SELECT count(*) FROM t"), "1000");
}

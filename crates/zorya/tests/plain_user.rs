//! A whole region of a plain user's: storage nodes, mounts and both engines, without root anywhere.
//!
//! The test itself needs root, to become such a user, and a kernel that lets users make user namespaces; where it may not, it
//! says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::Signal;
use support::{Region, is_alive, send};

/// The distribution's user that owns nothing.
const NOBODY: u32 = 65534;

fn owner(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

#[test]
fn a_plain_user_runs_a_whole_region() {
    let Some(region) = Region::of_user(NOBODY) else { return };
    assert!(region.run(&["up", "--detach"]).contains("postgresql://"));
    region.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    let before = region.pids();
    assert_eq!(before.all().len(), 9, "{before:?}");
    assert!(before.all().into_iter().all(|pid| owner(pid) == NOBODY), "{before:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("zorya"), "its mounts are its own: {mounts}");

    send(before.mount, Signal::SIGKILL);
    region.replaced(&before);
    region.sql("INSERT INTO t VALUES (1001)");
    let before = region.pids();
    send(before.mount, Signal::SIGSTOP);
    region.replaced(&before);
    region.sql("INSERT INTO t VALUES (1002)");
    let before = region.pids();
    for pid in before.all() {
        send(Some(pid), Signal::SIGKILL);
    }
    region.run(&["up", "--detach"]);
    assert_eq!(region.sql("SELECT count(*) FROM t"), "1002");

    if Path::new("/usr/sbin/mariadbd").exists() {
        region.run(&["cluster", "create", "second", "--engine", "mariadb"]);
        let said = region.run(&["sql", "second", "--", "-N", "-B", "-e", "SELECT 6 * 7"]);
        assert_eq!(said.trim(), "42");
    }
    let running = region.pids();
    let id = region.status()["region"].as_str().unwrap()[..8].to_owned();
    region.run(&["down"]);
    let left: Vec<_> = running.all().into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} still run");
    assert!(!Path::new(&format!("/tmp/zorya-{id}")).exists(), "the runtime directory is left");
}

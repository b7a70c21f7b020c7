//! A whole region by the real binary: six storage nodes, a mount, PostgreSQL 15. Needs root, /dev/fuse and the engine;
//! without them each test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use support::{Region, eventually, is_alive, send};

#[test]
fn a_region_comes_up_shows_itself_and_leaves_nothing() {
    let Some(region) = Region::up() else { return };
    let status = region.status();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 6);
    let cluster = &status["clusters"][0];
    assert_eq!(
        (&cluster["id"], &cluster["engine"], &cluster["state"]),
        (&"main".into(), &"postgres".into(), &"available".into())
    );
    assert!(cluster["volume"]["epoch"].is_u64() && cluster["volume"]["vdl"].is_u64(), "{cluster}");
    assert_eq!(cluster["volume"]["segments"].as_array().unwrap().len(), 6);
    let url = cluster["endpoint"].as_str().unwrap();
    let psql = Command::new("psql").args([url, "-XAtqc", "SHOW data_checksums"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&psql.stdout).trim(), "on");

    let before = region.pids();
    assert!(region.run(&["up", "--detach"]).contains("postgresql://"), "a second up only tells");
    assert_eq!(region.pids().all(), before.all());

    region.run(&["down"]);
    let left: Vec<_> = before.all().into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} still run");
    let id = status["region"].as_str().unwrap();
    assert!(!PathBuf::from(format!("/run/zorya-{}", &id[..8])).exists());
    assert_eq!(region.status()["clusters"][0]["state"], "stopped");
}

#[test]
fn whoever_reads_a_status_may_stop_early() {
    let Some(region) = Region::up() else { return };
    for output in ["json", "table"] {
        let mut status = region.command(&["--output", output, "status"]);
        let mut child = status.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn what_was_committed_survives_every_kind_of_death() {
    let Some(region) = Region::up() else { return };
    region.sql("CREATE TABLE t (a int)");
    let mut rows = 0;
    let mut insert = |region: &Region| {
        region.sql("INSERT INTO t VALUES (1)");
        rows += 1;
        assert_eq!(region.sql("SELECT count(*) FROM t"), rows.to_string());
    };
    insert(&region);

    let before = region.pids();
    send(before.mount, Signal::SIGKILL);
    region.replaced(&before);
    insert(&region);

    let before = region.pids();
    send(before.engine, Signal::SIGKILL);
    region.replaced(&before);
    insert(&region);

    let before = region.pids();
    send(before.mount, Signal::SIGSTOP);
    region.replaced(&before);
    insert(&region);

    let before = region.pids();
    send(before.agent, Signal::SIGKILL);
    insert(&region);
    region.run(&["up", "--detach"]);
    let now = region.pids();
    assert_eq!((now.engine, now.mount, &now.nodes), (before.engine, before.mount, &before.nodes), "adopted");
    insert(&region);

    send(Some(now.nodes[0]), Signal::SIGKILL);
    insert(&region);
    eventually("the node to run again", || (region.pids().nodes.len() == 6).then_some(()));

    for pid in region.pids().all() {
        send(Some(pid), Signal::SIGKILL);
    }
    region.run(&["up", "--detach"]);
    insert(&region);
}

#[test]
fn a_region_whose_agent_is_dead_goes_down() {
    let Some(region) = Region::up() else { return };
    let before = region.pids();
    send(before.agent, Signal::SIGKILL);
    assert_eq!(region.status()["agent"]["state"], "stopped");
    assert_eq!(region.status()["nodes"][0]["state"], "running");
    region.run(&["down"]);
    let left: Vec<_> = before.all().into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} still run");
}

#[test]
fn losing_a_quorum_is_explained_and_ends_with_it() {
    let Some(region) = Region::up() else { return };
    region.sql("CREATE TABLE t (a int)");
    for node in ["az1-a", "az1-b"] {
        region.run(&["node", "kill", node]);
    }
    region.sql("INSERT INTO t VALUES (1)");
    region.run(&["node", "kill", "az2-a"]);
    let reason = eventually("status to say why", || {
        let volume = region.status()["clusters"][0]["volume"].clone();
        (volume["state"] == "blocked").then(|| volume["reason"].as_str().unwrap_or_default().to_owned())
    });
    for part in ["3 of 6", "az1-a", "az1-b", "az2-a"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    let logged = |words| region.log(true).lines().filter(|line| line.contains(words)).count();
    eventually("each lost node to be logged once", || (logged("cannot be reached") == 3).then_some(()));
    let before = region.pids();
    region.run(&["node", "start", "az2-a"]);
    region.sql("INSERT INTO t VALUES (2)");
    assert_eq!(region.pids().engine, before.engine, "waiting for storage restarts nothing");
    assert_eq!((logged("cannot be reached"), logged("can be reached again")), (3, 1));
}

#[test]
fn requests_that_make_no_sense_are_refused_with_their_codes() {
    let Some(region) = Region::up() else { return };
    for (arguments, code, words) in [
        (vec!["cluster", "create", "x", "--parameter", "fsync=off"], 2, "fsync cannot be set"),
        (vec!["cluster", "create", "x", "--parameter", "work_mem=much"], 2, "PostgreSQL 15 refuses"),
        (vec!["cluster", "create", "x", "--parameter", "no_such=1"], 2, "unrecognized"),
        (vec!["cluster", "create", "X"], 2, "a name is"),
        (vec!["cluster", "create", "main"], 5, "already"),
        (vec!["cluster", "stop", "nope"], 4, "there are: main"),
        (vec!["cluster", "delete", "main"], 2, "--yes"),
        (vec!["node", "kill", "nope"], 4, "az1-a"),
        (vec!["up", "--colour"], 2, "unexpected argument"),
    ] {
        let output = region.zorya(&arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    region.run(&["cluster", "create", "second", "--parameter", "work_mem=8MB"]);
    region.run(&["cluster", "stop", "second"]);
    region.run(&["cluster", "delete", "second", "--yes"]);
    assert_eq!(region.status()["clusters"].as_array().unwrap().len(), 1);
    region.run(&["cluster", "delete", "main", "--yes"]);
    region.run(&["up", "--detach"]);
    assert!(
        region.status()["clusters"].as_array().unwrap().is_empty(),
        "what was deleted does not come back"
    );
}

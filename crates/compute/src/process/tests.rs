use std::ffi::OsStr;
use std::path::PathBuf;

use super::*;

fn sleeper(dir: &tempfile::TempDir, seconds: &str) -> Process {
    let what = Spawn::new(PathBuf::from("/bin/sleep"), dir.path().join("log")).argument(seconds);
    spawn(what).unwrap()
}

fn shell(dir: &tempfile::TempDir, script: &str) -> Process {
    let what = Spawn::new(PathBuf::from("/bin/sh"), dir.path().join("log")).option("-c", script);
    spawn(what).unwrap()
}

#[tokio::test]
async fn a_death_is_noticed_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(shell(&dir, "exit 3").exited().await, Exit::Code(3));
    let sleeping = sleeper(&dir, "1000");
    assert_eq!(sleeping.exit(), None);
    let started = Instant::now();
    sleeping.signal(Signal::KILL);
    assert_eq!(sleeping.exited().await, Exit::Signal(libc::SIGKILL));
    assert!(started.elapsed() < Duration::from_secs(1), "noticed within a second");
    assert!(!is_running(sleeping.pid()), "and reaped");
    sleeping.signal(Signal::KILL);
}

#[tokio::test]
async fn what_ignores_the_request_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let stubborn =
        shell(&dir, &format!("trap '' TERM; touch {}; while :; do sleep 1; done", ready.display()));
    while !ready.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let exit = stubborn.end(Signal::TERM, Duration::from_millis(200)).await;
    assert_eq!(exit, Some(Exit::Signal(libc::SIGKILL)));
}

#[tokio::test]
async fn a_stopped_process_ends_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let stopped = sleeper(&dir, "1000");
    stopped.signal(Signal::STOP);
    assert_eq!(stopped.end(Signal::TERM, Duration::from_secs(5)).await, Some(Exit::Signal(libc::SIGTERM)));
}

#[tokio::test]
async fn a_process_is_found_again_by_its_arguments_and_user_only() {
    let dir = tempfile::tempdir().unwrap();
    let marker = format!("100{}", std::process::id());
    let uid = nix::unistd::geteuid().as_raw();
    let arguments = [OsStr::new("sleep"), OsStr::new(&marker)];
    assert!(by_arguments(uid, &arguments[1..]).is_none());
    let started = sleeper(&dir, &marker);
    let found = by_arguments(uid, &arguments[1..]).unwrap();
    assert_eq!(found.pid(), started.pid());
    assert!(by_arguments(uid + 1, &arguments[1..]).is_none(), "another user's process is no match");
    assert!(by_arguments(uid, &[OsStr::new(&marker[..marker.len() - 1])]).is_none());
    started.kill(Duration::from_secs(5)).await;
    assert!(
        found.exited_within(Duration::from_secs(5)).await.is_some(),
        "an adopted process's death is noticed"
    );
    assert!(by_arguments(uid, &arguments[1..]).is_none(), "a dead process is not found");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = spawn(Spawn::new(PathBuf::from("/no/such/program"), dir.path().join("log"))).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let missing = Entry::default().network(Some("no-such-namespace")).unwrap_err();
    assert!(missing.to_string().contains("no-such-namespace"), "{missing}");
}

#[tokio::test]
async fn a_child_leads_its_own_session_and_appends_to_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shell(
        &dir,
        "echo one; echo two >&2; read -r pid name state parent group session rest </proc/$$/stat; echo $session",
    );
    assert_eq!(pid.exited().await, Exit::Code(0));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let lines: Vec<_> = log.lines().map(str::trim).collect();
    assert_eq!(lines, ["one", "two", &pid.pid().to_string()]);
}

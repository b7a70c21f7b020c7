//! Two mount daemons on one volume, the second told that the first is dead: the older is fenced, and never do both
//! acknowledge.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{ScenarioError, Set};
use crate::process::Process;
use crate::shell::ShellError;
use crate::summary::ScenarioSummary;
use crate::wait;

/// How long the second may take to open the volume.
const OPEN: Duration = Duration::from_secs(30);

pub(super) fn play(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let load = set.load(1, Duration::from_secs(10))?;
    wait::until_true("the first commits", Duration::from_secs(60), || load.acknowledged() >= 200)?;
    let (engine, first) = set.region.writer()?;
    // A frozen agent neither restarts what is fenced nor interferes with the second daemon.
    let agent = set.region.agent()?;
    agent.signal(Signal::SIGSTOP)?;
    let played = fence(set, summary, &load, first);
    agent.signal(Signal::SIGCONT)?;
    played?;
    engine.wait_gone(Duration::from_secs(60))?;
    set.region.wait_healthy(Duration::from_secs(60))?;
    let before = load.acknowledged();
    wait::until_true("commits under the new writer", Duration::from_secs(60), || {
        load.acknowledged() >= before + 50
    })?;
    summary.verify(set, load)
}

fn fence(
    set: &Set<'_>,
    summary: &mut ScenarioSummary,
    load: &crate::load::Load,
    first: Process,
) -> Result<(), ScenarioError> {
    let directory = set.region.home().join("second");
    let status = directory.join("mount.json");
    let mut second = start_second(set, &directory, &status, first)?;
    let opened = wait::until_true("the second daemon serving", OPEN, || fs::metadata(&status).is_ok());
    let at_open = load.acknowledged();
    let waited = wait::last(Duration::from_secs(5));
    let after = load.acknowledged() - at_open;
    let process = Process::find(second.id() as i32);
    summary.promise(process.is_some(), || "the second daemon ended".to_owned());
    // Before it says that it serves, the older one may still acknowledge; afterwards never.
    summary.figure("acknowledged_by_the_older_afterwards", after);
    summary.promise(after == 0, || {
        format!("the older daemon acknowledged {after} commits after the newer had opened")
    });
    let _ = second.kill();
    let _ = second.wait();
    opened.inspect_err(|_| {
        eprintln!("chaos: {}", fs::read_to_string(directory.join("log")).unwrap_or_default())
    })?;
    Ok(waited?)
}

/// The first daemon's command line with places of its own.
fn start_second(
    set: &Set<'_>,
    directory: &Path,
    status: &Path,
    first: Process,
) -> Result<Child, ScenarioError> {
    let make = |path: &Path| {
        fs::create_dir_all(path)
            .map_err(|error| ScenarioError::Unexpected(format!("cannot make {}: {error}", path.display())))
    };
    let (mountpoint, local) = (directory.join("mnt"), directory.join("local"));
    make(&mountpoint)?;
    make(&local)?;
    let places = [("--mountpoint", mountpoint.as_path()), ("--local-dir", &local), ("--status-file", status)];
    let mut arguments: Vec<String> = first.arguments().into_iter().skip(1).collect();
    // As if the supervisor had wrongly taken the first for dead: without this the second waits for the lease, which a
    // living writer renews for ever.
    arguments.retain(|word| word != "--reaped");
    arguments.push("--reaped".to_owned());
    for (name, place) in places {
        let at = arguments.iter().position(|word| word == name);
        let value = at.and_then(|at| arguments.get_mut(at + 1));
        let missing = || ScenarioError::Unexpected(format!("the mount daemon runs without {name}"));
        *value.ok_or_else(missing)? = place.to_string_lossy().into_owned();
    }
    let log = fs::File::create(directory.join("log"))
        .map_err(|error| ScenarioError::Unexpected(error.to_string()))?;
    let mut command = Command::new(set.region.binary());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env("RUST_LOG", "info");
    Ok(command.spawn().map_err(|source| ShellError::Start { command: "zorya mount".to_owned(), source })?)
}

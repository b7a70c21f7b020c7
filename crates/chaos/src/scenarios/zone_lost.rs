//! A whole zone is lost under load, killed or frozen: no client sees an error, and throughput comes back.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ScenarioError, Set};
use crate::load::Load;
use crate::region::RegionError;
use crate::stage::ZONES;
use crate::summary::ScenarioSummary;
use crate::wait;

/// How long throughput is measured before the fault.
const BEFORE: Duration = Duration::from_secs(10);
/// How long throughput may stay low.
const LOW: Duration = Duration::from_secs(5);
/// The part of the throughput that must be back.
const BACK: f64 = 0.8;
/// A measurement.
const WINDOW: Duration = Duration::from_secs(2);

/// The zone's processes are killed and stay down.
pub(super) fn killed(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let nodes = set.stage.zone(ZONES[1]);
    let kill = || {
        for id in &nodes {
            set.region.zorya(&["node", "kill", id]).map_err(RegionError::from)?;
        }
        Ok(())
    };
    let start = || {
        for id in &nodes {
            set.region.start_node(id)?;
        }
        Ok(())
    };
    measure(set, summary, kill, start)
}

/// The zone's processes are stopped: nothing resets their connections.
pub(super) fn frozen(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let nodes = set.stage.zone(ZONES[1]);
    let processes: Vec<_> = nodes.iter().map(|id| set.region.node(id)).collect::<Result<_, _>>()?;
    let send = |signal: Signal| -> Result<(), ScenarioError> {
        for process in &processes {
            process.signal(signal)?;
        }
        Ok(())
    };
    let freeze = || {
        send(Signal::SIGSTOP)?;
        for process in &processes {
            process.wait_stopped(LOW)?;
        }
        Ok(())
    };
    measure(set, summary, freeze, || send(Signal::SIGCONT))
}

fn measure(
    set: &Set<'_>,
    summary: &mut ScenarioSummary,
    lose: impl FnOnce() -> Result<(), ScenarioError>,
    regain: impl FnOnce() -> Result<(), ScenarioError>,
) -> Result<(), ScenarioError> {
    let load = set.load(1, Duration::from_secs(30))?;
    wait::last(BEFORE / 2)?;
    let begun = Instant::now();
    wait::last(BEFORE)?;
    let lost = Instant::now();
    lose()?;
    let without = set.seconds(20).max(LOW * 2);
    wait::last(without)?;
    let end = Instant::now();
    let errors_without = errors_since(&load, lost);
    regain()?;
    wait::last(Duration::from_secs(5))?;
    note_throughput(&load, summary, begun, lost, end);
    let errors = errors_since(&load, lost);
    summary.figure("client_errors", errors.len());
    summary.figure("longest_stall_ms", load.timeline().longest_stall(lost, end).as_millis() as u64);
    summary
        .promise(errors_without.is_empty(), || format!("clients saw errors: {}", errors_without.join("; ")));
    summary.promise(errors.len() == errors_without.len(), || {
        format!("clients saw errors on return: {}", errors.join("; "))
    });
    set.region.wait_caught_up(Duration::from_secs(60))?;
    summary.verify(set, load)
}

fn errors_since(load: &Load, since: Instant) -> Vec<String> {
    load.errors().into_iter().filter(|(at, _)| *at >= since).map(|(_, text)| text).collect()
}

fn note_throughput(load: &Load, summary: &mut ScenarioSummary, begun: Instant, lost: Instant, end: Instant) {
    let before = load.timeline().rate(begun, lost);
    let after = load.timeline().rate(lost + LOW, end);
    let step = Duration::from_millis(100);
    let starts = (0..).map(|n| lost + step * n).take_while(|start| *start + WINDOW <= end);
    let back = starts.map(|start| (start, load.timeline().rate(start, start + WINDOW)));
    let back = back.into_iter().find(|(_, rate)| *rate >= BACK * before).map(|(start, _)| start - lost);
    summary.figure("commits_per_second_before", before.round());
    summary.figure("commits_per_second_without_the_zone", after.round());
    summary.figure("ratio", (after / before * 1000.0).round() / 1000.0);
    summary.figure("back_after_ms", back.map(|back| back.as_millis() as u64));
    summary.promise(back.is_some_and(|back| back <= LOW), || {
        format!("throughput was not back above {} % within {} s", BACK * 100.0, LOW.as_secs())
    });
}

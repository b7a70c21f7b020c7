//! Memory under load with one node down: the peak of every storage node and of the mount daemon.

use std::time::Duration;

use super::{ScenarioError, Set};
use crate::region::RegionError;
use crate::shell;
use crate::summary::ScenarioSummary;
use crate::wait;

/// What a storage node may take.
const NODE_BYTES: u64 = 300 << 20;
/// What a mount daemon may take beside its cache.
const MOUNT_BYTES: u64 = 300 << 20;
/// The part of the load with all nodes up.
const WHOLE: u32 = 15;

pub(super) fn play(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let endpoint = set.region.endpoint()?;
    shell::run(shell::postgres_program("pgbench"), &["-i", "-q", "-s", "10", &endpoint])?;
    let time = set.seconds(1800);
    let down = "az3-b";
    let seconds = time.as_secs().to_string();
    let bench = std::thread::spawn(move || {
        shell::run(
            shell::postgres_program("pgbench"),
            &["-c", "8", "-j", "2", "-n", "-T", &seconds, &endpoint],
        )
    });
    wait::last(time / WHOLE)?;
    set.region.zorya(&["node", "kill", down]).map_err(RegionError::from)?;
    let finished =
        wait::until_true("the end of TPC-B", time + Duration::from_secs(60), || bench.is_finished());
    note_peaks(set, summary, down)?;
    finished?;
    let printed =
        bench.join().map_err(|_| ScenarioError::Unexpected("the load's thread panicked".to_owned()))??;
    let tps = printed.lines().find(|line| line.starts_with("tps")).unwrap_or_default();
    summary.figure("pgbench", tps);
    set.region.start_node(down)?;
    // Its peers keep 1 GiB of log for it; half an hour of TPC-B is more.
    summary.figure("returned", set.region.wait_returned(down, Duration::from_secs(300))?);
    Ok(())
}

fn note_peaks(set: &Set<'_>, summary: &mut ScenarioSummary, down: &str) -> Result<(), ScenarioError> {
    for node in set.stage.nodes.iter().filter(|node| node.id != down) {
        let peak = set.region.node(&node.id)?.peak_memory_bytes().unwrap_or(0);
        summary.figure(&format!("{}_mib", node.id), peak >> 20);
        summary.promise(peak <= NODE_BYTES, || format!("storage node {} took {} MiB", node.id, peak >> 20));
    }
    let (_, mount) = set.region.writer()?;
    let words = mount.arguments();
    let cache =
        words.iter().position(|word| word == "--cache-bytes").and_then(|at| words.get(at + 1)?.parse().ok());
    let cache: u64 = cache.unwrap_or(0);
    let peak = mount.peak_memory_bytes().unwrap_or(0);
    summary.figure("mount_mib", peak >> 20);
    summary.figure("mount_cache_mib", cache >> 20);
    summary.promise(peak <= MOUNT_BYTES + cache, || format!("the mount daemon took {} MiB", peak >> 20));
    Ok(())
}

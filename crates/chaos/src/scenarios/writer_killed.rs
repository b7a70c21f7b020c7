//! Engine and mount are killed together after a while of TPC-B: the volume opens and SQL answers soon.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ScenarioError, Set};
use crate::engine;
use crate::region::Status;
use crate::seed::Numbers;
use crate::shell::{self, ShellError};
use crate::summary::ScenarioSummary;
use crate::wait;

/// What opening the volume may take.
const OPEN: Duration = Duration::from_secs(1);
/// What the first answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How far apart the engine's checkpoints are.
const CHECKPOINTS: Duration = Duration::from_secs(30);
/// How often an answer is asked for: each time is a process that the recovering engine makes and ends.
const ASK: Duration = Duration::from_millis(100);

pub(super) fn play(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let endpoint = set.region.endpoint()?;
    shell::run(shell::postgres_program("pgbench"), &["-i", "-q", "-s", "10", &endpoint])?;
    // What the load of the tables wrote is not TPC-B's to recover.
    engine::execute(&*set.region.database()?, "CHECKPOINT")?;
    let ledger = set.load_of(1, 1, Duration::from_secs(30))?;
    let mut bench = start_tpcb(&endpoint)?;
    let moment = random_moment(set.seed);
    let waited = wait::last(set.seconds(180) + moment);
    let (engine, mount) = set.region.writer()?;
    let epoch = epoch_of(&set.region.status()?);
    let killed = Instant::now();
    for process in [engine, mount] {
        process.signal(Signal::SIGKILL)?;
    }
    let answered = wait_answer(set);
    let answer = killed.elapsed();
    end(&mut bench);
    waited?;
    answered?;
    summary.figure("moment_ms", moment.as_millis() as u64);
    summary.figure("answers_after_ms", answer.as_millis() as u64);
    summary.promise(answer <= ANSWER, || format!("SQL answered only after {} ms", answer.as_millis()));
    note_opening(set, summary, epoch)?;
    wait::last(Duration::from_secs(1))?;
    summary.verify(set, ledger)?;
    summary.broken.extend(set.region.database()?.check(&[], true)?.broken);
    Ok(())
}

/// How long after the scenario's length the kill comes. How much there is to recover depends on where between two checkpoints
/// that is, which without this would be the same place in every run.
fn random_moment(seed: u64) -> Duration {
    Duration::from_millis(Numbers::from_seed(seed).below(CHECKPOINTS.as_millis() as u64))
}

fn start_tpcb(endpoint: &str) -> Result<Child, ScenarioError> {
    let arguments = ["-c", "8", "-j", "2", "-n", "-T", "100000", endpoint];
    let started = Command::new(shell::postgres_program("pgbench"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(started.map_err(|source| ShellError::Start { command: "pgbench".to_owned(), source })?)
}

fn end(bench: &mut Child) {
    // It may have ended by itself when its server died.
    let _ = bench.kill();
    let _ = bench.wait();
}

fn wait_answer(set: &Set<'_>) -> Result<(), ScenarioError> {
    let database = set.region.database()?;
    let ask = || engine::execute(&*database, "SELECT count(*) FROM pgbench_branches").ok();
    wait::until_every(ASK, "an answer to SQL", Duration::from_secs(60), ask)?;
    Ok(())
}

fn epoch_of(status: &Status) -> Option<u64> {
    status.clusters.first()?.volume["epoch"].as_u64()
}

fn note_opening(
    set: &Set<'_>,
    summary: &mut ScenarioSummary,
    before: Option<u64>,
) -> Result<(), ScenarioError> {
    let volume = set.region.cluster()?.volume;
    let epoch = volume["epoch"].as_u64();
    summary.promise(epoch > before, || format!("the epoch did not rise: {before:?}, {epoch:?}"));
    let opened = opening_ms(&set.region.log_of_mount());
    summary.figure("volume_opened_in_ms", opened);
    summary.promise(opened.is_some_and(|ms| u128::from(ms) <= OPEN.as_millis()), || {
        format!("the volume opened only after {opened:?} ms")
    });
    Ok(())
}

/// From the mount daemon's first words to the open volume, by its own log.
fn opening_ms(log: &str) -> Option<u64> {
    let last = |words: &str| log.lines().rfind(|line| line.contains(words)).and_then(ms_of_day);
    let (begun, open) = (last("looking for the volume's storage nodes")?, last("the volume is open")?);
    const DAY_MS: u64 = 24 * 3600 * 1000;
    Some((open + DAY_MS - begun) % DAY_MS)
}

/// `2026-11-20T16:10:11.207141Z …` in milliseconds since midnight.
fn ms_of_day(line: &str) -> Option<u64> {
    let time = line.split_once('T')?.1.get(..12)?;
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let (hours, minutes, seconds) = (number(0, 2)?, number(3, 5)?, number(6, 8)?);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + number(9, 12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_opening_is_read_off_the_log() {
        let log = "2026-11-20T16:10:11.161236Z  INFO step=\"looking for the volume's storage nodes\"\n\
                   2026-11-20T16:10:11.212294Z  INFO the volume is open volume=1\n\
                   2026-11-20T23:59:59.900000Z  INFO step=\"looking for the volume's storage nodes\"\n\
                   2026-11-21T00:00:00.150999Z  INFO the volume is open volume=1\n";
        assert_eq!(opening_ms(log), Some(250));
        assert_eq!(opening_ms(""), None);
    }
}

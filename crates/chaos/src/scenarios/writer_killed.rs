//! Engine and mount are killed together after a while of TPC-B: the volume opens and SQL answers soon.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ScenarioError, Set};
use crate::region::Status;
use crate::round;
use crate::shell::{self, ShellError};
use crate::summary::ScenarioSummary;
use crate::verify;
use crate::wait;

/// What opening the volume may take.
const OPEN: Duration = Duration::from_secs(1);
/// What the first answer may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) fn play(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    let endpoint = set.region.endpoint()?;
    shell::run(shell::postgres_program("pgbench"), &["-i", "-q", "-s", "10", &endpoint])?;
    // What the load of the tables wrote is not TPC-B's to recover.
    verify::execute(&round::connection(set.region)?, "CHECKPOINT")?;
    let ledger = set.load_of(1, 1, Duration::from_secs(30))?;
    let mut bench = start_tpcb(&endpoint)?;
    let waited = wait::last(set.seconds(180));
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
    summary.figure("answers_after_ms", answer.as_millis() as u64);
    summary.promise(answer <= ANSWER, || format!("SQL answered only after {} ms", answer.as_millis()));
    note_opening(set, summary, epoch)?;
    wait::last(Duration::from_secs(1))?;
    summary.verify(set, ledger, 1)?;
    if let Err(error) = verify::amcheck(&set.region.endpoint()?) {
        summary.broken.push(error.to_string());
    }
    Ok(())
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
    let mut config = round::connection(set.region)?;
    config.connect_timeout(Duration::from_millis(500));
    let ask = || verify::execute(&config, "SELECT count(*) FROM pgbench_branches").is_ok();
    Ok(wait::until_true("an answer to SQL", Duration::from_secs(60), ask)?)
}

fn epoch_of(status: &Status) -> Option<u64> {
    status.clusters.first()?.volume["epoch"].as_u64()
}

/// The mount daemon says itself how long it took to open the volume.
fn note_opening(
    set: &Set<'_>,
    summary: &mut ScenarioSummary,
    before: Option<u64>,
) -> Result<(), ScenarioError> {
    let volume = set.region.cluster()?.volume;
    let epoch = volume["epoch"].as_u64();
    summary.promise(epoch > before, || format!("the epoch did not rise: {before:?}, {epoch:?}"));
    let opened = volume["mount"]["opened_in_ms"].as_u64();
    summary.figure("volume_opened_in_ms", opened);
    if let Some(ms) = opened {
        summary
            .promise(u128::from(ms) <= OPEN.as_millis(), || format!("the volume opened only after {ms} ms"));
    }
    Ok(())
}

//! How long until a region serves: from nothing, from its files, and after its writer was killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use zorya_compute::region::Engine;

use crate::clients::{ClientError, DATABASE};
use crate::region::{Region, RegionError, RegionServer};
use crate::report::Figure;
use crate::slice::Bench;
use crate::stop::{self, ChildError, Interrupt};
use crate::target::Server;

/// What `zorya up` in an empty home may take until the first answer to a statement.
const UP_GOAL_S: f64 = 10.0;
/// The same for a region that was there before.
const RESTART_GOAL_S: f64 = 5.0;
/// What opening the volume may take after the writer was killed.
const OPEN_GOAL_S: f64 = 1.0;
/// What the first answer may take then.
const ANSWER_GOAL_S: f64 = 5.0;

/// A region that takes longer to serve again does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the mount daemon's status file is looked at: the error of the figure.
const POLL: Duration = Duration::from_millis(2);
/// How often an answer is asked for. Each time is a process of psql's, and one that the recovering engine makes and ends.
const ASK: Duration = Duration::from_millis(100);
/// One attempt of a client while the engine is away.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A kill comes up to this much later, by the clock, so that it does not always meet the same moment of a checkpoint.
const JITTER_MS: u32 = 5000;

/// A region that did not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The region failed.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A client failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The load could not be started.
    #[error("cannot run pgbench")]
    Load(#[source] io::Error),
    /// The load ended by itself.
    #[error("pgbench ended ({0}) before its server was killed")]
    LoadEnded(ExitStatus),
    /// A process was gone before it was killed.
    #[error("process {pid} could not be killed")]
    Kill {
        /// Which.
        pid: u32,
        /// Why.
        source: nix::Error,
    },
    /// Nothing came.
    #[error("{what} did not come within {} s of a kill of engine and mount", PATIENCE.as_secs())]
    Never {
        /// What was waited for.
        what: &'static str,
    },
    /// The operator interrupted the run.
    #[error("interrupted")]
    Interrupted,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Startup {
    /// From `zorya up` in an empty home to the first answer.
    pub first_select: Duration,
    /// From `zorya up` of a filled region that is down to the first answer.
    pub restart: Duration,
    /// After each kill of engine and mount under TPC-B.
    pub kills: Vec<AfterKill>,
}

/// Both from the moment of the kill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AfterKill {
    /// Until the volume is open and mounted.
    pub volume_open: Duration,
    /// Until a statement is answered.
    pub answer: Duration,
}

impl Startup {
    /// The figures; of several kills the slowest counts.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let slowest = |of: fn(&AfterKill) -> Duration| self.kills.iter().map(of).max();
        let figures = [
            ("up_to_first_select_s", Some(self.first_select), UP_GOAL_S),
            ("restart_s", Some(self.restart), RESTART_GOAL_S),
            ("volume_open_after_kill_s", slowest(|kill| kill.volume_open), OPEN_GOAL_S),
            ("sql_after_kill_s", slowest(|kill| kill.answer), ANSWER_GOAL_S),
        ];
        let figure = |(name, value, goal): (&str, Option<Duration>, f64)| {
            Some(Figure { name: name.to_owned(), value: value?.as_secs_f64(), unit: "s", goal: Some(goal) })
        };
        figures.into_iter().filter_map(figure).collect()
    }
}

/// The region's PostgreSQL, which all of this is measured with.
fn writer(region: &Region) -> Result<RegionServer<'_>, StartupError> {
    Ok(region.server(Engine::Postgres).ok_or(RegionError::Missing("PostgreSQL cluster"))?)
}

/// `zorya up` in an empty home as a user types it, to the first answer. The region is gone afterwards.
pub fn from_nothing(bench: &Bench, zorya: &Path, home: &Path) -> Result<Duration, StartupError> {
    let started = Instant::now();
    let region = Region::first(zorya, home, &bench.interrupt)?;
    bench.postgres.sql(&writer(&region)?, "postgres", "SELECT 1")?;
    Ok(started.elapsed())
}

/// Takes a region down in order and up again, to the first answer.
pub fn restart(bench: &Bench, region: &mut Region) -> Result<Duration, StartupError> {
    region.down(&bench.interrupt)?;
    let started = Instant::now();
    region.up(&bench.interrupt)?;
    bench.postgres.sql(&writer(region)?, DATABASE, "SELECT count(*) FROM pgbench_branches")?;
    Ok(started.elapsed())
}

/// Kills the writer's engine and mount together after `load` and a little more of TPC-B at 8 clients.
pub fn kill_writer(bench: &Bench, region: &mut Region, load: Duration) -> Result<AfterKill, StartupError> {
    let arguments = ["-n", "-c", "8", "-j", "2", "-T", "100000"];
    let server = writer(region)?;
    let mut pgbench = bench.postgres.program("pgbench", server.endpoint(), DATABASE);
    pgbench.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut pgbench = pgbench.spawn().map_err(StartupError::Load)?;
    let measured = measure_kill(bench, server, &mut pgbench, load + jitter());
    stop::end(&mut pgbench, Signal::SIGKILL, ATTEMPT);
    let measured = measured?;
    region.learn(&bench.interrupt)?;
    Ok(measured)
}

fn measure_kill(
    bench: &Bench,
    server: RegionServer<'_>,
    pgbench: &mut Child,
    load: Duration,
) -> Result<AfterKill, StartupError> {
    let started = Instant::now();
    while started.elapsed() < load {
        if bench.interrupt.is_raised() {
            return Err(StartupError::Interrupted);
        }
        if let Some(status) = pgbench.try_wait().map_err(StartupError::Load)? {
            return Err(StartupError::LoadEnded(status));
        }
        std::thread::sleep(POLL);
    }
    let writer = server.writer();
    let killed = Instant::now();
    for pid in &writer {
        signal(*pid)?;
    }
    let is_another = |pid| u32::try_from(pid).is_ok_and(|pid| !writer.contains(&pid));
    let mounted = || server.mount_report().is_some_and(|report| is_another(report.pid));
    let volume_open = after(killed, POLL, "an open volume", &bench.interrupt, mounted)?;
    let ask = || {
        let mut psql = bench.postgres.program("psql", server.endpoint(), DATABASE);
        psql.args(["-XAtqc", "SELECT count(*) FROM pgbench_branches"]);
        stop::run(&mut psql, ATTEMPT, &Interrupt::default()).is_ok()
    };
    let answer = after(killed, ASK, "an answer", &bench.interrupt, ask)?;
    Ok(AfterKill { volume_open, answer })
}

fn signal(pid: u32) -> Result<(), StartupError> {
    let failed = |source| StartupError::Kill { pid, source };
    let raw = i32::try_from(pid).map_err(|_| failed(nix::Error::ESRCH))?;
    kill(Pid::from_raw(raw), Signal::SIGKILL).map_err(failed)
}

/// How long after `start` something came to hold, looking every `pause`.
fn after(
    start: Instant,
    pause: Duration,
    what: &'static str,
    interrupt: &Interrupt,
    mut holds: impl FnMut() -> bool,
) -> Result<Duration, StartupError> {
    while !holds() {
        if interrupt.is_raised() {
            return Err(StartupError::Interrupted);
        }
        if start.elapsed() >= PATIENCE {
            return Err(StartupError::Never { what });
        }
        std::thread::sleep(pause);
    }
    Ok(start.elapsed())
}

fn jitter() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(u64::from(nanos / 1000 % JITTER_MS))
}

impl StartupError {
    /// Whether it was the operator who ended the run.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        matches!(
            self,
            StartupError::Interrupted
                | StartupError::Region(RegionError::Command { source: ChildError::Interrupted, .. })
                | StartupError::Client(ClientError::Failed { source: ChildError::Interrupted, .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_kill_counts_and_what_was_not_measured_is_left_out() {
        let seconds = Duration::from_secs;
        let kill = |open, answer| AfterKill { volume_open: seconds(open), answer: seconds(answer) };
        let startup =
            Startup { first_select: seconds(7), restart: seconds(2), kills: vec![kill(1, 4), kill(2, 3)] };
        let figures = startup.figures();
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).map(|found| found.value);
        assert_eq!(value("up_to_first_select_s"), Some(7.0));
        assert_eq!(value("restart_s"), Some(2.0));
        assert_eq!(value("volume_open_after_kill_s"), Some(2.0));
        assert_eq!(value("sql_after_kill_s"), Some(4.0));
        assert_eq!(Startup::default().figures().len(), 2);
    }

    #[test]
    fn waiting_ends_with_the_operator() {
        let held = after(Instant::now(), POLL, "it", &Interrupt::default(), || true).unwrap();
        assert!(held < PATIENCE);
        let interrupt = Interrupt::default();
        interrupt.raise();
        let error = after(Instant::now(), POLL, "it", &interrupt, || false).unwrap_err();
        assert!(error.is_interrupt(), "{error}");
    }
}

//! A whole run: the stage, the region, rounds or a scenario, and the end of everything.

use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::region::{Region, RegionError};
use crate::round::{self, Field, History};
use crate::scenarios;
use crate::stage::{Stage, StageError};
use crate::summary::Summary;
use crate::wait;

/// A run that could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The region.
    #[error("the region does not come up")]
    Region(#[from] RegionError),
    /// The binary.
    #[error(
        "there is no binary {0}: build it with `cargo build --release -p zorya`, or name it with --zorya"
    )]
    NoBinary(PathBuf),
    /// A name that is not known.
    #[error("there is no fault or scenario {0:?}: --list names them")]
    Unknown(String),
}

/// Builds a stage and brings a region up on it.
struct Ground {
    stage: Stage,
    region: Region,
    history: History,
}

impl Ground {
    fn prepare(options: &Options, binary: &Path) -> Result<Ground, RunError> {
        let stage = Stage::build(&options.work, options.disk_mib)?;
        let region = Region::new(binary, &stage.home(), &stage.layout_file(), options.plant.clone());
        match region.up_and_healthy() {
            Ok(()) => Ok(Ground { stage, region, history: History::new() }),
            Err(error) => {
                stage.clear_but_keep_logs();
                Err(error.into())
            }
        }
    }

    fn end(self, broken: bool) {
        if let Err(error) = self.region.down() {
            eprintln!("chaos: {error}");
        }
        if broken {
            self.stage.clear_but_keep_logs();
        } else {
            self.stage.clear();
        }
    }
}

/// Runs what the options say. The summary says what held.
pub fn run(options: &Options) -> Result<Summary, RunError> {
    let binary = options.zorya.canonicalize().map_err(|_| RunError::NoBinary(options.zorya.clone()))?;
    let name = options.fault.as_ref().filter(|name| crate::faults::named(name).is_none());
    if let Some(name) = name {
        return Err(RunError::Unknown(name.clone()));
    }
    match &options.scenario {
        Some(name) => run_scenario(options, &binary, name),
        None => Ok(run_rounds(options, &binary)),
    }
}

fn run_rounds(options: &Options, binary: &Path) -> Summary {
    let mut summary = Summary { seed: options.first_seed(), ..Summary::default() };
    let mut ground = None;
    for number in 0..options.rounds {
        let ready = match ground.take().map_or_else(|| Ground::prepare(options, binary), Ok) {
            Ok(ready) => ready,
            Err(error) => {
                summary.failure = Some(round::describe(&error));
                break;
            }
        };
        ground = play_round(options, ready, number, &mut summary);
        if options.until_broken && summary.is_broken() {
            break;
        }
        if wait::is_interrupted() {
            summary.failure = Some("interrupted".to_owned());
            break;
        }
    }
    if let Some(ground) = ground {
        ground.end(false);
    }
    summary
}

/// Plays a round; returns the ground if the next one can be played on it.
fn play_round(options: &Options, mut ground: Ground, number: u64, summary: &mut Summary) -> Option<Ground> {
    let seed = summary.seed.wrapping_add(number);
    let kind = round::fault_of(options, seed)?;
    let mut field =
        Field { options, stage: &ground.stage, region: &ground.region, history: &mut ground.history };
    eprintln!("chaos: round {} of {}: {} (seed {seed})", number + 1, options.rounds, kind.name);
    let played = round::play(&mut field, kind, number, seed);
    report(&played);
    let (broken, counted) = (!played.broken.is_empty(), played.not_counted.is_none());
    summary.add(played);
    if broken || kind.scars || !counted {
        ground.end(broken);
        return None;
    }
    Some(ground)
}

fn report(played: &crate::summary::RoundSummary) {
    let state = match (&played.broken[..], &played.not_counted) {
        ([], None) => "held".to_owned(),
        ([], Some(why)) => format!("does not count: {why}"),
        (broken, _) => format!("BROKEN: {}", broken.join("; ")),
    };
    eprintln!(
        "chaos:   {} acknowledged, {} unknown, {} aborted, recovered in {:?} ms, stalled {} ms, {} s: {state}",
        played.acknowledged,
        played.unknown,
        played.aborted,
        played.recovered_ms,
        played.stalled_ms,
        played.took_ms / 1000
    );
}

fn run_scenario(options: &Options, binary: &Path, name: &str) -> Result<Summary, RunError> {
    let scenario = scenarios::named(name).ok_or_else(|| RunError::Unknown(name.to_owned()))?;
    let ground = Ground::prepare(options, binary)?;
    let mut summary = Summary { seed: options.first_seed(), ..Summary::default() };
    let set = scenarios::Set { options, stage: &ground.stage, region: &ground.region };
    match scenario.play(&set) {
        Ok(played) => summary.scenario = Some(played),
        Err(error) => summary.failure = Some(round::describe(&error)),
    }
    let broken = summary.is_broken() || summary.failure.is_some();
    ground.end(broken);
    Ok(summary)
}

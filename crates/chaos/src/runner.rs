//! A whole run: the stage, the region, rounds or a scenario, and the end of everything.

use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::region::{Region, RegionError};
use crate::round::{self, Field, History};
use crate::stage::{Medium, Stage, StageError};
use crate::summary::Summary;
use crate::{faults, scenarios, wait};

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
    /// It has no meaning for the engine.
    #[error("{0} has no counterpart with --engine {1}: docs/chaos.md says why")]
    NotForEngine(String, &'static str),
}

/// Builds a stage and brings a region up on it.
struct Ground {
    stage: Stage,
    region: Region,
    history: History,
}

impl Ground {
    /// With the cluster that the seed plays on.
    fn prepare(options: &Options, binary: &Path, seed: u64) -> Result<Ground, RunError> {
        // No scenario cuts power, and each measures the product.
        let medium = if options.scenario.is_some() { Medium::Image } else { Medium::Drive };
        let stage = Stage::build(&options.work, options.disk_mib, medium)?;
        let (home, layout) = (stage.home(), stage.layout_file());
        let cluster = options.engine.cluster(seed);
        let mut region = Region::new(binary, &home, &layout, options.plant.clone(), cluster);
        match region.up().and_then(|()| region.switch_to(cluster)) {
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
    check_names(options)?;
    match &options.scenario {
        Some(name) => run_scenario(options, &binary, name),
        None => Ok(run_rounds(options, &binary)),
    }
}

/// Whether fault and scenario are known and make sense for the engine.
fn check_names(options: &Options) -> Result<(), RunError> {
    let engine = options.engine;
    let known = |name: &String, fits: Option<bool>| match fits {
        None => Err(RunError::Unknown(name.clone())),
        Some(false) => Err(RunError::NotForEngine(name.clone(), engine.name())),
        Some(true) => Ok(()),
    };
    if let Some(name) = &options.fault {
        known(name, faults::named(name).map(|kind| kind.fits(engine)))?;
    }
    if let Some(name) = &options.scenario {
        known(name, scenarios::named(name).map(|scenario| scenario.fits(engine)))?;
    }
    Ok(())
}

fn run_rounds(options: &Options, binary: &Path) -> Summary {
    let mut summary = Summary::of(options);
    let mut ground = None;
    for number in 0..options.rounds {
        let seed = summary.seed.wrapping_add(number);
        let ready = match ground.take().map_or_else(|| Ground::prepare(options, binary, seed), Ok) {
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
    let kind = round::fault_of(options, number, seed)?;
    let Ground { stage, region, history } = &mut ground;
    let mut field = Field { options, stage, region, history };
    let cluster = options.engine.cluster(seed).name;
    eprintln!("chaos: round {} of {}: {} on {cluster} (seed {seed})", number + 1, options.rounds, kind.name);
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
        "chaos:   {} acknowledged, {} unknown, {} aborted, {} statements, {:?} logged, recovered in {:?} ms, stalled {} ms, {} s: {state}",
        played.acknowledged,
        played.unknown,
        played.aborted,
        played.statements,
        played.logged,
        played.recovered_ms,
        played.stalled_ms,
        played.took_ms / 1000
    );
}

fn run_scenario(options: &Options, binary: &Path, name: &str) -> Result<Summary, RunError> {
    let scenario = scenarios::named(name).ok_or_else(|| RunError::Unknown(name.to_owned()))?;
    let mut summary = Summary::of(options);
    let ground = Ground::prepare(options, binary, summary.seed)?;
    let set = scenarios::Set { options, stage: &ground.stage, region: &ground.region, seed: summary.seed };
    match scenario.play(&set) {
        Ok(played) => summary.scenario = Some(played),
        Err(error) => summary.failure = Some(round::describe(&error)),
    }
    let broken = summary.is_broken() || summary.failure.is_some();
    ground.end(broken);
    Ok(summary)
}

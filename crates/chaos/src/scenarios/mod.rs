//! Scripted scenarios: promises about time and about who may write, each measured on real processes.

mod memory;
mod two_daemons;
mod writer_killed;
mod zone_lost;
mod zone_plus_one;

use std::time::Duration;

use serde_json::Value;

use crate::engine::{AskError, Engine};
use crate::faults::FaultError;
use crate::load::{Load, LoadError, LoadOptions};
use crate::options::Options;
use crate::process::SignalError;
use crate::region::{Region, RegionError};
use crate::shell::ShellError;
use crate::stage::Stage;
use crate::summary::ScenarioSummary;
use crate::wait::WaitError;

/// What scenarios are played on.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// The command line.
    pub options: &'a Options,
    /// The stage.
    pub stage: &'a Stage,
    /// The region on it.
    pub region: &'a Region,
    /// The run's seed.
    pub seed: u64,
}

/// A scenario that could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A command.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// A signal.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// A fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The clients.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A condition.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// SQL.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Something of the product that the scenario builds on is not as it was agreed.
    #[error("{0}")]
    Unexpected(String),
}

/// A scenario of the catalogue.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, for `--scenario`.
    pub name: &'static str,
    /// Whether it loads or asks the database by means that only PostgreSQL has.
    only_postgres: bool,
    play: fn(&Set<'_>, &mut ScenarioSummary) -> Result<(), ScenarioError>,
}

impl Scenario {
    const fn new(
        name: &'static str,
        play: fn(&Set<'_>, &mut ScenarioSummary) -> Result<(), ScenarioError>,
    ) -> Scenario {
        Scenario { name, only_postgres: false, play }
    }

    const fn only_postgres(mut self) -> Scenario {
        self.only_postgres = true;
        self
    }

    /// Whether it can be played with this engine.
    #[must_use]
    pub fn fits(&self, engine: Engine) -> bool {
        engine == Engine::Postgres || !self.only_postgres
    }

    /// Plays it.
    pub fn play(&self, set: &Set<'_>) -> Result<ScenarioSummary, ScenarioError> {
        let mut summary = ScenarioSummary { scenario: self.name.to_owned(), ..ScenarioSummary::default() };
        (self.play)(set, &mut summary)?;
        Ok(summary)
    }
}

/// Every scenario.
pub const CATALOGUE: &[Scenario] = &[
    Scenario::new("zone-killed", zone_lost::killed),
    Scenario::new("zone-frozen", zone_lost::frozen),
    Scenario::new("zone-plus-one", zone_plus_one::play).only_postgres(),
    Scenario::new("writer-killed", writer_killed::play).only_postgres(),
    Scenario::new("two-daemons", two_daemons::play),
    Scenario::new("memory", memory::play).only_postgres(),
];

/// The scenario of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    CATALOGUE.iter().find(|scenario| scenario.name == name)
}

impl Set<'_> {
    /// Starts the clients on tables of their own.
    fn load(&self, number: u64, patience: Duration) -> Result<Load, ScenarioError> {
        self.load_of(number, self.options.clients, patience)
    }

    /// Starts that many clients.
    fn load_of(&self, number: u64, clients: u32, patience: Duration) -> Result<Load, ScenarioError> {
        Ok(Load::start(LoadOptions {
            database: self.region.database()?,
            clients,
            seed: self.seed,
            number,
            patience,
            large: false,
        })?)
    }

    /// How long the scenario's long part lasts.
    fn seconds(&self, default: u64) -> Duration {
        Duration::from_secs(self.options.seconds.unwrap_or(default))
    }
}

impl ScenarioSummary {
    /// Notes a measurement.
    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Notes a promise that was broken unless `held`.
    fn promise(&mut self, held: bool, otherwise: impl FnOnce() -> String) {
        if !held {
            self.broken.push(otherwise());
        }
    }

    /// Stops the load and judges its ledgers.
    fn verify(&mut self, set: &Set<'_>, load: Load) -> Result<(), ScenarioError> {
        let database = set.region.database()?;
        let mut books = load.stop();
        let count = |outcome| books.iter().map(|book| book.ledger.count(outcome)).sum::<u64>();
        self.figure("acknowledged", count(crate::ledger::Outcome::Acknowledged));
        self.figure("unknown", count(crate::ledger::Outcome::Unknown));
        crate::engine::answer(database.end_clients())?;
        let (mut lost, mut extra) = (Vec::new(), Vec::new());
        for book in &mut books {
            let verdict = crate::verify::verify(&*database, book)?;
            lost.extend(verdict.lost);
            extra.extend(verdict.extra);
        }
        self.figure("lost", lost.len());
        self.figure("extra", extra.len());
        self.broken.extend(lost.into_iter().chain(extra).take(20));
        Ok(())
    }
}

//! Scripted scenarios: promises about time and about who may write, each measured on real processes.

mod memory;
mod two_daemons;
mod writer_killed;
mod zone_lost;
mod zone_plus_one;

use std::time::Duration;

use serde_json::Value;

use crate::faults::FaultError;
use crate::load::{Load, LoadError, LoadOptions, Tables};
use crate::options::Options;
use crate::process::SignalError;
use crate::region::{Region, RegionError};
use crate::round;
use crate::shell::ShellError;
use crate::stage::Stage;
use crate::summary::ScenarioSummary;
use crate::verify::VerifyError;
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
    Verify(#[from] VerifyError),
    /// Something of the product that the scenario builds on is not as it was agreed.
    #[error("{0}")]
    Unexpected(String),
}

/// A scenario of the catalogue.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, for `--scenario`.
    pub name: &'static str,
    play: fn(&Set<'_>, &mut ScenarioSummary) -> Result<(), ScenarioError>,
}

impl Scenario {
    /// Plays it.
    pub fn play(&self, set: &Set<'_>) -> Result<ScenarioSummary, ScenarioError> {
        let mut summary = ScenarioSummary { scenario: self.name.to_owned(), ..ScenarioSummary::default() };
        (self.play)(set, &mut summary)?;
        Ok(summary)
    }
}

/// Every scenario.
pub const CATALOGUE: &[Scenario] = &[
    Scenario { name: "zone-killed", play: zone_lost::killed },
    Scenario { name: "zone-frozen", play: zone_lost::frozen },
    Scenario { name: "zone-plus-one", play: zone_plus_one::play },
    Scenario { name: "writer-killed", play: writer_killed::play },
    Scenario { name: "two-daemons", play: two_daemons::play },
    Scenario { name: "memory", play: memory::play },
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
            config: round::connection(self.region)?,
            clients,
            seed: self.options.first_seed(),
            tables: Tables { number },
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

    /// Stops the load and judges its ledger.
    fn verify(&mut self, set: &Set<'_>, load: Load, number: u64) -> Result<(), ScenarioError> {
        let config = round::connection(set.region)?;
        let mut ledger = load.stop();
        self.figure("acknowledged", ledger.count(crate::ledger::Outcome::Acknowledged));
        self.figure("unknown", ledger.count(crate::ledger::Outcome::Unknown));
        crate::verify::end_sessions(&config)?;
        let verdict = crate::verify::verify_ledger(&config, Tables { number }, &mut ledger)?;
        self.figure("lost", verdict.lost.len());
        self.figure("extra", verdict.extra.len());
        let all = verdict.lost.iter().chain(&verdict.extra);
        self.broken.extend(all.take(20).cloned());
        Ok(())
    }
}

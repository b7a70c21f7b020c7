//! What a run prints at its end.

use serde::Serialize;

use crate::engine::Engine;
use crate::options::{Format, Options};

/// What one round showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoundSummary {
    /// Replays it.
    pub seed: u64,
    /// The fault's name.
    pub fault: String,
    /// Whether it cuts power.
    pub power_cut: bool,
    /// The cluster that it was played on.
    pub cluster: String,
    /// Commits that were answered.
    pub acknowledged: u64,
    /// Transactions whose COMMIT was sent and not answered.
    pub unknown: u64,
    /// How many of those were there afterwards.
    pub unknown_committed: u64,
    /// Transactions that were rolled back or never got to COMMIT.
    pub aborted: u64,
    /// Statements outside transactions that were answered, in tables that have only those.
    pub statements: u64,
    /// Such statements that were not answered.
    pub statements_unknown: u64,
    /// Transactions of the engine's own log of changes that were held against the tables; `None` without such a log.
    pub logged: Option<u64>,
    /// Errors that clients saw.
    pub client_errors: u64,
    /// What showed that the fault was in effect; `None` if nothing did.
    pub seen: Option<String>,
    /// From the end of healing until every client could have committed again, in milliseconds; `None` if never.
    pub recovered_ms: Option<u64>,
    /// The longest time without any commit, from injection to recovery, in milliseconds.
    pub stalled_ms: u64,
    /// Whether it was verified by an engine and a mount with empty caches.
    pub cold: bool,
    /// What must be there and is not: how many.
    pub lost: u64,
    /// What must not be there and is: how many.
    pub extra: u64,
    /// Every broken promise, in words; of the lost and extra ones the first few.
    pub broken: Vec<String>,
    /// Why the round does not count; `None` if it does.
    pub not_counted: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What a scenario showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScenarioSummary {
    /// Its name.
    pub scenario: String,
    /// What was measured.
    pub figures: serde_json::Map<String, serde_json::Value>,
    /// Every broken promise, in words.
    pub broken: Vec<String>,
}

/// What a run showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The engine under test.
    pub engine: Engine,
    /// The first round's seed.
    pub seed: u64,
    /// `held`, `broken` or `incomplete`.
    pub verdict: String,
    /// Rounds that count.
    pub counted: u64,
    /// Of these the ones with a power cut.
    pub power_cuts: u64,
    /// Commits that were answered, in all rounds.
    pub acknowledged: u64,
    /// Transactions of unknown outcome, in all rounds.
    pub unknown: u64,
    /// Aborted transactions, in all rounds.
    pub aborted: u64,
    /// Single statements that were answered, in all rounds.
    pub statements: u64,
    /// In all rounds.
    pub lost: u64,
    /// In all rounds.
    pub extra: u64,
    /// The rounds that were played.
    pub rounds: Vec<RoundSummary>,
    /// The scenario that was played.
    pub scenario: Option<ScenarioSummary>,
    /// Why the run ended early.
    pub failure: Option<String>,
}

impl Summary {
    /// Of a run that begins.
    #[must_use]
    pub fn of(options: &Options) -> Summary {
        Summary { engine: options.engine, seed: options.first_seed(), ..Summary::default() }
    }

    /// Adds a round.
    pub fn add(&mut self, round: RoundSummary) {
        self.counted += u64::from(round.not_counted.is_none());
        self.power_cuts += u64::from(round.power_cut && round.not_counted.is_none());
        self.acknowledged += round.acknowledged;
        self.unknown += round.unknown;
        self.aborted += round.aborted;
        self.statements += round.statements;
        self.lost += round.lost;
        self.extra += round.extra;
        self.rounds.push(round);
    }

    /// Whether a promise was broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let scenario = self.scenario.as_ref().is_some_and(|scenario| !scenario.broken.is_empty());
        scenario || self.rounds.iter().any(|round| !round.broken.is_empty())
    }

    /// Settles the verdict and returns the exit code.
    pub fn conclude(&mut self) -> u8 {
        let incomplete = self.failure.is_some() || self.counted < self.rounds.len() as u64;
        let (verdict, code) = match (self.is_broken(), incomplete) {
            (true, _) => ("broken", 1),
            (false, true) => ("incomplete", 3),
            (false, false) => ("held", 0),
        };
        self.verdict = verdict.to_owned();
        code
    }

    /// The commands that replay what was broken.
    #[must_use]
    pub fn replays(&self) -> Vec<String> {
        let broken = self.rounds.iter().filter(|round| !round.broken.is_empty());
        let replay = |round: &RoundSummary| {
            let engine = self.engine.name();
            format!("make chaos ENGINE={engine} SEED={} FAULT={} ROUNDS=1", round.seed, round.fault)
        };
        broken.map(replay).collect()
    }

    /// Prints it to stdout.
    pub fn print(&self, format: Format) {
        match format {
            Format::Json => match serde_json::to_string_pretty(self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("chaos: cannot print the summary: {error}"),
            },
            Format::Table => self.print_table(),
        }
    }

    fn print_table(&self) {
        println!(
            "{:>12} {:30} {:>7} {:>7} {:>9} {:>5} {:>5}",
            "seed", "fault", "commits", "unknown", "recovered", "lost", "extra"
        );
        for round in &self.rounds {
            let recovered = round.recovered_ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
            println!(
                "{:>12} {:30} {:>7} {:>7} {:>9} {:>5} {:>5}",
                round.seed,
                round.fault,
                round.acknowledged,
                round.unknown,
                recovered,
                round.lost,
                round.extra
            );
        }
        if let Some(scenario) = &self.scenario {
            println!("{}", scenario.scenario);
            scenario.figures.iter().for_each(|(name, value)| println!("  {name}: {value}"));
        }
        println!("{}: {} rounds count, {} power cuts", self.verdict, self.counted, self.power_cuts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(broken: &[&str], not_counted: Option<&str>) -> RoundSummary {
        RoundSummary {
            seed: 7,
            fault: "kill-node".to_owned(),
            power_cut: true,
            broken: broken.iter().map(|text| (*text).to_owned()).collect(),
            not_counted: not_counted.map(str::to_owned),
            ..RoundSummary::default()
        }
    }

    #[test]
    fn a_broken_promise_counts_more_than_an_incomplete_run() {
        let mut summary = Summary::default();
        summary.add(round(&[], None));
        assert_eq!((summary.conclude(), summary.verdict.as_str()), (0, "held"));
        summary.add(round(&[], Some("fault not seen")));
        assert_eq!((summary.conclude(), summary.verdict.as_str()), (3, "incomplete"));
        summary.add(round(&["lost"], Some("too few commits")));
        assert_eq!((summary.conclude(), summary.verdict.as_str()), (1, "broken"));
        assert_eq!((summary.counted, summary.power_cuts), (1, 1));
        assert_eq!(summary.replays(), ["make chaos ENGINE=postgres SEED=7 FAULT=kill-node ROUNDS=1"]);
    }
}

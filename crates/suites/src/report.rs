//! All outcomes together: how many tests passed on either side, which ended differently, which were skipped and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::outcome::{Outcome, Side, Store, Verdict};

/// Puts the outcomes together.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The report
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The tests that were skipped, with reasons
    #[arg(long, value_name = "FILE")]
    skipped: PathBuf,
}

/// One suite on both sides.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Suite {
    server: String,
    /// Those that count: they were run on both sides.
    parts: BTreeSet<String>,
    mount: Tally,
    disk: Tally,
    /// Tests that ended differently, `mount` before `disk`; those that only needed a second attempt are not among them.
    differences: BTreeMap<String, [Option<Verdict>; 2]>,
}

/// One suite on one side.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// Passed, but not the first time.
    retried: Vec<String>,
    /// How many tests were skipped, by reason.
    skipped: BTreeMap<String, usize>,
    seconds: u64,
}

type Tests = BTreeMap<String, Verdict>;

/// Writes the report. Whether no test failed, and none ended differently.
pub fn run(options: &Options, store: &Store) -> Result<bool> {
    let outcomes = comparable(store.all()?);
    ensure!(!outcomes.is_empty(), "nothing was run on both sides yet");
    let suites = suites(&outcomes);
    fs::write(&options.json, serde_json::to_string_pretty(&suites)? + "\n")?;
    fs::write(&options.skipped, skipped(&outcomes))?;
    for (name, suite) in &suites {
        let (mount, disk) = (&suite.mount, &suite.disk);
        println!(
            "{name}: mount {} passed, {} failed; disk {} passed, {} failed; {} differences",
            mount.passed,
            mount.failed.len(),
            disk.passed,
            disk.failed.len(),
            suite.differences.len()
        );
    }
    Ok(suites.values().all(|suite| suite.differences.is_empty() && suite.mount.failed.is_empty()))
}

fn suites(outcomes: &[Outcome]) -> BTreeMap<String, Suite> {
    let mut suites: BTreeMap<String, Suite> = BTreeMap::new();
    for name in outcomes.iter().map(name).collect::<BTreeSet<_>>() {
        let of_suite: Vec<&Outcome> = outcomes.iter().filter(|outcome| self::name(outcome) == name).collect();
        let on = |side: Side| of_suite.iter().copied().filter(move |outcome| outcome.side == side);
        let (mount, disk) = (tests(on(Side::Mount)), tests(on(Side::Disk)));
        let suite = Suite {
            server: of_suite[0].server.clone(),
            parts: of_suite.iter().map(|outcome| outcome.part.clone()).collect(),
            differences: differences(&mount, &disk),
            mount: tally(&mount, on(Side::Mount)),
            disk: tally(&disk, on(Side::Disk)),
        };
        suites.insert(name, suite);
    }
    suites
}

/// The outcomes of parts that were run on both sides.
fn comparable(outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let part = |outcome: &Outcome| (name(outcome), outcome.part.clone());
    let on = |side: Side| -> BTreeSet<(String, String)> {
        outcomes.iter().filter(|outcome| outcome.side == side).map(part).collect()
    };
    let both: BTreeSet<_> = on(Side::Mount).intersection(&on(Side::Disk)).cloned().collect();
    outcomes.into_iter().filter(|outcome| both.contains(&part(outcome))).collect()
}

fn name(outcome: &Outcome) -> String {
    format!("{}/{}", outcome.engine, outcome.suite)
}

fn tests<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Tests {
    outcomes.flat_map(|outcome| outcome.tests.clone()).collect()
}

fn tally<'a>(tests: &Tests, outcomes: impl Iterator<Item = &'a Outcome>) -> Tally {
    let mut tally =
        Tally { seconds: outcomes.map(|outcome| outcome.seconds).sum::<f64>() as u64, ..Tally::default() };
    for (test, verdict) in tests {
        match verdict {
            Verdict::Passed => tally.passed += 1,
            Verdict::Retried => {
                tally.passed += 1;
                tally.retried.push(test.clone());
            }
            Verdict::Failed => tally.failed.push(test.clone()),
            Verdict::Skipped(reason) => *tally.skipped.entry(reason.clone()).or_default() += 1,
        }
    }
    tally
}

fn differences(mount: &Tests, disk: &Tests) -> BTreeMap<String, [Option<Verdict>; 2]> {
    let settled = |verdict: Option<&Verdict>| match verdict {
        Some(Verdict::Retried) => Some(Verdict::Passed),
        other => other.cloned(),
    };
    let names: BTreeSet<&String> = mount.keys().chain(disk.keys()).collect();
    let both = |name: &String| [settled(mount.get(name)), settled(disk.get(name))];
    let different = names.into_iter().filter(|name| {
        let [a, b] = both(name);
        a != b
    });
    different.map(|name| (name.clone(), both(name))).collect()
}

/// A line for each test that was skipped: its name, where if not on both sides, and why.
fn skipped(outcomes: &[Outcome]) -> String {
    let mut lines: BTreeMap<(String, String), BTreeSet<Side>> = BTreeMap::new();
    for outcome in outcomes {
        for (test, verdict) in &outcome.tests {
            if let Verdict::Skipped(reason) = verdict {
                let line = (test.clone(), reason.clone());
                lines.entry(line).or_default().insert(outcome.side);
            }
        }
    }
    let line = |((test, reason), sides): (&(String, String), &BTreeSet<Side>)| {
        let sides: Vec<&str> = sides.iter().map(|side| side.word()).collect();
        let place = if sides.len() == 2 { String::new() } else { format!(" (only on the {})", sides[0]) };
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        format!("{test}{place}: {reason}\n")
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(side: Side, part: &str, tests: &[(&str, Verdict)]) -> Outcome {
        let tests = tests.iter().map(|(name, verdict)| ((*name).to_owned(), verdict.clone())).collect();
        let text = |text: &str| text.to_owned();
        let (engine, server, suite) = (text("mariadb"), text("10.11"), text("main"));
        Outcome { engine, server, suite, part: text(part), side, seconds: 1.5, tests }
    }

    fn both_sides() -> Vec<Outcome> {
        use Verdict::{Failed, Passed, Retried};
        let skipped = Verdict::Skipped("needs Windows".to_owned());
        vec![
            outcome(Side::Mount, "1/2", &[("a", Passed), ("b", Retried), ("w", skipped.clone())]),
            outcome(Side::Mount, "2/2", &[("c", Failed), ("v", skipped.clone())]),
            outcome(Side::Disk, "1/2", &[("a", Passed), ("b", Passed), ("w", skipped)]),
            outcome(Side::Disk, "2/2", &[("c", Passed), ("v", Passed)]),
        ]
    }

    #[test]
    fn parts_are_put_together_and_sides_compared() {
        let suites = suites(&both_sides());
        let suite = &suites["mariadb/main"];
        assert_eq!((suite.mount.passed, suite.disk.passed), (2, 4));
        assert_eq!(
            (&suite.mount.failed[..], &suite.mount.retried[..]),
            (&["c".to_owned()][..], &["b".to_owned()][..])
        );
        assert_eq!((suite.mount.skipped["needs Windows"], suite.mount.seconds), (2, 3));
        let different: Vec<&String> = suite.differences.keys().collect();
        assert_eq!(different, ["c", "v"]);
    }

    #[test]
    fn a_part_without_its_other_side_does_not_count() {
        let one = outcome(Side::Mount, "3/3", &[("d", Verdict::Failed)]);
        let outcomes = comparable([both_sides(), vec![one]].concat());
        assert_eq!(outcomes, both_sides());
        assert_eq!(suites(&outcomes)["mariadb/main"].parts.len(), 2);
    }

    #[test]
    fn what_was_skipped_is_named_with_its_reason() {
        assert_eq!(skipped(&both_sides()), "v (only on the mount): needs Windows\nw: needs Windows\n");
    }
}

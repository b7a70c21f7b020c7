//! What came out of suites, and where it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where a suite's files were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// On a volume.
    Mount,
    /// On the disk below the region.
    Disk,
}

impl Side {
    /// The word that files are named with.
    pub fn word(self) -> &'static str {
        match self {
            Side::Mount => "mount",
            Side::Disk => "disk",
        }
    }
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Well.
    Passed,
    /// Well, but not the first time.
    Retried,
    /// Not well.
    Failed,
    /// It was not run, for a reason.
    Skipped(String),
}

/// Tests of one suite that ran together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `postgres` or `mariadb`.
    pub engine: String,
    /// The server's version.
    pub server: String,
    /// The suite.
    pub suite: String,
    /// Which tests of it, for people.
    pub part: String,
    /// Where.
    pub side: Side,
    /// How long they took.
    pub seconds: f64,
    /// Tests and how they ended.
    pub tests: BTreeMap<String, Verdict>,
}

impl Outcome {
    /// The tests that did not end well.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.tests.iter().filter(|(_, verdict)| **verdict == Verdict::Failed);
        failed.map(|(test, _)| test.as_str()).collect()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let count = |is: fn(&Verdict) -> bool| self.tests.values().filter(|verdict| is(verdict)).count();
        let passed = count(|verdict| matches!(verdict, Verdict::Passed | Verdict::Retried));
        let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        let (failed, side, seconds) = (self.failed(), self.side.word(), self.seconds);
        format!(
            "{} {} on {side}: {passed} passed, {skipped} skipped, {} failed {failed:?}, {seconds:.0} s",
            self.suite,
            self.part,
            failed.len()
        )
    }
}

/// The directory of outcomes.
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// A store in a directory that is there.
    pub fn at(directory: PathBuf) -> Store {
        Store { directory }
    }

    /// Where what a run says is kept.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Whether an outcome is kept already.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Keeps an outcome.
    pub fn keep(&self, name: &str, outcome: &Outcome) -> Result<()> {
        let path = self.file(name);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(outcome)?)?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Everything that is kept.
    pub fn all(&self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path)?;
                let outcome = serde_json::from_str(&text);
                outcomes.push(outcome.with_context(|| format!("{} is no outcome", path.display()))?);
            }
        }
        Ok(outcomes)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

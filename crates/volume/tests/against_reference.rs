//! Random sequences of operations on a mount and on a reference directory, with crashes at any record.
//!
//! `make reference MINUTES=60` is the long form. A finding prints the shortest sequence that shows it, and the command
//! that shows it again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;
mod sequences;
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use sequences::run::{Sabotage, Tally};
use sequences::search::{Finding, try_seed};
use support::harness::{can_mount, own_namespace};

/// Sequences in `make test`.
const SEQUENCES: u64 = 150;

/// A tmpfs for reference directories, in a mount namespace of this test's thread.
struct References(tempfile::TempDir);

impl References {
    fn new() -> References {
        own_namespace();
        let directory = tempfile::tempdir().unwrap();
        let flags = MsFlags::MS_NOATIME;
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, Some("size=2g")).unwrap();
        References(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for References {
    fn drop(&mut self) {
        let flags = nix::mount::MntFlags::MNT_DETACH;
        if let Err(error) = nix::mount::umount2(self.0.path(), flags) {
            eprintln!("{:?} stays mounted: {error}", self.0.path());
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// What a run did, as JSON.
#[derive(serde::Serialize)]
struct Report {
    first_seed: u64,
    last_seed: u64,
    seconds: u64,
    #[serde(flatten)]
    tally: Tally,
    findings: Vec<String>,
}

#[test]
fn random_operations_agree_with_a_reference_directory() {
    if !can_mount() {
        return;
    }
    let references = References::new();
    let first = number("ZORYA_REFERENCE_SEED").unwrap_or(1);
    let count = number("ZORYA_REFERENCE_SEQUENCES").unwrap_or(SEQUENCES);
    let mut tally = Tally::default();
    for seed in first..first + count {
        if let Err(finding) = try_seed(seed, &references.path(), Sabotage::None, &mut tally) {
            panic!("{finding}");
        }
    }
    println!("{}", serde_json::to_string(&tally).unwrap());
    assert!(count < SEQUENCES || tally.reopened > count, "{tally:?}");
}

#[test]
#[ignore = "the long form: make reference"]
fn random_operations_for_minutes() {
    assert!(can_mount(), "the long form needs root and /dev/fuse");
    let references = References::new();
    let minutes = number("ZORYA_REFERENCE_MINUTES").unwrap_or(10);
    let first_seed = number("ZORYA_REFERENCE_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_secs() * 1_000_000
    });
    let started = Instant::now();
    let mut report = Report {
        first_seed,
        last_seed: first_seed,
        seconds: 0,
        tally: Tally::default(),
        findings: Vec::new(),
    };
    while started.elapsed() < Duration::from_secs(minutes * 60) {
        let tried = try_seed(report.last_seed, &references.path(), Sabotage::None, &mut report.tally);
        if let Err(finding) = tried {
            eprintln!("{finding}");
            report.findings.push(finding.to_string());
        }
        if report.tally.sequences.is_multiple_of(500) {
            eprintln!("{} s: {} sequences", started.elapsed().as_secs(), report.tally.sequences);
        }
        report.last_seed += 1;
    }
    report.last_seed -= 1;
    report.seconds = started.elapsed().as_secs();
    let text = serde_json::to_string_pretty(&report).unwrap();
    if let Some(path) = std::env::var_os("ZORYA_REFERENCE_REPORT") {
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
    println!("{text}");
    assert!(report.findings.is_empty(), "{} findings", report.findings.len());
}

/// The first finding of a few seeds.
fn first_finding(sabotage: Sabotage) -> Option<Finding> {
    let references = References::new();
    (1..30).find_map(|seed| try_seed(seed, &references.path(), sabotage, &mut Tally::default()).err())
}

#[test]
fn an_fsync_that_is_answered_early_is_noticed() {
    if !can_mount() {
        return;
    }
    let finding = first_finding(Sabotage::AnswersEarly).expect("a finding");
    assert!(finding.what.contains("earlier records durable"), "{finding}");
}

#[test]
fn a_lost_record_is_noticed() {
    if !can_mount() {
        return;
    }
    let finding = first_finding(Sabotage::LosesARecord).expect("a finding");
    assert!(finding.what.contains("cut at record"), "{finding}");
}

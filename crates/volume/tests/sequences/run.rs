//! One sequence: step by step against the reference, then cut and opened again.

use std::path::Path;
use std::sync::Arc;

use zorya_volume::EngineClass;

use super::volume_tree::of_log;
use super::{End, Segment, Sequence};
use crate::reference::explain::{Between, unexplained};
use crate::reference::operation::{Operation, beginning};
use crate::reference::pair::{Counts, Pair, report};
use crate::reference::tree::{Times, Tree};
use crate::support::harness::{TestMount, eventually};
use crate::support::memory_store::{Logged, MemoryStore};

/// Prefixes of the log that are looked at after a crash.
const CUTS: usize = 6;

/// What was done so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    pub sequences: u64,
    pub mounts: u64,
    pub unmounted: u64,
    pub crashed: u64,
    /// Volumes opened from a prefix of the log and compared.
    pub reopened: u64,
    pub operations: Counts,
}

/// How a store is broken on purpose, so that the test can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// Whoever waits for durability is told at once that it is there.
    AnswersEarly,
    /// After a crash the log lacks the record before the last.
    LosesARecord,
}

/// Where the log was after a step, and what a crash within the step may leave.
struct Mark {
    records: usize,
    between: Between,
}

/// Runs a sequence. An error is a finding. `references` is an empty directory in a tmpfs.
pub fn run(
    sequence: &Sequence,
    references: &Path,
    sabotage: Sabotage,
    tally: &mut Tally,
) -> Result<(), String> {
    let class = sequence.class;
    let mut log: Vec<Logged> = Vec::new();
    let mut found: Option<Tree> = None;
    tally.sequences += 1;
    for (number, segment) in sequence.segments.iter().enumerate() {
        let store = MemoryStore::lagging(&log, sequence.room);
        if sabotage == Sabotage::AnswersEarly {
            store.answer_early();
        }
        let reference = tempfile::tempdir_in(references).map_err(|error| error.to_string())?;
        if let Some(found) = &found {
            found.write_to(reference.path()).map_err(|error| format!("copying a tree: {error}"))?;
        }
        tally.mounts += 1;
        let mount = TestMount::new(Arc::new(store.clone()), class);
        let played = Play { class, store: &store, tally, sabotage };
        (log, found) = played
            .segment(segment, mount, reference.path())
            .map_err(|finding| format!("mount {number}: {finding}"))?;
    }
    Ok(())
}

struct Play<'a> {
    class: EngineClass,
    store: &'a MemoryStore,
    tally: &'a mut Tally,
    sabotage: Sabotage,
}

type Left = (Vec<Logged>, Option<Tree>);

impl Play<'_> {
    /// Plays a segment and returns the log that the next mount finds, and the tree that it says.
    fn segment(mut self, segment: &Segment, mount: TestMount, reference: &Path) -> Result<Left, String> {
        let pair = Pair::new(&mount.root, reference, self.class);
        let mut pair = pair.map_err(|error| format!("reading the reference: {error}"))?;
        pair.check_now()?;
        let operations = beginning(self.class).into_iter().chain(segment.operations.iter().cloned());
        let operations: Vec<Operation> = operations.collect();
        let mut marks = vec![Mark { records: self.store.log_len(), between: Between::Atomic }];
        for (number, operation) in operations.iter().enumerate() {
            let mark = self.step(&mut pair, operation);
            marks.push(mark.map_err(|finding| format!("step {number}: {finding}"))?);
        }
        pair.check_now()?;
        check_room(&mount)?;
        match segment.end {
            End::Unmount => self.unmount(pair, mount),
            End::Crash(cut) => self.crash(&mut pair, &marks, mount, cut),
        }
    }

    fn step(&mut self, pair: &mut Pair, operation: &Operation) -> Result<Mark, String> {
        let before = self.store.log_len();
        let step = pair.step(operation, &mut self.tally.operations)?;
        let durable = self.store.durable_records();
        if step.synced && durable < before {
            return Err(format!("{operation:?} returned with {durable} of {before} earlier records durable"));
        }
        Ok(Mark { records: self.store.log_len(), between: step.between })
    }

    fn unmount(self, mut pair: Pair, mount: TestMount) -> Result<Left, String> {
        pair.mount.close_all();
        // The kernel releases handles in the background.
        eventually("every handle is released", || mount.volume.look(|state| state.handles.is_empty()));
        mount.stop().map_err(|error| format!("unmounting: {error:?}"))?;
        let log = self.store.log();
        let found = of_log(&log, self.class)?;
        self.tally.unmounted += 1;
        self.tally.reopened += 1;
        report("after unmounting, the volume", found.differences(&pair.state().durable(), Times::Reopened))?;
        Ok((log, Some(found)))
    }

    /// Looks at what several prefixes of the log give, and goes on with one.
    fn crash(self, pair: &mut Pair, marks: &[Mark], mount: TestMount, cut: u16) -> Result<Left, String> {
        let log = self.store.log();
        let durable = self.store.durable_records().max(1);
        pair.mount.close_all();
        drop(mount);
        self.tally.crashed += 1;
        let open = log.len().saturating_sub(durable);
        let chosen = durable + open * usize::from(cut) / usize::from(u16::MAX);
        let mut cuts: Vec<usize> = (0..CUTS).map(|n| durable + open * n / (CUTS - 1)).collect();
        cuts.push(chosen);
        cuts.sort_unstable();
        cuts.dedup();
        let mut left = None;
        for records in cuts {
            let prefix = self.prefix(&log, records);
            self.tally.reopened += 1;
            let found = of_log(&prefix, self.class)
                .and_then(|found| explained(&found, records, marks, &pair.states).map(|()| found))
                .map_err(|finding| {
                    format!("cut at record {records} of {}, durable {durable}: {finding}", log.len())
                })?;
            if records == chosen {
                left = Some(found);
            }
        }
        Ok((log[..chosen].to_vec(), left))
    }

    fn prefix(&self, log: &[Logged], records: usize) -> Vec<Logged> {
        let mut prefix = log[..records].to_vec();
        if self.sabotage == Sabotage::LosesARecord && records > 2 {
            prefix.remove(records - 2);
        }
        prefix
    }
}

/// What is counted along the way is what counting everything gives.
fn check_room(mount: &TestMount) -> Result<(), String> {
    mount.volume.look(|state| {
        let counted: u64 = state.namespace.inodes().map(|(ino, _)| state.allocated(ino)).sum();
        match state.used_bytes() {
            used if used == counted => Ok(()),
            used => Err(format!("{used} bytes are said to be used, {counted} are")),
        }
    })
}

/// Whether the volume that `records` records give is the state that the steps up to there left.
fn explained(found: &Tree, records: usize, marks: &[Mark], states: &[Tree]) -> Result<(), String> {
    // The first step after which there were at least as many records.
    let step = marks.partition_point(|mark| mark.records < records).min(marks.len() - 1);
    let (before, after) = (states[step.saturating_sub(1)].durable(), states[step].durable());
    let reasons = unexplained(found, &before, &after, marks[step].between);
    report(&format!("at step {step} the volume"), reasons)
}

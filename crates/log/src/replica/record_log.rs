//! Where a replica's records are: runs ordered by position, with gaps where something is missing.

use std::collections::BTreeMap;

use zorya_types::{Lsn, Truncation};

use super::batch::{BadBatch, Run};
use super::{Piece, Seq};

/// The runs that are stored or on their way to the disk. They never overlap.
#[derive(Debug, Default)]
pub(super) struct RecordLog {
    runs: BTreeMap<Lsn, Run>,
}

impl RecordLog {
    /// The run that goes on after `at` and the index of its batch there.
    ///
    /// `at` says that every record up to there is had. It may lie inside a batch, since pages are in layers up to a
    /// cut that no record need end at; then the batch around it is what comes next.
    fn next(&self, at: Lsn, truncation: Option<&Truncation>) -> Option<(&Run, usize)> {
        if let Some((_, run)) = self.runs.range(..=at).next_back()
            && (run.start < at || run.prev == at)
            && let Some(index) = run.batch_after(at)
        {
            return Some((run, index));
        }
        let jump = truncation?.history().iter().find(|stretch| stretch.cut == at)?;
        let run = self.runs.get(&jump.first)?;
        (run.prev == at && run.epoch == jump.epoch).then_some((run, 0))
    }

    /// How far the log goes on from `at` without a gap, through entries up to `durable`.
    pub fn contiguous_from(&self, at: Lsn, truncation: Option<&Truncation>, durable: Seq) -> Lsn {
        let mut at = at;
        while let Some((run, _)) = self.next(at, truncation).filter(|(run, _)| run.seq <= durable) {
            at = run.end();
        }
        at
    }

    /// The runs without the batches that are here already.
    ///
    /// # Errors
    /// [`BadBatch::Conflict`] if something else is stored at the same place.
    pub fn novel(&self, runs: Vec<Run>) -> Result<Vec<Run>, BadBatch> {
        let highest = self.highest();
        let mut novel = Vec::with_capacity(runs.len());
        for run in runs {
            if run.start >= highest {
                novel.push(run);
            } else {
                self.novel_parts(&run, &mut novel)?;
            }
        }
        Ok(novel)
    }

    fn novel_parts(&self, run: &Run, novel: &mut Vec<Run>) -> Result<(), BadBatch> {
        let mut from = 0;
        for index in 0..run.points.len() {
            if self.holds_batch(run, index)? {
                if from < index {
                    novel.push(run.part(from, index));
                }
                from = index + 1;
            }
        }
        if from < run.points.len() {
            novel.push(run.part(from, run.points.len()));
        }
        Ok(())
    }

    fn holds_batch(&self, run: &Run, index: usize) -> Result<bool, BadBatch> {
        let start = run.start.plus(u64::from(run.batch_start(index)));
        let point = run.points[index];
        let end = run.start.plus(u64::from(point.end));
        let Some((_, held)) = self.runs.range(..end).next_back().filter(|(_, held)| held.end() > start)
        else {
            return Ok(false);
        };
        let same = held.epoch == run.epoch
            && held.batch_from(start).is_some()
            && held.point_at(end).is_some_and(|at| at.digest == point.digest);
        if same { Ok(true) } else { Err(BadBatch::Conflict(end)) }
    }

    /// Adds a run that [`RecordLog::novel`] let through.
    pub fn insert(&mut self, run: Run) {
        self.runs.insert(run.start, run);
    }

    /// Drops what the truncation annuls.
    pub fn cut(&mut self, truncation: &Truncation) {
        self.runs.retain(|_, run| {
            let start = run.start;
            let epoch = run.epoch;
            run.points.retain(|point| truncation.keeps(epoch, start.plus(u64::from(point.end))));
            !run.points.is_empty()
        });
    }

    /// Drops runs that end at or below `upto`. Whether there were any.
    pub fn release(&mut self, upto: Lsn) -> bool {
        let before = self.runs.len();
        while let Some(first) = self.runs.first_entry().filter(|first| first.get().end() <= upto) {
            first.remove();
        }
        self.runs.len() < before
    }

    /// The lowest entry that holds a run.
    pub fn lowest_seq(&self) -> Option<Seq> {
        self.runs.values().map(|run| run.seq).min()
    }

    /// The end of the last run; 0 without one.
    pub fn highest(&self) -> Lsn {
        self.runs.last_key_value().map_or(Lsn::ZERO, |(_, run)| run.end())
    }

    /// Whether the records after `at` can be told: they are here, or nothing is known to come after.
    pub fn reaches_back_to(&self, at: Lsn, truncation: Option<&Truncation>) -> bool {
        self.next(at, truncation).is_some()
    }

    /// Where the batches after `from` up to `upto` are, at least one and then about `max_bytes`, and where they end.
    pub fn pieces(
        &self,
        from: Lsn,
        upto: Lsn,
        max_bytes: u64,
        truncation: Option<&Truncation>,
    ) -> (Vec<Piece>, Lsn) {
        let (mut pieces, mut at, mut taken) = (Vec::new(), from, 0);
        while let Some((run, index)) = self.next(at, truncation) {
            let offset = run.batch_start(index);
            let fits = |end: u32| {
                run.start.plus(u64::from(end)) <= upto && taken + u64::from(end - offset) <= max_bytes
            };
            let mut end =
                run.points[index..].iter().map(|point| point.end).take_while(|end| fits(*end)).last();
            if pieces.is_empty() && end.is_none() {
                end = Some(run.points[index].end).filter(|end| run.start.plus(u64::from(*end)) <= upto);
            }
            let Some(end) = end else { break };
            push_piece(&mut pieces, (run.seq, run.skip + offset, end - offset));
            taken += u64::from(end - offset);
            at = run.start.plus(u64::from(end));
            if end < run.len() {
                break;
            }
        }
        (pieces, at)
    }
}

/// Adds a piece, joined to the last one if it goes on in the same entry.
fn push_piece(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if last.0 == piece.0 && last.1 + last.2 == piece.1 => last.2 += piece.2,
        _ => pieces.push(piece),
    }
}

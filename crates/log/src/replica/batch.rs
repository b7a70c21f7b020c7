//! Takes encoded records apart into runs: what a replica remembers of them while the bytes rest on disk.
//!
//! The unit is the batch, from one consistency point to the next: stored, fetched, cut and delivered whole.

use bytes::Bytes;
use zorya_types::{Epoch, Lsn, Truncation};
use zorya_wire::{Record, RecordError, RecordHeader};

use super::Seq;

/// The end of a batch within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Bytes from the run's start.
    pub end: u32,
    /// Stands for the batch's bytes: a checksum of its records' checksums.
    pub digest: u32,
    /// The stamp of its last record, microseconds since 1970.
    pub stamp_us: u64,
}

/// Batches of one epoch that follow each other without a gap, in one entry on disk. As there is no gap, a position
/// in the log and an offset in the bytes differ by a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The epoch of every record in it.
    pub epoch: Epoch,
    /// Where its first record starts.
    pub start: Lsn,
    /// The LSN of the record before it; below `start` only for an epoch's first record.
    pub prev: Lsn,
    /// The entry that holds its bytes.
    pub seq: Seq,
    /// Where its bytes begin in the entry's records.
    pub skip: u32,
    /// The ends of its batches, never empty.
    pub points: Vec<Point>,
}

impl Run {
    /// The LSN of its last record.
    pub fn end(&self) -> Lsn {
        self.start.plus(u64::from(self.len()))
    }

    /// Its length in bytes.
    pub fn len(&self) -> u32 {
        self.points.last().map_or(0, |point| point.end)
    }

    /// The highest stamp in it, microseconds since 1970.
    pub fn newest_stamp_us(&self) -> u64 {
        self.points.iter().map(|point| point.stamp_us).max().unwrap_or(0)
    }

    /// Where the batch of that index starts, in bytes from the run's start.
    pub fn batch_start(&self, index: usize) -> u32 {
        if index == 0 { 0 } else { self.points[index - 1].end }
    }

    /// The index of the first batch that ends after `at`, which is not below the run's start.
    pub fn batch_after(&self, at: Lsn) -> Option<usize> {
        let offset = at.0.checked_sub(self.start.0)?;
        let index = self.points.partition_point(|point| u64::from(point.end) <= offset);
        (index < self.points.len()).then_some(index)
    }

    /// The index of the batch that begins at `at`; `None` if no batch does.
    pub fn batch_from(&self, at: Lsn) -> Option<usize> {
        self.batch_after(at).filter(|index| self.start.plus(u64::from(self.batch_start(*index))) == at)
    }

    /// The batch that ends at `at`.
    pub fn point_at(&self, at: Lsn) -> Option<&Point> {
        let offset = at.0.checked_sub(self.start.0)?;
        let index = self.points.partition_point(|point| u64::from(point.end) < offset);
        self.points.get(index).filter(|point| u64::from(point.end) == offset)
    }

    /// The batches `from..to` of it as a run.
    pub fn part(&self, from: usize, to: usize) -> Run {
        let offset = self.batch_start(from);
        let start = self.start.plus(u64::from(offset));
        let points = self.points[from..to].iter().map(|point| Point { end: point.end - offset, ..*point });
        Run {
            epoch: self.epoch,
            start,
            prev: if from == 0 { self.prev } else { start },
            seq: self.seq,
            skip: self.skip + offset,
            points: points.collect(),
        }
    }
}

/// Why records are not ones that a replica stores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// One does not decode.
    #[error("a record of the batch is bad: {0}")]
    Record(#[from] RecordError),
    /// One does not follow the one before it.
    #[error(
        "the record at {lsn} of epoch {epoch} starts at {start} after {prev}, which does not follow {before}"
    )]
    Link {
        /// Its position.
        lsn: Lsn,
        /// Its epoch.
        epoch: Epoch,
        /// Where it starts.
        start: Lsn,
        /// The position that it says is before it.
        prev: Lsn,
        /// The position before it.
        before: Lsn,
    },
    /// The last record is not a consistency point.
    #[error("the batch that ends at {0} does not end on a consistency point")]
    NoConsistencyPoint(Lsn),
    /// The run starts where no record of its epoch can under the accepted truncation.
    #[error("records of epoch {epoch} from {start} after {prev} contradict the accepted truncation")]
    Misplaced {
        /// The epoch.
        epoch: Epoch,
        /// Where they start.
        start: Lsn,
        /// The position before them.
        prev: Lsn,
    },
    /// Other bytes are stored at the same place.
    #[error("the batch that ends at {0} differs from what is stored there")]
    Conflict(Lsn),
}

/// Collects records into runs.
#[derive(Default)]
struct Parser {
    runs: Vec<Run>,
    /// The header of the record before, if any.
    before: Option<RecordHeader>,
    /// The checksum of the open batch's records so far.
    digest: u32,
    /// Bytes since the start of the last run.
    offset: u32,
}

impl Parser {
    fn continues(&self, header: &RecordHeader) -> Result<bool, BadBatch> {
        let Some(before) = &self.before else { return Ok(false) };
        let in_line = header.prev == before.lsn;
        let same_run = header.start() == header.prev && header.epoch == before.epoch;
        let new_epoch = header.start() > header.prev && header.epoch > before.epoch;
        if in_line && (same_run || (new_epoch && before.is_consistency_point())) {
            return Ok(same_run);
        }
        Err(BadBatch::Link {
            lsn: header.lsn,
            epoch: header.epoch,
            start: header.start(),
            prev: header.prev,
            before: before.lsn,
        })
    }

    fn push(&mut self, record: &Record, at: u32) -> Result<(), BadBatch> {
        let header = &record.header;
        if !self.continues(header)? {
            self.offset = 0;
            self.runs.push(Run {
                epoch: header.epoch,
                start: header.start(),
                prev: header.prev,
                seq: 0,
                skip: at,
                points: Vec::with_capacity(1),
            });
        }
        self.offset += header.len;
        self.digest = crc32c::crc32c_append(self.digest, &record.encoded[..4]);
        if header.is_consistency_point()
            && let Some(run) = self.runs.last_mut()
        {
            run.points.push(Point { end: self.offset, digest: self.digest, stamp_us: header.stamp_us });
            self.digest = 0;
        }
        self.before = Some(header.clone());
        Ok(())
    }
}

/// Decodes records and checks their links among themselves. The runs' `skip` is where they are in `records`.
pub(super) fn parse(records: &Bytes) -> Result<Vec<Run>, BadBatch> {
    let mut parser = Parser::default();
    let mut rest = records.clone();
    while !rest.is_empty() {
        let at = (records.len() - rest.len()) as u32;
        let record = Record::decode(&mut rest)?;
        parser.push(&record, at)?;
    }
    match &parser.before {
        Some(last) if !last.is_consistency_point() => Err(BadBatch::NoConsistencyPoint(last.lsn)),
        _ => Ok(parser.runs),
    }
}

/// Whether the run may be stored under the truncation: its epoch is known, it is not annulled, and it starts with a
/// jump exactly where its epoch does.
pub(super) fn admit(run: &Run, truncation: &Truncation) -> Result<(), BadBatch> {
    let own = truncation.own();
    let jumps = run.start != run.prev;
    let placed = match truncation.history().iter().find(|stretch| stretch.epoch == run.epoch) {
        Some(stretch) if run.start == stretch.first => run.prev == stretch.cut,
        Some(stretch) => run.start > stretch.first && !jumps,
        None => !jumps,
    };
    if placed && run.epoch <= own.epoch && truncation.keeps(run.epoch, run.end()) {
        return Ok(());
    }
    Err(BadBatch::Misplaced { epoch: run.epoch, start: run.start, prev: run.prev })
}

//! How transactions end: the records of resource manager Transaction. Ported from
//! `src/backend/access/rmgrdesc/xactdesc.c` (`ParseCommitRecord`, `ParseAbortRecord`).

use super::decode::record::{Record, Relation};
use super::error::Underivable;
use super::fields::{Fields, align8};
use super::major::Major;
use super::manager;

const COMMIT: u8 = 0x00;
const PREPARE: u8 = 0x10;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
const ASSIGNMENT: u8 = 0x50;
const INVALIDATIONS: u8 = 0x60;
const OPERATION_MASK: u8 = 0x70;
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1;
const HAS_SUBXACTS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_EXCLUSIVE_LOCKS: u32 = 1 << 6;
const HAS_GID: u32 = 1 << 7;
const HAS_DROPPED_STATS: u32 = 1 << 8;
/// Wishes about the reply, the relation cache and the flush: no data follows.
const COMPLETION_FLAGS: u32 = 7 << 29;

/// What a record of this manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xact<'a> {
    /// A transaction, prepared or not, committed or aborted.
    End(End<'a>),
    /// A transaction was prepared.
    Prepare(Prepared<'a>),
    /// Subtransactions were assigned to their top-level transaction, for hot standbys.
    Assignment,
    /// Catalog invalidations of a running transaction, for logical decoding.
    Invalidations,
}

/// The end of a transaction and its committed or aborted subtransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// The transaction: of a prepared one, not the one that wrote the record.
    pub xid: u32,
    /// Whether it committed.
    pub committed: bool,
    /// Whether it had been prepared.
    pub prepared: bool,
    /// When, in microseconds since 2000-01-01 UTC.
    pub time_us: i64,
    /// Where the transaction came from, if it was replicated: its position and time there.
    pub origin: Option<(u64, i64)>,
    subxids: &'a [u8],
    relations: &'a [u8],
}

/// A prepared transaction (`xl_xact_prepare`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// The transaction.
    pub xid: u32,
    /// What its state file holds, without the checksum ([`Prepared::file`]).
    pub state: &'a [u8],
    subxids: &'a [u8],
}

impl Prepared<'_> {
    /// Its subtransactions.
    pub fn subxids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        xids(self.subxids)
    }

    /// The name of its file in `pg_twophase`; `next_xid` is the next transaction, with its epoch above. What differs by
    /// version: since 17 the epoch is part of the name. Follows `TwoPhaseFilePath` in `access/transam/twophase.c`.
    #[must_use]
    pub fn file_name(&self, major: Major, next_xid: u64) -> String {
        let xid = self.xid;
        match major {
            Major::V14 | Major::V15 | Major::V16 => format!("{xid:08X}"),
            Major::V17 | Major::V18 => {
                let epoch = (next_xid >> 32).wrapping_sub(u64::from(xid > next_xid as u32)) as u32;
                format!("{epoch:08X}{xid:08X}")
            }
        }
    }

    /// The content of its file in `pg_twophase`: the state and its CRC-32C. Follows `RecreateTwoPhaseFile` in
    /// `access/transam/twophase.c`.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        [self.state, &crc32c::crc32c(self.state).to_le_bytes()].concat()
    }
}

fn xids(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|xid| u32::from_le_bytes([xid[0], xid[1], xid[2], xid[3]]))
}

impl End<'_> {
    /// Its subtransactions.
    pub fn subxids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        xids(self.subxids)
    }

    /// The relations whose files it removes, all forks.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = Relation> + '_ {
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        self.relations.chunks_exact(12).map(move |bytes| Relation {
            tablespace: word(bytes, 0),
            database: word(bytes, 4),
            number: word(bytes, 8),
        })
    }
}

/// Reads a record of this manager.
pub fn read<'a>(record: &Record<'a>) -> Result<Xact<'a>, Underivable> {
    match record.operation() & OPERATION_MASK {
        operation @ (COMMIT | ABORT | COMMIT_PREPARED | ABORT_PREPARED) => {
            end(record, operation).map(Xact::End)
        }
        PREPARE => {
            let mut main = record.fields();
            main.skip(8)?;
            let xid = main.u32()?;
            main.skip(16)?;
            let count = main.u32()? as usize;
            // The numbers of relations to drop, of statistics, and of invalidations; whether there are such at once.
            main.skip(if dropped_stats_len(record.major).is_some() { 22 } else { 14 })?;
            let gid_len = usize::from(main.u16()?);
            main.skip(16 + align8(gid_len))?;
            let subxids = main.bytes(count.checked_mul(4).ok_or(Underivable::ShortRecord)?)?;
            Ok(Xact::Prepare(Prepared { xid, state: record.main(), subxids }))
        }
        ASSIGNMENT => Ok(Xact::Assignment),
        INVALIDATIONS => Ok(Xact::Invalidations),
        operation => Err(Underivable::UnknownRecord { manager: manager::XACT, operation }),
    }
}

fn end<'a>(record: &Record<'a>, operation: u8) -> Result<End<'a>, Underivable> {
    let committed = matches!(operation, COMMIT | COMMIT_PREPARED);
    let prepared = matches!(operation, COMMIT_PREPARED | ABORT_PREPARED);
    let mut main = record.fields();
    let time_us = main.u64()? as i64;
    let info = if record.operation() & HAS_INFO != 0 { main.u32()? } else { 0 };
    let dropped_stats_len = dropped_stats_len(record.major);
    let known = HAS_DATABASE
        | HAS_SUBXACTS
        | HAS_RELATIONS
        | HAS_INVALIDATIONS
        | HAS_TWO_PHASE
        | HAS_ORIGIN
        | HAS_EXCLUSIVE_LOCKS
        | HAS_GID
        | if dropped_stats_len.is_some() { HAS_DROPPED_STATS } else { 0 };
    if info & !(known | COMPLETION_FLAGS) != 0 {
        return Err(Underivable::UnknownFlags((info & !(known | COMPLETION_FLAGS)) as u16));
    }
    if info & HAS_DATABASE != 0 {
        main.skip(8)?;
    }
    let mut part = |flag: u32, item_len: usize| part(&mut main, info & flag != 0, item_len);
    let subxids = part(HAS_SUBXACTS, 4)?;
    let relations = part(HAS_RELATIONS, 12)?;
    part(HAS_DROPPED_STATS, dropped_stats_len.unwrap_or(0))?;
    part(HAS_INVALIDATIONS, 16)?;
    let xid = if info & HAS_TWO_PHASE != 0 { main.u32()? } else { record.xid };
    if info & HAS_GID != 0 {
        let len = main.0.iter().position(|&byte| byte == 0).ok_or(Underivable::ShortRecord)?;
        main.skip(len + 1)?;
    }
    let origin = if info & HAS_ORIGIN != 0 { Some((main.u64()?, main.u64()? as i64)) } else { None };
    Ok(End { xid, committed, prepared, time_us, origin, subxids, relations })
}

/// What differs by version: the bytes of an entry of dropped statistics. 14 keeps them elsewhere; since 18 an object's
/// number has 64 bits.
const fn dropped_stats_len(major: Major) -> Option<usize> {
    match major {
        Major::V14 => None,
        Major::V15 | Major::V16 | Major::V17 => Some(12),
        Major::V18 => Some(16),
    }
}

/// A counted array, if it is there.
fn part<'a>(main: &mut Fields<'a>, present: bool, item_len: usize) -> Result<&'a [u8], Underivable> {
    if !present {
        return Ok(&[]);
    }
    let count = main.u32()? as usize;
    main.bytes(count.checked_mul(item_len).ok_or(Underivable::ShortRecord)?)
}

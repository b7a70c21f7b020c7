//! Checkpoint records (`CheckPoint` in `catalog/pg_control.h`) and the counters in them, tracked from record to record.
//!
//! Their form is the same from 14 to 18 but for [`Checkpoint::wal_level`], which lies where there was padding.

use super::decode::record::Record;
use super::error::Underivable;
use super::fields::{Fields, u32_at};
use super::manager;
use super::position::WalPosition;
use super::slru::{newer, page_number};
use super::tuple::xid_precedes;
use super::xact::{self, Xact};

pub(crate) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
pub(crate) const CHECKPOINT_ONLINE: u8 = 0x10;
const NEXTOID: u8 = 0x30;
const PARAMETER_CHANGE: u8 = 0x60;

const MULTIXACT_CREATE_ID: u8 = 0x20;
const MULTIXACT_TRUNCATE_ID: u8 = 0x30;
const CLOG_TRUNCATE: u8 = 0x10;
const COMMIT_TS_TRUNCATE: u8 = 0x10;
const STANDBY_RUNNING_XACTS: u8 = 0x10;

const FIRST_NORMAL_XID: u32 = 3;

/// Bytes of a checkpoint record's data.
pub const CHECKPOINT_LEN: usize = 88;

/// The counters that a start of the server needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The next transaction, with its epoch above.
    pub next_xid: u64,
    /// The next object.
    pub next_oid: u32,
    /// The next multixact.
    pub next_multi: u32,
    /// Where its members begin.
    pub next_offset: u32,
    /// The oldest transaction that a tuple may name, and the database that has it.
    pub oldest_xid: (u32, u32),
    /// The oldest multixact that a tuple may name, and the database that has it.
    pub oldest_multi: (u32, u32),
    /// The oldest transaction with a commit time; 0 if none.
    pub oldest_commit_time: u32,
    /// The newest transaction with a commit time; 0 if none.
    pub newest_commit_time: u32,
}

/// A checkpoint record's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where redo would begin.
    pub redo: WalPosition,
    /// The timeline.
    pub timeline: u32,
    /// The timeline before, if this one begins here.
    pub previous_timeline: u32,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `wal_level` as a number, which checkpoints say since 17; 0 before.
    pub wal_level: u32,
    /// The counters.
    pub counters: Counters,
    /// When, in seconds since 1970.
    pub time_s: i64,
    /// The oldest transaction running; 0 in a shutdown checkpoint.
    pub oldest_active_xid: u32,
}

impl Checkpoint {
    /// Reads a checkpoint record's data.
    pub fn read(data: &[u8]) -> Result<Self, Underivable> {
        let mut data = Fields(data);
        let redo = WalPosition(data.u64()?);
        let (timeline, previous_timeline, full_page_writes) = (data.u32()?, data.u32()?, data.u8()? != 0);
        data.skip(3)?;
        let wal_level = data.u32()?;
        let (next_xid, next_oid, next_multi, next_offset) =
            (data.u64()?, data.u32()?, data.u32()?, data.u32()?);
        let oldest_xid = (data.u32()?, data.u32()?);
        let oldest_multi = (data.u32()?, data.u32()?);
        data.skip(4)?;
        let time_s = data.u64()? as i64;
        let (oldest_commit_time, newest_commit_time, oldest_active_xid) =
            (data.u32()?, data.u32()?, data.u32()?);
        let counters = Counters {
            next_xid,
            next_oid,
            next_multi,
            next_offset,
            oldest_xid,
            oldest_multi,
            oldest_commit_time,
            newest_commit_time,
        };
        Ok(Self {
            redo,
            timeline,
            previous_timeline,
            full_page_writes,
            wal_level,
            counters,
            time_s,
            oldest_active_xid,
        })
    }

    /// The record's data.
    #[must_use]
    pub fn bytes(&self) -> [u8; CHECKPOINT_LEN] {
        let mut bytes = [0; CHECKPOINT_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let counters = &self.counters;
        put(0, &self.redo.0.to_le_bytes());
        put(8, &self.timeline.to_le_bytes());
        put(12, &self.previous_timeline.to_le_bytes());
        put(16, &[self.full_page_writes.into()]);
        put(20, &self.wal_level.to_le_bytes());
        put(24, &counters.next_xid.to_le_bytes());
        let words = [
            counters.next_oid,
            counters.next_multi,
            counters.next_offset,
            counters.oldest_xid.0,
            counters.oldest_xid.1,
            counters.oldest_multi.0,
            counters.oldest_multi.1,
        ];
        for (index, word) in words.into_iter().enumerate() {
            put(32 + index * 4, &word.to_le_bytes());
        }
        put(64, &self.time_s.to_le_bytes());
        let last = [counters.oldest_commit_time, counters.newest_commit_time, self.oldest_active_xid];
        for (index, word) in last.into_iter().enumerate() {
            put(72 + index * 4, &word.to_le_bytes());
        }
        bytes
    }

    /// The checkpoint in a record, and whether the server was shut down at it; `None` if the record is none.
    pub fn of(record: &Record<'_>) -> Result<Option<(Self, bool)>, Underivable> {
        match (record.manager, record.operation()) {
            (manager::XLOG, operation @ (CHECKPOINT_SHUTDOWN | CHECKPOINT_ONLINE)) => {
                Ok(Some((Self::read(record.main())?, operation == CHECKPOINT_SHUTDOWN)))
            }
            _ => Ok(None),
        }
    }
}

impl Counters {
    /// Follows a record: `ApplyWalRecord` in `access/transam/xlogrecovery.c` and the redo routines that it calls.
    pub fn observe(&mut self, record: &Record<'_>) -> Result<(), Underivable> {
        self.pass_xid(record.xid);
        let operation = record.operation();
        match (record.manager, operation) {
            (manager::XLOG, _) => self.xlog(record)?,
            (manager::XACT, _) => {
                if let Xact::End(end) = xact::read(record)? {
                    let newest = end.subxids().fold(end.xid, newer);
                    self.pass_xid(newest);
                    if end.committed && self.oldest_commit_time != 0 {
                        let last = end.subxids().last().unwrap_or(end.xid);
                        self.newest_commit_time = newer(self.newest_commit_time, last);
                    }
                }
            }
            (manager::MULTIXACT, MULTIXACT_CREATE_ID) => self.multixact(record.fields())?,
            (manager::MULTIXACT, MULTIXACT_TRUNCATE_ID) => {
                let mut main = record.fields();
                let database = main.u32()?;
                main.skip(4)?;
                self.oldest_multi = (main.u32()?, database);
            }
            (manager::CLOG, CLOG_TRUNCATE) => {
                let mut main = record.fields();
                page_number(record.major, &mut main)?;
                self.advance_oldest_xid((main.u32()?, main.u32()?));
            }
            (manager::COMMIT_TS, COMMIT_TS_TRUNCATE) => {
                let mut main = record.fields();
                page_number(record.major, &mut main)?;
                let oldest = main.u32()?;
                if self.oldest_commit_time != 0 {
                    self.oldest_commit_time = newer(self.oldest_commit_time, oldest);
                }
            }
            (manager::STANDBY, STANDBY_RUNNING_XACTS) => {
                let mut main = record.fields();
                main.skip(12)?;
                self.pass_xid(main.u32()?.wrapping_sub(1));
            }
            _ => {}
        }
        Ok(())
    }

    /// Moves the next transaction behind `xid`. Follows `AdvanceNextFullTransactionIdPastXid`.
    fn pass_xid(&mut self, xid: u32) {
        let next = self.next_xid as u32;
        if xid < FIRST_NORMAL_XID || xid_precedes(xid, next) {
            return;
        }
        let after = xid.wrapping_add(1).max(FIRST_NORMAL_XID);
        let epoch = (self.next_xid >> 32) + u64::from(after < next);
        self.next_xid = epoch << 32 | u64::from(after);
    }

    fn advance_oldest_xid(&mut self, oldest: (u32, u32)) {
        if xid_precedes(self.oldest_xid.0, oldest.0) {
            self.oldest_xid = oldest;
        }
    }

    /// Follows `xlog_redo` in `access/transam/xlog.c`.
    fn xlog(&mut self, record: &Record<'_>) -> Result<(), Underivable> {
        match record.operation() {
            NEXTOID => self.next_oid = record.fields().u32()?,
            PARAMETER_CHANGE => self.parameters(record.main())?,
            _ => {}
        }
        let Some((checkpoint, shutdown)) = Checkpoint::of(record)? else { return Ok(()) };
        let theirs = checkpoint.counters;
        if shutdown {
            *self = theirs;
            return Ok(());
        }
        self.next_xid = self.next_xid.max(theirs.next_xid);
        self.pass_multi(theirs.next_multi, theirs.next_offset);
        self.advance_oldest_xid(theirs.oldest_xid);
        if (self.oldest_multi.0.wrapping_sub(theirs.oldest_multi.0) as i32) < 0 {
            self.oldest_multi = theirs.oldest_multi;
        }
        if theirs.oldest_commit_time != 0 && self.oldest_commit_time != 0 {
            self.oldest_commit_time = newer(self.oldest_commit_time, theirs.oldest_commit_time);
        }
        Ok(())
    }

    /// Commit times begin with the next transaction, or end. Follows `CommitTsParameterChange` and
    /// `ActivateCommitTs` in `access/transam/commit_ts.c`.
    fn parameters(&mut self, data: &[u8]) -> Result<(), Underivable> {
        let keeps = *data.get(25).ok_or(Underivable::ShortRecord)? != 0;
        match (keeps, self.oldest_commit_time) {
            (true, 0) => {
                self.oldest_commit_time = self.next_xid as u32;
                self.newest_commit_time = self.next_xid as u32;
            }
            (false, _) => (self.oldest_commit_time, self.newest_commit_time) = (0, 0),
            _ => {}
        }
        Ok(())
    }

    /// Follows the counters' part of `multixact_redo`.
    fn multixact(&mut self, mut main: Fields<'_>) -> Result<(), Underivable> {
        let (multi, offset, count) = (main.u32()?, main.u32()?, main.u32()?);
        let len = (count as usize).checked_mul(8).ok_or(Underivable::ShortRecord)?;
        for member in main.bytes(len)?.chunks_exact(8) {
            self.pass_xid(u32_at(member, 0).unwrap_or_default());
        }
        self.pass_multi(multi.wrapping_add(1).max(1), offset.wrapping_add(count));
        Ok(())
    }

    /// Follows `MultiXactAdvanceNextMXact`.
    fn pass_multi(&mut self, multi: u32, offset: u32) {
        let before = |one: u32, other: u32| (one.wrapping_sub(other) as i32) < 0;
        if before(self.next_multi, multi) {
            self.next_multi = multi;
        }
        if before(self.next_offset, offset) {
            self.next_offset = offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, Counters};
    use crate::postgres::position::WalPosition;

    #[test]
    fn a_checkpoint_reads_back() {
        let checkpoint = Checkpoint {
            redo: WalPosition(0x0102_0304_0506),
            timeline: 3,
            previous_timeline: 2,
            full_page_writes: true,
            wal_level: 2,
            counters: Counters {
                next_xid: 1 << 32 | 700,
                next_oid: 16384,
                next_multi: 5,
                next_offset: 9,
                oldest_xid: (3, 1),
                oldest_multi: (1, 4),
                oldest_commit_time: 600,
                newest_commit_time: 699,
            },
            time_s: 1_700_000_000,
            oldest_active_xid: 650,
        };
        assert_eq!(Checkpoint::read(&checkpoint.bytes()), Ok(checkpoint));
    }

    #[test]
    fn the_next_transaction_moves_into_the_next_epoch() {
        let mut counters = Counters { next_xid: 0xffff_fff0, ..Counters::default() };
        counters.pass_xid(0xffff_ffff);
        assert_eq!(counters.next_xid, 1 << 32 | 3);
        counters.pass_xid(0xffff_fffe);
        assert_eq!(counters.next_xid, 1 << 32 | 3);
        counters.pass_xid(10);
        assert_eq!(counters.next_xid, 1 << 32 | 11);
    }
}

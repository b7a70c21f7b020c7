//! The files of transactions: commit status, commit times, multixacts. Records say what changes in them; their pages
//! are derived, never shipped. Ported from `src/backend/access/transam/{clog,commit_ts,multixact,slru}.c`.

use super::decode::record::Record;
use super::error::Underivable;
use super::fields::{Fields, u32_at};
use super::major::Major;
use super::manager;
use super::page::Block;
use super::position::BLOCK_LEN;
use super::tuple::xid_precedes;
use super::xact::{self, Xact};

const CLOG_ZEROPAGE: u8 = 0x00;
const CLOG_TRUNCATE: u8 = 0x10;
const COMMIT_TS_ZEROPAGE: u8 = 0x00;
const COMMIT_TS_TRUNCATE: u8 = 0x10;
const MULTIXACT_ZERO_OFF_PAGE: u8 = 0x00;
const MULTIXACT_ZERO_MEM_PAGE: u8 = 0x10;
const MULTIXACT_CREATE_ID: u8 = 0x20;
const MULTIXACT_TRUNCATE_ID: u8 = 0x30;

/// Pages of a segment file.
pub const PAGES_PER_SEGMENT: u32 = 32;
const FIRST_NORMAL_XID: u32 = 3;
const FIRST_MULTIXACT: u32 = 1;

const XIDS_PER_STATUS_PAGE: u32 = BLOCK_LEN as u32 * 4;
const TIME_LEN: u32 = 10;
const XIDS_PER_TIME_PAGE: u32 = BLOCK_LEN as u32 / TIME_LEN;
const OFFSETS_PER_PAGE: u32 = BLOCK_LEN as u32 / 4;
const MEMBERS_PER_GROUP: u32 = 4;
const GROUP_LEN: u32 = MEMBERS_PER_GROUP + MEMBERS_PER_GROUP * 4;
const GROUPS_PER_PAGE: u32 = BLOCK_LEN as u32 / GROUP_LEN;
const MEMBERS_PER_PAGE: u32 = GROUPS_PER_PAGE * MEMBERS_PER_GROUP;

/// Which of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slru {
    /// `pg_xact`: two bits a transaction.
    Status,
    /// `pg_commit_ts`: time and origin of a commit.
    Time,
    /// `pg_multixact/offsets`: where a multixact's members begin.
    Offsets,
    /// `pg_multixact/members`: transactions and how they lock.
    Members,
}

impl Slru {
    /// The directory in the data directory.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Status => "pg_xact",
            Self::Time => "pg_commit_ts",
            Self::Offsets => "pg_multixact/offsets",
            Self::Members => "pg_multixact/members",
        }
    }

    /// Whether page `one` is older than `other`, around the wrap. Follows `CLOGPagePrecedes` and the like.
    fn precedes(self, one: u32, other: u32) -> bool {
        let per_page = match self {
            Self::Status => XIDS_PER_STATUS_PAGE,
            Self::Time => XIDS_PER_TIME_PAGE,
            Self::Offsets => OFFSETS_PER_PAGE,
            Self::Members => MEMBERS_PER_PAGE,
        };
        let first = |page: u32| page.wrapping_mul(per_page).wrapping_add(FIRST_NORMAL_XID + 1);
        let before = |one: u32, other: u32| (one.wrapping_sub(other) as i32) < 0;
        before(first(one), first(other)) && before(first(one), first(other).wrapping_add(per_page - 1))
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It committed.
    Committed = 1,
    /// It was rolled back.
    Aborted = 2,
}

/// One change of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlruChange {
    /// A page begins, all zeroes.
    Zero(Slru, u32),
    /// A page is there from now on: all zeroes if it was not, else as it is.
    Begin(Slru, u32),
    /// Segments before the one with that page are gone ([`is_truncated`]).
    Truncate(Slru, u32),
    /// Segments of members are gone: from that of the first page up to that of the second, exclusive, around the wrap.
    TruncateMembers(u32, u32),
    /// A transaction ended.
    Ended(u32, Status),
    /// A transaction committed at a time, in microseconds since 2000-01-01, and came from an origin (0: from here).
    Timed {
        /// The transaction.
        xid: u32,
        /// When.
        time_us: i64,
        /// From where.
        origin: u16,
    },
    /// A multixact's members begin at that offset.
    Begins(u32, u32),
    /// The member at an offset: a transaction and how it locks.
    Member {
        /// The offset.
        offset: u32,
        /// The transaction.
        xid: u32,
        /// `MultiXactStatus`.
        status: u8,
    },
}

impl SlruChange {
    /// The page that changes, which is zeroes if it was absent; `None` for a truncation.
    #[must_use]
    pub fn page(&self) -> Option<(Slru, u32)> {
        Some(match *self {
            Self::Zero(slru, page) | Self::Begin(slru, page) => (slru, page),
            Self::Truncate(..) | Self::TruncateMembers(..) => return None,
            Self::Ended(xid, _) => (Slru::Status, xid / XIDS_PER_STATUS_PAGE),
            Self::Timed { xid, .. } => (Slru::Time, xid / XIDS_PER_TIME_PAGE),
            Self::Begins(multi, _) => (Slru::Offsets, multi / OFFSETS_PER_PAGE),
            Self::Member { offset, .. } => (Slru::Members, offset / MEMBERS_PER_PAGE),
        })
    }

    /// Changes the page.
    pub fn apply(&self, block: &mut Block) {
        match *self {
            Self::Zero(..) => block.fill(0),
            Self::Begin(..) | Self::Truncate(..) | Self::TruncateMembers(..) => {}
            // Follows `TransactionIdSetStatusBit`.
            Self::Ended(xid, status) => {
                let byte = &mut block[(xid % XIDS_PER_STATUS_PAGE / 4) as usize];
                let shift = xid % 4 * 2;
                *byte = *byte & !(3 << shift) | (status as u8) << shift;
            }
            // Follows `TransactionIdSetCommitTs`.
            Self::Timed { xid, time_us, origin } => {
                let at = (xid % XIDS_PER_TIME_PAGE * TIME_LEN) as usize;
                block[at..at + 8].copy_from_slice(&time_us.to_le_bytes());
                block[at + 8..at + 10].copy_from_slice(&origin.to_le_bytes());
            }
            Self::Begins(multi, offset) => {
                let at = (multi % OFFSETS_PER_PAGE * 4) as usize;
                block[at..at + 4].copy_from_slice(&offset.to_le_bytes());
            }
            // Follows the members' half of `RecordNewMultiXact`.
            Self::Member { offset, xid, status } => {
                let group = offset / MEMBERS_PER_GROUP % GROUPS_PER_PAGE * GROUP_LEN;
                let member = offset % MEMBERS_PER_GROUP;
                block[(group + member) as usize] = status;
                let at = (group + MEMBERS_PER_GROUP + member * 4) as usize;
                block[at..at + 4].copy_from_slice(&xid.to_le_bytes());
            }
        }
    }
}

/// Whether a truncation of `slru` at page `cutoff` removes the segment. Follows `SimpleLruTruncate`.
#[must_use]
pub fn is_truncated(slru: Slru, cutoff: u32, segment: u32) -> bool {
    let cutoff = cutoff - cutoff % PAGES_PER_SEGMENT;
    let first = segment.wrapping_mul(PAGES_PER_SEGMENT);
    slru.precedes(first, cutoff) && slru.precedes(first.wrapping_add(PAGES_PER_SEGMENT - 1), cutoff)
}

/// What a minor release and a setting change about these records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlruRules {
    /// Whether the record of a multixact also writes where the next one's members begin: from 15.16, 16.12, 17.8 and
    /// 18.2 on.
    pub next_offset: bool,
    /// `track_commit_timestamp`, which records of parameters change.
    pub commit_times: bool,
}

/// The state of redo between records.
#[derive(Clone, Debug)]
pub struct SlruRedo {
    rules: SlruRules,
    /// A page of offsets that the record of a multixact began; the record that begins it must not empty it again.
    begun: Option<u32>,
    /// The page of offsets that was begun last.
    newest: Option<u32>,
}

impl SlruRedo {
    /// The state at the beginning of a log.
    #[must_use]
    pub fn new(rules: SlruRules) -> Self {
        Self { rules, begun: None, newest: None }
    }

    /// Whether commit times are kept.
    #[must_use]
    pub fn keeps_commit_times(&self) -> bool {
        self.rules.commit_times
    }

    /// Calls `each` with what the record changes, in order.
    pub fn changes(
        &mut self,
        record: &Record<'_>,
        mut each: impl FnMut(SlruChange),
    ) -> Result<(), Underivable> {
        match record.manager {
            manager::XLOG => self.parameters(record),
            manager::XACT => self.xact(record, each),
            manager::CLOG => page_record(record, Slru::Status, CLOG_ZEROPAGE, CLOG_TRUNCATE).map(each),
            manager::COMMIT_TS => {
                page_record(record, Slru::Time, COMMIT_TS_ZEROPAGE, COMMIT_TS_TRUNCATE).map(&mut each)
            }
            manager::MULTIXACT => self.multixact(record, each),
            _ => Ok(()),
        }
    }

    /// Follows the parameters' part of `xlog_redo` in `access/transam/xlog.c`.
    fn parameters(&mut self, record: &Record<'_>) -> Result<(), Underivable> {
        const PARAMETER_CHANGE: u8 = 0x60;
        const TRACK_COMMIT_TIMESTAMP_AT: usize = 25;
        if record.operation() == PARAMETER_CHANGE {
            let flag = record.main().get(TRACK_COMMIT_TIMESTAMP_AT).ok_or(Underivable::ShortRecord)?;
            self.rules.commit_times = *flag != 0;
        }
        Ok(())
    }

    /// Follows `xact_redo_commit` and `xact_redo_abort` in `access/transam/xact.c`.
    fn xact(&self, record: &Record<'_>, mut each: impl FnMut(SlruChange)) -> Result<(), Underivable> {
        let Xact::End(end) = xact::read(record)? else { return Ok(()) };
        let status = if end.committed { Status::Committed } else { Status::Aborted };
        for xid in std::iter::once(end.xid).chain(end.subxids()) {
            each(SlruChange::Ended(xid, status));
            if end.committed && self.rules.commit_times {
                let time_us = end.origin.map_or(end.time_us, |(_, time_us)| time_us);
                each(SlruChange::Timed { xid, time_us, origin: record.origin.unwrap_or(0) });
            }
        }
        Ok(())
    }

    /// Follows `multixact_redo`.
    fn multixact(
        &mut self,
        record: &Record<'_>,
        mut each: impl FnMut(SlruChange),
    ) -> Result<(), Underivable> {
        let mut main = record.fields();
        match record.operation() {
            MULTIXACT_ZERO_OFF_PAGE => {
                let page = page_number(record.major, &mut main)?;
                if self.begun.take() != Some(page) {
                    each(SlruChange::Zero(Slru::Offsets, page));
                    self.newest = Some(page);
                }
            }
            MULTIXACT_ZERO_MEM_PAGE => {
                each(SlruChange::Zero(Slru::Members, page_number(record.major, &mut main)?));
            }
            MULTIXACT_CREATE_ID => self.create(main, each)?,
            MULTIXACT_TRUNCATE_ID => {
                main.skip(8)?;
                let (oldest, first, end) = (main.u32()?, main.u32()?, main.u32()?);
                each(SlruChange::TruncateMembers(first / MEMBERS_PER_PAGE, end / MEMBERS_PER_PAGE));
                // The page of the one before, which must stay readable (`PreviousMultiXactId`).
                let previous = if oldest == FIRST_MULTIXACT { u32::MAX } else { oldest.wrapping_sub(1) };
                each(SlruChange::Truncate(Slru::Offsets, previous / OFFSETS_PER_PAGE));
            }
            operation => return Err(Underivable::UnknownRecord { manager: manager::MULTIXACT, operation }),
        }
        Ok(())
    }

    /// Follows `RecordNewMultiXact`.
    fn create(&mut self, mut main: Fields<'_>, mut each: impl FnMut(SlruChange)) -> Result<(), Underivable> {
        let (multi, offset, count) = (main.u32()?, main.u32()?, main.u32()?);
        let members = main.bytes((count as usize).checked_mul(8).ok_or(Underivable::ShortRecord)?)?;
        each(SlruChange::Begins(multi, offset));
        self.begun = None;
        if self.rules.next_offset {
            let next = multi.wrapping_add(1).max(FIRST_MULTIXACT);
            let (page, before) = (next / OFFSETS_PER_PAGE, multi / OFFSETS_PER_PAGE);
            // A server of this minor release has begun the next page before, and another multixact may already be in
            // it. One that wrote the log before it was updated has not.
            match self.newest {
                _ if page == before => {}
                Some(newest) if newest != before => {}
                newest => {
                    let begin = if newest.is_some() { SlruChange::Zero } else { SlruChange::Begin };
                    each(begin(Slru::Offsets, page));
                    (self.begun, self.newest) = (Some(page), Some(page));
                }
            }
            // 0 stands for "not yet written".
            each(SlruChange::Begins(next, offset.wrapping_add(count).max(1)));
        }
        for (index, member) in (0..).zip(members.chunks_exact(8)) {
            let word = |at| u32_at(member, at).unwrap_or_default();
            each(SlruChange::Member {
                offset: offset.wrapping_add(index),
                xid: word(0),
                status: word(4) as u8,
            });
        }
        Ok(())
    }
}

/// What differs by version: page numbers have 64 bits since 17. More than 32 of them are not used.
pub(super) fn page_number(major: Major, main: &mut Fields<'_>) -> Result<u32, Underivable> {
    match major {
        Major::V14 | Major::V15 | Major::V16 => main.u32(),
        Major::V17 | Major::V18 => {
            u32::try_from(main.u64()?).map_err(|_| Underivable::BadRecord("there is no page of that number"))
        }
    }
}

/// Follows `clog_redo` and `commit_ts_redo`.
fn page_record(record: &Record<'_>, slru: Slru, zero: u8, truncate: u8) -> Result<SlruChange, Underivable> {
    let page = page_number(record.major, &mut record.fields())?;
    match record.operation() {
        operation if operation == zero => Ok(SlruChange::Zero(slru, page)),
        operation if operation == truncate => Ok(SlruChange::Truncate(slru, page)),
        operation => Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
}

/// The newer of two transactions, around the wrap.
pub(crate) fn newer(one: u32, other: u32) -> u32 {
    if xid_precedes(one, other) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::decode::build::{Content, raw};
    use crate::postgres::decode::record::decode;
    use crate::postgres::position::WalPosition;

    #[test]
    fn a_status_lands_in_its_two_bits() {
        let mut block = [0xff; BLOCK_LEN];
        let change = SlruChange::Ended(32768 * 3 + 6, Status::Aborted);
        assert_eq!(change.page(), Some((Slru::Status, 3)));
        change.apply(&mut block);
        assert_eq!(block[..3], [0xff, 0b1110_1111, 0xff]);
    }

    #[test]
    fn a_member_lands_in_its_group() {
        let mut block = [0; BLOCK_LEN];
        let change = SlruChange::Member { offset: 1636 + 6, xid: 0x0102_0304, status: 5 };
        assert_eq!(change.page(), Some((Slru::Members, 1)));
        change.apply(&mut block);
        assert_eq!((block[20 + 2], &block[20 + 4 + 8..20 + 4 + 12]), (5, &[4, 3, 2, 1][..]));
    }

    /// Found by the fuzz target `metadata`: the last page of the last segment that 32 bits can number.
    #[test]
    fn the_last_segment_has_a_last_page() {
        assert!(is_truncated(Slru::Status, 40, 0));
        assert!(!is_truncated(Slru::Status, 40, 1));
        for slru in [Slru::Status, Slru::Time, Slru::Offsets, Slru::Members] {
            for segment in [u32::MAX / PAGES_PER_SEGMENT, u32::MAX] {
                assert_eq!(is_truncated(slru, u32::MAX, segment), is_truncated(slru, u32::MAX - 31, segment));
            }
        }
    }

    /// The record of multixact 2047, the last of its page, with two members at offset 10.
    const CREATED: (u8, &[u32]) = (MULTIXACT_CREATE_ID, &[2047, 10, 2, 700, 1, 701, 4]);
    /// The record that begins the next page.
    const NEXT_PAGE: (u8, &[u32]) = (MULTIXACT_ZERO_OFF_PAGE, &[1]);
    const MEMBERS: [SlruChange; 2] = [
        SlruChange::Member { offset: 10, xid: 700, status: 1 },
        SlruChange::Member { offset: 11, xid: 701, status: 4 },
    ];
    const BEGINS: SlruChange = SlruChange::Begins(2047, 10);
    const NEXT_BEGINS: SlruChange = SlruChange::Begins(2048, 12);

    /// What records of multixacts change.
    fn changes(next_offset: bool, records: &[(u8, &[u32])]) -> Vec<SlruChange> {
        let mut redo = SlruRedo::new(SlruRules { next_offset, commit_times: false });
        let mut changes = Vec::new();
        for &(info, words) in records {
            let main = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let content = Content { xid: 700, manager: manager::MULTIXACT, info, blocks: vec![], main };
            let bytes = content.record(WalPosition(64));
            let mut references = Vec::new();
            let record = decode(raw(&bytes), &mut references).unwrap();
            redo.changes(&record, |change| changes.push(change)).unwrap();
        }
        changes
    }

    #[test]
    fn a_multixact_writes_the_next_ones_offset_from_15_16_on() {
        let [one, other] = MEMBERS;
        let page = SlruChange::Zero(Slru::Offsets, 1);
        assert_eq!(changes(false, &[CREATED, NEXT_PAGE]), [BEGINS, one, other, page]);
        assert_eq!(changes(true, &[NEXT_PAGE, CREATED]), [page, BEGINS, NEXT_BEGINS, one, other]);
    }

    /// The page begins with the offset, and its own record must not empty it again.
    #[test]
    fn the_next_page_begins_with_a_multixact_of_a_server_that_was_updated_later() {
        let [one, other] = MEMBERS;
        let is_there = SlruChange::Begin(Slru::Offsets, 1);
        assert_eq!(changes(true, &[CREATED, NEXT_PAGE]), [BEGINS, is_there, NEXT_BEGINS, one, other]);
        let (this, next) = (SlruChange::Zero(Slru::Offsets, 0), SlruChange::Zero(Slru::Offsets, 1));
        let first = (MULTIXACT_ZERO_OFF_PAGE, &[0_u32][..]);
        let expected = [this, BEGINS, next, NEXT_BEGINS, one, other];
        assert_eq!(changes(true, &[first, CREATED, NEXT_PAGE]), expected);
    }

    /// Two sessions make multixacts 2047 and 2048 at once, and the later one's record comes first.
    #[test]
    fn a_multixact_does_not_empty_the_page_that_a_later_one_is_in() {
        let later = (MULTIXACT_CREATE_ID, &[2048_u32, 12, 1, 702, 1][..]);
        let mut page = Box::new([0xff; BLOCK_LEN]);
        for change in changes(true, &[NEXT_PAGE, later, CREATED]) {
            if change.page() == Some((Slru::Offsets, 1)) {
                change.apply(&mut page);
            }
        }
        assert_eq!([u32_at(&page[..], 0), u32_at(&page[..], 4)], [Some(12), Some(13)]);
    }

    #[test]
    fn page_numbers_have_64_bits_since_17() {
        let main = [7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0];
        for (major, left) in [(Major::V15, 8), (Major::V17, 4)] {
            let mut fields = Fields(&main);
            assert_eq!((page_number(major, &mut fields), fields.0.len()), (Ok(7), left));
        }
        assert!(page_number(Major::V17, &mut Fields(&[0, 0, 0, 0, 1, 0, 0, 0])).is_err());
    }

    #[test]
    fn a_truncation_takes_whole_segments_before_the_cutoff() {
        assert!(is_truncated(Slru::Status, 64, 1));
        assert!(!is_truncated(Slru::Status, 63, 1));
        assert!(!is_truncated(Slru::Status, 64, 2));
        // Around the wrap: the last segments are older than the first.
        assert!(is_truncated(Slru::Status, 40, 4095));
    }
}

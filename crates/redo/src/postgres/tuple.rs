//! The header of a heap tuple (`access/htup_details.h`).

use super::error::Underivable;

/// Bytes of the fixed header (`SizeofHeapTupleHeader`).
pub const TUPLE_HEADER_LEN: usize = 23;

/// `t_infomask`: the command id is a combination of two.
pub const COMBO_CID: u16 = 0x0020;
/// `t_infomask`: xmin is frozen when both bits are set.
pub const XMIN_FROZEN: u16 = 0x0300;
/// `t_infomask`: xmax is known to have committed.
pub const XMAX_COMMITTED: u16 = 0x0400;
/// `t_infomask`: xmax is known to be none or aborted.
pub const XMAX_INVALID: u16 = 0x0800;
/// `t_infomask`: xmax is a multixact.
pub const XMAX_IS_MULTI: u16 = 0x1000;
/// `t_infomask`: all bits that concern visibility (`HEAP_XACT_MASK`).
pub const XACT_MASK: u16 = 0xfff0;
/// `t_infomask2`: the tuple was updated within its page and indexes.
pub const HOT_UPDATED: u16 = 0x4000;

const XMAX_KEYSHR_LOCK: u16 = 0x0010;
const XMAX_EXCL_LOCK: u16 = 0x0040;
const XMAX_LOCK_ONLY: u16 = 0x0080;
const LOCK_MASK: u16 = XMAX_KEYSHR_LOCK | XMAX_EXCL_LOCK;
const XMAX_BITS: u16 = XMAX_COMMITTED | XMAX_INVALID | XMAX_IS_MULTI | LOCK_MASK | XMAX_LOCK_ONLY;
const MOVED: u16 = 0xc000;
const KEYS_UPDATED: u16 = 0x2000;

const MOVED_PARTITIONS: (u32, u16) = (u32::MAX, 0xfffd);
const SPECULATIVE_TOKEN: u16 = 0xfffe;

const BITS_XMAX_IS_MULTI: u8 = 0x01;
const BITS_XMAX_LOCK_ONLY: u8 = 0x02;
const BITS_XMAX_EXCL_LOCK: u8 = 0x04;
const BITS_XMAX_KEYSHR_LOCK: u8 = 0x08;
const BITS_KEYS_UPDATED: u8 = 0x10;

/// A heap tuple's bytes, at least a header long.
#[derive(Debug)]
pub struct Tuple<'a>(&'a mut [u8]);

impl<'a> Tuple<'a> {
    /// The tuple in these bytes.
    pub fn new(bytes: &'a mut [u8]) -> Result<Self, Underivable> {
        if bytes.len() < TUPLE_HEADER_LEN {
            return Err(Underivable::BadPage("a tuple is shorter than its header"));
        }
        Ok(Self(bytes))
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// The transaction that made it, as it is stored.
    pub fn xmin(&self) -> u32 {
        self.u32(0)
    }

    /// Sets the transaction that made it.
    pub fn set_xmin(&mut self, xid: u32) {
        self.put_u32(0, xid);
    }

    /// The transaction or multixact that deleted or locked it, as it is stored.
    pub fn xmax(&self) -> u32 {
        self.u32(4)
    }

    /// Sets the transaction or multixact that deleted or locked it.
    pub fn set_xmax(&mut self, xid: u32) {
        self.put_u32(4, xid);
    }

    /// Sets the field that is a command id or, in tuples of PostgreSQL before 9.0, the transaction of a VACUUM FULL.
    pub fn set_field3(&mut self, value: u32) {
        self.put_u32(8, value);
    }

    /// Sets the command id to the first one, as every redo does: records do not carry it.
    pub fn reset_cid(&mut self) {
        self.set_field3(0);
        self.set_infomask(self.infomask() & !COMBO_CID);
    }

    /// Points to the next version: its block and item number.
    pub fn set_ctid(&mut self, block: u32, number: u16) {
        self.put_u16(12, (block >> 16) as u16);
        self.put_u16(14, block as u16);
        self.put_u16(16, number);
    }

    /// Says that the next version is in another partition.
    pub fn set_moved_partitions(&mut self) {
        self.set_ctid(MOVED_PARTITIONS.0, MOVED_PARTITIONS.1);
    }

    /// Whether the pointer to the next version is a token of a speculative insertion.
    pub fn is_speculative(&self) -> bool {
        self.u16(16) == SPECULATIVE_TOKEN
    }

    /// `t_infomask2`.
    pub fn infomask2(&self) -> u16 {
        self.u16(18)
    }

    /// Sets `t_infomask2`.
    pub fn set_infomask2(&mut self, bits: u16) {
        self.put_u16(18, bits);
    }

    /// `t_infomask`.
    pub fn infomask(&self) -> u16 {
        self.u16(20)
    }

    /// Sets `t_infomask`.
    pub fn set_infomask(&mut self, bits: u16) {
        self.put_u16(20, bits);
    }

    /// Where the columns begin.
    pub fn hoff(&self) -> usize {
        usize::from(self.0[22])
    }

    /// Sets where the columns begin.
    pub fn set_hoff(&mut self, hoff: u8) {
        self.0[22] = hoff;
    }

    /// The bytes from the columns on.
    pub fn columns(&mut self) -> Result<&mut [u8], Underivable> {
        let hoff = self.hoff();
        self.0.get_mut(hoff..).ok_or(Underivable::BadPage("a tuple's columns begin beyond its end"))
    }

    /// Forgets who deleted or locked it and takes the record's word instead. Follows the clearing at the top of every
    /// redo of `heapam.c` and `fix_infomask_from_infobits`.
    pub fn set_infobits(&mut self, infobits: u8) -> Result<(), Underivable> {
        let known = BITS_XMAX_IS_MULTI
            | BITS_XMAX_LOCK_ONLY
            | BITS_XMAX_EXCL_LOCK
            | BITS_XMAX_KEYSHR_LOCK
            | BITS_KEYS_UPDATED;
        if infobits & !known != 0 {
            return Err(Underivable::UnknownFlags(infobits.into()));
        }
        let mut infomask = self.infomask() & !(XMAX_BITS | MOVED);
        let mut infomask2 = self.infomask2() & !KEYS_UPDATED;
        for (bit, mask) in [
            (BITS_XMAX_IS_MULTI, XMAX_IS_MULTI),
            (BITS_XMAX_LOCK_ONLY, XMAX_LOCK_ONLY),
            (BITS_XMAX_EXCL_LOCK, XMAX_EXCL_LOCK),
            (BITS_XMAX_KEYSHR_LOCK, XMAX_KEYSHR_LOCK),
        ] {
            if infobits & bit != 0 {
                infomask |= mask;
            }
        }
        if infobits & BITS_KEYS_UPDATED != 0 {
            infomask2 |= KEYS_UPDATED;
        }
        self.set_infomask(infomask);
        self.set_infomask2(infomask2);
        Ok(())
    }

    /// Says whether it was updated within its page and indexes.
    pub fn set_hot_updated(&mut self, hot: bool) {
        let rest = self.infomask2() & !HOT_UPDATED;
        self.set_infomask2(if hot { rest | HOT_UPDATED } else { rest });
    }

    /// Whether xmax, if any, only locks it (`HEAP_XMAX_IS_LOCKED_ONLY`).
    pub fn is_locked_only(&self) -> bool {
        let bits = self.infomask();
        bits & XMAX_LOCK_ONLY != 0 || bits & (XMAX_IS_MULTI | LOCK_MASK) == XMAX_EXCL_LOCK
    }
}

/// Whether transaction `one` is older than `other`, around the wrap. Follows `TransactionIdPrecedes`.
pub fn xid_precedes(one: u32, other: u32) -> bool {
    const FIRST_NORMAL: u32 = 3;
    if one < FIRST_NORMAL || other < FIRST_NORMAL {
        one < other
    } else {
        (one.wrapping_sub(other) as i32) < 0
    }
}

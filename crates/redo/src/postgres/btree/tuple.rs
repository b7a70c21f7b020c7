//! Index tuples (`access/itup.h`) and their use as posting lists (`access/nbtree.h`).
//!
//! A tuple begins with a pointer of six bytes to a heap tuple, then 16 bits of length and flags. In a posting list the
//! pointer holds instead how many pointers there are and where in the tuple they begin.

use crate::postgres::error::Underivable;
use crate::postgres::fields::{align8, u16_at};
use crate::postgres::position::BLOCK_LEN;

/// Bytes of the header (`IndexTupleData`).
pub(crate) const TUPLE_HEADER_LEN: usize = 8;
/// Bytes of a pointer to a heap tuple (`ItemPointerData`).
pub(crate) const TID_LEN: usize = 6;

const SIZE_MASK: u16 = 0x1fff;
const ALT_TID: u16 = 0x2000;
const IS_POSTING: u16 = 0x2000;
const COUNT_MASK: u16 = 0x0fff;

/// A pointer to a heap tuple, as it is stored.
pub(crate) type Tid = [u8; TID_LEN];

/// An index tuple's bytes; there may be more behind it.
#[derive(Clone, Copy)]
pub(crate) struct IndexTuple<'a>(&'a [u8]);

impl<'a> IndexTuple<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Underivable> {
        if bytes.len() < TUPLE_HEADER_LEN {
            return Err(Underivable::BadPage("an index tuple is shorter than its header"));
        }
        Ok(Self(bytes))
    }

    fn info(self) -> u16 {
        u16::from_le_bytes([self.0[6], self.0[7]])
    }

    fn offset_field(self) -> u16 {
        u16::from_le_bytes([self.0[4], self.0[5]])
    }

    /// Its bytes, not rounded up (`IndexTupleSize`).
    pub(crate) fn size(self) -> usize {
        usize::from(self.info() & SIZE_MASK)
    }

    fn is_posting(self) -> bool {
        self.info() & ALT_TID != 0 && self.offset_field() & IS_POSTING != 0
    }

    /// Where the key ends: before the posting list, if there is one.
    pub(crate) fn key_len(self) -> usize {
        if self.is_posting() { block_number(self.0).unwrap_or(0) as usize } else { self.size() }
    }

    /// The pointers to heap tuples: one, or a posting list.
    pub(crate) fn tids(self) -> Result<&'a [u8], Underivable> {
        if !self.is_posting() {
            return Ok(&self.0[..TID_LEN]);
        }
        let from = self.key_len();
        let len = usize::from(self.offset_field() & COUNT_MASK) * TID_LEN;
        let end = from.checked_add(len).filter(|&end| from >= TUPLE_HEADER_LEN && end <= self.size());
        let end = end.ok_or(Underivable::BadPage("a posting list ends beyond its tuple"))?;
        self.0.get(from..end).ok_or(Underivable::BadPage("a posting list ends beyond its tuple"))
    }

    /// The key and flags of this tuple with other pointers, written to the front of `out`; returns the length.
    /// Follows `_bt_form_posting` in `nbtdedup.c`.
    pub(crate) fn with_tids(self, tids: &[u8], out: &mut [u8; BLOCK_LEN]) -> Result<usize, Underivable> {
        let key_len = self.key_len();
        let count = tids.len() / TID_LEN;
        let size = if count > 1 { align8(key_len + tids.len()) } else { key_len };
        let key = self.0.get(..key_len).filter(|key| key.len() >= TUPLE_HEADER_LEN);
        let key = key.ok_or(Underivable::BadPage("an index tuple's key ends beyond it"))?;
        if size > usize::from(SIZE_MASK) || size > BLOCK_LEN || count == 0 || count > usize::from(COUNT_MASK)
        {
            return Err(Underivable::BadRecord("a posting list of that length cannot be"));
        }
        out[..key_len].copy_from_slice(key);
        let mut info = self.info() & !SIZE_MASK | size as u16;
        if count > 1 {
            info |= ALT_TID;
            set_block_number(out, key_len as u32)?;
            out[4..6].copy_from_slice(&(count as u16 | IS_POSTING).to_le_bytes());
            out[key_len..key_len + tids.len()].copy_from_slice(tids);
            out[key_len + tids.len()..size].fill(0);
        } else {
            info &= !ALT_TID;
            out[..TID_LEN].copy_from_slice(tids);
        }
        out[6..8].copy_from_slice(&info.to_le_bytes());
        Ok(size)
    }
}

/// The block number in a tuple's pointer: in an inner page the child (`BTreeTupleGetDownLink`).
pub(crate) fn block_number(tuple: &[u8]) -> Result<u32, Underivable> {
    let halves = u16_at(tuple, 0).zip(u16_at(tuple, 2));
    let (high, low) = halves.ok_or(Underivable::BadPage("an index tuple is shorter than its header"))?;
    Ok(u32::from(high) << 16 | u32::from(low))
}

/// Sets the block number in a tuple's pointer.
pub(crate) fn set_block_number(tuple: &mut [u8], block: u32) -> Result<(), Underivable> {
    let place =
        tuple.get_mut(..4).ok_or(Underivable::BadPage("an index tuple is shorter than its header"))?;
    place[..2].copy_from_slice(&((block >> 16) as u16).to_le_bytes());
    place[2..].copy_from_slice(&(block as u16).to_le_bytes());
    Ok(())
}

/// A tuple without columns that leads to a block (`BTreeTupleSetTopParent` of an empty one).
pub(crate) fn top_parent(block: u32) -> [u8; TUPLE_HEADER_LEN] {
    let info = (TUPLE_HEADER_LEN as u16 | ALT_TID).to_le_bytes();
    let (high, low) = (((block >> 16) as u16).to_le_bytes(), (block as u16).to_le_bytes());
    [high[0], high[1], low[0], low[1], 0, 0, info[0], info[1]]
}

/// Puts the pointer of `new` into the posting list at `split_at` and returns the one that thereby fell off its end,
/// which `new` takes. Follows `_bt_swap_posting` in `nbtdedup.c`.
pub(crate) fn swap_posting(posting: &mut [u8], new: &[u8], split_at: usize) -> Result<Tid, Underivable> {
    let tuple = IndexTuple::new(posting)?;
    let count = tuple.tids()?.len() / TID_LEN;
    if !tuple.is_posting() || split_at == 0 || split_at >= count {
        return Err(Underivable::BadPage("the posting list cannot be split there"));
    }
    let from = tuple.key_len();
    let new_tid = new.get(..TID_LEN).ok_or(Underivable::ShortRecord)?;
    let list = &mut posting[from..from + count * TID_LEN];
    let mut last = [0; TID_LEN];
    last.copy_from_slice(&list[(count - 1) * TID_LEN..]);
    list.copy_within(split_at * TID_LEN..(count - 1) * TID_LEN, (split_at + 1) * TID_LEN);
    list[split_at * TID_LEN..(split_at + 1) * TID_LEN].copy_from_slice(new_tid);
    Ok(last)
}

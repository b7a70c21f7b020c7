//! What the hold rule asks of a page: whether the writer's cache may forget it because storage can derive it.
//!
//! The running server keeps things in pages that its log does not carry. A page for which one of these predicates
//! fails must be kept, or shipped as an image. They are the page's part of rules H2, H4, H5 and H6; the rest of the
//! hold rule compares positions.

use super::btree;
use super::error::Underivable;
use super::page::{ItemState, Page};
use super::position::WalPosition;
use super::running::RunningXids;
use super::sequence;
use super::tuple::{Tuple, XMAX_IS_MULTI};

/// The log of a cluster begins with its second segment; smaller LSNs are stand-ins of index builds (`GistBuildLSN` is
/// 1) and unlogged relations (`FirstNormalUnloggedLSN` is 1000).
const FIRST_REAL: WalPosition = WalPosition(1 << 20);

/// H2: the page's LSN is a position of the log up to `end`.
#[must_use]
pub fn has_real_lsn(page: &Page<'_>, end: WalPosition) -> bool {
    (FIRST_REAL..=end).contains(&page.lsn())
}

/// H4: no tuple of the heap page was made, deleted or locked by a transaction that runs, alone or as a member of a
/// multixact from `oldest_multi` on (the oldest that can have a running member). Its command ids, speculative tokens
/// and combinations of them are then of no use to anyone.
pub fn has_no_running_tuples(
    page: &mut Page<'_>,
    running: &RunningXids,
    oldest_multi: u32,
) -> Result<bool, Underivable> {
    page.check_pointers()?;
    for number in 1..=page.item_count() {
        if page.line_pointer(number)?.state != ItemState::Normal {
            continue;
        }
        let tuple = Tuple::new(page.item_mut(number)?)?;
        let xmax = tuple.xmax();
        let xmax_runs = if tuple.infomask() & XMAX_IS_MULTI != 0 {
            xmax.wrapping_sub(oldest_multi) as i32 >= 0
        } else {
            running.contains(xmax)
        };
        if xmax_runs || running.contains(tuple.xmin()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// H5: no VACUUM that runs relies on the cycle id of the B-tree page.
pub fn has_no_cycle_id(page: &mut Page<'_>) -> Result<bool, Underivable> {
    Ok(btree::Opaque::of(page)?.cycle_id() == 0)
}

/// H6: whether it is the page of a sequence, which counts up to what it logged without records.
#[must_use]
pub fn is_sequence(page: &mut Page<'_>) -> bool {
    page.special_space(sequence::SPECIAL_LEN)
        .is_ok_and(|special| special[..4] == sequence::MAGIC.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::decode::build::{Content, raw};
    use super::super::decode::record::decode;
    use super::*;
    use crate::postgres::position::BLOCK_LEN;

    /// The set after records of these transactions, and the end of one.
    fn running(xids: &[u32], ended: u32) -> RunningXids {
        let mut running = RunningXids::default();
        let mut observe = |content: Content| {
            let bytes = content.record(WalPosition(64));
            let mut references = Vec::new();
            let record = decode(raw(&bytes), &mut references).unwrap();
            running.observe(&record).unwrap();
        };
        for &xid in xids {
            observe(Content { xid, manager: 10, info: 0, blocks: vec![], main: vec![0; 3] });
        }
        observe(Content { xid: ended, manager: 1, info: 0, blocks: vec![], main: vec![0; 8] });
        running
    }

    fn heap_page(xmin: u32, xmax: u32, infomask: u16) -> Box<[u8; BLOCK_LEN]> {
        let mut block = Box::new([0; BLOCK_LEN]);
        let mut page = Page::new(&mut block);
        page.init(0);
        page.push_item(&[0; 30]).unwrap();
        let mut tuple = Tuple::new(page.item_mut(1).unwrap()).unwrap();
        tuple.set_xmin(xmin);
        tuple.set_xmax(xmax);
        tuple.set_infomask(infomask);
        block
    }

    #[test]
    fn a_heap_page_is_held_while_one_of_its_transactions_runs() {
        let running = running(&[700, 701, 702], 701);
        assert_eq!((running.len(), running.contains(701)), (2, false));
        let free = |xmin, xmax, infomask| {
            let mut block = heap_page(xmin, xmax, infomask);
            has_no_running_tuples(&mut Page::new(&mut block), &running, 50).unwrap()
        };
        assert!(free(701, 0, 0), "its transaction ended");
        assert!(!free(700, 0, 0), "its maker runs");
        assert!(!free(600, 702, 0), "its deleter runs");
        assert!(free(600, 49, XMAX_IS_MULTI), "the multixact is older than any that runs");
        assert!(!free(600, 50, XMAX_IS_MULTI), "a member may run");
        assert!(free(600, 601, 0), "nobody runs");
    }

    #[test]
    fn an_lsn_is_real_only_within_the_log() {
        let mut block = heap_page(600, 0, 0);
        let mut page = Page::new(&mut block);
        let end = WalPosition(0x0200_0000);
        for (lsn, real) in [
            (0, false),
            (1, false),
            (1000, false),
            (0x0180_0000, true),
            (0x0200_0000, true),
            (0x0200_0001, false),
        ] {
            page.set_lsn(WalPosition(lsn));
            assert_eq!(has_real_lsn(&page, end), real, "{lsn:#x}");
        }
    }

    #[test]
    fn index_and_sequence_pages_are_told_apart() {
        let mut block = Box::new([0; BLOCK_LEN]);
        let mut page = Page::new(&mut block);
        page.init(btree::OPAQUE_LEN);
        assert_eq!((has_no_cycle_id(&mut page), is_sequence(&mut page)), (Ok(true), false));
        btree::Opaque::of(&mut page).unwrap().set_cycle_id(3);
        assert_eq!(has_no_cycle_id(&mut page), Ok(false));
        page.init(sequence::SPECIAL_LEN);
        assert!(!is_sequence(&mut page));
        page.special_space(8).unwrap()[..4].copy_from_slice(&sequence::MAGIC.to_le_bytes());
        assert!(is_sequence(&mut page));
        assert!(has_no_cycle_id(&mut page).is_err());
    }
}

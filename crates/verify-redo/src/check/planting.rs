//! Where bugs are planted into what redo made of a block.

use anyhow::Result;
use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, Record};
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::{BLOCK_LEN, mask};

use super::{Checker, PAGE_LSN_AND_CHECKSUM_LEN};
use crate::coverage::Entry;
use crate::plant::Bug;

/// What a planted bug flips in a byte.
const SPOILED_BITS: u8 = 0x55;

impl Checker {
    /// Notes that something is wrong with a block; says whether that was planted.
    pub(super) fn was_planted(&mut self, tag: BlockTag) -> bool {
        self.plants.as_mut().is_some_and(|plants| plants.notice(tag))
    }

    /// Spoils what a record made of a block, if it is its turn.
    pub(super) fn plant(
        &mut self,
        record: &Record<'_>,
        reference: &BlockReference,
        entry: Entry,
    ) -> Result<()> {
        let Some(plants) = &mut self.plants else { return Ok(()) };
        let tag = reference.tag;
        let Some(bug) = plants.next(entry, tag) else { return Ok(()) };
        let block = self.store.block(tag)?;
        let before = &self.scratch.before;
        let masked = |page: &Block| {
            let mut page = Box::new(*page);
            // A page that cannot be masked stays as it is.
            let _ = mask::mask(record.manager, tag.fork, tag.block, &mut Page::new(&mut page));
            page
        };
        let visible = masked(block);
        let changed = |at: &usize| block[*at] != before[*at];
        let shows = |at: &usize| {
            let mut spoiled = Box::new(*block);
            spoiled[*at] ^= SPOILED_BITS;
            masked(&spoiled) != visible
        };
        let mut changes = (PAGE_LSN_AND_CHECKSUM_LEN..BLOCK_LEN).filter(changed);
        // Where masks hide all that the record changed, the comparison at rest must notice.
        let Some(at) = changes.clone().find(shows).or_else(|| changes.next()) else {
            plants.withdraw(tag);
            return Ok(());
        };
        match bug {
            Bug::LeftOut => block.copy_from_slice(&before[..]),
            Bug::Corrupted => block[at] ^= SPOILED_BITS,
        }
        Ok(())
    }
}

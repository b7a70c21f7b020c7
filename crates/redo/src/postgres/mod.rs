//! PostgreSQL's write-ahead log: its records, and what they make of blocks. PostgreSQL 15 and 17.
//!
//! Everything is pure: bytes in, values out. Ported from PostgreSQL's own redo (see `NOTICE`); the files follow its
//! resource managers, and each handler names the function that it follows.
//!
//! * [`decode`]: records out of bytes as they arrive, with their block references and images;
//! * [`major`], [`release`]: the versions, and where they differ;
//! * [`redo`]: a block after a record; [`visibility`]: bits that records clear without naming the map's block;
//! * [`page`], [`tuple`]: the layout of pages and heap tuples;
//! * [`heap`], [`heap2`], [`btree`], [`hash`], [`gin`], [`gist`], [`spgist`], [`brin`], [`sequence`], [`generic`]: the
//!   families of records;
//! * [`files`], [`xact`], [`slru`]: what records do to files as wholes, how transactions end, and the files about that;
//! * [`checkpoint`], [`recovery`], [`running`], [`hold`]: counters, ends of recoveries, running transactions, and what
//!   they say of pages;
//! * [`control`], [`synthesis`], [`origins`], [`checksum`]: what a server needs to start from derived files;
//! * [`mask`]: what may differ between a derived page and the server's own.
//!
//! What cannot be derived is a value, [`Underivable`]: never a panic, and never a guess.

mod brin;
mod btree;
pub mod checkpoint;
pub mod checksum;
pub mod control;
pub mod decode;
mod error;
mod fields;
pub mod files;
mod generic;
mod gin;
mod gist;
mod hash;
mod heap;
mod heap2;
pub mod hold;
pub mod major;
pub mod manager;
pub mod mask;
pub mod origins;
mod outcome;
pub mod page;
mod position;
pub mod recovery;
pub mod release;
pub mod running;
mod sequence;
pub mod slru;
mod spgist;
pub mod synthesis;
mod tuple;
pub mod visibility;
pub mod xact;

use decode::image;
use decode::record::{BlockReference, Record};
pub use error::Underivable;
pub use outcome::{Outcome, Settings};
use page::{Block, Page};
pub use position::{BLOCK_LEN, BadWalPosition, WalPosition};

const XLOG_FPI_FOR_HINT: u8 = 0xa0;
const XLOG_FPI: u8 = 0xb0;

/// Turns `block`, the content of the referenced block before the record (zeroes if it was absent), into its content
/// after it. After an error the block holds an arbitrary mixture and must be thrown away.
///
/// Follows `XLogReadBufferForRedoExtended` in `access/transam/xlogutils.c`: an image that is to be applied decides
/// alone; a block that holds the record already is left alone; else the resource manager's redo is asked.
pub fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    block: &mut Block,
    settings: Settings,
) -> Result<Outcome, Underivable> {
    let restores = reference.image.as_ref().is_some_and(|image| image.apply);
    if restores {
        image::restore(record, reference, block)?;
        let mut page = Page::new(block);
        if !page.is_new() {
            page.set_lsn(record.end);
        }
        if !changes_image(record, reference.id) {
            return Ok(Outcome::Changed);
        }
    }
    let mut page = Page::new(block);
    if page.lsn() >= record.end && !reference.will_init && !restores {
        return Ok(Outcome::AlreadyThere);
    }
    let outcome = match record.manager {
        manager::XLOG => without_image(record)?,
        manager::HEAP => heap::redo(record, reference, &mut page)?,
        manager::HEAP2 => heap2::redo(record, reference, &mut page, settings)?,
        manager::BTREE => btree::redo(record, reference, &mut page)?,
        manager::HASH => hash::redo(record, reference, &mut page)?,
        manager::GIN => gin::redo(record, reference, &mut page)?,
        manager::GIST => gist::redo(record, reference, &mut page, settings)?,
        manager::SPGIST => spgist::redo(record, reference, &mut page)?,
        manager::BRIN => brin::redo(record, reference, &mut page)?,
        manager::SEQ => sequence::redo(record, reference, &mut page)?,
        manager::GENERIC => generic::redo(record, reference, &mut page)?,
        manager => return Err(Underivable::UnknownRecord { manager, operation: record.operation() }),
    };
    if outcome == Outcome::Changed {
        page.set_lsn(record.end);
    }
    Ok(outcome)
}

/// Whether redo goes on after the image was restored.
fn changes_image(record: &Record<'_>, id: u8) -> bool {
    match record.manager {
        manager::HASH => hash::changes_image(record, id),
        manager::GIST => gist::changes_image(record, id),
        _ => false,
    }
}

/// Records of full-page images whose image is missing. Follows `xlog_redo` in `access/transam/xlog.c`: with
/// `full_page_writes` off one for a hint bit has none, and then there is nothing to do.
fn without_image(record: &Record<'_>) -> Result<Outcome, Underivable> {
    match record.operation() {
        XLOG_FPI_FOR_HINT => Ok(Outcome::LockOnly),
        XLOG_FPI => Err(Underivable::BadImage("a record of images has none")),
        operation => Err(Underivable::UnknownRecord { manager: record.manager, operation }),
    }
}

#[cfg(test)]
mod tests;

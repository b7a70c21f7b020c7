//! Redo of resource manager Sequence. Ported from `seq_redo` of `src/backend/commands/sequence.c`.

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::outcome::Outcome;
use super::page::Page;

const LOG: u8 = 0x00;
/// The number in a sequence page's special space.
pub(crate) const MAGIC: u32 = 0x1717;
/// Bytes of a sequence page's special space.
pub(crate) const SPECIAL_LEN: usize = 8;
const RELATION_LEN: usize = 12;

/// The page of a sequence, from nothing. Follows `seq_redo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let (manager, operation) = (record.manager, record.operation());
    match (operation, reference.id) {
        (LOG, 0) => {}
        (LOG, id) => return Err(Underivable::UnknownReference { manager, operation, id }),
        _ => return Err(Underivable::UnknownRecord { manager, operation }),
    }
    let mut main = record.fields();
    main.skip(RELATION_LEN)?;
    page.init(SPECIAL_LEN);
    page.special_space(SPECIAL_LEN)?[..4].copy_from_slice(&MAGIC.to_le_bytes());
    page.add_item(1, main.0)?;
    Ok(Outcome::Changed)
}

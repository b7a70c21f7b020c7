//! Redo of resource manager Generic, whose records say which bytes of a page change. Ported from
//! `src/backend/access/transam/generic_xlog.c`.

use super::decode::record::{BlockReference, Record};
use super::error::Underivable;
use super::fields::Fields;
use super::outcome::Outcome;
use super::page::Page;

/// The page with the record's fragments, each an offset, a length and bytes, and its hole zeroed. Follows
/// `generic_redo` and `applyPageRedo`.
pub(crate) fn redo(
    record: &Record<'_>,
    reference: &BlockReference,
    page: &mut Page<'_>,
) -> Result<Outcome, Underivable> {
    let (manager, operation) = (record.manager, record.operation());
    if operation != 0 {
        return Err(Underivable::UnknownRecord { manager, operation });
    }
    let mut delta = Fields(record.data(reference));
    while !delta.0.is_empty() {
        let (offset, len) = (usize::from(delta.u16()?), usize::from(delta.u16()?));
        let bytes = delta.bytes(len)?;
        let target = page.block_mut().get_mut(offset..offset + len);
        target.ok_or(Underivable::BadRecord("a fragment lies outside the page"))?.copy_from_slice(bytes);
    }
    page.check_pointers()?;
    let hole = page.lower()..page.upper();
    page.block_mut()[hole].fill(0);
    Ok(Outcome::Changed)
}

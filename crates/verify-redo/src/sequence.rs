//! What the page of a sequence on the running server lacks of the one in its log.

use zorya_redo::postgres::BLOCK_LEN;
use zorya_redo::postgres::page::Block;

/// Whether `derived` holds the value that the log promises, and `server` one on the way to it with the number of
/// fetches left, and the pages are otherwise equal.
pub fn is_ahead(derived: &Block, server: &Block) -> bool {
    let Some((last, left)) = values(server) else { return false };
    let Some((promised, _)) = values(derived) else { return false };
    let distance = promised.wrapping_sub(last);
    let fits = left > 0 && distance % left == 0 && distance / left != 0;
    let rest_equal = tuple_at(server).is_some_and(|at| {
        let but = |block: &Block| {
            let mut block = *block;
            // The tuple's hint bits, last_value and log_cnt.
            block[at + 20..at + 22].fill(0);
            block[at + 24..at + 40].fill(0);
            block
        };
        but(derived) == but(server)
    });
    fits && rest_equal
}

/// Where the only tuple begins.
fn tuple_at(block: &Block) -> Option<usize> {
    let at = usize::from(u16::from_le_bytes([block[24], block[25]]) & 0x7fff);
    (at + 48 <= BLOCK_LEN).then_some(at)
}

/// The columns last_value and log_cnt.
fn values(block: &Block) -> Option<(i64, i64)> {
    let at = tuple_at(block)? + 24;
    let number = |at: usize| Some(i64::from_le_bytes(*block.get(at..)?.first_chunk()?));
    Some((number(at)?, number(at + 8)?))
}

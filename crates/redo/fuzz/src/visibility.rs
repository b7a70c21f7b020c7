//! Bits of the visibility map.

use zorya_redo::postgres::decode::record::decode;
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::manager;
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::visibility::{BOTH, Clear, clear, implicit_clears, set, truncate_tail};

use super::input;

/// Clears what the input's record clears without a reference in the input's block, as a page of the map, sets it again,
/// and cuts the map there. At most one byte changes at a time.
pub fn visibility(mut input: &[u8]) {
    let bits = input::byte(&mut input) & BOTH;
    let Some(bytes) = input::record(&mut input, &[manager::HEAP, manager::HEAP2]) else { return };
    let block = input::block(&mut input);
    input::MAJORS.into_iter().for_each(|major| of_record(major, &bytes, bits, block.clone()));
}

fn of_record(major: Major, bytes: &[u8], bits: u8, mut block: Box<Block>) {
    let mut references = Vec::new();
    let Ok(record) = decode(input::raw(major, bytes), &mut references) else { return };
    for found in implicit_clears(&record).into_iter().flatten() {
        assert!(found.bits != 0 && found.bits <= BOTH);
        one(found, bits, &mut block);
        truncate_tail(&mut Page::new(&mut block), found.heap.block);
    }
    for reference in record.references {
        one(Clear { heap: reference.tag, bits: BOTH }, bits, &mut block);
    }
}

fn one(found: Clear, bits: u8, block: &mut Block) {
    let mut changed = Box::new(*block);
    let mut page = Page::new(&mut changed);
    let any = clear(&mut page, found);
    assert!(!clear(&mut page, found), "bits that are cleared are not set");
    assert_eq!(differences(block, page.block()), usize::from(any));
    let cleared = Box::new(*page.block());
    let sets = set(&mut page, found.heap.block, bits);
    assert!(!set(&mut page, found.heap.block, bits) || bits != BOTH, "bits that are set are set");
    assert!(differences(&cleared, page.block()) <= usize::from(sets));
    let mut map = page;
    assert_eq!(
        clear(&mut map, Clear { bits: BOTH, ..found }),
        bits != 0 || found.bits != BOTH && any_left(&cleared, found)
    );
    *block = *changed;
}

/// Whether bits of the heap's block are left in a page of the map.
fn any_left(block: &Block, found: Clear) -> bool {
    clear(&mut Page::new(&mut Box::new(*block)), Clear { bits: BOTH, ..found })
}

fn differences(one: &Block, other: &Block) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

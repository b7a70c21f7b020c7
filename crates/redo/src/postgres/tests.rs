//! Properties of redo as a whole; what each family does is proven against the server by `zorya-verify-redo`.

use proptest::prelude::*;

use super::decode::build::{Block as BuiltBlock, Content, raw};
use super::decode::record::{BlockTag, Relation, decode};
use super::page::{Block, Page};
use super::{BLOCK_LEN, Outcome, Settings, Underivable, WalPosition, files, manager, mask, redo, visibility};

const RELATION: Relation = Relation { tablespace: 1663, database: 5, number: 16384 };
const START: WalPosition = WalPosition(0x0100_0000);
const SETTINGS: Settings = Settings { hints_logged: true, marks_gist_deletions: true };

/// Special space by access method: heap, index, map and sequence pages.
fn any_page() -> impl Strategy<Value = Box<Block>> {
    let garbage = prop::collection::vec(any::<u8>(), BLOCK_LEN);
    let items = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..40);
    let special = prop::sample::select(vec![0_usize, 8, 16]);
    let orderly =
        (special, items, prop::collection::vec(any::<u8>(), 16)).prop_map(|(special, items, bytes)| {
            let mut block = Box::new([0; BLOCK_LEN]);
            let mut page = Page::new(&mut block);
            page.init(special);
            for mut item in items {
                if let Some(size) = item.get_mut(6..8) {
                    size.copy_from_slice(&[8 + size[0] % 64, size[1] & 0xe0]);
                }
                let _ = page.push_item(&item);
            }
            block[BLOCK_LEN - special..].copy_from_slice(&bytes[..special]);
            block
        });
    prop_oneof![
        1 => garbage.prop_map(|bytes| {
            let mut block = Box::new([0; BLOCK_LEN]);
            block.copy_from_slice(&bytes);
            block[..8].fill(0);
            block
        }),
        4 => orderly,
    ]
}

/// Bytes with many small numbers in them, as records have.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![0_u8..4, 0_u8..40, any::<u8>()], 0..80),
        prop::collection::vec(any::<u8>(), 0..400),
    ]
}

fn any_content() -> impl Strategy<Value = Content> {
    let block = (any_data(), any::<bool>(), 0_u32..4).prop_map(|(data, will_init, block)| BuiltBlock {
        id: 0,
        tag: BlockTag { relation: RELATION, fork: 0, block },
        will_init,
        data,
        image: None,
    });
    let blocks = prop::collection::vec(block, 1..8);
    (0_u8..23, 0_u8..16, any_data(), blocks).prop_map(|(manager, operation, main, mut blocks)| {
        (0..).zip(&mut blocks).for_each(|(id, block)| block.id = id);
        Content { xid: 700, manager, info: operation << 4, blocks, main }
    })
}

proptest! {
    #[test]
    fn redo_of_any_record_on_any_page_does_not_panic(content in any_content(), page in any_page()) {
        let bytes = content.record(WalPosition(64));
        let mut references = Vec::new();
        let record = decode(raw(&bytes), &mut references).unwrap();
        for clear in visibility::implicit_clears(&record).into_iter().flatten() {
            visibility::clear(&mut Page::new(&mut page.clone()), clear);
        }
        let _ = files::changes(&record, drop);
        for reference in record.references {
            let mut block = page.clone();
            if redo(&record, reference, &mut block, SETTINGS) == Ok(Outcome::Changed) {
                prop_assert_eq!(Page::new(&mut block).lsn(), record.end);
            }
            let _ = mask::mask(record.manager, 0, reference.tag.block, &mut Page::new(&mut block));
        }
    }

    #[test]
    fn masking_twice_does_not_panic_and_is_masking_once(manager in 9_u8..21, page in any_page()) {
        let mut once = page.clone();
        if mask::mask(manager, 0, 3, &mut Page::new(&mut once)).is_ok() {
            let mut twice = once.clone();
            if mask::mask(manager, 0, 3, &mut Page::new(&mut twice)).is_ok() {
                prop_assert!(once == twice);
            }
        }
    }
}

fn content(manager: u8, info: u8, main: Vec<u8>, data: Vec<u8>) -> Content {
    let tag = BlockTag { relation: RELATION, fork: 0, block: 2 };
    let block = BuiltBlock { id: 0, tag, will_init: false, data, image: None };
    Content { xid: 700, manager, info, blocks: vec![block], main }
}

fn apply(content: &Content, block: &mut Block) -> Result<Outcome, Underivable> {
    let bytes = content.record(WalPosition(64));
    let mut references = Vec::new();
    let record = decode(raw(&bytes), &mut references).unwrap();
    redo(&record, &record.references[0], block, SETTINGS)
}

#[test]
fn what_is_unknown_is_a_value() {
    let mut block = [0; BLOCK_LEN];
    let unknown = content(200, 0x10, vec![], vec![1]);
    let expected = Underivable::UnknownRecord { manager: 200, operation: 0x10 };
    assert_eq!(apply(&unknown, &mut block), Err(expected));
    // Flags of an insertion that no version up to 15 has.
    let flags = content(manager::HEAP, 0x80, vec![1, 0, 0x40], vec![0; 20]);
    assert_eq!(apply(&flags, &mut block), Err(Underivable::UnknownFlags(0x40)));
}

#[test]
fn a_block_that_holds_the_record_is_left_alone() {
    let insert = content(manager::HEAP, 0x80, vec![1, 0, 0], vec![0, 0, 0, 0, 24, 0, 7, 7]);
    let mut block = [0; BLOCK_LEN];
    assert_eq!(apply(&insert, &mut block), Ok(Outcome::Changed));
    let after = block;
    assert_eq!(apply(&insert, &mut block), Ok(Outcome::AlreadyThere));
    assert_eq!(block, after);
}

#[test]
fn bits_of_the_map_are_cleared_where_the_record_says_so() {
    let delete = content(manager::HEAP, 0x10, vec![1, 0, 0, 0, 1, 0, 0, 1], vec![]);
    let bytes = delete.record(WalPosition(64));
    let mut references = Vec::new();
    let record = decode(raw(&bytes), &mut references).unwrap();
    let clears: Vec<_> = visibility::implicit_clears(&record).into_iter().flatten().collect();
    let [clear] = clears[..] else { panic!("one block's bits are cleared, not those of {clears:?}") };
    assert_eq!((clear.heap.block, clear.bits, clear.map().block), (2, visibility::BOTH, 0));
    let mut block = [0xff; BLOCK_LEN];
    assert!(visibility::clear(&mut Page::new(&mut block), clear));
    assert_eq!(block[24], 0b1100_1111);
    assert!(!visibility::clear(&mut Page::new(&mut block), clear));
    visibility::truncate_tail(&mut Page::new(&mut block), 5);
    assert_eq!((block[24], block[25], block[26]), (0b1100_1111, 0b11, 0));
}

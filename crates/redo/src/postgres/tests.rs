//! Properties of redo as a whole; what each family does is proven against the server by `zorya-verify-redo`.

use proptest::prelude::*;

use super::decode::build::{Block as BuiltBlock, Content, raw, raw_of};
use super::decode::record::{BlockTag, Relation, decode};
use super::major::Major;
use super::page::{Block, Page};
use super::{BLOCK_LEN, Outcome, Settings, Underivable, WalPosition, files, manager, mask, redo, visibility};

const RELATION: Relation = Relation { tablespace: 1663, database: 5, number: 16384 };
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
    apply_as(Major::V15, content, block)
}

fn apply_as(major: Major, content: &Content, block: &mut Block) -> Result<Outcome, Underivable> {
    let bytes = content.record(WalPosition(64));
    let mut references = Vec::new();
    let record = decode(raw_of(major, &bytes), &mut references).unwrap();
    redo(&record, &record.references[0], block, SETTINGS)
}

/// A page with three items, the first of which is a redirection to SP-GiST.
fn page_of_three(special: usize) -> Block {
    const REDIRECTION: [u8; 16] = [65, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 7, 0, 0, 0];
    let mut block = [0; BLOCK_LEN];
    let mut page = Page::new(&mut block);
    page.init(special);
    for item in [REDIRECTION, [2; 16], [3; 16]] {
        page.push_item(&item).unwrap();
    }
    block
}

/// Since 16 records say for standbys, before the numbers of the items, whether they concern a catalog.
#[test]
fn items_are_the_same_behind_what_standbys_need() {
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    for (manager, operation, special, until_15, since_16) in [
        (manager::GIST, 0x10, 16, words(&[7, 0, 1, 2]), words(&[7, 0, 1, 1, 2])),
        (manager::HASH, 0xc0, 16, words(&[7, 0, 1, 0, 2]), words(&[7, 0, 1, 1, 2])),
        (manager::SPGIST, 0x80, 8, words(&[1, 0, 7, 0, 1]), words(&[1, 0, 7, 0, 1, 1])),
        (manager::BTREE, 0x70, 16, words(&[7, 0, 0, 0]), words(&[7, 0, 0, 0, 1])),
    ] {
        let [mut old, mut new] = [page_of_three(special), page_of_three(special)];
        let of = |main| content(manager, operation, main, vec![]);
        assert_eq!(apply_as(Major::V15, &of(until_15), &mut old), Ok(Outcome::Changed), "{manager}");
        assert_eq!(apply_as(Major::V17, &of(since_16), &mut new), Ok(Outcome::Changed), "{manager}");
        let differing: Vec<_> = (10..BLOCK_LEN).filter(|&at| old[at] != new[at]).collect();
        assert_eq!(differing, [0; 0], "manager {manager}");
        assert!(old != page_of_three(special));
    }
}

/// A page that takes no tuples when a hash index is squeezed changes no longer, since 17.
#[test]
fn a_squeezed_page_that_takes_nothing_keeps_its_lsn_since_17() {
    let mut squeeze = content(manager::HASH, 0x80, vec![9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0], vec![]);
    squeeze.blocks[0].id = 1;
    let mut block = page_of_three(16);
    assert_eq!(apply_as(Major::V17, &squeeze, &mut block), Ok(Outcome::LockOnly));
    assert!(block == page_of_three(16));
    assert_eq!(apply_as(Major::V15, &squeeze, &mut block), Ok(Outcome::Changed));
}

/// An update out of a page, and into another, whose bits are in one page of the map: it is named once.
#[test]
fn a_named_page_of_the_map_loses_the_bits_of_both_blocks() {
    let tag = |fork, block| BlockTag { relation: RELATION, fork, block };
    let block = |id, tag| BuiltBlock { id, tag, will_init: false, data: vec![], image: None };
    let update = |old: u32, references: &[(u8, BlockTag)]| {
        let mut blocks = vec![block(0, tag(0, 1)), block(1, tag(0, old))];
        blocks.extend(references.iter().map(|&(id, tag)| block(id, tag)));
        let main = vec![0, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 0, 1, 0];
        Content { xid: 700, manager: manager::HEAP, info: 0x20, blocks, main }
    };
    let far = visibility::HEAP_BLOCKS_PER_MAP;
    let cases = [
        (update(2, &[(2, tag(2, 0))]), 2, Ok((Outcome::Changed, 0b1100_0011))),
        (update(far, &[(2, tag(2, 0)), (3, tag(2, 1))]), 2, Ok((Outcome::Changed, 0b1111_0011))),
        (update(far, &[(2, tag(2, 0)), (3, tag(2, 1))]), 3, Ok((Outcome::Changed, 0b1111_1100))),
        (update(2, &[(3, tag(2, 0))]), 3, Ok((Outcome::Changed, 0b1100_1111))),
        (update(2, &[(2, tag(2, 1))]), 2, Err(true)),
        (update(2, &[(4, tag(2, 0))]), 4, Err(false)),
    ];
    for (content, id, expected) in cases {
        let bytes = content.record(WalPosition(64));
        let mut references = Vec::new();
        let record = decode(raw_of(Major::V17, &bytes), &mut references).unwrap();
        assert_eq!(visibility::implicit_clears(&record), [None, None], "the record names pages");
        let mut map = [0xff; BLOCK_LEN];
        map[..8].fill(0);
        let outcome = redo(&record, record.reference(id).unwrap(), &mut map, SETTINGS);
        let is_bad = |refused| matches!(refused, Underivable::BadRecord(_));
        assert_eq!(outcome.map(|outcome| (outcome, map[24])).map_err(is_bad), expected, "reference {id}");
    }
    // Without a reference the bits are cleared as they were before 17.
    let bytes = update(2, &[]).record(WalPosition(64));
    let mut references = Vec::new();
    let record = decode(raw_of(Major::V17, &bytes), &mut references).unwrap();
    assert_eq!(
        visibility::implicit_clears(&record).map(|clear| clear.map(|clear| clear.heap.block)),
        [Some(2), Some(1)]
    );
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

//! Records of a PostgreSQL 17.12 server, applied; and its own blocks after them.
//!
//! The server ran `data/golden.sql`. `MAJOR=17 scripts/postgres-log golden LOG` and the example `golden` made
//! `data/postgres_17.records` and `data/postgres_17.blocks`. The records are written into a log anew and read from it.

use std::collections::{BTreeMap, BTreeSet};

use zorya_redo::postgres::checkpoint::Checkpoint;
use zorya_redo::postgres::decode::record::{BlockTag, FORK_VISIBILITY, Malformed, Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, RawRecord, WalStream};
use zorya_redo::postgres::decode::write::{LogWriter, PageOrigin};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::xact::{self, Xact};
use zorya_redo::postgres::{
    BLOCK_LEN, Outcome, Settings, Underivable, WalPosition, manager, mask, redo, visibility,
};

const RECORDS: &[u8] = include_bytes!("data/postgres_17.records");
const BLOCKS: &[u8] = include_bytes!("data/postgres_17.blocks");
const SETTINGS: Settings = Settings { hints_logged: true, marks_gist_deletions: false };

/// The records, whole, in a log of that version; each is given to `visit`.
fn each(major: Major, mut visit: impl FnMut(RawRecord<'_>)) {
    let format = LogFormat { major, segment_len: 1 << 20 };
    let start = WalPosition(format.segment_len);
    let origin = PageOrigin { format, system_identifier: 7, timeline: 1 };
    let mut log = LogWriter::new(origin, start, WalPosition(start.0 - 8));
    let mut rest = RECORDS;
    while let Some(len) = rest.first_chunk().map(|len| u32::from_le_bytes(*len) as usize) {
        let (record, others) = rest.split_at(len);
        log.append(&mut record.to_vec());
        rest = others;
    }
    let mut stream = WalStream::new(format, start);
    let mut input = log.bytes();
    while let Next::Record(raw) = stream.next(&mut input).expect("a log without damage") {
        visit(raw);
    }
    assert!(input.is_empty());
}

/// The same, taken apart as 17 has them.
fn each_decoded(mut visit: impl FnMut(&Record<'_>)) {
    let mut references = Vec::new();
    each(Major::V17, |raw| visit(&decode(raw, &mut references).expect("a record of PostgreSQL 17")));
}

/// The server's blocks by number of the relation, fork and block.
fn server_blocks() -> BTreeMap<(u32, u8, u32), Box<Block>> {
    let mut rest = BLOCKS;
    let mut take = |len: usize| rest.split_off(..len);
    let mut blocks = BTreeMap::new();
    while let Some(head) = take(9) {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut part = || {
            let len = take(2).expect("a length");
            take(u16::from_le_bytes([len[0], len[1]]).into()).expect("as many bytes")
        };
        let (front, back) = (part(), part());
        let mut block = Box::new([0; BLOCK_LEN]);
        block[..front.len()].copy_from_slice(front);
        block[BLOCK_LEN - back.len()..].copy_from_slice(back);
        blocks.insert((word(0), head[4], word(5)), block);
    }
    blocks
}

#[derive(Default)]
struct Derived {
    blocks: BTreeMap<BlockTag, Box<Block>>,
    managers: BTreeMap<BlockTag, u8>,
    /// Manager, operation and reference of every change.
    seen: BTreeSet<(u8, u8, u8)>,
}

impl Derived {
    fn apply(&mut self, record: &Record<'_>) {
        assert_eq!(visibility::implicit_clears(record), [None, None], "17.12 names the pages of the map");
        for reference in record.references {
            let block = self.blocks.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            let outcome = redo(record, reference, block, SETTINGS).expect("a record that fits its block");
            let (manager, operation) = (record.manager, record.operation());
            if matches!(outcome, Outcome::Changed | Outcome::ChangedKeepingLsn) {
                self.seen.insert((manager, operation, reference.id));
            }
            if manager != manager::XLOG {
                self.managers.insert(reference.tag, manager);
            }
        }
    }
}

#[test]
fn the_servers_blocks_come_of_its_records() {
    let mut derived = Derived::default();
    each_decoded(|record| derived.apply(record));
    let server = server_blocks();
    let mut compared = 0;
    for (tag, block) in &mut derived.blocks {
        let Some(theirs) = server.get(&(tag.relation.number, tag.fork, tag.block)) else { continue };
        let manager = derived.managers.get(tag).copied().unwrap_or(manager::XLOG);
        let mut theirs = theirs.clone();
        for block in [&mut *block, &mut theirs] {
            mask::mask(manager, tag.fork, tag.block, &mut Page::new(block)).expect("a page");
        }
        assert_eq!(mask::first_difference(&block[..], &theirs[..]), None, "{tag}");
        compared += 1;
    }
    assert_eq!(compared, server.len(), "every block was derived");
    let maps = server.keys().filter(|(_, fork, _)| *fork == FORK_VISIBILITY).count();
    assert!(maps >= 1 && server.len() >= 6, "{} blocks, {maps} of maps", server.len());
}

/// What changed from 15 to 17 in records of blocks: operation and reference by manager.
const NEW_FORMS: &[(u8, u8, u8)] = &[
    (manager::HEAP2, 0x10, 0),
    (manager::HEAP2, 0x20, 0),
    (manager::HEAP2, 0x30, 0),
    (manager::HEAP2, 0x50, 1),
    (manager::HEAP, 0x00, 1),
    (manager::HEAP, 0x10, 1),
    (manager::HEAP, 0x20, 2),
    (manager::HEAP, 0x20, 3),
    (manager::HEAP, 0x40, 3),
    (manager::HEAP, 0x60, 1),
];

#[test]
fn every_form_that_is_new_is_among_the_records() {
    let mut derived = Derived::default();
    each_decoded(|record| derived.apply(record));
    let missing: Vec<_> = NEW_FORMS.iter().filter(|form| !derived.seen.contains(form)).collect();
    assert_eq!(missing, [&(0, 0, 0); 0]);
}

#[test]
fn checkpoints_say_what_wal_level_is() {
    const REPLICA: u32 = 1;
    let mut redo_begins = 0;
    let mut checkpoints = Vec::new();
    each_decoded(|record| {
        redo_begins += u32::from((record.manager, record.operation()) == (manager::XLOG, 0xe0));
        if let Some((checkpoint, _)) = Checkpoint::of(record).expect("a checkpoint") {
            assert_eq!(checkpoint.bytes()[..], record.main()[..], "a checkpoint's bytes are the server's");
            checkpoints.push(checkpoint.wal_level);
        }
    });
    assert_eq!((checkpoints, redo_begins), (vec![REPLICA; 3], 1));
}

#[test]
fn the_file_of_a_prepared_transaction_has_its_epoch_in_its_name() {
    let mut prepared = 0;
    each_decoded(|record| {
        if record.manager == manager::XACT
            && let Xact::Prepare(found) = xact::read(record).expect("a prepared transaction")
        {
            prepared += 1;
            let next = u64::from(found.xid) + 1;
            let name = |epoch: u64| found.file_name(record.major, epoch << 32 | next);
            assert_eq!(name(2), format!("00000002{:08X}", found.xid));
            // The next transaction has gone around since.
            assert_eq!(found.file_name(record.major, 2 << 32 | 3), format!("00000001{:08X}", found.xid));
            assert_eq!(found.file_name(Major::V15, 2 << 32 | next), format!("{:08X}", found.xid));
        }
    });
    assert_eq!(prepared, 1);
}

/// Pruning and freezing are one record in 17; the same bytes are another record in 15.
#[test]
fn the_version_of_the_log_decides_what_a_record_is() {
    let mut refused = 0;
    let mut derived = BTreeMap::<BlockTag, Box<Block>>::new();
    each(Major::V15, |raw| {
        let mut references = Vec::new();
        let Ok(record) = decode(raw, &mut references) else { return };
        for reference in record.references {
            let block = derived.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            let named_map = reference.tag.fork == FORK_VISIBILITY && record.operation() != 0x40;
            let outcome = redo(&record, reference, block, SETTINGS);
            if named_map {
                assert!(matches!(outcome, Err(Underivable::UnknownReference { .. })), "{outcome:?}");
                refused += 1;
            }
        }
    });
    assert!(refused >= 5, "{refused} references to maps");
    for major in [Major::V14, Major::V16, Major::V18] {
        each(major, |raw| {
            assert_eq!(decode(raw, &mut Vec::new()).map(|_| ()), Err(Malformed::NotWritten(major)));
        });
    }
}

//! A volume's log written for tests, and the naive model of what it means.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use zorya_redo::byte_range::{Encoder, Op, decode};
use zorya_types::{BLOCK_SIZE, Epoch, FileKey, GroupId, Key, Lsn};
use zorya_wire::record::{CODEC_BYTE_RANGE, FLAG_CONSISTENCY_POINT};
use zorya_wire::{GroupLink, Record, RecordBuilder};

/// Places records as a writer does.
#[derive(Debug, Default, Clone)]
pub struct LogWriter {
    pub prev: Lsn,
    pub tails: BTreeMap<GroupId, Lsn>,
    pub records: Vec<Record>,
}

impl LogWriter {
    pub fn append(&mut self, groups: &[GroupId], payload: &[u8]) -> Lsn {
        let links: Vec<GroupLink> = groups
            .iter()
            .map(|&group| GroupLink { group, prev: self.tails.get(&group).copied().unwrap_or_default() })
            .collect();
        let mut out = BytesMut::new();
        let builder = RecordBuilder {
            flags: FLAG_CONSISTENCY_POINT,
            codec: CODEC_BYTE_RANGE,
            epoch: Epoch(1),
            start: self.prev,
            prev: self.prev,
            stamp_us: self.records.len() as u64 * 1000,
            groups: &links,
            payload: &[payload],
        };
        self.prev = builder.encode(&mut out);
        for group in groups {
            self.tails.insert(*group, self.prev);
        }
        self.records.push(Record::decode(&mut out.freeze()).unwrap());
        self.prev
    }

    pub fn ops(&mut self, groups: &[GroupId], build: impl FnOnce(&mut Encoder) -> &mut Encoder) -> Lsn {
        let mut encoder = Encoder::new();
        build(&mut encoder);
        self.append(groups, encoder.payload())
    }
}

/// The state of every key after every record.
#[derive(Debug, Default)]
pub struct Model {
    states: BTreeMap<Lsn, BTreeMap<Key, Bytes>>,
}

impl Model {
    pub fn apply(&mut self, record: &Record) {
        let mut state = self.states.last_key_value().map(|(_, state)| state.clone()).unwrap_or_default();
        for op in decode(&record.payload).unwrap() {
            match op {
                Op::Put { key, value } => drop(state.insert(key, value)),
                Op::Delete { key } => drop(state.remove(&key)),
                Op::Clear { from, to } => state.retain(|key, _| !(from..to).contains(key)),
                Op::Write { file, offset, data } => write(&mut state, file, offset, &data),
            }
        }
        self.states.insert(record.header.lsn, state);
    }

    pub fn at(&self, lsn: Lsn) -> BTreeMap<Key, Bytes> {
        self.states.range(..=lsn).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }
}

fn write(state: &mut BTreeMap<Key, Bytes>, file: FileKey, offset: u64, data: &[u8]) {
    let mut blocks: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for (index, byte) in data.iter().enumerate() {
        let at = offset + index as u64;
        let key = Key::block(file, at / BLOCK_SIZE as u64);
        let held = || state.get(&key).map_or_else(|| vec![0; BLOCK_SIZE], |value| value.to_vec());
        blocks.entry(key).or_insert_with(held)[(at % BLOCK_SIZE as u64) as usize] = *byte;
    }
    state.extend(blocks.into_iter().map(|(key, value)| (key, Bytes::from(value))));
}

/// A directory for one test: in memory where the system offers that, since these tests sync thousands of times and no
/// power fails here.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

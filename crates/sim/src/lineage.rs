//! Seeded runs of branches and rewinds over real page stores, with an oracle: a map of every key after every record,
//! per history.
//!
//! A run grows a tree of histories: it writes to their heads, branches them anywhere (a clone), rewinds them (a branch
//! whose parent is written no more), flushes, compacts, raises horizons, crashes, and reads any key of any history at any
//! position above the horizons.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zorya_pages::{NodeMemory, PagesConfig, VolumePages};
use zorya_redo::byte_range::Encoder;
use zorya_types::{BLOCK_SIZE, Epoch, FileKey, GroupId, Key, Lineage, LogId, Lsn};
use zorya_wire::record::{CODEC_BYTE_RANGE, FLAG_CONSISTENCY_POINT};
use zorya_wire::{GroupLink, Record, RecordBuilder};

use crate::invariants::Violation;
use crate::world::VOLUME;

const GROUP: GroupId = GroupId(0);
const STEPS: usize = 400;
/// Histories of one run, at most.
const HISTORIES: usize = 8;
const BLOCKS: u64 = 3;
const ENTRIES: u64 = 10;

type State = BTreeMap<Key, Bytes>;

/// One log, the history that ends in it, and what it should say.
struct History {
    lineage: Lineage,
    pages: Arc<VolumePages>,
    records: Vec<Record>,
    /// The state after every record of the history, those of its parents included.
    states: BTreeMap<Lsn, State>,
    /// The last record, or the branch point.
    head: Lsn,
    /// The last record of the group in this log.
    tail: Lsn,
    /// It was rewound: nobody writes it any more.
    retired: bool,
}

impl History {
    fn at(&self, lsn: Lsn) -> State {
        self.states.range(..=lsn).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }
}

/// A run.
struct Run<'a> {
    rng: StdRng,
    dir: &'a Path,
    config: PagesConfig,
    histories: Vec<History>,
    reads: u64,
}

/// Runs a seed with its page stores in `dir`. How many reads were compared.
///
/// # Errors
/// [`Violation`] at the first read that differs from the oracle, or the first error of a page store.
pub fn run(seed: u64, dir: &Path) -> Result<u64, Violation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = PagesConfig {
        flush_bytes: rng.random_range(2_000..40_000),
        max_deltas: rng.random_range(2..5),
        layer_bytes: 16 << 10,
        node: NodeMemory::new(64 << 20, 1 << 20),
        ..PagesConfig::default()
    };
    let mut run = Run { rng, dir, config, histories: Vec::new(), reads: 0 };
    run.add(Lineage::root(LogId(1)), BTreeMap::new(), Lsn::ZERO)?;
    for _ in 0..STEPS {
        run.step()?;
    }
    Ok(run.reads)
}

fn fails(error: impl Display) -> Violation {
    Violation { invariant: "a page store serves every history", what: error.to_string() }
}

impl Run<'_> {
    fn open(&self, log: LogId) -> Result<VolumePages, Violation> {
        let dir = self.dir.join(format!("log-{log}"));
        VolumePages::open(&dir, VOLUME, log, self.config.clone()).map_err(fails)
    }

    fn add(&mut self, lineage: Lineage, states: BTreeMap<Lsn, State>, at: Lsn) -> Result<(), Violation> {
        let pages = Arc::new(self.open(lineage.head().log)?);
        let records = Vec::new();
        let history = History { lineage, pages, records, states, head: at, tail: Lsn::ZERO, retired: false };
        self.histories.push(history);
        self.link();
        Ok(())
    }

    /// Tells every store its parents, and that it has everything up to where its log begins.
    fn link(&self) {
        let all: Vec<_> = self.histories.iter().map(|history| Arc::clone(&history.pages)).collect();
        for (index, history) in self.histories.iter().enumerate() {
            let others = all.iter().enumerate().filter(|(other, _)| *other != index);
            history.pages.set_parents(others.map(|(_, pages)| Arc::clone(pages)).collect());
            history.pages.advance(history.lineage.head().from);
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        let index = self.rng.random_range(0..self.histories.len());
        match self.rng.random_range(0..100) {
            0..50 => self.write(index),
            50..55 => self.branch(index, false),
            55..58 => self.branch(index, true),
            58..70 => self.histories[index].pages.work().map(|_| ()).map_err(fails),
            70..72 => self.crash(),
            72..75 => {
                self.raise_horizon(index);
                Ok(())
            }
            75..95 => self.read(index),
            _ => self.scan(index),
        }
    }

    fn write(&mut self, index: usize) -> Result<(), Violation> {
        if self.histories[index].retired {
            return Ok(());
        }
        let mut state = self.histories[index].at(Lsn::MAX);
        let mut encoder = Encoder::new();
        for _ in 0..self.rng.random_range(1..4) {
            self.change(&mut encoder, &mut state);
        }
        let history = &mut self.histories[index];
        let mut out = BytesMut::new();
        let head = RecordBuilder {
            flags: FLAG_CONSISTENCY_POINT,
            codec: CODEC_BYTE_RANGE,
            epoch: Epoch(1),
            start: history.head,
            prev: history.head,
            stamp_us: 1,
            groups: &[GroupLink { group: GROUP, prev: history.tail }],
            payload: &[encoder.payload()],
        }
        .encode(&mut out);
        let record = Record::decode(&mut out.freeze()).map_err(fails)?;
        history.pages.apply(&record).map_err(fails)?;
        (history.head, history.tail) = (head, head);
        history.states.insert(head, state);
        history.records.push(record);
        Ok(())
    }

    /// One random operation, for the record and for the oracle.
    fn change(&mut self, encoder: &mut Encoder, state: &mut State) {
        let file = FileKey::inode(9);
        let key = Key::inode(self.rng.random_range(0..ENTRIES));
        match self.rng.random_range(0..10) {
            0..4 => {
                let value: Vec<u8> = (0..self.rng.random_range(0..40)).map(|_| self.rng.random()).collect();
                encoder.put(key, &value);
                state.insert(key, Bytes::from(value));
            }
            4 => {
                encoder.delete(key);
                state.remove(&key);
            }
            5 => {
                let from = self.rng.random_range(0..BLOCKS);
                let (from, to) = (Key::block(file, from), Key::block(file, BLOCKS));
                encoder.clear(from, to);
                state.retain(|key, _| !(from..to).contains(key));
            }
            _ => {
                let end = BLOCKS * BLOCK_SIZE as u64;
                let offset = self.rng.random_range(0..end - 600);
                let data = vec![self.rng.random(); self.rng.random_range(1..600)];
                encoder.write(file, offset, &data);
                write_bytes(state, file, offset, &data);
            }
        }
    }

    /// A position that can still be read in a history.
    fn position(&mut self, index: usize) -> Option<Lsn> {
        let lsns: Vec<Lsn> = self.histories[index].states.keys().copied().collect();
        let lsn = *lsns.get(self.rng.random_range(0..lsns.len().max(1)))?;
        let history = &self.histories[index];
        let horizon = |log: LogId| self.histories.iter().find(|one| one.lineage.head().log == log);
        let readable = history
            .lineage
            .visible_at(lsn)
            .all(|span| horizon(span.log).is_some_and(|one| span.to >= one.pages.gc()));
        (readable && lsn >= history.pages.gc()).then_some(lsn)
    }

    fn branch(&mut self, index: usize, rewind: bool) -> Result<(), Violation> {
        if self.histories.len() >= HISTORIES {
            return Ok(());
        }
        let Some(at) = self.position(index) else { return Ok(()) };
        let log = LogId(self.histories.len() as u32 + 1);
        let parent = &mut self.histories[index];
        parent.retired |= rewind;
        let lineage = parent.lineage.branch(at, log).map_err(fails)?;
        let states = parent.states.range(..=at).map(|(lsn, state)| (*lsn, state.clone())).collect();
        self.add(lineage, states, at)
    }

    /// Raises a horizon, but not above what any history reads of that log.
    fn raise_horizon(&mut self, index: usize) {
        let history = &self.histories[index];
        let log = history.lineage.head().log;
        let spans = self.histories.iter().flat_map(|one| one.lineage.spans());
        let held = spans.filter(|span| span.log == log).map(|span| span.to).min().unwrap_or(Lsn::MAX);
        let gc = Lsn(self.rng.random_range(0..=history.head.min(held).0));
        history.pages.set_gc(gc);
    }

    /// Every store is opened anew and gets again what was not in layers.
    fn crash(&mut self) -> Result<(), Violation> {
        let logs: Vec<(LogId, Lsn)> =
            self.histories.iter().map(|one| (one.lineage.head().log, one.pages.gc())).collect();
        for history in &self.histories {
            history.pages.set_parents(Vec::new());
        }
        for (index, (log, gc)) in logs.into_iter().enumerate() {
            let pages = Arc::new(self.open(log)?);
            pages.set_gc(gc);
            self.histories[index].pages = pages;
        }
        self.link();
        for history in &self.histories {
            for record in &history.records {
                history.pages.apply(record).map_err(fails)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Violation> {
        let Some(lsn) = self.position(index) else { return Ok(()) };
        let file = FileKey::inode(9);
        let keys = (0..ENTRIES).map(Key::inode).chain((0..BLOCKS).map(|block| Key::block(file, block)));
        let history = &self.histories[index];
        let expected = history.at(lsn);
        for key in keys {
            let found = history.pages.read(&history.lineage, lsn, GROUP, key).map_err(fails)?;
            if found.as_ref() != expected.get(&key) {
                let what = format!("{key:?} at {lsn} of {:?} is not what was written", history.lineage);
                return Err(Violation { invariant: "a history reads as it was written", what });
            }
            self.reads += 1;
        }
        Ok(())
    }

    fn scan(&mut self, index: usize) -> Result<(), Violation> {
        let Some(lsn) = self.position(index) else { return Ok(()) };
        let history = &self.histories[index];
        let to = Key::inode(ENTRIES);
        let (mut from, mut found) = (Key::inode(0), Vec::new());
        loop {
            let scanned = history.pages.scan(&history.lineage, lsn, GROUP, from, to, 100).map_err(fails)?;
            found.extend(scanned.0);
            match scanned.1 {
                Some(next) => from = next,
                None => break,
            }
        }
        let expected: Vec<_> =
            history.at(lsn).into_iter().filter(|(key, _)| (Key::inode(0)..to).contains(key)).collect();
        self.reads += 1;
        if found != expected {
            let what = format!("a scan at {lsn} of {:?} is not what was written", history.lineage);
            return Err(Violation { invariant: "a history reads as it was written", what });
        }
        Ok(())
    }
}

/// What a write of bytes means: blocks that are not there are zeroes.
fn write_bytes(state: &mut State, file: FileKey, offset: u64, data: &[u8]) {
    let first = offset / BLOCK_SIZE as u64;
    let last = (offset + data.len() as u64 - 1) / BLOCK_SIZE as u64;
    for block in first..=last {
        let key = Key::block(file, block);
        let mut bytes = state.get(&key).map_or_else(|| vec![0; BLOCK_SIZE], |held| held.to_vec());
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = block * BLOCK_SIZE as u64 + index as u64;
            if let Some(new) = at.checked_sub(offset).and_then(|at| data.get(at as usize)) {
                *byte = *new;
            }
        }
        state.insert(key, Bytes::from(bytes));
    }
}

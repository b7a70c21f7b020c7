//! Any log, cut, flushed, compacted, reopened and read at any time, gives what a map per LSN gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use proptest::prelude::*;
use support::{LogWriter, Model};
use zorya_pages::{NodeMemory, PagesConfig, VolumePages};
use zorya_redo::byte_range::Encoder;
use zorya_types::{FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};

const NAMESPACE: GroupId = GroupId(0);
const DATA: GroupId = GroupId(1);

fn config() -> PagesConfig {
    PagesConfig {
        flush_bytes: 3000,
        flush_us: 9000,
        max_deltas: 3,
        layer_bytes: 40_000,
        node: NodeMemory::new(1 << 20, 200_000),
    }
}

fn open(dir: &Path) -> VolumePages {
    VolumePages::open(dir, VolumeId(1), LogId(1), config()).unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Put(u64, u8),
    Delete(u64),
    Write(u64, u64, u16, u8),
    Image(u64, u64, u8),
    Clear(u64, u64, u64),
    ClearEntries(u64, u64),
}

#[derive(Debug, Clone)]
enum Step {
    Record(Vec<Op>),
    Work(u8),
    Reopen,
    Gc(u8),
    Advance,
    Read(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..6_u64, any::<u8>()).prop_map(|(ino, value)| Op::Put(ino, value)),
        1 => (0..6_u64).prop_map(Op::Delete),
        6 => (0..3_u64, 0..12 * 8192_u64, 1..400_u16, any::<u8>()).prop_map(|(f, at, len, byte)| Op::Write(f, at, len, byte)),
        1 => (0..3_u64, 0..12_u64, any::<u8>()).prop_map(|(f, block, byte)| Op::Image(f, block, byte)),
        1 => (0..3_u64, 0..12_u64, 0..14_u64).prop_map(|(f, from, to)| Op::Clear(f, from, to)),
        1 => (0..6_u64, 0..6_u64).prop_map(|(from, to)| Op::ClearEntries(from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(op(), 1..4).prop_map(Step::Record),
        4 => (1..6_u8).prop_map(Step::Work),
        1 => Just(Step::Reopen),
        1 => any::<u8>().prop_map(Step::Gc),
        1 => Just(Step::Advance),
        2 => any::<u8>().prop_map(Step::Read),
    ]
}

fn encode(encoder: &mut Encoder, op: &Op) {
    let file = FileKey::inode;
    match *op {
        Op::Put(ino, value) => encoder.put(Key::inode(ino), &[value; 20]),
        Op::Delete(ino) => encoder.delete(Key::inode(ino)),
        Op::Write(f, at, len, byte) => encoder.write(file(f), at, &vec![byte; usize::from(len)]),
        Op::Image(f, block, byte) => encoder.write(file(f), block * 8192, &[byte; 8192]),
        Op::Clear(f, from, to) => encoder.clear(Key::block(file(f), from), Key::block(file(f), to)),
        Op::ClearEntries(from, to) => encoder.clear(Key::inode(from), Key::inode(to)),
    };
}

/// The log, the pages under test, and what they should say.
struct World {
    dir: tempfile::TempDir,
    pages: VolumePages,
    log: LogWriter,
    model: Model,
    gc: Lsn,
}

impl World {
    fn new() -> World {
        let dir = support::scratch();
        let pages = open(dir.path());
        World { dir, pages, log: LogWriter::default(), model: Model::default(), gc: Lsn::ZERO }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Record(ops) => {
                self.log.ops(&[NAMESPACE, DATA], |encoder| {
                    ops.iter().for_each(|op| encode(encoder, op));
                    encoder
                });
                let record = self.log.records.last().unwrap();
                self.model.apply(record);
                self.pages.apply(record).unwrap();
            }
            Step::Work(times) => drop((0..*times).map(|_| self.pages.work().unwrap()).last()),
            Step::Reopen => {
                self.pages = open(self.dir.path());
                assert!(self.pages.applied() == self.pages.persisted());
                self.log.records.iter().for_each(|record| self.pages.apply(record).unwrap());
                self.pages.set_gc(self.gc);
            }
            Step::Gc(percent) => {
                let to = self.pages.applied().0 * u64::from(*percent) / 255;
                self.gc = self.gc.max(Lsn(to));
                self.pages.set_gc(self.gc);
            }
            Step::Advance => self.pages.advance(self.log.prev),
            Step::Read(percent) => {
                let span = self.pages.applied().since(self.gc);
                self.check(self.gc.plus(span * u64::from(*percent) / 255));
            }
        }
    }

    fn check(&self, lsn: Lsn) {
        let lineage = Lineage::root(LogId(1));
        let expected = self.model.at(lsn);
        let keys = (0..6).map(Key::inode).chain((0..36).map(|n| Key::block(FileKey::inode(n / 12), n % 12)));
        for key in keys {
            let group = if key.is_block() { DATA } else { NAMESPACE };
            let value = self.pages.read(&lineage, lsn, group, key).unwrap();
            assert!(
                value.as_ref() == expected.get(&key),
                "{key:?} at {lsn}: {value:?} {:?}",
                expected.get(&key)
            );
        }
        let (mut found, mut next) = (Vec::new(), Some(Key::MIN));
        while let Some(from) = next {
            let (some, more) = self.pages.scan(&lineage, lsn, NAMESPACE, from, Key::inode(99), 50).unwrap();
            found.extend(some);
            next = more;
        }
        let entries = expected.into_iter().filter(|(key, _)| !key.is_block());
        assert_eq!(found, entries.collect::<Vec<_>>());
    }

    fn drain(&self) {
        while self.pages.work().unwrap() {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_give_what_a_map_per_lsn_gives(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.check(world.pages.applied());
        world.drain();
        world.check(world.pages.applied());
        world.check(world.gc);
        world.run(&Step::Reopen);
        world.check(world.pages.applied());
    }

    #[test]
    fn replicas_build_equal_layers_whenever_they_get_to_it(
        records in prop::collection::vec(prop::collection::vec(op(), 1..4), 1..200),
        timing in prop::collection::vec((0..4_u8, 0..40_u8), 1..50),
    ) {
        let (mut eager, mut lazy, mut odd) = (World::new(), World::new(), World::new());
        for (index, ops) in records.into_iter().enumerate() {
            let (work, reopen) = timing[index % timing.len()];
            let record = Step::Record(ops);
            eager.run(&record);
            eager.drain();
            lazy.run(&record);
            odd.run(&record);
            odd.run(&Step::Work(work));
            if reopen == 0 {
                odd.run(&Step::Reopen);
            }
        }
        let layers = |world: &World| {
            world.drain();
            let of = |layer: zorya_pages::LayerDesc| zorya_pages::LayerDesc { file: 0, ..layer };
            world.pages.layers().into_iter().map(of).collect::<Vec<_>>()
        };
        let expected = layers(&eager);
        prop_assert_eq!(&layers(&lazy), &expected);
        prop_assert_eq!(&layers(&odd), &expected);
    }
}

#[test]
fn layers_that_nobody_can_read_are_deleted() {
    let mut world = World::new();
    for round in 0..400_u64 {
        let ops = vec![Op::Write(round % 3, (round * 977) % (12 * 8192), 200, round as u8)];
        world.run(&Step::Record(ops));
        world.run(&Step::Work(2));
    }
    world.drain();
    let before = world.pages.usage();
    world.run(&Step::Gc(255));
    world.drain();
    let after = world.pages.usage();
    assert!(after.deltas.bytes < before.deltas.bytes / 2, "{before:?} {after:?}");
    assert!(after.images.layers < before.images.layers && after.images.layers > 0, "{before:?} {after:?}");
    let files = std::fs::read_dir(world.dir.path()).unwrap().count() as u64;
    let manifests = 2 * 2; // the newest and the one before it, with their copies
    assert_eq!(files, after.deltas.layers + after.images.layers + manifests);
    world.check(world.pages.applied());
}

/// A branch only merges deltas; layers of 1,000 bytes would cut a hot key's versions if they were cut inside keys.
#[test]
fn a_branch_keeps_all_versions_in_merged_deltas() {
    let mut world = World::new();
    let parent = tempfile::tempdir().unwrap();
    let tiny = PagesConfig { layer_bytes: 1000, ..config() };
    world.pages = VolumePages::open(world.dir.path(), VolumeId(1), LogId(1), tiny.clone()).unwrap();
    world.pages.set_parents(vec![std::sync::Arc::new(open(parent.path()))]);
    for round in 0..400_u64 {
        let hot = Op::Write(1, round % 300, 200, round as u8);
        let other = Op::Write(round % 3, (round * 977) % (12 * 8192), 90, round as u8);
        let clear = Op::Clear(2, round % 12, round % 12 + u64::from(round % 7 == 0));
        world.run(&Step::Record(vec![hot, other, clear]));
        if round == 30 {
            world.drain();
        }
    }
    let half = world.pages.persisted();
    world.pages = VolumePages::open(world.dir.path(), VolumeId(1), LogId(1), tiny).unwrap();
    assert!(half > Lsn::ZERO && world.pages.applied() == half);
    world.log.records.iter().for_each(|record| world.pages.apply(record).unwrap());
    world.drain();
    let layers = world.pages.layers();
    let merged: Vec<_> = layers.iter().filter(|layer| layer.level == 1).collect();
    assert!(merged.len() > 20 && layers.iter().all(|layer| layer.kind == zorya_pages::LayerKind::Delta));
    for pair in
        merged.windows(2).filter(|pair| pair[0].upto == pair[1].upto && pair[0].group == pair[1].group)
    {
        assert!(pair[0].to <= pair[1].from, "{pair:?}");
    }
    for record in world.log.records.iter().step_by(7) {
        world.check(record.header.lsn);
    }
}

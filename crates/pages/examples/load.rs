//! What the page store costs under a log like that of a small-transaction load: pages changed at random, a hot page,
//! a file written in sequence. Prints records per second, bytes written per byte of log, and read times.
//!
//! `cargo run --release -p zorya-pages --example load -- DIR [MIB_OF_LOG] [PAGES]`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use zorya_pages::{PagesConfig, VolumePages};
use zorya_redo::byte_range::Encoder;
use zorya_types::{Epoch, FileKey, GroupId, Key, Lineage, LogId, Lsn, VolumeId};
use zorya_wire::record::{CODEC_BYTE_RANGE, FLAG_CONSISTENCY_POINT};
use zorya_wire::{GroupLink, Record, RecordBuilder};

const GROUP: GroupId = GroupId(0);

struct Load {
    pages: VolumePages,
    prev: Lsn,
    seed: u64,
    encoder: Encoder,
    applying: Duration,
    working: Duration,
    records: u64,
}

impl Load {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn append(&mut self) {
        let mut out = BytesMut::new();
        let builder = RecordBuilder {
            flags: FLAG_CONSISTENCY_POINT,
            codec: CODEC_BYTE_RANGE,
            epoch: Epoch(1),
            start: self.prev,
            prev: self.prev,
            stamp_us: 1,
            groups: &[GroupLink { group: GROUP, prev: self.prev }],
            payload: &[self.encoder.payload()],
        };
        self.prev = builder.encode(&mut out);
        let record = Record::decode(&mut out.freeze()).expect("what was just written");
        let start = Instant::now();
        self.pages.apply(&record).expect("the next record");
        self.applying += start.elapsed();
        self.records += 1;
        self.encoder.reset();
        let start = Instant::now();
        while self.records.is_multiple_of(64) && self.pages.work().expect("work") {}
        self.working += start.elapsed();
        self.pages.set_gc(self.prev);
    }

    /// A transaction: four pages change in four places each, and a log file grows by 600 bytes.
    fn transaction(&mut self, number: u64, pages: u64) {
        let hot = [self.random(pages), self.random(pages), self.random(pages), 0];
        for page in hot {
            for place in 0..4 {
                let at = page * 8192 + place * 2000 + self.random(1000);
                self.encoder.write(FileKey::inode(1), at, &[number as u8; 40]);
            }
            self.append();
        }
        self.encoder.write(FileKey::inode(2), number * 600 % (64 << 20), &[number as u8; 600]);
        self.append();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("a directory"));
    let mut number =
        |default| arguments.next().map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (log_mib, page_count) = (number(512), number(16_384));
    let pages = VolumePages::open(&dir, VolumeId(1), LogId(1), PagesConfig::default()).expect("open");
    let mut load = Load {
        pages,
        prev: Lsn::ZERO,
        seed: 1,
        encoder: Encoder::new(),
        applying: Duration::ZERO,
        working: Duration::ZERO,
        records: 0,
    };
    for page in 0..page_count {
        load.encoder.write(FileKey::inode(1), page * 8192, &[1; 8192]);
        load.append();
    }
    report("load", &load, 0, 0);
    let (start, before) = (load.prev, written_bytes());
    (load.applying, load.working, load.records) = (Duration::ZERO, Duration::ZERO, 0);
    let mut transactions = 0;
    while load.prev.since(start) < log_mib << 20 {
        load.transaction(transactions, page_count);
        transactions += 1;
    }
    report("transactions", &load, start.0, before);
    let (lineage, begin) = (Lineage::root(LogId(1)), Instant::now());
    for _ in 0..10_000 {
        let key = Key::block(FileKey::inode(1), load.random(page_count));
        load.pages.read(&lineage, load.prev, GROUP, key).expect("a page");
    }
    println!("read: {:?} each at random", begin.elapsed() / 10_000);
    let begin = Instant::now();
    load.pages.read(&lineage, load.prev, GROUP, Key::block(FileKey::inode(1), 0)).expect("the hot page");
    println!("read: {:?} for the hot page", begin.elapsed());
    println!("{:?}", load.pages.usage());
    println!("{}", status("VmHWM"));
}

fn report(what: &str, load: &Load, start: u64, before: u64) {
    let log = load.prev.0 - start;
    let written = written_bytes() - before;
    println!(
        "{what}: {} records, {} MiB of log, apply {:?} each, work {:?} in all, {:.2} bytes written per byte of log",
        load.records,
        log >> 20,
        load.applying / load.records.max(1) as u32,
        load.working,
        written as f64 / log as f64
    );
}

/// What this process has written so far.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with(field)).unwrap_or_default().to_owned()
}

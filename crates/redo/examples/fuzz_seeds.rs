//! Seeds for the fuzz targets out of a real log: `fuzz_seeds LOG CORPUS`, where LOG is a directory that
//! `scripts/postgres-log coverage` made. Of every kind of block change the smallest few are taken, each with the block
//! before it; `fuzz/src` says how inputs hold them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, Compression, Record, decode};
use zorya_redo::postgres::decode::stream::{Next, WalStream};
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::{BLOCK_LEN, Outcome, Settings, WalPosition, manager, redo, visibility};

#[path = "../benches/log/mod.rs"]
mod log;

/// Seeds of one kind.
const SEEDS_OF_A_KIND: usize = 3;
const SETTINGS: Settings = Settings { hints_logged: true, marks_gist_deletions: true };

/// Target, and what tells kinds apart: manager, operation, reference, and a compression or flags.
type Kind = (&'static str, u8, u8, u8, u8);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(corpus)) = (arguments.next(), arguments.next()) else {
        return Err("fuzz_seeds LOG CORPUS".into());
    };
    let start = log::position(&directory, "start")?;
    let bytes = log::read(&directory, start)?;
    let mut seeds = Seeds::default();
    let mut derived = Derived::default();
    log::each(&bytes, start, |record| {
        derived.apply(record, &mut seeds);
        seeds.beside_blocks(record);
    })?;
    seeds.logs(&bytes, start)?;
    let control = std::fs::read(directory.join("control"))?;
    seeds.add(("metadata", 0, 0, 0, 0), [&[3][..], &control[..320]].concat());
    seeds.write(&corpus)?;
    Ok(())
}

/// All blocks.
#[derive(Default)]
struct Derived {
    blocks: HashMap<BlockTag, Box<Block>>,
}

impl Derived {
    fn apply(&mut self, record: &Record<'_>, seeds: &mut Seeds) {
        for clear in visibility::implicit_clears(record).into_iter().flatten() {
            let map = self.blocks.entry(clear.map()).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            seeds.add(
                ("visibility", record.manager, record.operation(), 0, clear.bits),
                of_block(record, 3, map),
            );
            visibility::clear(&mut Page::new(map), clear);
        }
        for (index, reference) in record.references.iter().enumerate() {
            let block = self.blocks.entry(reference.tag).or_insert_with(|| Box::new([0; BLOCK_LEN]));
            let before = block.clone();
            match redo(record, reference, block, SETTINGS) {
                Ok(Outcome::AlreadyThere) => {}
                Ok(_) => {
                    if let Some(kind) = kind(record, reference) {
                        seeds.add(kind, of_block(record, index as u8 * 2 + 1, &before));
                    }
                }
                // A block that initdb wrote.
                Err(_) => drop(self.blocks.remove(&reference.tag)),
            }
        }
    }
}

fn kind(record: &Record<'_>, reference: &BlockReference) -> Option<Kind> {
    let (manager, operation) = (record.manager, record.operation());
    if let Some(image) = &reference.image {
        let compression = match image.compression {
            Compression::None => 0,
            Compression::Pglz => 1,
            Compression::Lz4 => 2,
            Compression::Zstd => 3,
        };
        let hole = u8::from(image.hole_len > 0);
        return (manager == manager::XLOG).then_some(("images", manager, operation, compression, hole));
    }
    let target = match manager {
        manager::HEAP => "heap",
        manager::HEAP2 => "heap2",
        manager::BTREE => "btree",
        manager::HASH => "hash",
        manager::GIN => "gin",
        manager::GIST => "gist",
        manager::SPGIST => "spgist",
        manager::BRIN => "brin",
        manager::SEQ => "sequence",
        manager::XLOG | manager::GENERIC => "images",
        _ => return None,
    };
    let flags = match (manager, operation & 0x70) {
        (manager::HEAP, 0x00) => record.main().get(2),
        (manager::HEAP, _) => record.main().get(7),
        (manager::HEAP2, 0x50) => record.main().first(),
        _ => None,
    };
    Some((target, manager, operation, reference.id, flags.copied().unwrap_or(0)))
}

/// A record behind its length, if it fits.
fn of_record(record: &Record<'_>) -> Vec<u8> {
    let len = u16::try_from(record.bytes().len()).unwrap_or(0);
    [&len.to_le_bytes(), &record.bytes()[..len.into()]].concat()
}

/// An input of one record and one block, which loses its position, so that the record is news to it.
fn of_block(record: &Record<'_>, choice: u8, block: &Block) -> Vec<u8> {
    let mut block = *block;
    block[..8].fill(0);
    let hole = longest_run_of_zeroes(&block);
    let mut seed = vec![choice];
    seed.extend_from_slice(&of_record(record));
    seed.extend_from_slice(&(hole.start as u16).to_le_bytes());
    seed.extend_from_slice(&block[..hole.start]);
    seed.extend_from_slice(&block[hole.end..]);
    seed
}

fn longest_run_of_zeroes(block: &Block) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (at, &byte) in block.iter().enumerate() {
        if byte != 0 {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    longest
}

/// The smallest few of every kind.
#[derive(Default)]
struct Seeds {
    kept: BTreeMap<Kind, Vec<Vec<u8>>>,
}

impl Seeds {
    fn add(&mut self, kind: Kind, seed: Vec<u8>) {
        let kept = self.kept.entry(kind).or_default();
        if !kept.contains(&seed) {
            kept.push(seed);
            kept.sort_by_key(Vec::len);
            kept.truncate(SEEDS_OF_A_KIND);
        }
    }

    /// Records as such, for the decoder, and those that change no block.
    fn beside_blocks(&mut self, record: &Record<'_>) {
        if record.bytes().len() > 9000 {
            return;
        }
        let shape = u8::from(record.origin.is_some()) | u8::from(record.toplevel_xid.is_some()) << 1;
        let one = [&[2][..], &of_record(record)].concat();
        self.add(("decoder", record.references.len() as u8, 0, shape, 2), one);
        let is_metadata = record.manager <= manager::STANDBY
            || matches!(record.manager, manager::COMMIT_TS | manager::REPLORIGIN | manager::LOGICALMSG);
        if is_metadata && record.references.is_empty() {
            let kind = ("metadata", record.manager, record.operation(), shape, 0);
            self.add(kind, [&[7][..], &of_record(record), &[0; 300]].concat());
        }
    }

    /// Pieces of the log as it is, and the records in them to write anew.
    fn logs(&mut self, bytes: &[u8], start: WalPosition) -> Result<(), Box<dyn std::error::Error>> {
        const PIECE: usize = 3 * BLOCK_LEN;
        let first_page = BLOCK_LEN - start.page_offset();
        for index in 0..SEEDS_OF_A_KIND {
            let at = first_page + index * 1000 * BLOCK_LEN;
            let piece = bytes.get(at..at + PIECE).ok_or("a short log")?;
            self.add(("decoder", 0, index as u8, 0, 0), as_log(piece));
            let mut stream = WalStream::new(log::FORMAT, start.after(at));
            let mut input = piece;
            let mut references = Vec::new();
            let mut anew = vec![1, 0, 7, 0, 31];
            while let Ok(Next::Record(raw)) = stream.next(&mut input) {
                anew.extend_from_slice(&of_record(&decode(raw, &mut references)?));
            }
            self.add(("decoder", 0, index as u8, 0, 1), anew);
        }
        Ok(())
    }

    fn write(&self, corpus: &Path) -> std::io::Result<()> {
        for (&(target, manager, operation, id, more), seeds) in &self.kept {
            let directory = corpus.join(target);
            std::fs::create_dir_all(&directory)?;
            for (number, seed) in seeds.iter().enumerate() {
                let name = format!("seed-{manager:02}-{operation:02x}-{id}-{more:02x}-{number}");
                std::fs::write(directory.join(name), seed)?;
            }
        }
        Ok(())
    }
}

/// Pages of a log, as pages from the target's position on, which is three segments of 1 MiB.
fn as_log(pages: &[u8]) -> Vec<u8> {
    const POSITION: u64 = 3 << 20;
    let mut pages = pages.to_vec();
    for (index, page) in (0..).zip(pages.chunks_mut(BLOCK_LEN)) {
        page[8..16].copy_from_slice(&(POSITION - BLOCK_LEN as u64 + index * BLOCK_LEN as u64).to_le_bytes());
    }
    [&[0, 0, 0, 0xff, 0x0f][..], &pages].concat()
}

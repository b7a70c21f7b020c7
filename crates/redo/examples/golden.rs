//! The records and blocks that `tests/postgres_17.rs` holds: `golden LOG RECORDS BLOCKS`, where LOG is a directory that
//! `MAJOR=17 scripts/postgres-log golden` made.
//!
//! RECORDS gets the records that change blocks of the script's own relations, and the checkpoints and the prepared
//! transaction among the others, one after the other; BLOCKS the server's blocks of those relations: the number of the
//! relation, fork and block, then what is before the hole and what is behind it, each behind its length.

use std::collections::BTreeSet;
use std::path::PathBuf;

use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, FORK_FREE_SPACE, Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, WalStream};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::page::Page;
use zorya_redo::postgres::{BLOCK_LEN, manager};

#[path = "../benches/log/mod.rs"]
#[allow(dead_code, reason = "the log is of another version than that of the measurements")]
mod log;

/// Numbers that the server gives to what is not its own begin here (`FirstNormalObjectId`); the database has the first.
const FIRST_RELATION: u32 = 16_385;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(records), Some(blocks)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("golden LOG RECORDS BLOCKS".into());
    };
    let start = log::position(&directory, "start")?;
    let bytes = log::read(&directory, start)?;
    let format = LogFormat { major: Major::V17, ..log::FORMAT };
    let mut stream = WalStream::new(format, start);
    let mut references: Vec<BlockReference> = Vec::new();
    let mut input = &bytes[..];
    let (mut kept, mut tags) = (Vec::new(), BTreeSet::new());
    while let Ok(Next::Record(raw)) = stream.next(&mut input) {
        let record = decode(raw, &mut references)?;
        let own = record.references.iter().filter(|reference| is_own(&reference.tag));
        tags.extend(own.map(|reference| reference.tag));
        if record.references.iter().any(|reference| is_own(&reference.tag)) || is_kept(&record) {
            kept.extend_from_slice(record.bytes());
        }
    }
    std::fs::write(records, kept)?;
    let mut out = Vec::new();
    // The free-space map is logged by and by.
    for tag in tags.into_iter().filter(|tag| tag.fork != FORK_FREE_SPACE) {
        let suffix = ["", "_fsm", "_vm", "_init"][usize::from(tag.fork)];
        let file = std::fs::read(directory.join(format!("blocks/{}{suffix}", tag.relation.number)))?;
        let mut block = [0; BLOCK_LEN];
        block.copy_from_slice(file.chunks(BLOCK_LEN).nth(tag.block as usize).ok_or("a short file")?);
        let hole = hole(&mut block);
        out.extend_from_slice(&tag.relation.number.to_le_bytes());
        out.push(tag.fork);
        out.extend_from_slice(&tag.block.to_le_bytes());
        for part in [&block[..hole.start], &block[hole.end..]] {
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    Ok(std::fs::write(blocks, out)?)
}

fn is_own(tag: &BlockTag) -> bool {
    tag.relation.number >= FIRST_RELATION
}

/// Checkpoints and where their redo begins, and prepared transactions.
fn is_kept(record: &Record<'_>) -> bool {
    match record.manager {
        manager::XLOG => matches!(record.operation(), 0x00 | 0x10 | 0xe0),
        manager::XACT => record.operation() & 0x70 == 0x10,
        _ => false,
    }
}

/// What is zero in a page: between line pointers and items, or of a page of a map what ends it.
fn hole(block: &mut [u8; BLOCK_LEN]) -> std::ops::Range<usize> {
    let last = block.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    let page = Page::new(block);
    let (lower, upper) = (page.lower(), page.upper());
    let is_zero =
        lower <= upper && upper < BLOCK_LEN && page.block()[lower..upper].iter().all(|&byte| byte == 0);
    if is_zero { lower..upper } else { last..BLOCK_LEN }
}

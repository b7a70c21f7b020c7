//! The fuzz targets' corpora, on stable Rust: what `cargo fuzz` found worth keeping holds, and what is frequent in it
//! allocates nothing.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

use targets::{input, log};
use zorya_redo::postgres::decode::record::{BlockReference, decode};
use zorya_redo::postgres::decode::stream::{Next, WalStream};
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::{BLOCK_LEN, Outcome, Settings, WalPosition, manager, redo, visibility};

fn corpus(name: &str) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    std::fs::read_dir(directory)?
        .map(|entry| {
            let path = entry?.path();
            let input = std::fs::read(&path)?;
            Ok((path, input))
        })
        .collect()
}

#[test]
fn every_input_of_every_corpus_holds() -> std::io::Result<()> {
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name)?;
        assert!(inputs.len() >= 10, "the corpus of {name} is gone");
        for (path, input) in inputs {
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{} does not hold", path.display());
        }
    }
    Ok(())
}

/// A record of a corpus and the block that it is applied to.
struct Case {
    choice: u8,
    block: Box<Block>,
}

/// Records of heap and B-tree, one after the other in one log that arrives at once: neither finding one that lies in one
/// page, nor taking it apart, nor redo without an image takes memory.
#[test]
fn records_of_heap_and_btree_are_applied_without_an_allocation() -> std::io::Result<()> {
    let mut written = log::log_from(WalPosition(log::FORMAT.segment_len));
    let mut cases = Vec::new();
    for (name, manager) in [("heap", manager::HEAP), ("heap2", manager::HEAP2), ("btree", manager::BTREE)] {
        for (_, bytes) in corpus(name)? {
            let mut bytes = &bytes[..];
            let choice = input::byte(&mut bytes);
            let Some(mut record) = input::record(&mut bytes, &[manager]) else { continue };
            written.append(&mut record);
            cases.push(Case { choice, block: input::block(&mut bytes) });
        }
    }
    let mut stream = WalStream::new(log::FORMAT, written.start());
    let mut references = Vec::with_capacity(33);
    let mut input = written.bytes();
    let (mut applied, mut whole) = (0, 0);
    for case in &mut cases {
        let mut lies_in_one_page = false;
        let counted = allocation_counter::measure(|| {
            let Ok(Next::Record(raw)) = stream.next(&mut input) else { panic!("a record is missing") };
            lies_in_one_page = raw.start.page_offset() + raw.bytes.len() <= BLOCK_LEN;
            let Ok(record) = decode(raw, &mut references) else { return };
            let clears = visibility::implicit_clears(&record);
            assert!(clears.iter().flatten().all(|clear| clear.bits != 0));
            let choice = usize::from(case.choice >> 1) % record.references.len().max(1);
            let without_image = |reference: &&BlockReference| reference.image.is_none();
            let Some(reference) = record.references.get(choice).filter(without_image) else { return };
            let settings = Settings { hints_logged: case.choice & 1 != 0, marks_gist_deletions: true };
            applied += u32::from(redo(&record, reference, &mut case.block, settings) == Ok(Outcome::Changed));
        });
        whole += u32::from(lies_in_one_page);
        assert!(counted.count_total == 0 || !lies_in_one_page, "{counted:?} for record {whole}");
    }
    assert!(whole > 100 && applied > 100, "{whole} records in one page, {applied} applied");
    Ok(())
}

//! Redo of one record on one block.

use zorya_redo::postgres::decode::record::{BlockReference, Record, decode};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::running::RunningXids;
use zorya_redo::postgres::{Outcome, Settings, hold, mask, redo};

use super::input;

/// Applies the input's record, of one of `managers`, to the input's block. A byte before both says whether hint bits
/// are logged and which of the record's references the block is.
pub fn redo_any(managers: &[u8], mut input: &[u8]) {
    let choice = input::byte(&mut input);
    let Some(bytes) = input::record(&mut input, managers) else { return };
    let block = input::block(&mut input);
    input::MAJORS.into_iter().for_each(|major| redo_one(major, &bytes, choice, block.clone()));
}

fn redo_one(major: Major, bytes: &[u8], choice: u8, mut block: Box<Block>) {
    let mut references = Vec::new();
    let Ok(record) = decode(input::raw(major, bytes), &mut references) else { return };
    if record.references.is_empty() {
        return;
    }
    let reference = &record.references[usize::from(choice >> 1) % record.references.len()];
    let settings = Settings { hints_logged: choice & 1 != 0, marks_gist_deletions: true };
    let before = block.clone();
    let outcome = redo(&record, reference, &mut block, settings);
    let restores = reference.image.as_ref().is_some_and(|image| image.apply);
    let lsn = |block: &Block| Page::new(&mut block.clone()).lsn();
    let was_new = Page::new(&mut before.clone()).is_new();
    match outcome {
        // The image of a page that was never initialised has no position either.
        Ok(Outcome::Changed) if restores && Page::new(&mut block).is_new() => {}
        Ok(Outcome::Changed) => {
            assert_eq!(lsn(&block), record.end, "a changed block is one of the record's end");
            again(&record, reference, &block, settings, restores);
        }
        Ok(Outcome::ChangedKeepingLsn) if was_new || restores => {}
        Ok(Outcome::ChangedKeepingLsn) => assert_eq!(block[..8], before[..8], "the LSN stays"),
        Ok(Outcome::LockOnly | Outcome::AlreadyThere) if restores => {}
        Ok(Outcome::LockOnly | Outcome::AlreadyThere) => assert!(block == before, "nothing changes"),
        Err(_) => {}
    }
    inspect(record.manager, reference, &mut block);
}

/// A block that holds the record is left alone, unless the record rebuilds it.
fn again(record: &Record<'_>, reference: &BlockReference, block: &Block, settings: Settings, restores: bool) {
    let mut twice = Box::new(*block);
    let outcome = redo(record, reference, &mut twice, settings);
    if !reference.will_init && !restores {
        assert_eq!(outcome, Ok(Outcome::AlreadyThere));
        assert!(*twice == *block, "redo of what is there changes nothing");
    }
}

/// Whatever a block holds can be asked about and masked.
fn inspect(manager: u8, reference: &BlockReference, block: &mut Block) {
    let mut page = Page::new(block);
    let _ = hold::has_no_running_tuples(&mut page, &RunningXids::default(), 7);
    let _ = hold::has_no_cycle_id(&mut page);
    let _ = hold::is_sequence(&mut page);
    let _ = mask::mask(manager, reference.tag.fork, reference.tag.block, &mut page);
}

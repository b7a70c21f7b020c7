//! Record by record: redo, and comparison with the images that the server put in.

mod at_rest;
mod explain;
mod planting;
mod tally;

use std::collections::{HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use zorya_redo::postgres::decode::image;
use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, FORK_VISIBILITY, Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, RawRecord, WalStream};
use zorya_redo::postgres::files::FileChange;
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::{
    BLOCK_LEN, Settings, Underivable, WalPosition, files, manager, mask, redo, visibility,
};

use crate::SEGMENT_LEN;
use crate::coverage::{self, Entry};
use crate::metadata::Metadata;
use crate::plant::Plants;
use crate::store::Store;
use crate::timelines::Timelines;
pub use at_rest::Oracle;
use at_rest::{at_rest, likely_manager};
pub use tally::Tally;

/// Findings that are printed one by one; the rest is counted.
const PRINTED_FINDINGS: usize = 20;

/// The page header's fields that every mask hides.
const PAGE_LSN_AND_CHECKSUM_LEN: usize = 10;

/// The record of pruned GiST items, where a page's flags are, and the flag that it concerns.
const GIST_DELETE: u8 = 0x10;
const GIST_FLAGS_AT: usize = BLOCK_LEN - 4;

/// Checks a log from a position on.
pub struct Checker {
    /// The log's format.
    pub format: LogFormat,
    stream: WalStream,
    store: Store,
    /// What is derived beside blocks.
    pub metadata: Metadata,
    settings: Settings,
    references: Vec<BlockReference>,
    scratch: Scratch,
    /// Maps whose image was restored from a copy without content, and therefore differ: redo.md, 2.4.
    hollow_maps: HashSet<BlockTag>,
    /// Heap blocks whose bits were cleared in an image already, and the number of the record that had it.
    early_clears: HashMap<BlockTag, u64>,
    /// GiST pages that items were pruned from.
    pruned_gist: HashSet<BlockTag>,
    /// The timelines that the log went through.
    timelines: Timelines,
    /// Where the last record begins and ends.
    last: Option<(WalPosition, WalPosition)>,
    /// The log from the beginning of the segment that is being written.
    segment: Vec<u8>,
    /// Bugs to plant, in a run that is to find them.
    pub plants: Option<Plants>,
    /// What was counted.
    pub tally: Tally,
}

struct Scratch {
    derived: Box<Block>,
    image: Box<Block>,
    /// The block before the record, while it is not yet known that leaving the record out would be noticed.
    before: Box<Block>,
}

impl Checker {
    /// A checker over the blocks of `store`, from `start` on.
    pub fn new(
        store: Store,
        metadata: Metadata,
        format: LogFormat,
        start: WalPosition,
        settings: Settings,
    ) -> Self {
        let block = || Box::new([0; BLOCK_LEN]);
        let timelines = Timelines::from(metadata.timeline());
        Self {
            format,
            stream: WalStream::new(format, start),
            store,
            metadata,
            settings,
            references: Vec::new(),
            scratch: Scratch { derived: block(), image: block(), before: block() },
            hollow_maps: HashSet::new(),
            early_clears: HashMap::new(),
            pruned_gist: HashSet::new(),
            timelines,
            last: None,
            segment: Vec::new(),
            plants: None,
            tally: Tally::default(),
        }
    }

    /// The position up to which the log was taken.
    pub fn position(&self) -> WalPosition {
        self.stream.position()
    }

    /// Where the last record begins and ends.
    pub fn last(&self) -> Option<(WalPosition, WalPosition)> {
        self.last
    }

    /// Checks the records in the next bytes of the log.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.feed_until(&mut bytes, None).map(|_| ())
    }

    /// The same, but not beyond the first record that begins at `stop` or later, as a standby does that is to recover
    /// up to there. Takes the bytes off that it has checked and says whether it has stopped.
    pub fn feed_until(&mut self, bytes: &mut &[u8], stop: Option<WalPosition>) -> Result<bool> {
        let (before, from) = (*bytes, self.position());
        // The stream lends records out; it is taken aside so that they can be checked meanwhile.
        let aside = WalStream::new(self.format, WalPosition(0));
        let mut stream = std::mem::replace(&mut self.stream, aside);
        let result = loop {
            match stream.next(bytes) {
                Ok(Next::Record(raw)) => {
                    let stops = stop.is_some_and(|stop| raw.start >= stop);
                    match self.record(raw) {
                        Err(error) => break Err(error),
                        Ok(()) if stops => break Ok(true),
                        Ok(()) => {}
                    }
                }
                Ok(Next::More | Next::End(_)) => break Ok(false),
                Err(damage) => break Err(damage.into()),
            }
        };
        self.stream = stream;
        let taken = &before[..before.len() - bytes.len()];
        self.tally.bytes += taken.len() as u64;
        self.keep_segment(from, taken);
        result
    }

    /// Keeps the bytes of the segment that the log ends in: a server needs it to start.
    fn keep_segment(&mut self, from: WalPosition, bytes: &[u8]) {
        if self.segment.is_empty() {
            self.segment.resize((from.0 % SEGMENT_LEN) as usize, 0);
        }
        self.segment.extend_from_slice(bytes);
        let whole = self.segment.len() / SEGMENT_LEN as usize * SEGMENT_LEN as usize;
        self.segment.drain(..whole);
    }

    fn record(&mut self, raw: RawRecord<'_>) -> Result<()> {
        self.tally.records += 1;
        let previous_end = self.last.map_or(raw.start, |(_, end)| end);
        self.last = Some((raw.start, raw.end));
        let mut references = std::mem::take(&mut self.references);
        let record = match decode(raw, &mut references) {
            Ok(record) => record,
            Err(malformed) => {
                self.report(format_args!("{}: {malformed}", raw.start));
                return Ok(());
            }
        };
        match self.timelines.observe(&record, previous_end) {
            Ok(None) => {}
            Ok(Some(finding)) => self.report(format_args!("{}: {finding}", Shown(&record))),
            Err(underivable) => self.report(format_args!("{}: {underivable}", Shown(&record))),
        }
        let result = self.decoded(&record);
        self.references = references;
        result.with_context(|| format!("record at {}", raw.start))
    }

    fn decoded(&mut self, record: &Record<'_>) -> Result<()> {
        let entry = |reference| Entry::of(record, reference);
        if record.references.is_empty() {
            *self.tally.seen.entry(entry(None)).or_default() += 1;
        }
        if !coverage::is_known(&entry(None)) {
            self.report(format_args!("{}: an unknown record", Shown(record)));
        }
        for finding in self.metadata.observe(record) {
            self.report(format_args!("{}: {finding}", Shown(record)));
        }
        for clear in visibility::implicit_clears(record).into_iter().flatten() {
            self.early_clears.remove(&clear.heap);
            if let Some(map) = self.store.existing(clear.map())? {
                self.tally.clears += u64::from(visibility::clear(&mut Page::new(map), clear));
            }
        }
        for reference in record.references {
            *self.tally.seen.entry(entry(Some(reference.id))).or_default() += 1;
            self.reference(record, reference)?;
        }
        let mut changes = Vec::new();
        if let Err(underivable) = files::changes(record, |change| changes.push(change)) {
            self.report(format_args!("{}: {underivable}", Shown(record)));
        }
        for change in changes {
            if let FileChange::CloneDatabase { to, from } = change {
                self.clone_explanations(from, to);
            }
            self.metadata.change_files(&change);
            self.store.change_files(&change)?;
        }
        Ok(())
    }

    fn reference(&mut self, record: &Record<'_>, reference: &BlockReference) -> Result<()> {
        self.tally.references += 1;
        let applies = reference.image.as_ref().is_some_and(|image| image.apply);
        // A hint's record without an image changes nothing; the map's pages come to be by records that set bits.
        let needs_base = !applies
            && !reference.will_init
            && record.manager != manager::XLOG
            && reference.tag.fork != FORK_VISIBILITY;
        if needs_base && self.store.existing(reference.tag)?.is_none() {
            self.report(format_args!("{}: {} is not there", Shown(record), Referred(reference)));
            return Ok(());
        }
        let entry = Entry::of(record, Some(reference.id));
        if (record.manager, record.operation()) == (manager::GIST, GIST_DELETE) {
            self.pruned_gist.insert(reference.tag);
        }
        let block = self.store.block(reference.tag)?;
        let telling = self.tally.telling.contains(&entry);
        if !telling || self.plants.is_some() {
            self.scratch.before.copy_from_slice(block);
        }
        if let Err(underivable) = redo(record, reference, block, self.settings) {
            if self.was_planted(reference.tag) {
                return self.adopt(record, reference);
            }
            let finding = format!("{}: {}: {underivable}", Shown(record), Referred(reference));
            self.report(format_args!("{finding}"));
            return self.adopt(record, reference);
        }
        if reference.tag.fork == FORK_VISIBILITY {
            self.note_hollow(reference);
        }
        self.store.note_manager(reference.tag, record.manager);
        self.plant(record, reference, entry)?;
        if applies {
            self.tally.restored += 1;
            if !telling && self.changed_at_rest(reference.tag)? {
                self.tally.telling.insert(entry);
            }
            return Ok(());
        }
        if reference.image.is_none() {
            self.tally.without_image += 1;
            return Ok(());
        }
        match self.compare(record, reference) {
            Ok(None) => {
                self.tally.equal += 1;
                if !telling && (self.changed_at_rest(reference.tag)? || self.would_differ(record, reference))
                {
                    self.tally.telling.insert(entry);
                }
            }
            Ok(Some(_)) if self.was_planted(reference.tag) => self.adopt(record, reference)?,
            Ok(Some(_)) if self.explained_map(reference.tag) => self.tally.explained += 1,
            Ok(Some(_)) if self.explained_gist(reference.tag) => {
                self.tally.explained += 1;
                if !telling && self.would_differ(record, reference) {
                    self.tally.telling.insert(entry);
                }
            }
            Ok(Some(at)) => {
                let (ours, theirs) = (around(&self.scratch.derived, at), around(&self.scratch.image, at));
                let difference =
                    format!("byte {at} differs: derived {ours:02x?}, the server's {theirs:02x?}");
                self.report(format_args!("{}: {}: {difference}", Shown(record), Referred(reference)));
                self.adopt(record, reference)?;
            }
            Err(_) if self.was_planted(reference.tag) => self.adopt(record, reference)?,
            Err(underivable) => {
                self.report(format_args!("{}: {}: {underivable}", Shown(record), Referred(reference)));
            }
        }
        Ok(())
    }

    /// Whether the page before the record, masked, differs from the image that was compared last.
    fn would_differ(&mut self, record: &Record<'_>, reference: &BlockReference) -> bool {
        let Scratch { image, before, .. } = &mut self.scratch;
        let BlockTag { fork, block, .. } = reference.tag;
        mask::mask(record.manager, fork, block, &mut Page::new(before)).is_err() || before != image
    }

    /// Whether the record changed what is compared with the stopped server's files but hidden from comparisons with
    /// images, or brought an image that differs from the page before.
    fn changed_at_rest(&mut self, tag: BlockTag) -> Result<bool> {
        let manager = self.store.manager_of(tag);
        let block = self.store.block(tag)?;
        self.scratch.derived.copy_from_slice(block);
        let Scratch { derived, before, .. } = &mut self.scratch;
        let manager = manager.unwrap_or_else(|| likely_manager(derived));
        if at_rest(manager, tag.fork, derived) != at_rest(manager, tag.fork, before) {
            return Ok(true);
        }
        let (mut derived, mut before) = (derived.clone(), before.clone());
        let masked =
            |block: &mut Block| mask::mask(manager, tag.fork, tag.block, &mut Page::new(block)).is_ok();
        Ok(masked(&mut derived) && !(masked(&mut before) && derived == before))
    }

    /// Masks both pages and returns the first byte that differs.
    fn compare(
        &mut self,
        record: &Record<'_>,
        reference: &BlockReference,
    ) -> Result<Option<usize>, Underivable> {
        let Scratch { derived, image, .. } = &mut self.scratch;
        let block = self.store.block(reference.tag).map_err(|_| Underivable::BadPage("it cannot be read"))?;
        derived.copy_from_slice(block);
        image::restore(record, reference, image)?;
        let BlockTag { fork, block, .. } = reference.tag;
        mask::mask(record.manager, fork, block, &mut Page::new(derived))?;
        mask::mask(record.manager, fork, block, &mut Page::new(image))?;
        Ok(mask::first_difference(&derived[..], &image[..]))
    }

    /// Takes the server's page over after a difference, so that one error is reported once.
    fn adopt(&mut self, record: &Record<'_>, reference: &BlockReference) -> Result<()> {
        if reference.image.is_some() {
            let block = self.store.block(reference.tag)?;
            if image::restore(record, reference, block).is_ok() {
                Page::new(block).set_lsn(record.end);
            }
        }
        Ok(())
    }

    /// Counts a finding, and prints the first ones.
    pub fn report(&mut self, finding: fmt::Arguments<'_>) {
        self.tally.findings += 1;
        if self.tally.findings as usize <= PRINTED_FINDINGS {
            eprintln!("FINDING {finding}");
        }
    }
}

fn around(block: &Block, at: usize) -> &[u8] {
    &block[at..(at + 16).min(BLOCK_LEN)]
}

/// A record in one line.
struct Shown<'a, 'r>(&'a Record<'r>);

impl fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        let name = coverage::name(record.major, record.manager, record.info);
        write!(f, "{} {} {name} (info {:#04x}, ", record.start, manager::name(record.manager), record.info)?;
        write!(f, "xid {}, {} bytes, main {:02x?})", record.xid, record.bytes().len(), head(record.main()))
    }
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(24)]
}

/// A block reference in a few words.
struct Referred<'a>(&'a BlockReference);

impl fmt::Display for Referred<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reference {} to {}", self.0.id, self.0.tag)
    }
}

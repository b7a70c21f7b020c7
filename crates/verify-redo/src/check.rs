//! Record by record: redo, and comparison with the images that the server put in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};
use zorya_redo::postgres::checkpoint::Checkpoint;
use zorya_redo::postgres::decode::image;
use zorya_redo::postgres::decode::record::{
    BlockReference, BlockTag, FORK_FREE_SPACE, FORK_MAIN, FORK_VISIBILITY, Record, decode,
};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, RawRecord, WalStream};
use zorya_redo::postgres::page::{Block, PAGE_HEADER_LEN, Page};
use zorya_redo::postgres::synthesis::{self, LogEnd};
use zorya_redo::postgres::{
    BLOCK_LEN, Settings, Underivable, WalPosition, files, manager, mask, redo, visibility,
};

use crate::coverage::{self, Entry};
use crate::metadata::Metadata;
use crate::plant::{Bug, Plants};
use crate::sequence;
use crate::store::{DerivedFork, RelationFiles, Store};

/// Bytes of a segment of the log.
const SEGMENT_LEN: u64 = 16 << 20;
/// Findings that are printed one by one; the rest is counted.
const PRINTED_FINDINGS: usize = 20;

/// What a planted bug flips in a byte.
const SPOILED_BITS: u8 = 0x55;
/// The page header's fields that every mask hides.
const PAGE_LSN_AND_CHECKSUM_LEN: usize = 10;

/// The record of pruned GiST items, where a page's flags are, and the flag that it concerns.
const GIST_DELETE: u8 = 0x10;
const GIST_FLAGS_AT: usize = BLOCK_LEN - 4;
const GIST_TUPLES_DELETED: u8 = 1 << 2;

/// Where an SP-GiST metapage keeps the pages used last: behind its magic number.
const SPGIST_CACHE: std::ops::Range<usize> = PAGE_HEADER_LEN + 4..PAGE_HEADER_LEN + 4 + 8 * 8;

/// What was seen and found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records decoded.
    pub records: u64,
    /// Bytes of the log.
    pub bytes: u64,
    /// Block references that redo was asked for.
    pub references: u64,
    /// References whose derived page equals the image, after masking.
    pub equal: u64,
    /// References without an image to compare with.
    pub without_image: u64,
    /// References whose page came from an image that is to be applied.
    pub restored: u64,
    /// Bits of the visibility map cleared without a reference.
    pub clears: u64,
    /// Differences explained in `docs/redo.md`: maps that CREATE DATABASE copied as empty pages.
    pub explained: u64,
    /// Blocks compared with the stopped server's files.
    pub compared_with_files: u64,
    /// Servers started on what was derived on the way.
    pub starts: u64,
    /// What went wrong.
    pub findings: u64,
    /// Entries for which leaving the record out was noticed at once: the page before it differs from the image.
    pub telling: BTreeSet<Entry>,
    /// How often each (manager, operation, reference) was seen.
    pub seen: BTreeMap<Entry, u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            records,
            bytes,
            references,
            equal,
            without_image,
            restored,
            clears,
            explained,
            compared_with_files,
            ..
        } = self;
        write!(
            f,
            "{records} records, {} MB of WAL, {references} block changes: {equal} equal to the server's image, \
             {restored} images restored, {without_image} without image, {clears} implicit visibility clears, \
             {compared_with_files} blocks compared with files, {explained} explained differences, {} findings",
            bytes >> 20,
            self.findings
        )
    }
}

/// Checks a log from a position on.
pub struct Checker {
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
        Self {
            stream: WalStream::new(format, start),
            store,
            metadata,
            settings,
            references: Vec::new(),
            scratch: Scratch { derived: block(), image: block(), before: block() },
            hollow_maps: HashSet::new(),
            early_clears: HashMap::new(),
            pruned_gist: HashSet::new(),
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

    /// Checks the records in the next bytes of the log.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.tally.bytes += bytes.len() as u64;
        self.keep_segment(bytes);
        // The stream lends records out; it is taken aside so that they can be checked meanwhile.
        let format = LogFormat { page_magic: 0, segment_len: 1 << 24 };
        let mut stream = std::mem::replace(&mut self.stream, WalStream::new(format, WalPosition(0)));
        let result = loop {
            match stream.next(&mut bytes) {
                Ok(Next::Record(raw)) => {
                    if let Err(error) = self.record(raw) {
                        break Err(error);
                    }
                }
                Ok(Next::More | Next::End(_)) => break Ok(()),
                Err(damage) => break Err(damage.into()),
            }
        };
        self.stream = stream;
        result
    }

    /// Keeps the bytes of the segment that the log ends in: a server needs it to start.
    fn keep_segment(&mut self, bytes: &[u8]) {
        let at = (self.position().0 % SEGMENT_LEN) as usize;
        if self.segment.is_empty() {
            self.segment.resize(at, 0);
        }
        self.segment.extend_from_slice(bytes);
        let whole = self.segment.len() / SEGMENT_LEN as usize * SEGMENT_LEN as usize;
        self.segment.drain(..whole);
    }

    /// Whether a server could start at the end of the last record: its segment is the one that is kept.
    pub fn can_start(&self) -> bool {
        let segment = |position: WalPosition| position.0 / SEGMENT_LEN;
        self.last.is_some_and(|(_, end)| segment(end) == segment(self.position()))
    }

    /// Makes `target`, a copy of the base, a data directory that a server starts from without replay. Returns the
    /// position of the checkpoint that it starts at.
    pub fn write_data_directory(
        &mut self,
        target: &Path,
        format: LogFormat,
        time_s: i64,
    ) -> Result<WalPosition> {
        let control = self.metadata.control().clone();
        let checksums = control.has_checksums();
        self.store.write_files(target, checksums)?;
        self.metadata.write_files(target)?;
        let (last, end) = self.last.context("no record was seen")?;
        let log = LogEnd { format, system_identifier: control.system_identifier(), last, end };
        let counters = self.metadata.counters();
        let checkpoint =
            Checkpoint { timeline: 1, previous_timeline: 1, counters, time_s, ..Checkpoint::default() };
        let appended = synthesis::shutdown_checkpoint(&log, checkpoint);
        let mut segment = self.segment.clone();
        let at = (end.0 % SEGMENT_LEN) as usize;
        segment.truncate(at);
        segment.extend_from_slice(&appended.bytes);
        segment.resize(segment.len().next_multiple_of(SEGMENT_LEN as usize), 0);
        for (index, bytes) in (0..).zip(segment.chunks(SEGMENT_LEN as usize)) {
            let number = end.0 / SEGMENT_LEN + index;
            let per_file = 0x1_0000_0000 / SEGMENT_LEN;
            let name = format!("{:08X}{:08X}{:08X}", 1, number / per_file, number % per_file);
            std::fs::write(target.join("pg_wal").join(name), bytes)?;
        }
        std::fs::write(
            target.join("global/pg_control"),
            control.starting_at(appended.start, &appended.checkpoint),
        )?;
        Ok(appended.start)
    }

    fn record(&mut self, raw: RawRecord<'_>) -> Result<()> {
        self.tally.records += 1;
        self.last = Some((raw.start, raw.end));
        let mut references = std::mem::take(&mut self.references);
        let record = match decode(raw.bytes, raw.start, raw.end, &mut references) {
            Ok(record) => record,
            Err(malformed) => {
                self.report(format_args!("{}: {malformed}", raw.start));
                return Ok(());
            }
        };
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

    /// Notes that something is wrong with a block; says whether that was planted.
    fn was_planted(&mut self, tag: BlockTag) -> bool {
        self.plants.as_mut().is_some_and(|plants| plants.notice(tag))
    }

    /// Spoils what a record made of a block, if it is its turn.
    fn plant(&mut self, record: &Record<'_>, reference: &BlockReference, entry: Entry) -> Result<()> {
        let Some(plants) = &mut self.plants else { return Ok(()) };
        let tag = reference.tag;
        let Some(bug) = plants.next(entry, tag) else { return Ok(()) };
        let block = self.store.block(tag)?;
        let before = &self.scratch.before;
        let masked = |page: &Block| {
            let mut page = Box::new(*page);
            // A page that cannot be masked stays as it is.
            let _ = mask::mask(record.manager, tag.fork, tag.block, &mut Page::new(&mut page));
            page
        };
        let visible = masked(block);
        let changed = |at: &usize| block[*at] != before[*at];
        let shows = |at: &usize| {
            let mut spoiled = Box::new(*block);
            spoiled[*at] ^= SPOILED_BITS;
            masked(&spoiled) != visible
        };
        let mut changes = (PAGE_LSN_AND_CHECKSUM_LEN..BLOCK_LEN).filter(changed);
        // Where masks hide all that the record changed, the comparison at rest must notice.
        let Some(at) = changes.clone().find(shows).or_else(|| changes.next()) else {
            plants.withdraw(tag);
            return Ok(());
        };
        match bug {
            Bug::LeftOut => block.copy_from_slice(&before[..]),
            Bug::Corrupted => block[at] ^= SPOILED_BITS,
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

    /// Remembers maps whose image is all hole: CREATE DATABASE logs them as if they were pages of items. A later image
    /// is whole again.
    fn note_hollow(&mut self, reference: &BlockReference) {
        let Some(image) = reference.image.as_ref().filter(|image| image.apply) else { return };
        if usize::from(image.hole_len) + PAGE_HEADER_LEN == BLOCK_LEN {
            self.hollow_maps.insert(reference.tag);
        } else {
            self.hollow_maps.remove(&reference.tag);
        }
    }

    /// Whether the maps compared last may differ as they do.
    ///
    /// * A map that was copied hollow lacks bits. It takes the server's over and is whole from then on.
    /// * The server clears bits before it writes the record that says so, without holding the map's page until then;
    ///   an image taken in between lacks them already. The record must follow.
    fn explained_map(&mut self, tag: BlockTag) -> bool {
        let Scratch { derived, image, .. } = &self.scratch;
        let pairs = || derived.iter().zip(image.iter()).enumerate().skip(PAGE_HEADER_LEN);
        let lacking = pairs().any(|(_, (derived, image))| image & !derived != 0);
        if tag.fork != FORK_VISIBILITY || (lacking && !self.hollow_maps.contains(&tag)) {
            return false;
        }
        for (at, (derived, image)) in pairs() {
            for slot in (0..4).filter(|slot| derived & !image & visibility::BOTH << (slot * 2) != 0) {
                let block = visibility::first_heap_block(tag.block, at) + slot;
                self.early_clears.insert(BlockTag { fork: FORK_MAIN, block, ..tag }, self.tally.records);
            }
        }
        if lacking {
            if let Ok(block) = self.store.block(tag) {
                block
                    .iter_mut()
                    .zip(image.iter())
                    .skip(PAGE_HEADER_LEN)
                    .for_each(|(ours, theirs)| *ours |= theirs);
            }
            self.hollow_maps.remove(&tag);
        }
        true
    }

    /// Whether the GiST pages compared last differ only in the flag that tuples were deleted: redo of a DELETE sets it
    /// (`gistRedoDeleteRecord`), but the server that wrote the record did not (`gistprunepage`). A stock standby has it
    /// too; nothing reads it.
    fn explained_gist(&self, tag: BlockTag) -> bool {
        let Scratch { derived, image, .. } = &self.scratch;
        let differing =
            derived.iter().zip(image.iter()).enumerate().filter(|(_, (derived, image))| derived != image);
        self.pruned_gist.contains(&tag)
            && differing
                .into_iter()
                .all(|(at, (derived, image))| at == GIST_FLAGS_AT && derived & !GIST_TUPLES_DELETED == *image)
    }

    /// Reports bits that the server had cleared in an image and whose record never came.
    fn check_early_clears(&mut self) {
        let overdue: Vec<_> = self.early_clears.drain().collect();
        for (heap, record) in overdue {
            self.report(format_args!("{heap}: cleared in the map at record {record}, but no record says so"));
        }
    }

    /// Compares every derived block with the files of the stopped server.
    pub fn compare_files(&mut self, data: &Path) -> Result<()> {
        self.check_early_clears();
        let mut forks: Vec<_> = self.store.forks().collect();
        forks.retain(|fork| fork.fork != FORK_FREE_SPACE && fork.blocks > 0);
        forks.sort_by_key(|fork| (fork.relation, fork.fork));
        for fork in forks {
            self.compare_fork(data, &fork).with_context(|| format!("comparing {}", fork.relation))?;
        }
        for finding in self.metadata.compare_files(data)? {
            self.report(format_args!("{finding}"));
        }
        Ok(())
    }

    fn compare_fork(&mut self, data: &Path, derived: &DerivedFork) -> Result<()> {
        let mut files = RelationFiles::open(data, derived.relation, derived.fork)?;
        for block in 0..derived.blocks {
            let tag = BlockTag { relation: derived.relation, fork: derived.fork, block };
            let Some(ours) = self.store.existing(tag)? else { continue };
            self.scratch.derived.copy_from_slice(ours);
            self.tally.compared_with_files += 1;
            if !files.read(block, &mut self.scratch.image)? {
                self.report(format_args!("{tag}: derived, but not in the server's files"));
                continue;
            }
            let manager = derived.manager.unwrap_or_else(|| likely_manager(&self.scratch.derived));
            let Scratch { derived: ours, image: theirs, .. } = &mut self.scratch;
            let (rest, their_rest) = (at_rest(manager, tag.fork, ours), at_rest(manager, tag.fork, theirs));
            let planted = rest != their_rest
                && (self.was_planted(tag)
                    || self.plants.as_ref().is_some_and(|plants| plants.was_spoiled(tag)));
            if rest != their_rest && !planted {
                let name = manager::name(manager);
                self.report(format_args!(
                    "{tag} ({name}): at rest {rest:x?}, the server's file {their_rest:x?}"
                ));
            }
            let Scratch { derived: ours, image: theirs, .. } = &mut self.scratch;
            let masked = mask::mask(manager, tag.fork, block, &mut Page::new(ours))
                .and_then(|()| mask::mask(manager, tag.fork, block, &mut Page::new(theirs)));
            let difference = mask::first_difference(&ours[..], &theirs[..]);
            match (masked, difference) {
                (Ok(()), None) => {}
                (Ok(()), Some(_)) | (Err(_), _) if planted || self.was_planted(tag) => {}
                (Ok(()), Some(_)) if self.explained_file(tag, manager) => self.tally.explained += 1,
                (_, at) => {
                    let at = at.unwrap_or(0);
                    let (ours, theirs) = (around(&self.scratch.derived, at), around(&self.scratch.image, at));
                    let difference = format!("derived {ours:02x?}, the server's {theirs:02x?}");
                    let name = manager::name(manager);
                    self.report(format_args!("{tag} ({name}): byte {at} of the file differs: {difference}"));
                }
            }
        }
        Ok(())
    }

    /// Whether the pages compared last, ours and one of the stopped server's files, may differ as they do.
    fn explained_file(&self, tag: BlockTag, manager: u8) -> bool {
        let Scratch { derived, image, .. } = &self.scratch;
        match manager {
            // Bits that the copy of a hollow map lacks.
            _ if tag.fork == FORK_VISIBILITY => {
                let subset = derived.iter().zip(image.iter()).all(|(derived, image)| derived & !image == 0);
                subset && self.hollow_maps.contains(&tag)
            }
            // `nextval` logs a value ahead and counts down to it without records (`nextval_internal`).
            manager::SEQ => sequence::is_ahead(derived, image),
            manager::GIST => self.explained_gist(tag),
            // The pages used last, in the metapage: `SpGistUpdateMetaPage` does not log them.
            manager::SPGIST => {
                let cache = SPGIST_CACHE;
                tag.block == 0
                    && derived[..cache.start] == image[..cache.start]
                    && derived[cache.end..] == image[cache.end..]
            }
            _ => false,
        }
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

/// What masks hide while the server runs, but must be equal once it has stopped.
#[derive(Debug, PartialEq, Eq)]
struct AtRest {
    /// Of a heap page: all tuples are visible to everyone.
    all_visible: bool,
    /// Of a GiST page: its place in the order of splits, and whether its right sibling has no parent.
    gist: Option<([u8; 8], bool)>,
    /// Of a freed page of a hash index: all of it, as a number.
    freed: Option<u64>,
}

fn at_rest(manager: u8, fork: u8, block: &Block) -> AtRest {
    const PD_ALL_VISIBLE: u8 = 4;
    const GIST_FOLLOW_RIGHT: u8 = 1 << 3;
    const HASH_PAGE_TYPE: u8 = 0x0f;
    let is_heap = matches!(manager, manager::HEAP | manager::HEAP2) && fork == FORK_MAIN;
    let gist = (manager == manager::GIST).then(|| {
        let mut position = [0; 8];
        position.copy_from_slice(&block[BLOCK_LEN - 16..BLOCK_LEN - 8]);
        (position, block[GIST_FLAGS_AT] & GIST_FOLLOW_RIGHT != 0)
    });
    let is_freed = manager == manager::HASH && block[BLOCK_LEN - 4] & HASH_PAGE_TYPE == 0;
    let freed = is_freed.then(|| {
        let mut hasher = std::hash::DefaultHasher::new();
        block[PAGE_HEADER_LEN..].hash(&mut hasher);
        hasher.finish()
    });
    AtRest { all_visible: is_heap && block[10] & PD_ALL_VISIBLE != 0, gist, freed }
}

/// Whose page it may be that only images changed: by its special space.
fn likely_manager(block: &Block) -> u8 {
    let special = usize::from(u16::from_le_bytes([block[16], block[17]]));
    let last = u16::from_le_bytes([block[BLOCK_LEN - 2], block[BLOCK_LEN - 1]]);
    match (BLOCK_LEN.saturating_sub(special), last) {
        (0, _) => manager::HEAP,
        (16, 0xff80) => manager::HASH,
        (16, 0xff81) => manager::GIST,
        (16, _) => manager::BTREE,
        (8, 0xff82) => manager::SPGIST,
        (8, 0xf091..=0xf093) => manager::BRIN,
        (8, 0x1717) => manager::SEQ,
        _ => manager::GIN,
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
        let name = coverage::name(record.manager, record.info);
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

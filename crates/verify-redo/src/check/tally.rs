//! What was seen and found, in numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::coverage::Entry;

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
    /// Those among them that were equal without masking.
    pub identical: u64,
    /// Servers started on what was derived.
    pub starts: u64,
    /// What went wrong.
    pub findings: u64,
    /// Entries for which leaving the record out was noticed at once: the page before it differs from the image.
    pub telling: BTreeSet<Entry>,
    /// How often each (manager, operation, reference) was seen.
    pub seen: BTreeMap<Entry, u64>,
}

impl Tally {
    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.references += other.references;
        self.equal += other.equal;
        self.without_image += other.without_image;
        self.restored += other.restored;
        self.clears += other.clears;
        self.explained += other.explained;
        self.compared_with_files += other.compared_with_files;
        self.identical += other.identical;
        self.starts += other.starts;
        self.findings += other.findings;
        self.telling.extend(other.telling);
        for (entry, count) in other.seen {
            *self.seen.entry(entry).or_default() += count;
        }
    }
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
            identical,
            ..
        } = self;
        write!(
            f,
            "{records} records, {} MB of WAL, {references} block changes: {equal} equal to the server's image, \
             {restored} images restored, {without_image} without image, {clears} implicit visibility clears, \
             {compared_with_files} blocks compared with files ({identical} equal without masking), {explained} explained differences, {} findings",
            bytes >> 20,
            self.findings
        )
    }
}

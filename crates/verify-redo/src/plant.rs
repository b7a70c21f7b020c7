//! Planted bugs: proof that the verifier would notice errors of redo.
//!
//! For every (resource manager, operation, block reference), one record is left out and one outcome is corrupted in a
//! byte that the record changed. Each must be noticed at that block: by the comparison with the record's image, by a
//! later one, by a later record that does not fit, or by the comparison with the stopped server's files. A block may
//! be overwritten before anything looks at it; then the bug is planted again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use zorya_redo::postgres::decode::record::BlockTag;

use crate::coverage::{self, Entry};

/// How often a bug is planted until it is noticed.
const ATTEMPTS: u32 = 20_000;

/// What is wrong with a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// It does nothing.
    LeftOut,
    /// A byte that it changes is wrong.
    Corrupted,
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftOut => "left out",
            Self::Corrupted => "corrupted",
        })
    }
}

/// The bugs that were planted.
#[derive(Default)]
pub struct Plants {
    tried: BTreeMap<(Entry, Bug), u32>,
    noticed: BTreeSet<(Entry, Bug)>,
    open: HashMap<BlockTag, (Entry, Bug)>,
    /// Every block that was ever spoiled. What it was mended with, an image, may lack what only redo knows.
    spoiled: HashSet<BlockTag>,
}

impl Plants {
    /// Blocks of another cluster are others, even if they are called the same.
    pub fn begin_cluster(&mut self) {
        self.open.clear();
        self.spoiled.clear();
    }

    /// The bug to plant into the outcome of a record at a block, if any.
    pub fn next(&mut self, entry: Entry, tag: BlockTag) -> Option<Bug> {
        if self.open.contains_key(&tag) || coverage::changes_nothing(&entry) {
            return None;
        }
        let due = |bug: &Bug| !self.has_noticed(entry, *bug) && self.tries(entry, *bug) < ATTEMPTS;
        let bugs = [Bug::LeftOut, Bug::Corrupted].into_iter().filter(due);
        let bug = bugs.min_by_key(|bug| self.tries(entry, *bug))?;
        *self.tried.entry((entry, bug)).or_default() += 1;
        self.open.insert(tag, (entry, bug));
        self.spoiled.insert(tag);
        Some(bug)
    }

    /// Forgets a bug that could not be planted: the record changed nothing.
    pub fn withdraw(&mut self, tag: BlockTag) {
        self.open.remove(&tag);
    }

    /// Notes that something is wrong with a block; says whether that was planted.
    pub fn notice(&mut self, tag: BlockTag) -> bool {
        let planted = self.open.remove(&tag);
        planted.map(|plant| self.noticed.insert(plant)).is_some()
    }

    /// Whether the block was ever spoiled.
    pub fn was_spoiled(&self, tag: BlockTag) -> bool {
        self.spoiled.contains(&tag)
    }

    /// How many were noticed.
    pub fn noticed(&self) -> usize {
        self.noticed.len()
    }

    /// Whether the bug was noticed.
    pub fn has_noticed(&self, entry: Entry, bug: Bug) -> bool {
        self.noticed.contains(&(entry, bug))
    }

    /// How often it was planted.
    pub fn tries(&self, entry: Entry, bug: Bug) -> u32 {
        self.tried.get(&(entry, bug)).copied().unwrap_or(0)
    }
}

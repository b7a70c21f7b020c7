//! The derived state and files: comparison with those of the stopped server, and a data directory of its own.

use std::hash::{Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};
use zorya_redo::postgres::checkpoint::Checkpoint;
use zorya_redo::postgres::decode::record::{BlockTag, FORK_FREE_SPACE, FORK_MAIN};
use zorya_redo::postgres::page::{Block, PAGE_HEADER_LEN, Page};
use zorya_redo::postgres::synthesis::{self, LogEnd};
use zorya_redo::postgres::{BLOCK_LEN, WalPosition, manager, mask};

use super::{Checker, GIST_FLAGS_AT, Scratch, around};
use crate::SEGMENT_LEN;
use crate::relation_files::RelationFiles;
use crate::store::DerivedFork;

/// What masks hide while the server runs, but must be equal once it has stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AtRest {
    /// Of a heap page: all tuples are visible to everyone.
    all_visible: bool,
    /// Of a GiST page: its place in the order of splits, and whether its right sibling has no parent.
    gist: Option<([u8; 8], bool)>,
    /// Of a freed page of a hash index: all of it, as a number.
    freed: Option<u64>,
}

pub(super) fn at_rest(manager: u8, fork: u8, block: &Block) -> AtRest {
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
pub(super) fn likely_manager(block: &Block) -> u8 {
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

/// Whose files what was derived is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// The server that wrote the log. It knows a few things that the log does not say: what is explained.
    Primary,
    /// A stock server that knows nothing but the log: nothing needs to be explained, and files end where ours do.
    Standby,
}

/// Whether two pages are equal but for their checksums, which nobody has computed for the derived one.
fn is_identical(derived: &Block, server: &Block) -> bool {
    derived[..8] == server[..8] && derived[10..] == server[10..]
}

impl Checker {
    /// Compares every derived block with the files of a stopped server.
    pub fn compare_files(&mut self, data: &Path, oracle: Oracle) -> Result<()> {
        self.check_early_clears();
        let mut forks: Vec<_> = self.store.forks().collect();
        forks.retain(|fork| fork.fork != FORK_FREE_SPACE && fork.blocks > 0);
        forks.sort_by_key(|fork| (fork.relation, fork.fork));
        for fork in forks {
            self.compare_fork(data, &fork, oracle).with_context(|| format!("comparing {}", fork.relation))?;
        }
        for finding in self.metadata.compare_files(data)? {
            self.report(format_args!("{finding}"));
        }
        // A standby that was told to go on alone has begun a timeline that we know nothing of.
        if oracle == Oracle::Primary
            && let Some(finding) = self.timelines.compare(data)?
        {
            self.report(format_args!("{finding}"));
        }
        Ok(())
    }

    fn compare_fork(&mut self, data: &Path, derived: &DerivedFork, oracle: Oracle) -> Result<()> {
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
            if is_identical(&self.scratch.derived, &self.scratch.image) {
                self.tally.identical += 1;
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
                (Ok(()), Some(_)) if oracle == Oracle::Primary && self.explained_file(tag, manager) => {
                    self.tally.explained += 1;
                }
                (_, at) => {
                    let at = at.unwrap_or(0);
                    let (ours, theirs) = (around(&self.scratch.derived, at), around(&self.scratch.image, at));
                    let difference = format!("derived {ours:02x?}, the server's {theirs:02x?}");
                    let name = manager::name(manager);
                    self.report(format_args!("{tag} ({name}): byte {at} of the file differs: {difference}"));
                }
            }
        }
        let end = derived.len;
        if oracle == Oracle::Standby && files.read(end, &mut self.scratch.image)? {
            let (relation, fork) = (derived.relation, derived.fork);
            self.report(format_args!("{relation} fork {fork}: the server's goes on after block {end}"));
        }
        Ok(())
    }

    /// Whether a server could start at the end of the last record: its segment is the one that is kept.
    pub fn can_start(&self) -> bool {
        let segment = |position: WalPosition| position.0 / SEGMENT_LEN;
        self.last.is_some_and(|(_, end)| segment(end) == segment(self.position()))
    }

    /// Makes `target`, a copy of the base, a data directory that a server starts from without replay. Returns the
    /// position of the checkpoint that it starts at.
    pub fn write_data_directory(&mut self, target: &Path, time_s: i64) -> Result<WalPosition> {
        let control = self.metadata.control().clone();
        let checksums = control.has_checksums();
        self.store.write_files(target, checksums)?;
        self.metadata.write_files(target)?;
        let (last, end) = self.last.context("no record was seen")?;
        let log = LogEnd { format: self.format, system_identifier: control.system_identifier(), last, end };
        let counters = self.metadata.counters();
        let timeline = self.timelines.current();
        let checkpoint = Checkpoint {
            timeline,
            previous_timeline: timeline,
            wal_level: control.wal_level_of_checkpoints(),
            counters,
            time_s,
            ..Checkpoint::default()
        };
        let appended = synthesis::shutdown_checkpoint(&log, checkpoint);
        let mut segment = self.segment.clone();
        let at = (end.0 % SEGMENT_LEN) as usize;
        // Padding after the last record may not have been taken yet.
        segment.resize(at, 0);
        segment.extend_from_slice(&appended.bytes);
        segment.resize(segment.len().next_multiple_of(SEGMENT_LEN as usize), 0);
        for (index, bytes) in (0..).zip(segment.chunks(SEGMENT_LEN as usize)) {
            let number = end.0 / SEGMENT_LEN + index;
            let per_file = 0x1_0000_0000 / SEGMENT_LEN;
            let name = format!("{timeline:08X}{:08X}{:08X}", number / per_file, number % per_file);
            std::fs::write(target.join("pg_wal").join(name), bytes)?;
        }
        self.timelines.write_history(target)?;
        std::fs::write(
            target.join("global/pg_control"),
            control.starting_at(appended.start, &appended.checkpoint),
        )?;
        Ok(appended.start)
    }
}

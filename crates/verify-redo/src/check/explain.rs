//! Differences from the server that are explained: each is accepted in exactly one form (see `docs/redo.md`).

use zorya_redo::postgres::decode::record::{BlockReference, BlockTag, FORK_MAIN, FORK_VISIBILITY, Relation};
use zorya_redo::postgres::files::Directory;
use zorya_redo::postgres::page::PAGE_HEADER_LEN;
use zorya_redo::postgres::{BLOCK_LEN, manager, visibility};

use super::{Checker, GIST_FLAGS_AT, Scratch};
use crate::sequence;

const GIST_TUPLES_DELETED: u8 = 1 << 2;
/// Where an SP-GiST metapage keeps the pages used last: behind its magic number.
const SPGIST_CACHE: std::ops::Range<usize> = PAGE_HEADER_LEN + 4..PAGE_HEADER_LEN + 4 + 8 * 8;

impl Checker {
    /// Remembers maps whose image is all hole: CREATE DATABASE logs them as if they were pages of items. A later image
    /// is whole again.
    pub(super) fn note_hollow(&mut self, reference: &BlockReference) {
        let Some(image) = reference.image.as_ref().filter(|image| image.apply) else { return };
        if usize::from(image.hole_len) + PAGE_HEADER_LEN == BLOCK_LEN {
            self.hollow_maps.insert(reference.tag);
        } else {
            self.hollow_maps.remove(&reference.tag);
        }
    }

    /// What was copied along with a database's files differs there too.
    pub(super) fn clone_explanations(&mut self, from: Directory, to: Directory) {
        for tags in [&mut self.hollow_maps, &mut self.pruned_gist] {
            let is_in = |tag: &&BlockTag| {
                let Relation { tablespace, database, .. } = tag.relation;
                Directory { tablespace, database } == from
            };
            let copies: Vec<_> = tags
                .iter()
                .filter(is_in)
                .map(|tag| {
                    let Directory { tablespace, database } = to;
                    BlockTag { relation: Relation { tablespace, database, ..tag.relation }, ..*tag }
                })
                .collect();
            tags.extend(copies);
        }
    }

    /// Whether the maps compared last may differ as they do.
    ///
    /// * A map that was copied hollow lacks bits. It takes the server's over and is whole from then on.
    /// * The server clears bits before it writes the record that says so, without holding the map's page until then;
    ///   an image taken in between lacks them already. The record must follow.
    pub(super) fn explained_map(&mut self, tag: BlockTag) -> bool {
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
    /// too; nothing reads it. Later minor releases have given the flag up altogether, and their redo with them.
    pub(super) fn explained_gist(&self, tag: BlockTag) -> bool {
        let Scratch { derived, image, .. } = &self.scratch;
        let differing =
            derived.iter().zip(image.iter()).enumerate().filter(|(_, (derived, image))| derived != image);
        self.settings.marks_gist_deletions
            && self.pruned_gist.contains(&tag)
            && differing
                .into_iter()
                .all(|(at, (derived, image))| at == GIST_FLAGS_AT && derived & !GIST_TUPLES_DELETED == *image)
    }

    /// Reports bits that the server had cleared in an image and whose record never came.
    pub(super) fn check_early_clears(&mut self) {
        let overdue: Vec<_> = self.early_clears.drain().collect();
        for (heap, record) in overdue {
            self.report(format_args!("{heap}: cleared in the map at record {record}, but no record says so"));
        }
    }

    /// Whether the pages compared last, ours and one of the stopped server's files, may differ as they do.
    pub(super) fn explained_file(&self, tag: BlockTag, manager: u8) -> bool {
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
}

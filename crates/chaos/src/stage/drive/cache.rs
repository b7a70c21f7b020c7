//! What a drive has taken but not yet put on the platter. Pure: what is to be put there is handed out as runs of bytes.

use std::collections::{BTreeMap, VecDeque};

use crate::seed::Numbers;

/// What a drive writes whole or not at all, in bytes.
pub(super) const SECTOR: usize = 512;
/// What is kept together here, in bytes. Drives that tear only at this size exist too.
const BLOCK: usize = 4096;
/// All the sectors of a block.
const WHOLE: u8 = u8::MAX;
/// The longest run, in bytes.
const LONGEST: usize = 1 << 20;
/// In how many of a hundred cases a sector that was not flushed had reached the platter: a power cut has one of these.
const REACHED_PERCENT: [u64; 4] = [0, 10, 50, 90];

/// A volatile write cache.
#[derive(Debug)]
pub(super) struct WriteCache {
    /// By number: the place divided by the size.
    blocks: BTreeMap<u64, Block>,
    /// The numbers of all blocks, the one that came first in front.
    order: VecDeque<u64>,
    most_blocks: usize,
}

#[derive(Debug)]
struct Block {
    /// Bit i: sector i is newer here than on the platter. Only these sectors' bytes mean anything.
    newer: u8,
    bytes: Box<[u8; BLOCK]>,
}

/// Bytes that belong on the platter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where, in bytes.
    pub(super) place: u64,
    /// Whole sectors.
    pub(super) bytes: Vec<u8>,
}

/// What a power cut did to a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Sectors that were in the cache.
    pub unflushed: u64,
    /// Those of them that never reached the platter.
    pub lost: u64,
}

impl WriteCache {
    /// An empty cache that puts its oldest blocks on the platter when it has more than `most_bytes`.
    pub(super) fn bounded(most_bytes: usize) -> WriteCache {
        assert!(most_bytes >= BLOCK, "a cache of {most_bytes} bytes has no room for a block");
        WriteCache { blocks: BTreeMap::new(), order: VecDeque::new(), most_blocks: most_bytes / BLOCK }
    }

    /// Takes whole sectors.
    pub(super) fn write(&mut self, mut place: u64, mut bytes: &[u8]) {
        assert!(is_whole(place, bytes.len()), "{} bytes at {place} are not whole sectors", bytes.len());
        while !bytes.is_empty() {
            let number = place / BLOCK as u64;
            let start = (place % BLOCK as u64) as usize;
            let (some, rest) = bytes.split_at(bytes.len().min(BLOCK - start));
            let block = self.blocks.entry(number).or_insert_with(|| {
                self.order.push_back(number);
                Block { newer: 0, bytes: Box::new([0; BLOCK]) }
            });
            block.bytes[start..start + some.len()].copy_from_slice(some);
            block.newer |= sectors(start, some.len());
            place += some.len() as u64;
            bytes = rest;
        }
    }

    /// Puts what is newer here over what the platter has at `place`, whole sectors both.
    pub(super) fn overlay(&self, place: u64, bytes: &mut [u8]) {
        let end = place + bytes.len() as u64;
        for (number, block) in self.blocks.range(place / BLOCK as u64..end.div_ceil(BLOCK as u64)) {
            for sector in block.newer_sectors() {
                let at = number * BLOCK as u64 + sector as u64;
                if (place..end).contains(&at) {
                    let to = (at - place) as usize;
                    bytes[to..to + SECTOR].copy_from_slice(&block.bytes[sector..sector + SECTOR]);
                }
            }
        }
    }

    /// The oldest blocks of a cache that is too full, which leave it: some more than need be, so that they are few runs.
    pub(super) fn excess(&mut self) -> Vec<Run> {
        if self.blocks.len() <= self.most_blocks {
            return Vec::new();
        }
        let kept = self.most_blocks - self.most_blocks / 8;
        let oldest = self.order.drain(..self.blocks.len() - kept);
        let taken: BTreeMap<_, _> =
            oldest.filter_map(|number| Some((number, self.blocks.remove(&number)?))).collect();
        runs(taken)
    }

    /// Everything, which leaves it.
    pub(super) fn flush(&mut self) -> Vec<Run> {
        self.order.clear();
        runs(std::mem::take(&mut self.blocks))
    }

    /// Empties it as a power cut does: some sectors, any of them, had reached the platter; they are returned.
    pub(super) fn lose(&mut self, numbers: &mut Numbers) -> (Vec<Run>, Loss) {
        let percent = *numbers.pick(&REACHED_PERCENT);
        let tears_blocks = numbers.chance(50);
        self.order.clear();
        let mut blocks = std::mem::take(&mut self.blocks);
        let mut loss = Loss::default();
        for block in blocks.values_mut() {
            let before = block.newer;
            block.newer &= if tears_blocks {
                (0..8).filter(|_| numbers.chance(percent)).fold(0, |reached, bit| reached | 1 << bit)
            } else if numbers.chance(percent) {
                WHOLE
            } else {
                0
            };
            loss.unflushed += u64::from(before.count_ones());
            loss.lost += u64::from((before & !block.newer).count_ones());
        }
        (runs(blocks), loss)
    }
}

impl Block {
    /// Where in it the sectors begin that are newer here.
    fn newer_sectors(&self) -> impl Iterator<Item = usize> {
        let newer = self.newer;
        (0..8).filter(move |bit| newer & 1 << bit != 0).map(|bit| bit * SECTOR)
    }
}

/// Whether these bytes are whole sectors.
pub(super) fn is_whole(place: u64, len: usize) -> bool {
    place.is_multiple_of(SECTOR as u64) && len.is_multiple_of(SECTOR)
}

/// The bits of the sectors from `start` on, both in bytes.
fn sectors(start: usize, len: usize) -> u8 {
    let (first, count) = (start / SECTOR, len / SECTOR);
    (((1_u16 << count) - 1) << first) as u8
}

fn runs(blocks: BTreeMap<u64, Block>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut add = |place: u64, bytes: &[u8]| match runs.last_mut() {
        Some(run) if run.place + run.bytes.len() as u64 == place && run.bytes.len() < LONGEST => {
            run.bytes.extend_from_slice(bytes);
        }
        _ => runs.push(Run { place, bytes: bytes.to_vec() }),
    };
    for (number, block) in blocks {
        let place = number * BLOCK as u64;
        if block.newer == WHOLE {
            add(place, &block.bytes[..]);
            continue;
        }
        for sector in block.newer_sectors() {
            add(place + sector as u64, &block.bytes[sector..sector + SECTOR]);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A platter of 64 KiB that holds 1 everywhere.
    fn platter() -> Vec<u8> {
        vec![1; 64 << 10]
    }

    fn put(platter: &mut [u8], runs: &[Run]) {
        for run in runs {
            platter[run.place as usize..][..run.bytes.len()].copy_from_slice(&run.bytes);
        }
    }

    fn cache() -> WriteCache {
        WriteCache::bounded(1 << 20)
    }

    #[test]
    fn a_read_sees_the_newest_sectors_over_the_platter() {
        let mut cache = cache();
        cache.write(3 * 512, &[2; 4096]);
        cache.write(4 * 512, &[3; 512]);
        let mut read = platter();
        cache.overlay(0, &mut read);
        let sectors: Vec<u8> = read.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!(sectors[..12], [1, 1, 1, 2, 3, 2, 2, 2, 2, 2, 2, 1]);
        let mut part = vec![1; 1024];
        cache.overlay(4 * 512, &mut part);
        assert_eq!((part[0], part[512]), (3, 2));
    }

    #[test]
    fn a_flush_hands_out_everything_in_long_runs_and_nothing_is_lost_after_it() {
        let mut cache = cache();
        cache.write(8192, &[2; 8192]);
        cache.write(512, &[3; 512]);
        cache.write(4096, &[4; 4096]);
        let runs = cache.flush();
        let shape: Vec<_> = runs.iter().map(|run| (run.place, run.bytes.len())).collect();
        assert_eq!(shape, [(512, 512), (4096, 12_288)]);
        assert_eq!(cache.lose(&mut Numbers::from_seed(1)), (Vec::new(), Loss::default()));
        assert!(cache.excess().is_empty());
    }

    #[test]
    fn the_oldest_leave_first_when_it_is_too_full() {
        let mut cache = WriteCache::bounded(8 * 4096);
        for number in [5, 1, 9, 2, 14, 3, 7, 8] {
            cache.write(number * 4096, &[2; 4096]);
        }
        // Written again: still the oldest.
        cache.write(5 * 4096, &[6; 512]);
        assert!(cache.excess().is_empty());
        cache.write(0, &[2; 4096]);
        let left = cache.excess();
        let places: Vec<_> = left.iter().map(|run| run.place / 4096).collect();
        assert_eq!((places, left[1].bytes[0]), (vec![1, 5], 6));
        assert_eq!(cache.flush().iter().map(|run| run.bytes.len()).sum::<usize>(), 7 * 4096);
    }

    /// The sectors of eight unflushed blocks that reached the platter, over what was flushed.
    fn cut(seed: u64) -> (Vec<u8>, Loss) {
        let (mut cache, mut platter) = (cache(), platter());
        cache.write(0, &[2; 4096]);
        put(&mut platter, &cache.flush());
        cache.write(4096, &[3; 8 * 4096]);
        let (reached, loss) = cache.lose(&mut Numbers::from_seed(seed));
        put(&mut platter, &reached);
        assert!(cache.flush().is_empty(), "a cache without power keeps nothing");
        (platter.chunks(512).map(|sector| sector[0]).collect(), loss)
    }

    #[test]
    fn a_power_cut_keeps_what_was_flushed_and_any_part_of_the_rest() {
        let mut kinds = BTreeSet::new();
        for seed in 0..200 {
            let (sectors, loss) = cut(seed);
            assert_eq!(sectors[..8], [2; 8], "flushed sectors stay");
            assert_eq!(sectors[72..], [1; 56], "what was never written stays");
            let reached = sectors[8..72].iter().filter(|sector| **sector == 3).count() as u64;
            assert_eq!(loss, Loss { unflushed: 64, lost: 64 - reached });
            let torn = sectors[8..72].chunks(8).any(|block| block.iter().any(|sector| *sector != block[0]));
            // A later block is there and an earlier one is not.
            let reordered = sectors[8..72].is_sorted_by(|a, b| a >= b);
            kinds.insert((reached == 0, torn, !reordered));
            assert_eq!(cut(seed), (sectors, loss), "the seed decides");
        }
        for kind in [(true, false, false), (false, true, true), (false, false, true)] {
            assert!(kinds.contains(&kind), "no seed of 200 gave {kind:?}: {kinds:?}");
        }
    }
}

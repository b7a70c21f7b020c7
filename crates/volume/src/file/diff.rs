//! Which bytes of a block a write changes.

use std::ops::Range;

/// Differences closer than this are logged as one range: a range costs a few bytes of its own.
const MERGE_GAP: usize = 32;
const WORD: usize = 8;

/// The ranges in which `new` differs from `old` (of equal length), ascending, at least [`MERGE_GAP`] apart, rounded
/// to words of eight bytes. Returns how many bytes they hold.
pub fn differing(old: &[u8], new: &[u8], ranges: &mut Vec<Range<usize>>) -> usize {
    assert_eq!(old.len(), new.len(), "the versions of a block have one size");
    ranges.clear();
    if old == new {
        return 0;
    }
    for (index, (old, new)) in old.chunks(WORD).zip(new.chunks(WORD)).enumerate() {
        if old == new {
            continue;
        }
        let start = index * WORD;
        let end = start + new.len();
        match ranges.last_mut() {
            Some(last) if start < last.end + MERGE_GAP => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges.iter().map(Range::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn near_differences_are_one_range_and_far_ones_two() {
        let old = vec![0u8; 256];
        let mut new = old.clone();
        new[3] = 1;
        new[30] = 1;
        new[200] = 1;
        let mut ranges = Vec::new();
        assert_eq!(differing(&old, &new, &mut ranges), 40);
        assert_eq!(ranges, [0..32, 200..208]);
    }

    proptest! {
        #[test]
        fn applying_the_ranges_gives_the_new_version(
            old in proptest::collection::vec(0u8..3, 1..300),
            flips in proptest::collection::vec((0usize..300, 0u8..3), 0..20),
        ) {
            let mut new = old.clone();
            for (at, value) in flips {
                let len = new.len();
                new[at % len] = value;
            }
            let mut ranges = Vec::new();
            let bytes = differing(&old, &new, &mut ranges);
            prop_assert_eq!(bytes == 0, old == new);
            let mut patched = old.clone();
            for range in &ranges {
                patched[range.clone()].copy_from_slice(&new[range.clone()]);
            }
            prop_assert_eq!(patched, new);
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end + MERGE_GAP <= pair[1].start);
            }
        }
    }
}

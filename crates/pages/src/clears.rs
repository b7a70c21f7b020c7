//! Range tombstones, cut into fragments that do not overlap.

use std::collections::BTreeMap;
use std::ops::Bound;

use zorya_types::{Key, Lsn};

use crate::chain::At;

/// A fragment's exclusive end and when it was cleared, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fragment {
    to: Key,
    at: Vec<At>,
}

/// Which keys were cleared when. A clear that overlaps others is cut where they start and end, so that a key lies in
/// at most one fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clears {
    /// By the fragment's first key.
    fragments: BTreeMap<Key, Fragment>,
}

impl Clears {
    /// Adds a clear of `from..to`, which is not empty. Clears may come in any order.
    pub(crate) fn add(&mut self, from: Key, to: Key, at: At) {
        self.split(from);
        self.split(to);
        let mut uncovered = from;
        let mut gaps = Vec::new();
        for (&start, fragment) in self.fragments.range_mut(from..to) {
            if uncovered < start {
                gaps.push((uncovered, start));
            }
            uncovered = fragment.to;
            let place = fragment.at.partition_point(|held| *held < at);
            if fragment.at.get(place) != Some(&at) {
                fragment.at.insert(place, at);
            }
        }
        if uncovered < to {
            gaps.push((uncovered, to));
        }
        for (start, to) in gaps {
            self.fragments.insert(start, Fragment { to, at: vec![at] });
        }
    }

    /// Makes a fragment boundary at `key` if it lies inside a fragment.
    fn split(&mut self, key: Key) {
        let below = (Bound::Unbounded, Bound::Excluded(key));
        let Some((_, fragment)) = self.fragments.range_mut(below).next_back() else { return };
        if fragment.to > key {
            let upper = Fragment { to: fragment.to, at: fragment.at.clone() };
            fragment.to = key;
            self.fragments.insert(key, upper);
        }
    }

    /// The newest clear of `key` by a record in `(after, upto]`.
    pub(crate) fn newest(&self, key: Key, after: Lsn, upto: Lsn) -> Option<At> {
        let (_, fragment) = self.fragments.range(..=key).next_back()?;
        if fragment.to <= key {
            return None;
        }
        let place = fragment.at.partition_point(|at| at.lsn <= upto);
        fragment.at[..place].last().copied().filter(|at| at.lsn > after)
    }

    /// Every fragment and clear: first key, exclusive end, when. In key order, then by time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Key, At)> + '_ {
        self.fragments
            .iter()
            .flat_map(|(&from, fragment)| fragment.at.iter().map(move |&at| (from, fragment.to, at)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The first key and the last exclusive end.
    pub(crate) fn span(&self) -> Option<(Key, Key)> {
        let (&from, _) = self.fragments.first_key_value()?;
        let (_, last) = self.fragments.last_key_value()?;
        Some((from, last.to))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_clear_of_a_key_is_found(
            clears in prop::collection::vec((0..20_u64, 1..10_u64, 1..50_u64), 0..20),
            key in 0..32_u64, after in 0..50_u64, upto in 0..50_u64,
        ) {
            let key_of = |lo| Key { hi: 1, lo };
            let mut held = Clears::default();
            let mut expected = None;
            for (from, len, lsn) in clears {
                held.add(key_of(from), key_of(from + len), At::first(Lsn(lsn)));
                if (from..from + len).contains(&key) && lsn > after && lsn <= upto {
                    expected = expected.max(Some(At::first(Lsn(lsn))));
                }
            }
            prop_assert_eq!(held.newest(key_of(key), Lsn(after), Lsn(upto)), expected);
            let mut again = Clears::default();
            for (from, to, at) in held.iter() {
                again.add(from, to, at);
            }
            prop_assert_eq!(again, held);
        }
    }
}

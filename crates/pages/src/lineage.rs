//! Reading along a history: branches and rewinds are only spans of logs.

use bytes::Bytes;
use zorya_types::{GroupId, Key, Lineage, LogId, Lsn};

use crate::chain::Chain;
use crate::error::ReadError;

/// A stretch `(after, upto]` of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which log.
    pub log: LogId,
    /// Exclusive lower end.
    pub after: Lsn,
    /// Inclusive upper end.
    pub upto: Lsn,
}

/// The versions of some logs.
pub trait VersionSource {
    /// Adds the changes of `key` by records in the window to `chain`, newest first, until the chain is complete or the
    /// window has no more. Fails if the window's upper end cannot be read here.
    fn collect(&self, window: Window, group: GroupId, key: Key, chain: &mut Chain) -> Result<(), ReadError>;

    /// The keys in `from..to` that may have versions in the window, ascending, about `limit` of them: with them comes
    /// the key up to which (exclusive) none is missing, at most `to`.
    fn keys(
        &self,
        window: Window,
        group: GroupId,
        range: (Key, Key),
        limit: usize,
    ) -> Result<(Vec<Key>, Key), ReadError>;
}

/// The value of a key as a reader at `lsn` of that history sees it; `None` if the key is absent.
pub fn read_lineage(
    source: &(impl VersionSource + ?Sized),
    lineage: &Lineage,
    lsn: Lsn,
    group: GroupId,
    key: Key,
) -> Result<Option<Bytes>, ReadError> {
    let mut chain = Chain::default();
    for window in windows(lineage, lsn) {
        source.collect(window, group, key, &mut chain)?;
        if chain.is_complete() {
            break;
        }
    }
    Ok(chain.resolve(key)?)
}

/// Keys with their values in order, and the key to go on from if there may be more.
pub type Scanned = (Vec<(Key, Bytes)>, Option<Key>);

/// The next keys of `range` and their values as a reader at `lsn` sees them, and where to go on if that was not all.
/// Stops after `max_bytes` of keys and values, but gives at least one if there is one.
pub(crate) fn scan_lineage(
    source: &(impl VersionSource + ?Sized),
    lineage: &Lineage,
    lsn: Lsn,
    group: GroupId,
    (from, to): (Key, Key),
    max_bytes: usize,
) -> Result<Scanned, ReadError> {
    const KEYS_AT_ONCE: usize = 4096;
    let (mut found, mut bytes, mut next) = (Vec::new(), 0, from);
    while next < to {
        let (mut keys, mut known_to) = (Vec::new(), to);
        for window in windows(lineage, lsn) {
            let (some, upto) = source.keys(window, group, (next, to), KEYS_AT_ONCE)?;
            keys.extend(some);
            known_to = known_to.min(upto);
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys.into_iter().filter(|key| *key < known_to) {
            if bytes >= max_bytes && !found.is_empty() {
                return Ok((found, Some(key)));
            }
            if let Some(value) = read_lineage(source, lineage, lsn, group, key)? {
                bytes += Key::ENCODED_LEN + value.len();
                found.push((key, value));
            }
        }
        next = known_to;
    }
    Ok((found, None))
}

fn windows(lineage: &Lineage, lsn: Lsn) -> impl Iterator<Item = Window> + '_ {
    lineage.visible_at(lsn).map(|span| Window { log: span.log, after: span.from, upto: span.to })
}

//! The index over an interval of the newest log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use zorya_redo::{Effect, Touch, Underivable};
use zorya_types::{Key, Lsn};

use crate::chain::{At, Chain, Change};
use crate::clears::Clears;
use crate::config::NodeMemory;
use crate::lineage::Window;

/// About what an entry costs beside the record's bytes.
const ENTRY_BYTES: usize = 128;

/// One version: which record says it, and whether it is a delete.
#[derive(Clone, Copy, Debug)]
struct Held {
    record: u32,
    delete: bool,
}

/// Every version of one group's keys by records of one interval between flush cuts. Records keep their buffers; a
/// value is made when it is read.
#[derive(Debug)]
pub(crate) struct MemTable {
    entries: BTreeMap<(Key, At), Held>,
    clears: Clears,
    /// Codec and payload of each record.
    records: Vec<(u16, Bytes)>,
    /// The interval, exclusive start and inclusive end, once it is closed.
    interval: (Lsn, Lsn),
    bytes: usize,
    node: Arc<NodeMemory>,
}

impl MemTable {
    /// An empty index of an interval that is not closed.
    pub(crate) fn new(node: Arc<NodeMemory>) -> MemTable {
        MemTable {
            entries: BTreeMap::new(),
            clears: Clears::default(),
            records: Vec::new(),
            interval: (Lsn::ZERO, Lsn::MAX),
            bytes: 0,
            node,
        }
    }

    /// Adds what a record does to this group's keys.
    pub(crate) fn add<'a>(
        &mut self,
        lsn: Lsn,
        codec: u16,
        payload: &Bytes,
        touches: impl Iterator<Item = &'a Touch>,
    ) {
        let record = self.records.len() as u32;
        let mut bytes = 0;
        for touch in touches {
            bytes += ENTRY_BYTES;
            let at = At { lsn, reference: touch.reference };
            match touch.effect {
                Effect::Clear { to } => self.clears.add(touch.key, to, at),
                effect => {
                    let held = Held { record, delete: effect == Effect::Delete };
                    self.entries.insert((touch.key, at), held);
                }
            }
        }
        if bytes > 0 {
            self.records.push((codec, payload.clone()));
            bytes += payload.len();
            self.bytes += bytes;
            self.node.take(bytes);
        }
    }

    /// See [`crate::VersionSource::collect`].
    pub(crate) fn collect(&self, window: Window, key: Key, chain: &mut Chain) -> Result<(), Underivable> {
        let cleared = self.clears.newest(key, window.after, window.upto);
        let newest = (key, At::last(window.upto));
        let oldest = (key, At::first(Lsn(window.after.0.saturating_add(1))));
        if window.after < window.upto {
            for (&(_, at), held) in self.entries.range(oldest..=newest).rev() {
                if cleared.is_some_and(|cleared| cleared > at) || chain.is_complete() {
                    break;
                }
                chain.push(self.change(key, at, *held)?);
            }
        }
        if cleared.is_some() {
            chain.end();
        }
        Ok(())
    }

    fn change(&self, key: Key, at: At, held: Held) -> Result<Change, Underivable> {
        if held.delete {
            return Ok(Change::Delete);
        }
        let (codec, payload) = &self.records[held.record as usize];
        let extract = zorya_redo::extract(*codec, payload, at.reference, key)?;
        Ok(Change::from_extract(*codec, extract))
    }

    /// See [`crate::VersionSource::keys`]; versions outside the window count too.
    pub(crate) fn keys(&self, (from, to): (Key, Key), limit: usize) -> (Vec<Key>, Key) {
        let mut keys: Vec<Key> = Vec::new();
        for &(key, _) in
            self.entries.range((from, At::first(Lsn::ZERO))..(to, At::first(Lsn::ZERO))).map(|e| e.0)
        {
            if keys.last() == Some(&key) {
                continue;
            }
            if keys.len() == limit {
                return (keys, key);
            }
            keys.push(key);
        }
        (keys, to)
    }

    /// Every version in order of key, then time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<(Key, At, Change), Underivable>> + '_ {
        self.entries.iter().map(|(&(key, at), held)| Ok((key, at, self.change(key, at, *held)?)))
    }

    pub(crate) fn clears(&self) -> &Clears {
        &self.clears
    }

    /// Says that the index holds all of `(after, to]`.
    pub(crate) fn close(&mut self, after: Lsn, to: Lsn) {
        self.interval = (after, to);
    }

    /// The closed interval: exclusive start, inclusive end.
    pub(crate) fn interval(&self) -> (Lsn, Lsn) {
        self.interval
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.clears.is_empty()
    }

    /// Bytes counted against the node's budget.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemTable {
    fn drop(&mut self) {
        self.node.give_back(self.bytes);
    }
}

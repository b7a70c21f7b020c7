//! A simulated disk with one replica's entries: what is not synced may be lost, torn or survive out of order.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use zorya_log::replica::{Entry, Seq};
use zorya_wire::Malformed;
use zorya_wire::message::log::Tail;

/// An entry as it lies there.
#[derive(Clone, Debug)]
struct Stored {
    kind: u8,
    payload: Bytes,
    synced: bool,
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    entries: BTreeMap<Seq, Stored>,
    /// Whether a sync is running.
    pub syncing: bool,
    /// No room: entries wait.
    pub full: bool,
    /// Failed for good, until the next start.
    pub failed: bool,
}

impl Disk {
    /// Takes an entry; it is not synced.
    pub fn write(&mut self, seq: Seq, entry: &Entry) {
        let (kind, payload) = entry.encode();
        self.entries.insert(seq, Stored { kind, payload, synced: false });
    }

    /// The newest entry.
    pub fn newest(&self) -> Seq {
        self.entries.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Whether something waits for a sync.
    pub fn is_dirty(&self) -> bool {
        self.entries.values().next_back().is_some_and(|stored| !stored.synced)
    }

    /// A sync of everything up to `upto` is done. The records that it made safe.
    pub fn synced(&mut self, upto: Seq) -> Vec<Bytes> {
        let fresh = self.entries.range_mut(..=upto).filter(|(_, stored)| !stored.synced);
        let entries: Vec<_> = fresh
            .map(|(_, stored)| {
                stored.synced = true;
                Entry::decode(stored.kind, stored.payload.clone())
            })
            .collect();
        let batches = entries.into_iter().filter_map(|entry| match entry {
            Ok(Entry::Batch { records, .. }) => Some(records),
            _ => None,
        });
        batches.collect()
    }

    /// The records of a batch entry.
    pub fn records(&self, seq: Seq) -> Option<Bytes> {
        let stored = self.entries.get(&seq)?;
        match Entry::decode(stored.kind, stored.payload.clone()) {
            Ok(Entry::Batch { records, .. }) => Some(records),
            _ => None,
        }
    }

    /// A power cut: each unsynced entry survives, is torn or is lost, and a scan ends at the first that is not whole.
    /// How that end looks.
    pub fn power_cut(&mut self, rng: &mut StdRng) -> Tail {
        let unsynced: Vec<Seq> =
            self.entries.iter().filter(|(_, stored)| !stored.synced).map(|(seq, _)| *seq).collect();
        let survival = rng.random_range(0.0..1.0);
        let survived: Vec<bool> = unsynced.iter().map(|_| rng.random_bool(survival)).collect();
        let whole = survived.iter().take_while(|survived| **survived).count();
        for seq in &unsynced[whole..] {
            self.entries.remove(seq);
        }
        let torn = whole < unsynced.len() && (survived[whole..].contains(&true) || rng.random_bool(0.5));
        *self = Disk { entries: std::mem::take(&mut self.entries), ..Disk::default() };
        if torn { Tail::Torn } else { Tail::Clean }
    }

    /// The process dies, the machine does not: what was written stays.
    pub fn process_ends(&mut self) {
        *self = Disk { entries: std::mem::take(&mut self.entries), ..Disk::default() };
    }

    /// Something that was synced is gone from the end. Whether anything was.
    pub fn damage(&mut self, rng: &mut StdRng) -> bool {
        let lost = rng.random_range(1..20).min(self.entries.len());
        for _ in 0..lost {
            self.entries.pop_last();
        }
        lost > 0
    }

    /// Drops batches below `released` and, once a snapshot is on disk, everything else that is older than it.
    pub fn trim(&mut self, released: Seq, snapshot: Seq) {
        let is_batch = |stored: &Stored| {
            matches!(Entry::decode(stored.kind, stored.payload.clone()), Ok(Entry::Batch { .. }))
        };
        self.entries.retain(|seq, stored| {
            if is_batch(stored) { *seq >= released || !stored.synced } else { *seq >= snapshot }
        });
    }

    /// The newest snapshot that is synced; 0 without one.
    pub fn synced_snapshot(&self) -> Seq {
        let snapshots = self.entries.iter().rev().filter(|(_, stored)| stored.synced).find(|(_, stored)| {
            matches!(Entry::decode(stored.kind, stored.payload.clone()), Ok(Entry::Snapshot(_)))
        });
        snapshots.map_or(0, |(seq, _)| *seq)
    }

    /// What a start finds.
    pub fn scan(&self) -> Result<Vec<(Seq, Entry)>, Malformed> {
        let decode =
            |(seq, stored): (&Seq, &Stored)| Ok((*seq, Entry::decode(stored.kind, stored.payload.clone())?));
        self.entries.iter().map(decode).collect()
    }
}

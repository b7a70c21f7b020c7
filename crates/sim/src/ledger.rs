//! What really happened, seen from outside: every record ever placed, who had it on disk, and the one chain of records
//! that is durable. No process in the run can read this.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zorya_types::{Epoch, Lsn, Slot};
use zorya_wire::Record;

/// A record that a writer placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it starts.
    pub start: Lsn,
    /// The record before it.
    pub prev: Lsn,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Its stamp, microseconds since 1970.
    pub stamp_us: u64,
    /// Stands for its bytes.
    pub digest: u32,
    /// The slots whose disk ever really had it.
    pub holders: u64,
}

/// Everything that happened to the log.
#[derive(Debug, Default)]
pub struct Ledger {
    placed: BTreeMap<Lsn, Placed>,
    chain: BTreeSet<Lsn>,
    head: Lsn,
}

/// Why a position cannot be durable: it contradicts what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction(pub String);

impl Ledger {
    /// A writer placed a record.
    ///
    /// # Errors
    /// [`Contradiction`] if its place is taken.
    pub fn place(&mut self, record: &Record) -> Result<(), Contradiction> {
        let header = &record.header;
        let start = header.start();
        let clash =
            self.placed.range(Lsn(start.0 + 1)..).next().filter(|(_, other)| other.start < header.lsn);
        if let Some((lsn, other)) = clash {
            return Err(Contradiction(format!(
                "epoch {} places ({start}, {}], epoch {} had placed ({}, {lsn}]",
                header.epoch, header.lsn, other.epoch, other.start
            )));
        }
        let placed = Placed {
            start,
            prev: header.prev,
            epoch: header.epoch,
            stamp_us: header.stamp_us,
            digest: crc32c::crc32c(&record.encoded),
            holders: 0,
        };
        self.placed.insert(header.lsn, placed);
        Ok(())
    }

    /// A disk has really synced these records.
    pub fn synced(&mut self, slot: Slot, records: &Bytes) {
        for record in decode_all(records) {
            if let Some(placed) = self.placed.get_mut(&record.header.lsn) {
                placed.holders |= 1 << slot.0;
            }
        }
    }

    /// A node got everything durable up to `upto` as layers.
    pub fn in_layers(&mut self, slot: Slot, upto: Lsn) {
        let durable = self.placed.range_mut(..=upto).filter(|(lsn, _)| self.chain.contains(lsn));
        durable.for_each(|(_, placed)| placed.holders |= 1 << slot.0);
    }

    /// Somebody said that everything up to `upto` is durable. The positions that this adds to the chain.
    ///
    /// # Errors
    /// [`Contradiction`] if `upto` does not follow from, and is not part of, what was durable before.
    pub fn durable(&mut self, upto: Lsn) -> Result<Vec<Lsn>, Contradiction> {
        if upto <= self.head {
            let known = upto == Lsn::ZERO || self.chain.contains(&upto);
            return if known { Ok(Vec::new()) } else { Err(self.off_chain(upto)) };
        }
        let mut added = Vec::new();
        let mut at = upto;
        while at > self.head {
            let Some(placed) = self.placed.get(&at) else { return Err(self.off_chain(at)) };
            added.push(at);
            at = placed.prev;
        }
        if at != self.head {
            return Err(self.off_chain(upto));
        }
        self.head = upto;
        self.chain.extend(added.iter().copied());
        added.reverse();
        Ok(added)
    }

    fn off_chain(&self, at: Lsn) -> Contradiction {
        let epoch = self.placed.get(&at).map_or(Epoch(0), |placed| placed.epoch);
        Contradiction(format!(
            "{at} (epoch {epoch}) is said to be durable, but the log that is durable ends at {}",
            self.head
        ))
    }

    /// The end of what is durable.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.head
    }

    /// The newest durable record that was written before an epoch.
    #[must_use]
    pub fn newest_before(&self, epoch: Epoch) -> Lsn {
        let is_older = |lsn: &&Lsn| self.placed.get(lsn).is_some_and(|placed| placed.epoch < epoch);
        self.chain.iter().rev().find(is_older).copied().unwrap_or_default()
    }

    /// How many records are durable.
    #[must_use]
    pub fn durable_records(&self) -> usize {
        self.chain.len()
    }

    /// A placed record.
    #[must_use]
    pub fn record(&self, lsn: Lsn) -> Option<&Placed> {
        self.placed.get(&lsn)
    }

    /// Whether the record is part of what is durable.
    #[must_use]
    pub fn is_durable(&self, lsn: Lsn) -> bool {
        self.chain.contains(&lsn)
    }
}

/// The records in these bytes; what does not decode ends them.
#[must_use]
pub fn decode_all(records: &Bytes) -> Vec<Record> {
    let mut rest = records.clone();
    let mut all = Vec::new();
    while let Ok(record) = Record::decode(&mut rest) {
        all.push(record);
    }
    all
}

//! Every replica gives its pages the one durable chain: in order, nothing twice, nothing missing, the same bytes.

use zorya_types::{Lsn, Slot};
use zorya_wire::Record;

use super::Violation;
use crate::world::Simulation;

impl Simulation {
    /// A node's replica delivers these records.
    pub(crate) fn check_delivery(&self, slot: Slot, records: &[Record], upto: Lsn) -> Result<(), Violation> {
        let applied = self.node(slot).pages.applied;
        let mut before = applied;
        for record in records {
            let header = &record.header;
            let placed = self.ledger.record(header.lsn);
            let same = placed.is_some_and(|placed| placed.digest == crc32c::crc32c(&record.encoded));
            // After a restart the pages are at a cut of their layers, which may lie inside a batch: then all of that batch
            // is delivered.
            let follows = header.prev == before || (header.prev < before && before == applied);
            if !follows || !same || !self.ledger.is_durable(header.lsn) {
                return Err(Violation {
                    invariant: "replicas deliver one history",
                    what: format!(
                        "node {slot} delivers {} (epoch {}, after {}) after {before}; durable: {}, as placed: {same}",
                        header.lsn,
                        header.epoch,
                        header.prev,
                        self.ledger.is_durable(header.lsn)
                    ),
                });
            }
            before = before.max(header.lsn);
        }
        if before != upto {
            let what = format!("node {slot} says that it delivers up to {upto}, the records end at {before}");
            return Err(Violation { invariant: "replicas deliver one history", what });
        }
        Ok(())
    }
}

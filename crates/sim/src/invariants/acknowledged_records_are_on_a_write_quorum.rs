//! When a writer sees a record durable, a write quorum of disks has really synced it (they may have been lost since),
//! and it is stamped neither before the one before it nor far ahead of the replicas.

use zorya_types::Lsn;

use super::Violation;
use crate::world::Simulation;

/// What a replica accepts ahead of its own clock, in microseconds.
const MAX_AHEAD_US: u64 = 1_000_000;

impl Simulation {
    pub(super) fn check_on_quorum(&self, added: &[Lsn]) -> Result<(), Violation> {
        let quorum = u32::from(self.membership.profile.write_quorum);
        for lsn in added {
            let holders = self.ledger.record(*lsn).map_or(0, |placed| placed.holders);
            if holders.count_ones() < quorum {
                return Err(Violation {
                    invariant: "acknowledged records are on a write quorum",
                    what: format!("{lsn} is acknowledged, but only on disk at slots {holders:#b}"),
                });
            }
        }
        Ok(())
    }

    pub(super) fn check_stamps(&self, added: &[Lsn]) -> Result<(), Violation> {
        let mut clocks: Vec<u64> =
            self.nodes.iter().map(|node| self.clock_us().saturating_add_signed(node.skew_us)).collect();
        clocks.sort_unstable();
        let latest = clocks[clocks.len() / 2] + MAX_AHEAD_US;
        for placed in added.iter().filter_map(|lsn| self.ledger.record(*lsn)) {
            let before = self.ledger.record(placed.prev).map_or(0, |before| before.stamp_us);
            if placed.stamp_us < before || placed.stamp_us > latest {
                return Err(Violation {
                    invariant: "stamps never fall and never run ahead",
                    what: format!("stamp {} after {before}, with {latest} allowed", placed.stamp_us),
                });
            }
        }
        Ok(())
    }
}

//! What one writer saw durable is part of every later writer's log: all that is ever called durable is one chain.

use zorya_log::opening::Opened;
use zorya_types::Lsn;

use super::Violation;
use crate::world::Simulation;

const NAME: &str = "acknowledged records survive";

impl Simulation {
    /// A writer starts from a cut: that must be on the one durable chain, above all of older epochs. (A newer writer may
    /// have gone on already: then this one is fenced as soon as it is heard.)
    pub(crate) fn check_opened(
        &mut self,
        index: usize,
        opened: &Opened,
        reaped: bool,
    ) -> Result<(), Violation> {
        let before = self.ledger.newest_before(opened.epoch);
        if opened.cut < before {
            let what = format!("epoch {} cuts at {}, {before} was durable", opened.epoch, opened.cut);
            return Err(Violation { invariant: NAME, what });
        }
        let chained = self.ledger.durable(opened.cut).map(|_| ());
        chained.map_err(|contradiction| Violation { invariant: NAME, what: contradiction.0 })?;
        self.check_leases(index, opened, reaped)
    }

    /// A writer sees its log durable up to `vdl`.
    pub(crate) fn check_acknowledged(&mut self, index: usize, vdl: Lsn) -> Result<(), Violation> {
        let added = self.ledger.durable(vdl);
        let added = added.map_err(|contradiction| Violation {
            invariant: NAME,
            what: format!("host {index}: {}", contradiction.0),
        })?;
        self.check_on_quorum(&added)?;
        self.check_stamps(&added)
    }
}

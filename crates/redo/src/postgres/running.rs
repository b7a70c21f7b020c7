//! The transactions that run, as the log shows them.

use std::collections::BTreeSet;

use super::checkpoint::Checkpoint;
use super::decode::record::Record;
use super::error::Underivable;
use super::manager;
use super::recovery::Recovered;
use super::xact::{self, Xact};

/// The set of transactions that have written a record and neither ended nor been prepared.
///
/// A server that crashed leaves transactions behind that never end; its next shutdown or end-of-recovery checkpoint
/// empties the set, or the record of a promotion, which no such checkpoint goes with. A subtransaction leaves it with its top-level transaction, or when it is rolled back.
#[derive(Clone, Debug, Default)]
pub struct RunningXids {
    xids: BTreeSet<u32>,
}

impl RunningXids {
    /// Follows a record.
    pub fn observe(&mut self, record: &Record<'_>) -> Result<(), Underivable> {
        if record.manager != manager::XACT {
            if record.xid != 0 {
                self.xids.insert(record.xid);
            }
            let checkpoint = Checkpoint::of(record)?;
            let recovered = Recovered::of(record)?;
            if matches!(checkpoint, Some((_, true))) || matches!(recovered, Some(Recovered::Promoted { .. }))
            {
                self.xids.clear();
            }
            return Ok(());
        }
        match xact::read(record)? {
            Xact::End(end) => {
                self.xids.remove(&end.xid);
                end.subxids().for_each(|xid| {
                    self.xids.remove(&xid);
                });
            }
            Xact::Prepare(prepared) => {
                self.xids.remove(&prepared.xid);
                prepared.subxids().for_each(|xid| {
                    self.xids.remove(&xid);
                });
            }
            Xact::Assignment | Xact::Invalidations if record.xid != 0 => {
                self.xids.insert(record.xid);
            }
            Xact::Assignment | Xact::Invalidations => {}
        }
        Ok(())
    }

    /// Whether the transaction runs.
    #[must_use]
    pub fn contains(&self, xid: u32) -> bool {
        self.xids.contains(&xid)
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.xids.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.xids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::decode::build::{Content, raw};
    use crate::postgres::decode::record::decode;
    use crate::postgres::position::WalPosition;

    #[test]
    fn a_promotion_ends_what_ran_and_an_online_checkpoint_does_not() {
        let mut running = RunningXids::default();
        let mut observe = |xid, manager, info, main: Vec<u8>| {
            let bytes = Content { xid, manager, info, blocks: vec![], main }.record(WalPosition(64));
            let mut references = Vec::new();
            let record = decode(raw(&bytes), &mut references).unwrap();
            running.observe(&record).unwrap();
            running.len()
        };
        assert_eq!(observe(700, manager::HEAP, 0x70, vec![1]), 1);
        assert_eq!(observe(0, manager::XLOG, 0x10, Checkpoint::default().bytes().to_vec()), 1);
        assert_eq!(observe(0, manager::XLOG, 0x90, vec![2; 16]), 0);
    }
}

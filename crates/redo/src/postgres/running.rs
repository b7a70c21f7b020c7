//! The transactions that run, as the log shows them.

use std::collections::BTreeSet;

use super::checkpoint::Checkpoint;
use super::decode::record::Record;
use super::error::Underivable;
use super::manager;
use super::xact::{self, Xact};

/// The set of transactions that have written a record and neither ended nor been prepared.
///
/// A server that crashed leaves transactions behind that never end; its next shutdown or end-of-recovery checkpoint
/// empties the set. A subtransaction leaves it with its top-level transaction, or when it is rolled back.
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
            if let Some((_, true)) = Checkpoint::of(record)? {
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

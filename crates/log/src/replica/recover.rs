//! A replica after a restart: rebuilt from what its disk has.

use zorya_types::{Epoch, Lsn};
use zorya_wire::message::log::Tail;

use super::batch::{self, BadBatch, Run};
use super::lease::Lease;
use super::{Entry, HardState, Replica, ReplicaConfig, Seq, raise};

/// Why a replica cannot be rebuilt: its log is not what a replica writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The entries are not in order.
    #[error("entry {seq} of the replica follows entry {before}: its log is not in order")]
    OutOfOrder {
        /// The entry.
        seq: Seq,
        /// The one before it.
        before: Seq,
    },
    /// A stored batch does not decode, or contradicts another.
    #[error("the records in entry {seq} of the replica are bad: repair the replica from its peers")]
    BadEntry {
        /// The entry.
        seq: Seq,
        /// What is wrong.
        #[source]
        source: BadBatch,
    },
}

impl Replica {
    /// Rebuilds a replica from the entries that its disk still has, in order. `tail` is how the disk's log ended,
    /// `delivered` is what the pages have in layers: they will be given what comes after it.
    ///
    /// # Errors
    /// [`RecoverError`] if the entries are not ones that a replica wrote.
    pub fn recover(
        config: ReplicaConfig,
        entries: impl IntoIterator<Item = (Seq, Entry)>,
        tail: Tail,
        delivered: Lsn,
    ) -> Result<Replica, RecoverError> {
        let mut replica = Replica::new(config);
        let mut runs = Vec::new();
        for (seq, entry) in entries {
            let before = replica.disk.handed;
            if seq <= before {
                return Err(RecoverError::OutOfOrder { seq, before });
            }
            replica.disk.handed = seq;
            replica.replay(seq, entry, &mut runs)?;
        }
        replica.disk.durable = replica.disk.handed;
        replica.told_on_disk = replica.hard.told;
        replica.doubt_is_new = tail as u8 > replica.hard.tail as u8;
        replica.hard.tail = worse(replica.hard.tail, tail);
        replica.keep_what_stands(runs)?;
        let reached = replica.end_of_log_at(delivered);
        replica.reached.received = reached;
        replica.reached.scl = reached;
        replica.reached.delivered = reached;
        replica.reached.persisted = delivered;
        replica.advance();
        if replica.hard.promised.0 > 0 {
            replica.lease = Lease::unknown();
        }
        Ok(replica)
    }

    /// A layer's cut as a position of the log: one in an annulled stretch stands for everything up to that stretch.
    fn end_of_log_at(&self, layer_cut: Lsn) -> Lsn {
        let history = self.hard.truncation.as_ref().map_or(&[][..], |truncation| truncation.history());
        history.iter().find(|stretch| stretch.covers(layer_cut)).map_or(layer_cut, |stretch| stretch.cut)
    }

    fn replay(&mut self, seq: Seq, entry: Entry, runs: &mut Vec<Run>) -> Result<(), RecoverError> {
        match entry {
            Entry::Batch { records, told } => {
                let stored =
                    batch::parse(&records).map_err(|source| RecoverError::BadEntry { seq, source })?;
                let newest = stored.iter().map(Run::newest_stamp_us).max().unwrap_or(0);
                self.hard.stamp_us = self.hard.stamp_us.max(newest);
                runs.extend(stored.into_iter().map(|run| Run { seq, ..run }));
                raise(&mut self.hard.told, &told);
            }
            Entry::Promise { epoch } => self.hard.promised = self.hard.promised.max(epoch),
            Entry::Accept { truncation } => {
                self.hard.promised = self.hard.promised.max(truncation.own().epoch);
                // Never back to an older one, in whatever order the disk kept them.
                let newest = self.hard.truncation.as_ref().map_or(Epoch(0), |own| own.own().epoch);
                if truncation.own().epoch >= newest {
                    self.hard.truncation = Some(truncation);
                }
            }
            Entry::Told { told } => raise(&mut self.hard.told, &told),
            Entry::Vouch { tail } => self.hard.tail = tail,
            Entry::Snapshot(state) => {
                let stamp_us = self.hard.stamp_us.max(state.stamp_us);
                self.hard = HardState { stamp_us, ..state };
            }
        }
        Ok(())
    }

    /// Keeps the stored records that the newest truncation keeps. A record that an older truncation annulled and a
    /// newer one honours is the same record, so the order of deletions does not matter.
    fn keep_what_stands(&mut self, runs: Vec<Run>) -> Result<(), RecoverError> {
        let Some(truncation) = self.hard.truncation.clone() else { return Ok(()) };
        for run in runs {
            let standing = standing_part(&run, &truncation);
            let seq = run.seq;
            let novel = self.log.novel(standing.into_iter().collect());
            let novel = novel.map_err(|source| RecoverError::BadEntry { seq, source })?;
            novel.into_iter().for_each(|run| self.log.insert(run));
        }
        Ok(())
    }
}

/// The beginning of the run that the truncation keeps, if any.
fn standing_part(run: &Run, truncation: &zorya_types::Truncation) -> Option<Run> {
    let kept =
        run.points.partition_point(|point| truncation.keeps(run.epoch, run.start.plus(u64::from(point.end))));
    (kept > 0).then(|| run.part(0, kept))
}

fn worse(one: Tail, other: Tail) -> Tail {
    if one as u8 >= other as u8 { one } else { other }
}

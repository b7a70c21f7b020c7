//! A replica stores what the writer of its epoch sends.

use bytes::Bytes;
use zorya_types::{Lsn, Truncation};
use zorya_wire::message::log::{Append, ClockAhead, Refusal};

use super::batch::{self, BadBatch, Run};
use super::waiting::Waiter;
use super::{Effect, Entry, Origin, Replica, invalid, raise};
use crate::Now;

impl Replica {
    pub(super) fn append(
        &mut self,
        now: Now,
        (from, id): (Origin, u64),
        append: &Append,
        records: &Bytes,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.refuse_if_other(append.incarnation)?;
        self.refuse_if_stale(append.epoch)?;
        self.refuse_if_stopped()?;
        let runs = batch::parse(records).map_err(invalid)?;
        self.refuse_if_ahead(now, &runs)?;
        let upto = runs.last().map_or(Lsn::ZERO, Run::end);
        match self.hard.truncation.clone().filter(|truncation| truncation.own().epoch == append.epoch) {
            Some(truncation) => {
                runs.iter().try_for_each(|run| batch::admit(run, &truncation)).map_err(invalid)?;
                self.store(runs, records, append.urgent, out).map_err(invalid)?;
                raise(&mut self.hard.told, &append.told);
                self.gossip.told_by_writer(append.told.vdl);
                self.bound_torn_tail();
            }
            // It missed the opening, so it cannot know what to delete first: it learns that from its peers, and
            // gets these records from them too.
            None => self.gossip.miss_opening(append.epoch),
        }
        let renewed = self.lease.renew(now, self.config.lease_ms);
        let waiter = Waiter { from, id, epoch: append.epoch, renewed };
        self.waiting.appends.push((waiter, upto));
        if self.is_behind() {
            self.ask_everyone(out);
        }
        Ok(())
    }

    fn refuse_if_ahead(&self, now: Now, runs: &[Run]) -> Result<(), Refusal> {
        let newest = runs.iter().map(Run::newest_stamp_us).max().unwrap_or(0);
        let ahead_us = newest.saturating_sub(now.clock_us);
        if ahead_us > self.config.max_clock_ahead_us {
            return Err(ClockAhead { ahead_us }.into());
        }
        Ok(())
    }

    /// Stores the runs that are not here yet; `records` are the bytes that they lie in.
    pub(super) fn store(
        &mut self,
        runs: Vec<Run>,
        records: &Bytes,
        urgent: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), BadBatch> {
        let novel = self.log.novel(runs)?;
        let newest = novel.iter().map(Run::newest_stamp_us).max().unwrap_or(0);
        self.hard.stamp_us = self.hard.stamp_us.max(newest);
        let new_bytes: usize = novel.iter().map(|run| run.len() as usize).sum();
        if new_bytes == records.len() && new_bytes > 0 {
            let told = self.hard.told;
            let seq = self.persist(Entry::Batch { records: records.clone(), told }, urgent, out);
            novel.into_iter().for_each(|run| self.log.insert(Run { seq, ..run }));
            return Ok(());
        }
        for run in novel {
            let part = records.slice(run.skip as usize..(run.skip + run.len()) as usize);
            let entry = Entry::Batch { records: part, told: self.hard.told };
            let seq = self.persist(entry, urgent, out);
            self.log.insert(Run { seq, skip: 0, ..run });
        }
        Ok(())
    }

    /// What a peer sent under the same truncation: as good as from the writer.
    pub(super) fn store_fetched(
        &mut self,
        records: &Bytes,
        truncation: &Truncation,
        out: &mut Vec<Effect>,
    ) -> Result<(), BadBatch> {
        let runs = batch::parse(records)?;
        runs.iter().try_for_each(|run| batch::admit(run, truncation))?;
        self.store(runs, records, true, out)
    }
}

//! A replica takes part in openings: it promises an epoch, accepts a truncation, catches up to the cut.

use zorya_types::planted::{PlantedBug, is_planted};
use zorya_types::{Slot, Truncation};
use zorya_wire::message::log::{Accept, CatchUp, LeaseHeld, Promise, Promised, Refusal, StaleEpoch};

use super::waiting::{Waiter, Waiting};
use super::{Effect, Entry, Origin, Replica, invalid};
use crate::Now;

impl Replica {
    pub(super) fn promise(
        &mut self,
        now: Now,
        (from, id): (Origin, u64),
        promise: &Promise,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.refuse_if_other(promise.incarnation)?;
        self.refuse_if_stopped()?;
        let waiter = Waiter { from, id, epoch: promise.epoch, renewed: false };
        if promise.epoch <= self.hard.promised {
            return self.promise_again(waiter);
        }
        let remaining_ms = self.lease.remaining_ms(now);
        if remaining_ms > 0 && !promise.reaped {
            self.lease.want(now, self.config.lease_ms);
            return Err(LeaseHeld { remaining_ms }.into());
        }
        if is_planted(PlantedBug::SclBeforePromise) {
            let early = Promised { epoch: promise.epoch, ..self.promised_reply() };
            out.push(Effect::reply(from, id, early));
            return Ok(());
        }
        self.hard.promised = promise.epoch;
        let seq = self.persist(Entry::Promise { epoch: promise.epoch }, true, out);
        self.waiting.promised_to = Some(from);
        self.refuse_outdated(out);
        self.waiting.promises.push((waiter, seq));
        Ok(())
    }

    /// A ballot belongs to one opener: only the one that was promised may hear it again, and only while it has not
    /// gone on to the next phase.
    fn promise_again(&mut self, waiter: Waiter) -> Result<(), Refusal> {
        let promised = self.hard.promised;
        let same = waiter.epoch == promised && self.waiting.promised_to == Some(waiter.from);
        if !same || self.accepted_epoch() == promised {
            return Err(StaleEpoch { promised }.into());
        }
        let handed = self.disk.handed;
        Waiting::replace(&mut self.waiting.promises, waiter, handed);
        Ok(())
    }

    /// The answer to a promise, as of now: the promise must be on disk.
    pub(super) fn promised_reply(&self) -> Promised {
        let scl = self.reached.scl;
        Promised {
            epoch: self.hard.promised,
            scl,
            // Batches are stored whole, so SCL is a consistency point.
            consistency_point: scl,
            stamp_us: self.hard.stamp_us,
            truncation: self.hard.truncation.clone(),
            membership: self.config.membership.clone(),
            tail: self.hard.tail,
            seen: self.gossip.seen(),
            told: self.hard.told,
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Now,
        (from, id): (Origin, u64),
        accept: &Accept,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.refuse_if_other(accept.incarnation)?;
        self.refuse_if_stale(accept.epoch)?;
        self.refuse_if_stopped()?;
        if accept.truncation.own().epoch != accept.epoch {
            return Err(invalid("the truncation is of another epoch than the request"));
        }
        if self.accepted_epoch() < accept.epoch {
            self.take_truncation(accept.truncation.clone(), out).map_err(invalid)?;
        } else if self.hard.truncation.as_ref() != Some(&accept.truncation) {
            return Err(invalid("another truncation was accepted in this epoch"));
        }
        self.lease.begin(now, self.config.lease_ms);
        let waiter = Waiter { from, id, epoch: accept.epoch, renewed: true };
        let handed = if is_planted(PlantedBug::TruncationNotPersisted) { 0 } else { self.disk.handed };
        Waiting::replace(&mut self.waiting.accepts, waiter, handed);
        Ok(())
    }

    /// Accepts a truncation, from its opener or learnt from a peer, and deletes what it annuls.
    pub(super) fn take_truncation(
        &mut self,
        truncation: Truncation,
        out: &mut Vec<Effect>,
    ) -> Result<(), CutsDurable> {
        let own = truncation.own();
        let floor = self.reached.delivered.max(self.hard.told.vdl);
        if own.cut < floor {
            return Err(CutsDurable { cut: own.cut, durable: floor });
        }
        if !is_planted(PlantedBug::TruncationNotPersisted) {
            self.disk.accepted = self.persist(Entry::Accept { truncation: truncation.clone() }, true, out);
        }
        self.hard.promised = self.hard.promised.max(own.epoch);
        self.log.cut(&truncation);
        self.hard.truncation = Some(truncation);
        self.accepted_since_start = true;
        // What the pages have is below every cut, so the walk along the links starts there.
        self.reached.received = self.reached.delivered;
        self.reached.scl = self.reached.delivered;
        self.advance();
        self.gossip.start_epoch(own.cut);
        self.refuse_outdated(out);
        Ok(())
    }

    fn refuse_outdated(&mut self, out: &mut Vec<Effect>) {
        let promised = self.hard.promised;
        self.waiting.refuse_stale(promised, &StaleEpoch { promised }.into(), out);
    }

    pub(super) fn catch_up(
        &mut self,
        (from, id): (Origin, u64),
        catch_up: &CatchUp,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.refuse_if_other(catch_up.incarnation)?;
        self.refuse_if_stale(catch_up.epoch)?;
        self.refuse_if_stopped()?;
        if self.accepted_epoch() != catch_up.epoch {
            return Err(invalid("the truncation of this epoch was not accepted here"));
        }
        let waiter = Waiter { from, id, epoch: catch_up.epoch, renewed: false };
        Waiting::replace(&mut self.waiting.catch_ups, waiter, catch_up.upto);
        if self.reached.received < catch_up.upto {
            self.ask_everyone(out);
        }
        Ok(())
    }

    /// The slots of the others.
    pub(super) fn peers(&self) -> impl Iterator<Item = Slot> + use<> {
        let own = self.config.slot;
        (0..self.config.membership.members.len() as u8).map(Slot).filter(move |slot| *slot != own)
    }
}

/// A truncation that would cut what is known to be durable. No sound opening makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a truncation at {cut} would cut what is durable up to {durable}")]
pub(super) struct CutsDurable {
    cut: zorya_types::Lsn,
    durable: zorya_types::Lsn,
}

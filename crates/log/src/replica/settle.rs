//! After every step: positions move up, whoever waited for that is answered, the pages get what is durable.

use zorya_types::{Epoch, Lsn};
use zorya_wire::message::log::{Accepted, Acked, CaughtUp, Tail};

use super::waiting::Waiter;
use super::{Effect, Replica, Seq};
use crate::Now;

impl Replica {
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.advance();
        self.vouch_if_repaired(out);
        self.answer_ballots(out);
        self.answer_catch_ups(out);
        self.answer_appends(now, out);
        self.deliver(out);
        self.release(out);
    }

    /// Follows the links as far as they go.
    pub(super) fn advance(&mut self) {
        let truncation = self.hard.truncation.as_ref();
        let (received, scl) = (self.reached.received, self.reached.scl);
        self.reached.received = self.log.contiguous_from(received, truncation, Seq::MAX);
        self.reached.scl = self.log.contiguous_from(scl, truncation, self.disk.durable);
    }

    fn answer_ballots(&mut self, out: &mut Vec<Effect>) {
        let durable = self.disk.durable;
        let promises = self.waiting.promises.extract_if(.., |(_, seq)| *seq <= durable);
        let promises: Vec<Waiter> = promises.map(|(waiter, _)| waiter).collect();
        for waiter in promises {
            out.push(Effect::reply(waiter.from, waiter.id, self.promised_reply()));
        }
        for (waiter, _) in self.waiting.accepts.extract_if(.., |(_, seq)| *seq <= durable) {
            out.push(Effect::reply(waiter.from, waiter.id, Accepted { epoch: waiter.epoch }));
        }
    }

    fn answer_catch_ups(&mut self, out: &mut Vec<Effect>) {
        let scl = self.reached.scl;
        for (waiter, _) in self.waiting.catch_ups.extract_if(.., |(_, upto)| *upto <= scl) {
            out.push(Effect::reply(waiter.from, waiter.id, CaughtUp { epoch: waiter.epoch, scl }));
        }
    }

    /// Acknowledges to every origin the newest append that SCL covers: that acknowledges the ones before it, too.
    /// Only in the epoch whose truncation holds here.
    fn answer_appends(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (scl, epoch) = (self.reached.scl, self.speaking_epoch());
        let covered =
            self.waiting.appends.extract_if(.., |(waiter, upto)| *upto <= scl && waiter.epoch == epoch);
        let mut newest: Vec<Waiter> = Vec::new();
        for (waiter, _) in covered {
            match newest.iter_mut().find(|other| other.from == waiter.from) {
                Some(older) => *older = waiter,
                None => newest.push(waiter),
            }
        }
        for waiter in newest {
            let acked = Acked {
                epoch,
                scl,
                persisted: self.reached.persisted,
                renewed: waiter.renewed,
                clock_us: now.clock_us,
            };
            out.push(Effect::reply(waiter.from, waiter.id, acked));
        }
    }

    /// The epoch that it may acknowledge in: promised, and its truncation accepted and on disk. 0 (no writer's) if there
    /// is none, or if the replica is damaged: it may have lost a promise, too, and speaks again in an epoch that it
    /// accepts after the damage.
    fn speaking_epoch(&self) -> Epoch {
        let accepted = self.accepted_epoch();
        let on_disk = self.disk.accepted <= self.disk.durable;
        let may = on_disk && accepted == self.hard.promised && self.hard.tail != Tail::Damaged;
        if may { accepted } else { Epoch(0) }
    }

    fn deliver(&mut self, out: &mut Vec<Effect>) {
        let (from, upto) = (self.reached.delivered, self.reached.scl.min(self.hard.told.vdl));
        if upto <= from {
            return;
        }
        let truncation = self.hard.truncation.as_ref();
        let (pieces, end) = self.log.pieces(from, upto, u64::MAX, truncation);
        if !pieces.is_empty() {
            self.reached.delivered = end;
            out.push(Effect::Deliver { pieces, upto: end });
        }
    }

    /// Lets go of the log that is in layers on a write quorum and here.
    fn release(&mut self, out: &mut Vec<Effect>) {
        let upto: Lsn = self.hard.told.trim.min(self.reached.persisted).min(self.reached.delivered);
        if !self.log.release(upto) {
            return;
        }
        let below = self.log.lowest_seq().unwrap_or(self.disk.handed + 1);
        if below > self.disk.released {
            self.disk.released = below;
            out.push(Effect::Release { below });
        }
    }
}

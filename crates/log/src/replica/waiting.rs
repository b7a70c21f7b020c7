//! Who waits for an answer, and for what.

use zorya_types::{Epoch, Lsn};
use zorya_wire::message::log::{LogResponse, Refusal};

use super::{Effect, Origin, Seq};

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// The connection.
    pub from: Origin,
    /// The request's id.
    pub id: u64,
    /// The epoch that it was asked in.
    pub epoch: Epoch,
    /// The request renewed the writer's lease.
    pub renewed: bool,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Appends, in order of arrival: answered when SCL covers the position.
    pub appends: Vec<(Waiter, Lsn)>,
    /// Catch-ups: likewise.
    pub catch_ups: Vec<(Waiter, Lsn)>,
    /// Promises: answered when the entry is on disk.
    pub promises: Vec<(Waiter, Seq)>,
    /// Accepts: likewise.
    pub accepts: Vec<(Waiter, Seq)>,
    /// Who asked for the promise that holds, so that a retry is answered again.
    pub promised_to: Option<Origin>,
}

impl Waiting {
    /// Nobody waits on that connection any more.
    pub fn forget(&mut self, from: Origin) {
        self.appends.retain(|(waiter, _)| waiter.from != from);
        self.catch_ups.retain(|(waiter, _)| waiter.from != from);
        self.promises.retain(|(waiter, _)| waiter.from != from);
        self.accepts.retain(|(waiter, _)| waiter.from != from);
        if self.promised_to == Some(from) {
            self.promised_to = None;
        }
    }

    /// Everybody, to be refused.
    pub fn take_all(&mut self) -> Vec<(Origin, u64)> {
        let by_position = self.appends.drain(..).chain(self.catch_ups.drain(..)).map(|(waiter, _)| waiter);
        let by_entry = self.promises.drain(..).chain(self.accepts.drain(..)).map(|(waiter, _)| waiter);
        by_position.chain(by_entry).map(|waiter| (waiter.from, waiter.id)).collect()
    }

    /// Refuses who waits in an epoch older than `promised`.
    pub fn refuse_stale(&mut self, promised: Epoch, refusal: &Refusal, out: &mut Vec<Effect>) {
        let mut refuse = |waiter: &Waiter| {
            let stale = waiter.epoch < promised;
            if stale {
                out.push(Effect::reply(waiter.from, waiter.id, LogResponse::from(refusal.clone())));
            }
            !stale
        };
        self.appends.retain(|(waiter, _)| refuse(waiter));
        self.catch_ups.retain(|(waiter, _)| refuse(waiter));
        self.promises.retain(|(waiter, _)| refuse(waiter));
        self.accepts.retain(|(waiter, _)| refuse(waiter));
    }

    /// Adds one to a list in which an origin waits once: its newest request replaces an older one.
    pub fn replace<T>(list: &mut Vec<(Waiter, T)>, waiter: Waiter, what: T) {
        list.retain(|(other, _)| other.from != waiter.from);
        list.push((waiter, what));
    }
}

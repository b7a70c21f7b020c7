//! A replica's rules, one each: events in, effects out.

mod appends;
mod ballots;
mod gossip;
mod restarts;

use bytes::Bytes;
use zorya_types::{Epoch, Incarnation, Lsn, Slot, Truncation};
use zorya_wire::message::log::{
    Accept, Acked, Append, Promise, Promised, Refusal, RequestBody, ResponseBody, Tail, Told,
};

use super::{Effect, Entry, Input, Replica, Seq};
use crate::testkit::{at, config, truncation};

/// A replica with a disk that syncs when told to.
struct Bench {
    replica: Replica,
    now_ms: u64,
    disk: Vec<(Seq, Entry)>,
    durable: usize,
    effects: Vec<Effect>,
}

impl Bench {
    /// A replica that accepted epoch 1's opening of the empty volume: records start at 1000.
    fn opened() -> Bench {
        let mut bench = Bench::empty();
        bench.accept(1, truncation(&[(1, 0, 1_000)]));
        bench.sync();
        bench.effects.clear();
        bench
    }

    fn empty() -> Bench {
        Bench {
            replica: Replica::new(config(0)),
            now_ms: 0,
            disk: Vec::new(),
            durable: 0,
            effects: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) -> &mut Bench {
        for effect in self.replica.step(at(self.now_ms), input) {
            if let Effect::Persist { seq, entry, .. } = &effect {
                self.disk.push((*seq, entry.clone()));
            }
            self.effects.push(effect);
        }
        self
    }

    fn request(&mut self, id: u64, body: impl Into<RequestBody>, records: Bytes) -> &mut Bench {
        let request = zorya_wire::message::log::LogRequest { body: body.into(), records };
        self.step(Input::Request { from: 5, id, request })
    }

    fn append(&mut self, epoch: u64, id: u64, records: Bytes) -> &mut Bench {
        self.append_told(epoch, id, records, Told::default())
    }

    fn append_told(&mut self, epoch: u64, id: u64, records: Bytes, told: Told) -> &mut Bench {
        let append = Append { epoch: Epoch(epoch), incarnation: Incarnation(1), told, urgent: true };
        self.request(id, append, records)
    }

    fn promise(&mut self, epoch: u64, reaped: bool) -> &mut Bench {
        self.request(90, Promise { epoch: Epoch(epoch), incarnation: Incarnation(1), reaped }, Bytes::new())
    }

    fn accept(&mut self, epoch: u64, truncation: Truncation) -> &mut Bench {
        let accept = Accept { epoch: Epoch(epoch), incarnation: Incarnation(1), truncation };
        self.request(91, accept, Bytes::new())
    }

    fn sync(&mut self) -> &mut Bench {
        self.durable = self.disk.len();
        let seq = self.disk.last().map_or(0, |(seq, _)| *seq);
        self.step(Input::Durable { seq })
    }

    /// A power cut: what was not synced is gone.
    fn restart(&mut self, tail: Tail, delivered: u64) -> &mut Bench {
        self.disk.truncate(self.durable);
        let entries = self.disk.clone().into_iter();
        let read_back = entries.map(|(seq, entry)| {
            let (kind, payload) = entry.encode();
            (seq, Entry::decode(kind, payload).unwrap())
        });
        self.replica = Replica::recover(config(0), read_back, tail, Lsn(delivered)).unwrap();
        self.effects.clear();
        self
    }

    fn replies(&mut self) -> Vec<(u64, ResponseBody)> {
        let taken = std::mem::take(&mut self.effects);
        let replies = taken.into_iter().filter_map(|effect| match effect {
            Effect::Reply { id, response, .. } => Some((id, response.body)),
            _ => None,
        });
        replies.collect()
    }

    /// The one acknowledgement since the last look: request id and SCL.
    fn acked(&mut self) -> Option<(u64, u64)> {
        self.replies().into_iter().find_map(|(id, body)| match body {
            ResponseBody::Acked(Acked { scl, .. }) => Some((id, scl.0)),
            _ => None,
        })
    }

    fn promised(&mut self) -> Option<Promised> {
        self.replies().into_iter().find_map(|(_, body)| match body {
            ResponseBody::Promised(promised) => Some(promised),
            _ => None,
        })
    }

    fn refused(&mut self) -> Option<Refusal> {
        self.replies().into_iter().find_map(|(_, body)| match body {
            ResponseBody::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// Everything delivered since the last look: up to where.
    fn delivered(&mut self) -> Option<u64> {
        let upto = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Deliver { upto, .. } => Some(upto.0),
            _ => None,
        });
        self.effects.clear();
        upto
    }
}

fn vdl(vdl: u64) -> Told {
    Told { vdl: Lsn(vdl), ..Told::default() }
}

fn peer(slot: u8) -> Slot {
    Slot(slot)
}

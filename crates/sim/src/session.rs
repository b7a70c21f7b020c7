//! A simulated writer: places records, sends batches to all replicas, keeps each until VCL has passed it.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use zorya_log::opening::Opened;
use zorya_log::writer::{Writer, WriterConfig};
use zorya_types::{Epoch, GroupId, Incarnation, Lsn, Slot};
use zorya_wire::RecordBuilder;
use zorya_wire::message::log::{Acked, Append, LogRequest, Refusal};
use zorya_wire::record::{CODEC_NONE, FLAG_CONSISTENCY_POINT};

use crate::client::Role;
use crate::ledger::decode_all;
use crate::world::{Event, Simulation};

/// Without an acknowledgement for so long, a replica is sent everything again, in milliseconds.
const RESEND_MS: u64 = 250;
/// A replica is spoken to at least so often, in milliseconds.
const RENEW_MS: u64 = 300;

/// A batch that VCL has not passed.
#[derive(Clone, Debug)]
struct Batch {
    end: Lsn,
    records: Bytes,
}

/// What the writer sent to a replica and has not heard back.
#[derive(Clone, Debug, Default)]
struct Stream {
    sent_at_ms: BTreeMap<u64, u64>,
    last_sent_ms: u64,
    last_heard_ms: u64,
}

/// An open volume's writer and its driver.
#[derive(Debug)]
pub struct Session {
    /// The real writer.
    pub writer: Writer,
    batches: VecDeque<Batch>,
    streams: Vec<Stream>,
}

impl Simulation {
    /// A host has opened the volume.
    pub(crate) fn opened(&mut self, index: usize, opened: &Opened) {
        let client = &self.clients[index];
        let (now, session) = (self.now_at(client.skew_us), client.session);
        self.trace(format_args!(
            "host {index} has epoch {}: cut {} first {}",
            opened.epoch, opened.cut, opened.first
        ));
        let reaped = matches!(self.clients[index].role, Role::Opening(_, true));
        let checked = self.check_opened(index, opened, reaped);
        self.judge(checked);
        self.openings += 1;
        let config = WriterConfig {
            allocation_limit: self.config.allocation_limit,
            retain_bytes: self.config.retain_bytes,
            ..WriterConfig::default()
        };
        let streams = vec![Stream::default(); self.nodes.len()];
        let writer = Writer::new(opened, config, now);
        let batches = VecDeque::new();
        self.clients[index].role = Role::Writing(Box::new(Session { writer, batches, streams }));
        for slot in self.membership.slots().collect::<Vec<_>>() {
            self.send_append(index, slot, Bytes::new());
        }
        self.at(self.config.append_every_us, Event::Append { index, session });
    }

    fn session(&mut self, index: usize) -> Option<&mut Session> {
        match &mut self.clients[index].role {
            Role::Writing(session) => Some(session),
            Role::Idle | Role::Opening(..) => None,
        }
    }

    /// Appends a batch of a few records, if there is room, and goes on doing so.
    pub(crate) fn append(&mut self, index: usize, life: u64) {
        if self.clients[index].session != life {
            return;
        }
        let after = self.rng.random_range(1..=self.config.append_every_us * 2);
        self.at(after, Event::Append { index, session: life });
        let sizes: Vec<usize> =
            (0..self.rng.random_range(1..5)).map(|_| self.rng.random_range(0..700)).collect();
        let Some(records) = self.place_batch(index, &sizes) else { return };
        for slot in self.membership.slots().collect::<Vec<_>>() {
            // A slow replica is left out now and then: gossip has to bring it what it misses.
            if !self.rng.random_bool(0.03) {
                self.send_append(index, slot, records.clone());
            }
        }
    }

    fn place_batch(&mut self, index: usize, sizes: &[usize]) -> Option<Bytes> {
        let now = self.now_at(self.clients[index].skew_us);
        let lens: Vec<u32> = sizes.iter().map(|size| RecordBuilder::encoded_len(1, *size) as u32).collect();
        let fill = self.rng.random();
        let session = self.session(index)?;
        if !session.writer.has_room(lens.iter().map(|len| u64::from(*len)).sum()) {
            return None;
        }
        let mut out = BytesMut::new();
        let mut end = Lsn::ZERO;
        for (at, len) in lens.iter().enumerate() {
            let last = at + 1 == lens.len();
            let place = session.writer.place(now, *len, last).ok()?;
            end = place.start.plus(u64::from(*len));
            let mut groups = Vec::new();
            session.writer.link_groups(&[GroupId(at as u32 % 2)], end, &mut groups);
            let payload = vec![fill; sizes[at]];
            RecordBuilder {
                flags: if last { FLAG_CONSISTENCY_POINT } else { 0 },
                codec: CODEC_NONE,
                epoch: place.epoch,
                start: place.start,
                prev: place.prev,
                stamp_us: place.stamp_us,
                groups: &groups,
                payload: &[&payload],
            }
            .encode(&mut out);
        }
        let records = out.freeze();
        session.batches.push_back(Batch { end, records: records.clone() });
        self.check_placed(index, &records);
        Some(records)
    }

    fn check_placed(&mut self, index: usize, records: &Bytes) {
        for record in decode_all(records) {
            if let Err(contradiction) = self.ledger.place(&record) {
                self.violate("an LSN names one record", contradiction.0);
            }
        }
        self.check_writer(index);
    }

    fn send_append(&mut self, index: usize, slot: Slot, records: Bytes) {
        let now_ms = self.now_us / 1_000;
        let incarnation = self.membership.member(slot).map_or(Incarnation(0), |member| member.incarnation);
        let urgent = self.rng.random_bool(0.7);
        let Some(session) = self.session(index) else { return };
        let (epoch, told) = (session.writer.epoch(), session.writer.told());
        let request = LogRequest::from(Append { epoch, incarnation, told, urgent }).with_records(records);
        let id = self.client_sends(index, slot, request);
        if let Some(session) = self.session(index) {
            let stream = &mut session.streams[usize::from(slot.0)];
            stream.sent_at_ms.insert(id, now_ms);
            stream.last_sent_ms = now_ms;
        }
    }

    /// Renews the lease and sends again what was not acknowledged.
    pub(crate) fn session_tick(&mut self, index: usize) {
        let now_ms = self.now_us / 1_000;
        for slot in self.membership.slots().collect::<Vec<_>>() {
            let Some(session) = self.session(index) else { return };
            let stream = &session.streams[usize::from(slot.0)];
            let scl = session.writer.scl_of(slot);
            let quiet =
                now_ms >= stream.last_heard_ms + RESEND_MS && now_ms >= stream.last_sent_ms + RESEND_MS;
            let idle = now_ms >= stream.last_sent_ms + RENEW_MS;
            let missing: Vec<Bytes> = session
                .batches
                .iter()
                .filter(|batch| quiet && batch.end > scl)
                .map(|batch| batch.records.clone())
                .collect();
            if idle && missing.is_empty() {
                self.send_append(index, slot, Bytes::new());
            }
            for records in missing {
                self.send_append(index, slot, records);
            }
        }
    }

    pub(crate) fn session_acked(&mut self, index: usize, slot: Slot, id: u64, acked: &Acked) {
        let now = self.now_at(self.clients[index].skew_us);
        let Some(session) = self.session(index) else { return };
        let stream = &mut session.streams[usize::from(slot.0)];
        let Some(sent_at_ms) = stream.sent_at_ms.get(&id).copied() else { return };
        let later = stream.sent_at_ms.split_off(&(id + 1));
        stream.sent_at_ms = later;
        stream.last_heard_ms = now.monotonic_ms;
        let progress = session.writer.acked(now, slot, acked, sent_at_ms);
        let (vcl, vdl) = (session.writer.positions().vcl, session.writer.told().vdl);
        if progress.vcl_rose {
            session.batches.retain(|batch| batch.end > vcl);
        }
        if progress.vdl_rose {
            let checked = self.check_acknowledged(index, vdl);
            self.judge(checked);
        }
        if self.rng.random_bool(0.05) {
            let back = Lsn(vdl.0.saturating_sub(self.rng.random_range(0..5_000)));
            if let Some(session) = self.session(index) {
                session.writer.set_needed(Some(back).filter(|lsn| lsn.0 % 2 == 0));
            }
        }
        self.check_writer(index);
    }

    pub(crate) fn session_refused(&mut self, index: usize, slot: Slot, refusal: &Refusal) {
        if let Refusal::Invalid(reason) = refusal {
            self.violate("a replica finds nothing wrong with a writer's records", &reason.text);
        }
        let Some(session) = self.session(index) else { return };
        let fenced: Option<Epoch> = session.writer.refused(slot, refusal);
        if let Some(by) = fenced {
            self.trace(format_args!("host {index} is fenced by epoch {by}"));
            let client = &mut self.clients[index];
            client.epoch = client.epoch.max(by);
            client.role = Role::Idle;
            client.session += 1;
        }
    }
}

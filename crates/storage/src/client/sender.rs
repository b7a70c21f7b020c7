//! One replica's appends: a connection that is kept up, batches out, acknowledgements in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use zorya_types::{Incarnation, Lsn, Slot, VolumeId};
use zorya_wire::handshake::RegionKey;
use zorya_wire::message::log::{Append, LogRequest, Refusal, ResponseBody};
use zorya_wire::message::{Outgoing, Request, Response};

use super::writer::{Outbox, WriterShared};
use crate::net::{ConnectError, FrameReader, ReadHalf, Stream, WriteHalf, connect, split, write_outgoing};

/// The lease is renewed and positions are told at least this often.
const RENEWAL: Duration = Duration::from_millis(300);
/// How long what nobody waits for is kept back, so that more goes into one request.
const COMPANY: Duration = Duration::from_millis(20);
/// At most so many bytes of batches go into one request.
const REQUEST_BYTES: usize = 1 << 20;
/// How long to wait before connecting again, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Sends a volume's log to one replica.
pub struct Sender {
    writer: Arc<WriterShared>,
    volume: VolumeId,
    slot: Slot,
    address: String,
    incarnation: Incarnation,
    key: RegionKey,
}

/// Requests on the way, oldest first: (id, when it was sent, monotonic milliseconds).
type InFlight = parking_lot::Mutex<VecDeque<(u64, u64)>>;

impl Sender {
    /// A sender to the replica in `slot`; `None` if there is no such slot.
    pub fn new(writer: Arc<WriterShared>, volume: VolumeId, slot: Slot, key: RegionKey) -> Option<Sender> {
        let member = writer.member(slot)?;
        let (address, incarnation) = (member.address.clone(), member.incarnation);
        Some(Sender { writer, volume, slot, address, incarnation, key })
    }

    /// Runs until `stop` or the volume is lost.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = Duration::from_millis(5);
        let mut unreachable = false;
        while !self.writer.is_lost() {
            let session = async {
                let connected = connect(&self.address, &self.key).await;
                self.tell_change(&mut unreachable, connected.as_ref().err());
                let stream = connected.map_err(drop)?;
                self.writer.set_connected(self.slot, true);
                let ended = self.converse(stream).await;
                self.writer.set_connected(self.slot, false);
                tracing::debug!(address = %self.address, error = ?ended.err(), "the connection for appends ended");
                Ok::<(), ()>(())
            };
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                outcome = session => outcome.is_ok(),
            };
            pause = if connected { Duration::from_millis(5) } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Logs that the replica's node cannot be reached, and that it can be again: once each, however many attempts.
    fn tell_change(&self, unreachable: &mut bool, error: Option<&ConnectError>) {
        let (slot, address) = (self.slot.0, &self.address);
        match error {
            Some(error) if !*unreachable => {
                tracing::warn!(slot, %address, %error, "a storage node cannot be reached; trying on");
            }
            None if *unreachable => tracing::info!(slot, %address, "the storage node can be reached again"),
            _ => {}
        }
        *unreachable = error.is_some();
    }

    async fn converse(&self, stream: Stream) -> std::io::Result<()> {
        let (read, write) = split(stream);
        let in_flight = InFlight::default();
        tokio::select! {
            ended = self.receive(read, &in_flight) => ended,
            ended = self.send(write, &in_flight) => ended,
        }
    }

    async fn send(&self, mut write: WriteHalf, in_flight: &InFlight) -> std::io::Result<()> {
        let mut sent = Lsn::ZERO;
        let mut id = 0;
        let mut urgent_told = Lsn::ZERO;
        while !self.writer.is_lost() {
            if id > 0 && self.writer.may_wait(self.slot, sent) {
                tokio::time::sleep(COMPANY).await;
            }
            let outbox = self.writer.take(self.slot, sent, REQUEST_BYTES);
            let news = !outbox.batches.is_empty();
            let hurry = outbox.urgent && urgent_told < sent;
            if news || hurry || id == 0 || self.idle().await {
                id += 1;
                let outbox = if news { outbox } else { self.writer.take(self.slot, sent, REQUEST_BYTES) };
                if let Some(last) = outbox.batches.last() {
                    sent = last.last;
                }
                if outbox.urgent {
                    urgent_told = sent;
                }
                in_flight.lock().push_back((id, self.writer.now().monotonic_ms));
                write_outgoing(&mut write, &self.encode(outbox, id)).await?;
            }
        }
        Ok(())
    }

    /// Waits for something to send; true if it is time to renew the lease instead.
    async fn idle(&self) -> bool {
        tokio::time::timeout(RENEWAL, self.writer.wait_for_batches(self.slot)).await.is_err()
    }

    fn encode(&self, outbox: Outbox, id: u64) -> Vec<Outgoing> {
        let append = Append {
            epoch: self.writer.epoch(),
            incarnation: self.incarnation,
            told: outbox.told,
            urgent: outbox.urgent,
        };
        let total: usize = outbox.batches.iter().map(|batch| batch.bytes.len()).sum();
        let request = LogRequest::from(append);
        if let [batch] = outbox.batches.as_slice() {
            return vec![Request::Log(self.volume, request.with_records(batch.bytes.clone())).encode(id)];
        }
        // The frame says how long its records are; the batches themselves follow without being joined.
        let head = Request::Log(self.volume, request).encode_head(id, total);
        let mut messages = vec![Outgoing { head, records: Bytes::new() }];
        messages.extend(
            outbox.batches.into_iter().map(|batch| Outgoing { head: Bytes::new(), records: batch.bytes }),
        );
        messages
    }

    async fn receive(&self, read: ReadHalf, in_flight: &InFlight) -> std::io::Result<()> {
        let mut frames = FrameReader::new(read);
        while let Some((header, body)) = frames.next().await? {
            let response = Response::decode(&header, body).map_err(std::io::Error::other)?;
            let Response::Log(response) = response else { continue };
            let sent_at = answered(in_flight, header.id);
            match response.body {
                ResponseBody::Acked(acked) => self.writer.acked(self.slot, &acked, sent_at.unwrap_or(0)),
                ResponseBody::Refused(refusal) => self.refused(&refusal).await?,
                other => tracing::debug!(?other, "an answer that nobody asked for"),
            }
        }
        Ok(())
    }

    async fn refused(&self, refusal: &Refusal) -> std::io::Result<()> {
        self.writer.refused(self.slot, refusal);
        // A replica that refuses will refuse the next batch as well: connect again after a moment, which also sends it
        // again what it refused.
        tokio::time::sleep(LONGEST_PAUSE).await;
        Err(std::io::Error::other("the replica refuses"))
    }
}

/// When the newest request up to `id` was sent; it and older ones are answered.
fn answered(in_flight: &InFlight, id: u64) -> Option<u64> {
    let mut in_flight = in_flight.lock();
    let mut sent_at = None;
    while let Some((oldest, at)) = in_flight.front().copied() {
        if oldest > id {
            break;
        }
        sent_at = Some(at);
        in_flight.pop_front();
    }
    sent_at
}

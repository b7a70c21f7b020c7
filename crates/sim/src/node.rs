//! A simulated storage node: drives a real replica with a simulated disk, and stands in for its pages.

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use zorya_log::Now;
use zorya_log::replica::{Effect, Input, Origin, Piece, Replica, ReplicaConfig, Seq};
use zorya_types::planted::{PlantedBug, is_planted};
use zorya_types::{Epoch, Incarnation, LogId, Lsn, Slot};
use zorya_wire::message::log::{LogRequest, LogResponse, NoVolume, Refusal, Tail};

use crate::disk::Disk;
use crate::invariants::Violation;
use crate::ledger::decode_all;
use crate::network::{Address, Connection, Message};
use crate::world::{Event, Simulation, VOLUME};

/// Layers are cut every so many bytes of log.
const LAYER_CUT: u64 = 1_024;

/// How often a node ticks, in microseconds.
const TICK_US: u64 = 70_000;

/// What the node's pages were given.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// The last record that they were given.
    pub applied: Lsn,
    /// In layers on disk: survives a restart.
    pub persisted: Lsn,
    /// The stamp of the last record.
    pub stamp_us: u64,
}

/// A storage node.
#[derive(Debug)]
pub struct Node {
    /// Its place.
    pub slot: Slot,
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// Its disk.
    pub disk: Disk,
    /// How its disk's log ended at the last stop.
    pub tail: Tail,
    /// Its replica; `None` while it is down.
    pub replica: Option<Replica>,
    /// Its pages.
    pub pages: Pages,
    /// Counts its lives.
    pub boot: u64,
    /// How far its clock is off, in microseconds.
    pub skew_us: i64,
    /// Batches below this were released.
    pub released: Seq,
}

impl Node {
    /// A new node with an empty disk.
    pub fn new(slot: Slot, incarnation: Incarnation, skew_us: i64) -> Node {
        Node {
            slot,
            incarnation,
            disk: Disk::default(),
            tail: Tail::Clean,
            replica: None,
            pages: Pages::default(),
            boot: 0,
            skew_us,
            released: 0,
        }
    }
}

impl Simulation {
    /// The time at a node.
    pub(crate) fn now_at(&self, skew_us: i64) -> Now {
        Now { monotonic_ms: self.now_us / 1_000, clock_us: self.clock_us().saturating_add_signed(skew_us) }
    }

    /// Starts a node from what its disk has.
    pub(crate) fn start_node(&mut self, slot: Slot) {
        let config =
            ReplicaConfig::new(VOLUME, LogId(1), slot, self.node(slot).incarnation, self.membership.clone());
        let node = &mut self.nodes[usize::from(slot.0)];
        if node.replica.is_some() {
            return;
        }
        node.boot += 1;
        node.disk.process_ends();
        let on_disk = node.disk.synced(Seq::MAX);
        let entries = match node.disk.scan() {
            Ok(entries) => entries,
            Err(error) => return self.violate("entries read back", error),
        };
        node.pages.applied = node.pages.persisted;
        node.pages.stamp_us = 0;
        // What is still there was read again and is in use until it is released again.
        node.released = 0;
        let tail = std::mem::replace(&mut node.tail, Tail::Clean);
        let recovered = Replica::recover(config, entries, tail, node.pages.persisted);
        on_disk.iter().for_each(|records| self.ledger.synced(slot, records));
        match recovered {
            Ok(replica) => {
                let text = format!(
                    "node {slot} starts: scl {} tail {:?} promised {}",
                    replica.scl(),
                    replica.tail(),
                    replica.promised()
                );
                self.trace(format_args!("{text}"));
                let node = &mut self.nodes[usize::from(slot.0)];
                // A cut inside an annulled stretch stands for everything up to that stretch.
                node.pages.applied = replica.delivered();
                node.replica = Some(replica);
                self.tick_node_later(slot);
            }
            Err(error) => self.violate("a replica recovers from its own entries", error),
        }
    }

    /// Stops a node. With its power cut, what was not synced is lost, torn or reordered.
    pub(crate) fn stop_node(&mut self, slot: Slot, power_cut: bool) {
        let node = &mut self.nodes[usize::from(slot.0)];
        if node.replica.take().is_none() {
            return;
        }
        if power_cut {
            node.tail = node.disk.power_cut(&mut self.rng);
        } else {
            node.disk.process_ends();
        }
        self.trace(format_args!("node {slot} stops (power cut: {power_cut})"));
    }

    fn tick_node_later(&mut self, slot: Slot) {
        let boot = self.node(slot).boot;
        let after = self.rng.random_range(TICK_US / 2..TICK_US * 3 / 2);
        self.at(after, Event::NodeTick { slot, boot });
    }

    pub(crate) fn node_tick(&mut self, slot: Slot, boot: u64) {
        if self.node(slot).boot != boot || self.node(slot).replica.is_none() {
            return;
        }
        self.persist_pages(slot);
        self.step_node(slot, Input::Tick);
        self.repair_by_layers(slot);
        if self.rng.random_bool(0.05) {
            self.step_node(slot, Input::Checkpoint);
        }
        let node = &mut self.nodes[usize::from(slot.0)];
        if self.rng.random_bool(0.1) {
            let snapshot = node.disk.synced_snapshot();
            // A batch may go only once a snapshot says what its release made the replica forget.
            node.disk.trim(node.released.min(snapshot), snapshot);
        }
        self.tick_node_later(slot);
    }

    /// Now and then the pages flush what they were given, up to a cut: a multiple of LSN, where no record need end.
    fn persist_pages(&mut self, slot: Slot) {
        let node = &mut self.nodes[usize::from(slot.0)];
        let lsn = Lsn(node.pages.applied.0 - node.pages.applied.0 % LAYER_CUT);
        if lsn > node.pages.persisted && self.rng.random_bool(0.2) {
            node.pages.persisted = lsn;
            self.step_node(slot, Input::Persisted { lsn });
        }
    }

    /// A replica that is behind everybody's trim gets its layers from a peer and starts anew.
    fn repair_by_layers(&mut self, slot: Slot) {
        if !self.node(slot).replica.as_ref().is_some_and(Replica::needs_layers) {
            return;
        }
        let best = self.nodes.iter().map(|node| node.pages.persisted).max().unwrap_or_default();
        let node = &mut self.nodes[usize::from(slot.0)];
        if best > node.pages.persisted {
            node.replica = None;
            node.pages.persisted = best;
            self.ledger.in_layers(slot, best);
            self.trace(format_args!("node {slot} copies layers up to {best}"));
            self.start_node(slot);
        }
    }

    /// A message arrives at a node.
    pub(crate) fn node_receives(&mut self, connection: Connection, id: u64, request: LogRequest) {
        let Connection { from, life, to: slot, boot } = connection;
        if self.node(slot).replica.is_none() || self.node(slot).boot != boot {
            if self.rng.random_bool(0.5) {
                let response = LogResponse::from(Refusal::from(NoVolume {}));
                self.send(Message::Response { to: from, life, from: slot, id, response });
            }
            return;
        }
        let origin = self.network.origin(connection);
        self.step_node(slot, Input::Request { from: origin, id, request });
    }

    /// One step of a node's replica, and what it asks for.
    pub(crate) fn step_node(&mut self, slot: Slot, input: Input) {
        let now = self.now_at(self.node(slot).skew_us);
        let Some(replica) = self.nodes[usize::from(slot.0)].replica.as_mut() else { return };
        for effect in replica.step(now, input) {
            self.node_effect(slot, effect);
        }
        self.check_replica(slot);
    }

    fn node_effect(&mut self, slot: Slot, effect: Effect) {
        match effect {
            Effect::Persist { seq, entry, urgent } => {
                self.nodes[usize::from(slot.0)].disk.write(seq, &entry);
                self.sync_later(slot, urgent);
            }
            Effect::Reply { to, id, response } => self.reply(slot, to, id, response),
            Effect::Serve { to, id, body, pieces } => {
                let records = self.read(slot, &pieces);
                self.reply(slot, to, id, LogResponse::from(body).with_records(records));
            }
            Effect::Ask { peer, request } => {
                let life = self.node(slot).boot;
                self.send(Message::Request {
                    from: Address::Node(slot),
                    life,
                    to: peer,
                    boot: self.node(peer).boot,
                    id: 0,
                    request,
                });
            }
            Effect::Deliver { pieces, upto } => self.apply(slot, &pieces, upto),
            Effect::Release { below } => self.nodes[usize::from(slot.0)].released = below,
        }
    }

    fn reply(&mut self, slot: Slot, to: Origin, id: u64, response: LogResponse) {
        if let Some(connection) = self.network.connection(to) {
            let (to, life) = (connection.from, connection.life);
            self.send(Message::Response { to, life, from: slot, id, response });
        }
    }

    fn read(&mut self, slot: Slot, pieces: &[Piece]) -> Bytes {
        let mut bytes = BytesMut::new();
        for piece in pieces {
            let part =
                self.node(slot).disk.records(piece.0).and_then(|records| Effect::slice(&records, *piece));
            match part {
                Some(part) => bytes.extend_from_slice(&part),
                None => {
                    self.violate("what is served or delivered is on disk", format!("node {slot}: {piece:?}"))
                }
            }
        }
        bytes.freeze()
    }

    fn apply(&mut self, slot: Slot, pieces: &[Piece], upto: Lsn) {
        let records = decode_all(&self.read(slot, pieces));
        let checked = self.check_delivery(slot, &records, upto);
        self.judge(checked);
        let node = &mut self.nodes[usize::from(slot.0)];
        node.pages.applied = upto;
        node.pages.stamp_us = records.last().map_or(0, |record| record.header.stamp_us);
    }

    fn sync_later(&mut self, slot: Slot, urgent: bool) {
        let after =
            if urgent { self.rng.random_range(100..3_000) } else { self.rng.random_range(1_000..8_000) };
        let node = &mut self.nodes[usize::from(slot.0)];
        if node.disk.syncing || node.disk.full || node.disk.failed || !node.disk.is_dirty() {
            return;
        }
        node.disk.syncing = true;
        let event = Event::Synced { slot, boot: node.boot, upto: node.disk.newest() };
        self.at(after, event);
    }

    pub(crate) fn sync_ends(&mut self, slot: Slot, boot: u64, upto: Seq) {
        let node = &mut self.nodes[usize::from(slot.0)];
        if node.boot != boot || node.replica.is_none() || node.disk.failed {
            return;
        }
        node.disk.syncing = false;
        if !is_planted(PlantedBug::NoFdatasync) {
            for records in node.disk.synced(upto) {
                self.ledger.synced(slot, &records);
            }
        }
        self.step_node(slot, Input::Durable { seq: upto });
        self.sync_later(slot, true);
    }

    /// The disk fills up, or fails.
    pub(crate) fn break_disk(&mut self, slot: Slot, full: bool) {
        let disk = &mut self.nodes[usize::from(slot.0)].disk;
        disk.full |= full;
        disk.failed |= !full;
        self.trace(format_args!("node {slot}: disk {}", if full { "full" } else { "failed" }));
        self.step_node(slot, Input::DiskFailed { reason: "the simulated disk broke".to_owned(), full });
    }

    /// There is room on the disk again.
    pub(crate) fn unfill_disk(&mut self, slot: Slot) {
        if std::mem::take(&mut self.nodes[usize::from(slot.0)].disk.full) {
            self.step_node(slot, Input::DiskRecovered);
            self.sync_later(slot, true);
        }
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe_disk(&mut self, slot: Slot) {
        self.stop_node(slot, true);
        let node = &mut self.nodes[usize::from(slot.0)];
        let incarnation = Incarnation(node.incarnation.0 + 1_000);
        *node = Node { boot: node.boot, ..Node::new(slot, incarnation, node.skew_us) };
        self.trace(format_args!("node {slot}: disk lost"));
    }

    /// Whether the node's disk is the one that was admitted.
    pub(crate) fn is_member(&self, slot: Slot) -> bool {
        self.membership.member(slot).is_some_and(|member| member.incarnation == self.node(slot).incarnation)
    }

    /// The highest epoch that any replica promised.
    pub(crate) fn highest_promised(&self) -> Epoch {
        self.nodes
            .iter()
            .filter_map(|node| node.replica.as_ref())
            .map(Replica::promised)
            .max()
            .unwrap_or_default()
    }

    pub(crate) fn judge(&mut self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, what: impl std::fmt::Display) {
        self.judge(Err(Violation { invariant, what: what.to_string() }));
    }
}

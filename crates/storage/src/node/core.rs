//! The node's one decision loop: take an event, apply it without waiting, carry out the effects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zorya_log::file::{LogEvent, NodeLog, Position};
use zorya_log::replica::{Effect, Entry, Input};
use zorya_types::{Epoch, Lsn, Slot, VolumeId};
use zorya_wire::handshake::RegionKey;
use zorya_wire::message::log::{Append, LogRequest, LogResponse, NoVolume, Reason, Refusal, Told};
use zorya_wire::message::node::{
    CreateVolume, DeleteVolume, DescribeVolume, Done, Identity, NodeRequest, NodeResponse, StatusJson,
    VolumeDescription,
};
use zorya_wire::message::{Outgoing, Request, Response};

use super::disk::{NodeDisk, VolumeFile};
use super::reads::SharedVolumes;
use super::recovery::Recovered;
use super::status;
use super::volume::{Delivery, Moving, Stored, VolumeHost};
use crate::clock::Clock;
use crate::net::Peer;

/// How often replicas get a tick (gossip, catching up, leases).
const TICK: Duration = Duration::from_millis(50);
/// Every so many ticks the log is asked to let go of what no volume needs, which looks at every entry.
const TICKS_PER_RELEASE: u32 = 10;
/// How many requests may wait for the core before connections stop reading.
const REQUESTS: usize = 1024;
/// The origin of requests that the node makes of itself; their answers go nowhere.
const INTERNAL: u64 = 0;
/// How long a peer may take to answer a question of gossip.
const GOSSIP_PATIENCE: Duration = Duration::from_secs(2);
/// A volume whose oldest needed entry is so many bytes behind the log's head is moved to the head.
const LONGEST_PIN: u64 = 128 << 20;
/// Records of so many bytes are few enough to be written again.
const FEW_BYTES: u64 = 48 << 20;

/// Something that the core has to know.
#[derive(Debug)]
pub enum Event {
    /// A peer was let in; its answers go to `replies`.
    Connected {
        /// The connection.
        origin: u64,
        /// Where its answers go.
        replies: mpsc::Sender<Outgoing>,
    },
    /// A connection ended.
    Disconnected {
        /// The connection.
        origin: u64,
    },
    /// A request to a volume's log replica.
    Log {
        /// The connection.
        origin: u64,
        /// The request's id.
        id: u64,
        /// The volume.
        volume: VolumeId,
        /// The request.
        request: LogRequest,
    },
    /// A request to the node.
    Node {
        /// The connection.
        origin: u64,
        /// The request's id.
        id: u64,
        /// The request.
        request: NodeRequest,
    },
    /// A read named a position, which must be durable then.
    ToldByRead {
        /// The volume.
        volume: VolumeId,
        /// The reader's epoch.
        epoch: Epoch,
        /// The position.
        vdl: Lsn,
    },
    /// A peer answered a question of gossip.
    PeerAnswer {
        /// The volume.
        volume: VolumeId,
        /// The peer.
        peer: Slot,
        /// Its answer.
        response: LogResponse,
    },
    /// The node log has news.
    Disk(LogEvent),
    /// A volume's pages are in layers up to here.
    PagesPersisted {
        /// The volume.
        volume: VolumeId,
        /// Up to here.
        lsn: Lsn,
    },
}

/// Where events are sent. Requests wait for room (so that a flood stays in its own connections' buffers); what the
/// node tells itself never does.
#[derive(Clone, Debug)]
pub struct Events {
    requests: mpsc::Sender<Event>,
    own: mpsc::UnboundedSender<Event>,
}

/// The receiving end of [`Events`].
pub struct Inbox {
    requests: mpsc::Receiver<Event>,
    own: mpsc::UnboundedReceiver<Event>,
}

/// A channel for events.
pub fn channel() -> (Events, Inbox) {
    let (requests, request_inbox) = mpsc::channel(REQUESTS);
    let (own, own_inbox) = mpsc::unbounded_channel();
    (Events { requests, own }, Inbox { requests: request_inbox, own: own_inbox })
}

impl Events {
    /// Sends what the node tells itself.
    pub fn send(&self, event: Event) {
        let _ = self.own.send(event);
    }

    /// Sends a peer's request, waiting for room.
    pub async fn request(&self, event: Event) {
        let _ = self.requests.send(event).await;
    }
}

/// The state of the loop.
pub struct Core {
    pub(super) disk: NodeDisk,
    pub(super) log: NodeLog,
    pub(super) volumes: HashMap<VolumeId, VolumeHost>,
    /// Why nothing is accepted any more (a failed sync), or for now (a full disk).
    pub(super) stopped: Option<String>,
    pub(super) shared: SharedVolumes,
    connections: HashMap<u64, mpsc::Sender<Outgoing>>,
    peers: HashMap<String, Arc<Peer>>,
    settings: super::recovery::VolumeSettings,
    key: RegionKey,
    events: Events,
    stop: CancellationToken,
    clock: Clock,
    ticks: u32,
}

impl Core {
    /// A core over what was recovered from the disk.
    pub fn new(
        disk: NodeDisk,
        recovered: Recovered,
        key: RegionKey,
        events: Events,
        stop: CancellationToken,
    ) -> Core {
        Core {
            disk,
            log: recovered.log,
            volumes: recovered.volumes,
            stopped: None,
            shared: recovered.shared,
            connections: HashMap::new(),
            peers: HashMap::new(),
            settings: recovered.settings,
            key,
            events,
            stop,
            clock: Clock::start(),
            ticks: 0,
        }
    }

    /// Runs until the stop token is cancelled, then syncs and closes the log.
    pub async fn run(mut self, mut inbox: Inbox) {
        let from_beyond: Vec<VolumeId> =
            self.volumes.iter().filter(|(_, host)| host.write_down_again).map(|(id, _)| *id).collect();
        from_beyond.into_iter().for_each(|volume| self.step(volume, Input::Checkpoint));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(event) = inbox.own.recv() => Some(event),
                _ = ticks.tick() => None,
                Some(event) = inbox.requests.recv() => Some(event),
            };
            match event {
                Some(event) => self.apply(event),
                None => self.tick(),
            }
            self.apply_what_waits(&mut inbox);
            self.log.hurry();
        }
        // Dropping the log syncs what waits and ends its threads.
    }

    /// Applies what is there already, so that appends that came together share a sync.
    fn apply_what_waits(&mut self, inbox: &mut Inbox) {
        for _ in 0..REQUESTS {
            let Ok(event) = inbox.own.try_recv().or_else(|_| inbox.requests.try_recv()) else { return };
            self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Connected { origin, replies } => {
                self.connections.insert(origin, replies);
            }
            Event::Disconnected { origin } => {
                self.connections.remove(&origin);
                self.step_all(|| Input::Disconnected { from: origin });
            }
            Event::Log { origin, id, volume, request } => self.log_request(origin, id, volume, request),
            Event::Node { origin, id, request } => {
                let response = self.node_request(request);
                self.reply(origin, id, &Response::Node(response));
            }
            Event::ToldByRead { volume, epoch, vdl } => self.told_by_read(volume, epoch, vdl),
            Event::PeerAnswer { volume, peer, response } => {
                self.step(volume, Input::PeerResponse { peer, response });
            }
            Event::Disk(event) => self.disk_event(event),
            Event::PagesPersisted { volume, lsn } => {
                self.step(volume, Input::Persisted { lsn });
                self.apply_deliveries(volume);
            }
        }
    }

    fn log_request(&mut self, origin: u64, id: u64, volume: VolumeId, request: LogRequest) {
        if self.volumes.contains_key(&volume) {
            self.step(volume, Input::Request { from: origin, id, request });
            return;
        }
        let refusal: Refusal = NoVolume {}.into();
        self.reply(origin, id, &Response::Log(refusal.into()));
    }

    fn told_by_read(&mut self, volume: VolumeId, epoch: Epoch, vdl: Lsn) {
        let Some(host) = self.volumes.get(&volume) else { return };
        if host.replica.promised() != epoch || host.replica.told().vdl >= vdl {
            return;
        }
        let told = Told { vdl, ..host.replica.told() };
        let append = Append { epoch, incarnation: self.disk.incarnation(), told, urgent: false };
        self.step(volume, Input::Request { from: INTERNAL, id: 0, request: append.into() });
    }

    fn disk_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Durable(upto) => self.durable(upto),
            LogEvent::Failed(error) => self.stop_accepting(error.to_string(), false),
            LogEvent::Full(error) => self.stop_accepting(error.to_string(), true),
            LogEvent::Room => {
                tracing::info!("the disk has room again: the node goes on");
                self.stopped = None;
                self.step_all(|| Input::DiskRecovered);
            }
        }
    }

    fn stop_accepting(&mut self, reason: String, full: bool) {
        tracing::error!(%reason, full, "the node accepts nothing any more");
        self.stopped = Some(reason.clone());
        self.step_all(|| Input::DiskFailed { reason: reason.clone(), full });
    }

    fn durable(&mut self, upto: Position) {
        let ids: Vec<VolumeId> = self.volumes.keys().copied().collect();
        for volume in ids {
            let Some(host) = self.volumes.get_mut(&volume) else { continue };
            host.moving.take_if(|moving| moving.last < upto);
            // From the end: what was moved to the head lies behind entries with a higher seq.
            let durable = host.stored.iter().rev().find(|stored| stored.position < upto);
            let Some(seq) = durable.map(|stored| stored.seq) else { continue };
            if host.durable_seq < seq {
                host.durable_seq = seq;
                if let Some(snapshot) = host.coming_snapshot.take_if(|snapshot| snapshot.seq <= seq) {
                    host.snapshot = Some(snapshot);
                    host.forget_unneeded();
                }
                self.step(volume, Input::Durable { seq });
            }
        }
    }

    fn tick(&mut self) {
        self.step_all(|| Input::Tick);
        let ids: Vec<VolumeId> = self.volumes.keys().copied().collect();
        for volume in &ids {
            self.apply_deliveries(*volume);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_RELEASE) {
            self.release(&ids);
        }
    }

    fn release(&mut self, volumes: &[VolumeId]) {
        volumes.iter().for_each(|volume| self.unpin(*volume));
        let lowest = self.volumes.values().filter_map(VolumeHost::lowest_needed).min();
        self.log.release_below(lowest.unwrap_or_else(|| self.log.usage().next));
    }

    fn step_all(&mut self, input: impl Fn() -> Input) {
        let ids: Vec<VolumeId> = self.volumes.keys().copied().collect();
        for volume in ids {
            self.step(volume, input());
        }
    }

    /// Lets a volume's replica decide, and carries out what it decided.
    fn step(&mut self, volume: VolumeId, input: Input) {
        let now = self.clock.now();
        let Some(host) = self.volumes.get_mut(&volume) else { return };
        let effects = host.replica.step(now, input);
        for effect in effects {
            self.perform(volume, effect);
        }
        if let Some(host) = self.volumes.get(&volume) {
            host.publish();
        }
    }

    fn perform(&mut self, volume: VolumeId, effect: Effect) {
        match effect {
            Effect::Persist { seq, entry, urgent } => self.persist(volume, seq, &entry, urgent),
            Effect::Reply { to, id, response } => self.reply(to, id, &Response::Log(response)),
            Effect::Serve { to, id, body, pieces } => {
                let Some(host) = self.volumes.get(&volume) else { return };
                match host.read_all(&self.log, &pieces) {
                    Ok(records) => {
                        let response = LogResponse::from(body).with_records(records);
                        self.reply(to, id, &Response::Log(response));
                    }
                    Err(error) => tracing::error!(%volume, %error, "cannot serve the log to a peer"),
                }
            }
            Effect::Ask { peer, request } => self.ask(volume, peer, request),
            Effect::Deliver { pieces, upto } => {
                if let Some(host) = self.volumes.get_mut(&volume) {
                    host.deliveries.push_back(Delivery { pieces: pieces.into(), upto });
                }
                self.apply_deliveries(volume);
            }
            Effect::Release { below } => {
                if let Some(host) = self.volumes.get_mut(&volume) {
                    host.released = host.released.max(below);
                    host.forget_unneeded();
                }
            }
        }
    }

    fn persist(&mut self, volume: VolumeId, seq: u64, entry: &Entry, urgent: bool) {
        match self.log.append(volume, entry.kind(), &entry.payload(), urgent) {
            Ok(position) => {
                let Some(host) = self.volumes.get_mut(&volume) else { return };
                let stored = Stored { seq, position };
                host.stored.push_back(stored);
                if matches!(entry, Entry::Snapshot(_)) {
                    host.coming_snapshot = Some(stored);
                }
            }
            // The log also sends an event about it, which stops every volume; this entry just never becomes durable.
            Err(error) => tracing::error!(%volume, %error, "an entry was not written"),
        }
    }

    fn reply(&mut self, origin: u64, id: u64, response: &Response) {
        let Some(replies) = self.connections.get(&origin) else { return };
        if replies.try_send(response.encode(id)).is_err() {
            // It does not read its answers: without them it cannot rely on anything, so it may as well reconnect.
            tracing::warn!(origin, "a peer does not read its answers; its connection is closed");
            self.connections.remove(&origin);
        }
    }

    fn ask(&mut self, volume: VolumeId, slot: Slot, request: LogRequest) {
        let Some(host) = self.volumes.get(&volume) else { return };
        let Some(member) = host.file.membership.member(slot) else { return };
        let (key, stop) = (&self.key, &self.stop);
        let peer = self.peers.entry(member.address.clone());
        let peer = peer
            .or_insert_with_key(|address| Peer::start(address.clone(), key.clone(), stop.clone()))
            .clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let request = Request::Log(volume, request);
            let answer = tokio::time::timeout(GOSSIP_PATIENCE, peer.ask(&request)).await;
            if let Ok(Ok(Response::Log(response))) = answer {
                events.send(Event::PeerAnswer { volume, peer: slot, response });
            }
        });
    }

    fn apply_deliveries(&mut self, volume: VolumeId) {
        let Some(host) = self.volumes.get_mut(&volume) else { return };
        if let Err(error) = host.apply_deliveries(&self.log) {
            tracing::error!(%volume, %error, "the pages cannot be brought up to date; they will be tried again");
        }
    }

    /// Keeps a volume from pinning old files of the shared log: its hard state is written again at the head, and so are
    /// its records if they are few. A volume that is written a lot moves on by itself.
    fn unpin(&mut self, volume: VolumeId) {
        let head = self.log.usage().next;
        let Some(host) = self.volumes.get(&volume) else { return };
        let Some(lowest) = host.lowest_needed() else { return };
        if head.0.saturating_sub(lowest.0) < LONGEST_PIN || self.stopped.is_some() {
            return;
        }
        if host.moving.is_some() {
            return;
        }
        let is_old = |stored: Option<Stored>| {
            stored.is_none_or(|stored| head.0.saturating_sub(stored.position.0) > LONGEST_PIN / 2)
        };
        let Some(snapshot) = host.snapshot.filter(|snapshot| !is_old(Some(*snapshot))) else {
            // Records move once a snapshot that makes older hard state needless is on disk.
            if is_old(host.coming_snapshot) {
                self.step(volume, Input::Checkpoint);
            }
            return;
        };
        let live_bytes = host.replica.highest().since(host.replica.told().trim);
        if live_bytes < FEW_BYTES {
            self.move_to_head(volume, head, lowest, snapshot);
        }
    }

    /// Writes a volume's old records again at the log's head. Its old hard state is left behind: the snapshot has it, and
    /// at the head it would come after newer hard state and undo it at a restart.
    fn move_to_head(&mut self, volume: VolumeId, head: Position, lowest: Position, snapshot: Stored) {
        let Some(host) = self.volumes.get_mut(&volume) else { return };
        host.forget_unneeded();
        let is_old = |stored: &Stored| {
            stored.seq < snapshot.seq && head.0.saturating_sub(stored.position.0) >= LONGEST_PIN / 2
        };
        let log = &self.log;
        let (mut last, mut failed) = (None, false);
        host.stored.retain_mut(|stored| {
            if failed || !is_old(stored) {
                return true;
            }
            match moved(log, volume, stored.position) {
                Ok(Some(position)) => {
                    stored.position = position;
                    last = Some(position);
                    true
                }
                Ok(None) => false,
                Err(error) => {
                    tracing::error!(%volume, %error, "cannot move an old entry to the log's head; its log file stays");
                    failed = true;
                    true
                }
            }
        });
        host.moving = last.map(|last| Moving { from: lowest, last });
    }

    fn node_request(&mut self, request: NodeRequest) -> NodeResponse {
        match request {
            NodeRequest::Identify(_) => Identity {
                node: self.disk.id().clone(),
                incarnation: self.disk.incarnation(),
                zone: self.disk.zone().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }
            .into(),
            NodeRequest::CreateVolume(create) => self.create_volume(create),
            NodeRequest::DeleteVolume(delete) => self.delete_volume(&delete),
            NodeRequest::Status(_) => StatusJson { json: status::describe(self).to_string() }.into(),
            NodeRequest::DescribeVolume(describe) => self.describe_volume(&describe),
            NodeRequest::MeasureDisk(_) => match self.disk.space() {
                Ok(space) => space.into(),
                Err(error) => refused(format!("the disk of storage node {}: {error}", self.disk.id())),
            },
        }
    }

    fn create_volume(&mut self, create: CreateVolume) -> NodeResponse {
        if let Some(host) = self.volumes.get(&create.volume) {
            return if host.file.membership == create.membership {
                Done {}.into()
            } else {
                refused(format!("volume {} is here already with other replicas", create.volume))
            };
        }
        let spans = create.lineage.spans().to_vec();
        let file = VolumeFile::new(create.volume, create.log, spans, create.membership);
        let host = match self.settings.empty_volume(&self.disk, file) {
            Ok(host) => host,
            Err(error) => return refused(error.to_string()),
        };
        if let Err(error) = self.disk.keep(&host.file) {
            return refused(error.to_string());
        }
        self.shared.write().insert(create.volume, host.shared.clone());
        self.volumes.insert(create.volume, host);
        Done {}.into()
    }

    fn delete_volume(&mut self, delete: &DeleteVolume) -> NodeResponse {
        if self.volumes.remove(&delete.volume).is_none() {
            return Done {}.into();
        }
        self.shared.write().remove(&delete.volume);
        match self.disk.forget(delete.volume) {
            Ok(()) => Done {}.into(),
            Err(error) => refused(error.to_string()),
        }
    }

    fn describe_volume(&self, describe: &DescribeVolume) -> NodeResponse {
        let Some(host) = self.volumes.get(&describe.volume) else {
            return refused(format!("storage node {} keeps no volume {}", self.disk.id(), describe.volume));
        };
        let Some(lineage) = zorya_types::Lineage::from_spans(host.file.lineage.clone()) else {
            return refused(format!("volume {} has no history", describe.volume));
        };
        VolumeDescription {
            log: host.file.log,
            lineage,
            membership: host.file.membership.clone(),
            promised: host.replica.promised(),
        }
        .into()
    }
}

fn refused(text: String) -> NodeResponse {
    Reason { text }.into()
}

/// Writes records again at the log's head and returns where; `None` if the entry is hard state.
fn moved(
    log: &NodeLog,
    volume: VolumeId,
    from: Position,
) -> Result<Option<Position>, Box<dyn std::error::Error>> {
    let found = log.read(from)?;
    if !matches!(Entry::decode(found.kind, found.payload.clone())?, Entry::Batch { .. }) {
        return Ok(None);
    }
    Ok(Some(log.append(volume, found.kind, &[found.payload], false)?))
}

//! One replica of one volume's log, as a pure state machine: [`Replica::step`] takes an [`Input`] and the time and
//! returns [`Effect`]s. It never waits, reads a clock or touches a disk.
//!
//! What it promises: what it acknowledged is on its disk; it accepts nothing older than the epoch it promised; what a
//! truncation annuls is gone before it speaks in the new epoch; pages get only what is durable on a write quorum.
//! What it relies on: its driver performs the effects in order and reports [`Input::Durable`] only after a sync.
//! A crash loses what was not durable, and nothing was said about that; [`Replica::recover`] rebuilds the rest.
//!
//! One role per file: [`append`](self) stores what the writer sends, `ballot` takes part in openings, `gossip` gets
//! from peers what is missing, `settle` answers once things are on disk, `record_log` knows where records are.

mod append;
mod ballot;
mod batch;
mod entry;
mod event;
mod gossip;
mod lease;
mod record_log;
mod recover;
mod settle;
#[cfg(test)]
mod tests;
mod vouch;
mod waiting;

use zorya_types::{Epoch, Incarnation, LogId, Lsn, Membership, Slot, Truncation, VolumeId};
use zorya_wire::message::log::{
    LogRequest, OtherIncarnation, Reason, Refusal, RequestBody, StaleEpoch, Stopped, Tail, Told,
};

use crate::Now;

pub use batch::BadBatch;
pub use entry::{Entry, HardState};
pub use event::{Effect, Input};
pub use recover::RecoverError;

use gossip::Gossip;
use lease::Lease;
use record_log::RecordLog;
use waiting::Waiting;

/// The order in which one replica's entries are handed to its disk, from 1.
pub type Seq = u64;
/// A connection, numbered by the driver.
pub type Origin = u64;
/// Bytes in a stored batch entry's records: the entry, how many bytes to skip, how many to take.
pub type Piece = (Seq, u32, u32);

/// What a replica is told about itself and its volume.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The volume.
    pub volume: VolumeId,
    /// Which of the volume's logs this is.
    pub log: LogId,
    /// Its place in the membership.
    pub slot: Slot,
    /// The life of the disk that it is on.
    pub incarnation: Incarnation,
    /// The volume's replicas.
    pub membership: Membership,
    /// How long a writer's lease runs after it was last heard, in milliseconds.
    pub lease_ms: u64,
    /// How far ahead of this node's clock a record may be stamped, in microseconds.
    pub max_clock_ahead_us: u64,
    /// About how many bytes to ask of a peer at once.
    pub fetch_max_bytes: u32,
}

impl ReplicaConfig {
    /// The usual limits: a lease of 2 s, 1 s of clock, 1 MiB at once.
    #[must_use]
    pub fn new(
        volume: VolumeId,
        log: LogId,
        slot: Slot,
        incarnation: Incarnation,
        membership: Membership,
    ) -> ReplicaConfig {
        ReplicaConfig {
            volume,
            log,
            slot,
            incarnation,
            membership,
            lease_ms: 2_000,
            max_clock_ahead_us: 1_000_000,
            fetch_max_bytes: 1 << 20,
        }
    }
}

/// How far the replica is; `released <= delivered <= scl <= received`.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// Without a gap, on disk or on the way there.
    received: Lsn,
    /// Segment complete LSN: without a gap, on disk.
    scl: Lsn,
    /// Given to the pages.
    delivered: Lsn,
    /// In layers on this node.
    persisted: Lsn,
}

/// What the disk was handed and has confirmed.
#[derive(Clone, Debug, Default)]
struct Disk {
    /// The last entry handed over.
    handed: Seq,
    /// The last entry confirmed.
    durable: Seq,
    /// The entry that holds the newest accepted truncation; 0 if that was there at the start.
    accepted: Seq,
    /// Batches below it are released.
    released: Seq,
    /// Why nothing can be written, if so.
    stopped: Option<Stopped>,
}

/// One replica of one volume's log.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    hard: HardState,
    /// What the newest entry on disk, or on the way there, says was told.
    told_on_disk: Told,
    /// Whether `hard.truncation` was accepted since the start: then it repairs a doubtful tail.
    accepted_since_start: bool,
    /// After a start with a torn tail: the position from which on the log cannot hold what the tail had. `None` until
    /// the writer was heard.
    torn_below: Option<Lsn>,
    /// The start found an end in doubt that the disk does not know of yet.
    doubt_is_new: bool,
    log: RecordLog,
    reached: Reached,
    disk: Disk,
    lease: Lease,
    waiting: Waiting,
    gossip: Gossip,
}

impl Replica {
    /// A replica of a volume that was just created: it has nothing and promised nothing.
    #[must_use]
    pub fn new(config: ReplicaConfig) -> Replica {
        let peers = config.membership.members.len();
        Replica {
            hard: HardState::default(),
            told_on_disk: Told::default(),
            accepted_since_start: false,
            torn_below: None,
            doubt_is_new: false,
            log: RecordLog::default(),
            reached: Reached::default(),
            disk: Disk::default(),
            lease: Lease::default(),
            waiting: Waiting::default(),
            gossip: Gossip::new(peers),
            config,
        }
    }

    /// Takes in what happened and says what to do, in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.lease.start(now, self.config.lease_ms);
        self.remember_doubt(&mut out);
        match input {
            Input::Request { from, id, request } => self.request(now, from, id, request, &mut out),
            Input::PeerResponse { peer, response } => self.peer_response(peer, response, &mut out),
            Input::Durable { seq } => self.disk.durable = self.disk.durable.max(seq.min(self.disk.handed)),
            Input::DiskFailed { reason, full } => self.disk_failed(reason, full, &mut out),
            Input::DiskRecovered => {
                if self.disk.stopped.as_ref().is_some_and(|stopped| stopped.full) {
                    self.disk.stopped = None;
                }
            }
            Input::Persisted { lsn } => self.reached.persisted = self.reached.persisted.max(lsn),
            Input::Disconnected { from } => self.waiting.forget(from),
            Input::Checkpoint => {
                let snapshot = Entry::Snapshot(self.hard.clone());
                self.persist(snapshot, false, &mut out);
            }
            Input::Tick => self.tick(&mut out),
        }
        self.settle(now, &mut out);
        out
    }

    fn request(&mut self, now: Now, from: Origin, id: u64, request: LogRequest, out: &mut Vec<Effect>) {
        let answer = match &request.body {
            RequestBody::Append(append) => self.append(now, (from, id), append, &request.records, out),
            RequestBody::Promise(promise) => self.promise(now, (from, id), promise, out),
            RequestBody::Accept(accept) => self.accept(now, (from, id), accept, out),
            RequestBody::CatchUp(catch_up) => self.catch_up((from, id), catch_up, out),
            RequestBody::Digest(digest) => {
                let reply = self.digest_asked(digest, out);
                out.push(Effect::reply(from, id, reply));
                Ok(())
            }
            RequestBody::Fetch(fetch) => {
                out.push(self.serve(from, id, fetch));
                Ok(())
            }
        };
        if let Err(refusal) = answer {
            out.push(Effect::reply(from, id, refusal));
        }
    }

    /// Hands an entry to the disk.
    fn persist(&mut self, entry: Entry, urgent: bool, out: &mut Vec<Effect>) -> Seq {
        if let Entry::Batch { told, .. } | Entry::Told { told } = &entry {
            self.told_on_disk = *told;
        }
        self.disk.handed += 1;
        out.push(Effect::Persist { seq: self.disk.handed, entry, urgent });
        self.disk.handed
    }

    fn disk_failed(&mut self, reason: String, full: bool, out: &mut Vec<Effect>) {
        let final_already = self.disk.stopped.as_ref().is_some_and(|stopped| !stopped.full);
        if !final_already {
            self.disk.stopped = Some(Stopped { reason: Reason { text: reason }, full });
        }
        for (to, id) in self.waiting.take_all() {
            if let Err(refusal) = self.refuse_if_stopped() {
                out.push(Effect::reply(to, id, refusal));
            }
        }
    }

    fn refuse_if_stopped(&self) -> Result<(), Refusal> {
        self.disk.stopped.clone().map_or(Ok(()), |stopped| Err(stopped.into()))
    }

    fn refuse_if_stale(&self, epoch: Epoch) -> Result<(), Refusal> {
        if epoch < self.hard.promised {
            return Err(StaleEpoch { promised: self.hard.promised }.into());
        }
        Ok(())
    }

    fn refuse_if_other(&self, incarnation: Incarnation) -> Result<(), Refusal> {
        if incarnation != self.config.incarnation {
            return Err(OtherIncarnation { own: self.config.incarnation }.into());
        }
        Ok(())
    }

    /// The epoch of the newest accepted truncation; 0 before the first.
    fn accepted_epoch(&self) -> Epoch {
        self.hard.truncation.as_ref().map_or(Epoch(0), |truncation| truncation.own().epoch)
    }

    /// The newest epoch that it promised: anything older is refused.
    #[must_use]
    pub fn promised(&self) -> Epoch {
        self.hard.promised
    }

    /// Segment complete LSN: everything up to here is on this disk.
    #[must_use]
    pub fn scl(&self) -> Lsn {
        self.reached.scl
    }

    /// The highest position that it holds, gaps or not.
    #[must_use]
    pub fn highest(&self) -> Lsn {
        self.log.highest().max(self.reached.scl)
    }

    /// Up to here records were given to the pages.
    #[must_use]
    pub fn delivered(&self) -> Lsn {
        self.reached.delivered
    }

    /// What the writer told.
    #[must_use]
    pub fn told(&self) -> Told {
        self.hard.told
    }

    /// How far it vouches for the end of its log.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.hard.tail
    }

    /// The newest truncation that it accepted.
    #[must_use]
    pub fn truncation(&self) -> Option<&Truncation> {
        self.hard.truncation.as_ref()
    }

    /// What it was configured with.
    #[must_use]
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// Why it takes no writes, if so.
    #[must_use]
    pub fn stopped(&self) -> Option<&Stopped> {
        self.disk.stopped.as_ref()
    }

    /// Whether every peer that is ahead has trimmed what this one lacks: only layers can bring it up to date.
    #[must_use]
    pub fn needs_layers(&self) -> bool {
        self.gossip.needs_layers(self.reached.received, self.accepted_epoch())
    }
}

/// A refusal in words.
fn invalid(text: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(Reason { text: text.to_string() })
}

/// Raises every position that `newer` has higher.
fn raise(told: &mut Told, newer: &Told) {
    told.vdl = told.vdl.max(newer.vdl);
    told.gc = told.gc.max(newer.gc);
    told.trim = told.trim.max(newer.trim);
}

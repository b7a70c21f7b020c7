//! Appending: placing records in the log, batching them for the senders, and waking whoever waits for VDL.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zorya_log::Now;
use zorya_log::opening::Opened;
use zorya_log::writer::{PlaceRefused, Writer, WriterConfig};
use zorya_types::{Epoch, GroupId, Lsn, Member, Membership, Slot, VolumePositions};
use zorya_wire::RecordBuilder;
use zorya_wire::message::log::{Acked, Refusal, Told};
use zorya_wire::record::{CODEC_NONE, FLAG_CONSISTENCY_POINT};

use super::{ALLOCATION_LIMIT, ReplicaStatus};
use crate::clock::Clock;
use crate::store::{AppendRefused, Done, NewRecord, VolumeLost};

/// A batch that is open for so long is sent even if nobody waits for it.
const LINGER: Duration = Duration::from_millis(20);
/// A replica that is behind and did not acknowledge anything for so long is not counted on.
const SILENCE: Duration = Duration::from_millis(50);
/// Batches that a write quorum has are kept for connected replicas that were not sent them yet, up to so many bytes.
/// What is dropped before, a replica gets from its peers.
const KEPT_BYTES: usize = 8 << 20;
/// A batch of so many bytes is sealed and sent at once. It must not go on growing until a sender takes it: what is larger than a
/// frame no replica would ever accept.
const SEAL_BYTES: usize = 64 << 10;
/// Who waits for room is woken when there is so much, in bytes.
const WORTH_WAKING: u64 = ALLOCATION_LIMIT / 4;
/// An idle volume logs the time this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// In [`State::taken`]: no batch is kept for this replica.
const NOTHING_KEPT: Lsn = Lsn(u64::MAX);

/// A run of records that ends at a consistency point and is sent whole.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The end of its last record.
    pub last: Lsn,
    /// Encoded records.
    pub bytes: Bytes,
}

struct State {
    core: Writer,
    /// Records that are not sealed into a batch yet.
    open: BytesMut,
    open_last: Lsn,
    /// Batches that are above VCL or on their way to a replica, oldest first.
    batches: VecDeque<Batch>,
    /// Their bytes.
    batch_bytes: usize,
    /// What each replica's sender has taken; the highest position while there is no connection.
    taken: Vec<Lsn>,
    /// Who waits for VDL, by position.
    waiters: BTreeMap<Lsn, Vec<Done<Result<(), VolumeLost>>>>,
    room_waiters: Vec<Done<Result<(), VolumeLost>>>,
    loss_waiters: Vec<Done<VolumeLost>>,
    /// Up to here somebody waits.
    urgent: Lsn,
    /// Positions of reads under way, with how many.
    reads: BTreeMap<Lsn, usize>,
    lost: Option<VolumeLost>,
    refusals: Vec<Option<String>>,
    scls: Vec<Lsn>,
    /// When each replica last acknowledged.
    acked_at: Vec<Instant>,
    last_append: Instant,
    /// When the first record of the open batch was appended.
    opened_at: Instant,
    /// Nothing was open for a while: the sealer has to be told when something is.
    sealer_rests: bool,
}

/// The writer of an open volume, shared by the threads that append and the tasks that send.
pub struct WriterShared {
    state: Mutex<State>,
    vdl: AtomicU64,
    /// One per replica: there is something to send.
    wake: Vec<Notify>,
    /// There is something to send to every replica. Waking a task from outside of its runtime is a system call; this
    /// way it is one for all of them.
    wake_all: Notify,
    connected: Vec<AtomicBool>,
    /// The open batch is no longer empty, while the sealer rests.
    opened: Notify,
    epoch: Epoch,
    membership: Membership,
    clock: Clock,
}

/// What a sender is to send next.
#[derive(Debug)]
pub struct Outbox {
    /// Batches in order; empty for a mere renewal of the lease.
    pub batches: Vec<Batch>,
    /// Positions to tell.
    pub told: Told,
    /// Somebody waits for one of these batches, or for an earlier one.
    pub urgent: bool,
}

impl WriterShared {
    /// A writer for a volume that was just opened.
    pub fn new(opened: &Opened, tails: Vec<(GroupId, Lsn)>, clock: Clock) -> Arc<WriterShared> {
        let config = WriterConfig { allocation_limit: ALLOCATION_LIMIT, ..WriterConfig::default() };
        let mut core = Writer::new(opened, config, clock.now());
        core.set_tails(tails);
        let replicas = opened.membership.members.len();
        let vdl = core.positions().vdl;
        let state = State {
            core,
            open: BytesMut::new(),
            open_last: vdl,
            batches: VecDeque::new(),
            batch_bytes: 0,
            taken: vec![NOTHING_KEPT; replicas],
            waiters: BTreeMap::new(),
            room_waiters: Vec::new(),
            loss_waiters: Vec::new(),
            urgent: Lsn::ZERO,
            reads: BTreeMap::new(),
            lost: None,
            refusals: vec![None; replicas],
            scls: vec![Lsn::ZERO; replicas],
            acked_at: vec![Instant::now(); replicas],
            last_append: Instant::now(),
            opened_at: Instant::now(),
            sealer_rests: true,
        };
        Arc::new(WriterShared {
            state: Mutex::new(state),
            vdl: AtomicU64::new(vdl.0),
            wake: (0..replicas).map(|_| Notify::new()).collect(),
            wake_all: Notify::new(),
            connected: (0..replicas).map(|_| AtomicBool::new(false)).collect(),
            opened: Notify::new(),
            epoch: opened.epoch,
            membership: opened.membership.clone(),
            clock,
        })
    }

    /// The time on the writer's own clocks.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The replica in a slot.
    pub fn member(&self, slot: Slot) -> Option<&Member> {
        self.membership.member(slot)
    }

    /// Appends records as one unit: only the last is a consistency point.
    pub fn append(&self, records: &[NewRecord<'_>]) -> Result<Lsn, AppendRefused> {
        let now = self.now();
        let mut state = self.state.lock();
        if let Some(lost) = &state.lost {
            return Err(lost.clone().into());
        }
        let lens: Vec<usize> = records.iter().map(encoded_len).collect();
        let total: usize = lens.iter().sum();
        if !state.is_writable(now, total as u64) {
            return Err(AppendRefused::AtAllocationLimit);
        }
        if state.open.is_empty() {
            state.opened_at = Instant::now();
        }
        let mut lsn = state.open_last;
        for (index, (record, len)) in records.iter().zip(&lens).enumerate() {
            lsn = state.place(self.epoch, now, record, *len as u32, index + 1 == records.len())?;
        }
        state.open_last = lsn;
        state.last_append = Instant::now();
        if state.open.len() >= SEAL_BYTES {
            state.seal();
            drop(state);
            self.wake_senders();
        } else if std::mem::take(&mut state.sealer_rests) {
            drop(state);
            self.opened.notify_one();
        }
        Ok(lsn)
    }

    /// Calls `done` once VDL has reached `lsn`.
    pub fn when_durable(&self, lsn: Lsn, done: Done<Result<(), VolumeLost>>) {
        let mut state = self.state.lock();
        if let Some(lost) = state.lost.clone() {
            drop(state);
            return done(Err(lost));
        }
        if self.vdl() >= lsn {
            drop(state);
            return done(Ok(()));
        }
        state.waiters.entry(lsn).or_default().push(done);
        let raised = state.urgent < lsn;
        state.urgent = state.urgent.max(lsn);
        drop(state);
        if raised {
            self.wake_senders();
        }
    }

    /// Calls `done` once there may be room again.
    pub fn when_room(&self, done: Done<Result<(), VolumeLost>>) {
        let now = self.now();
        let mut state = self.state.lock();
        let outcome = match &state.lost {
            Some(lost) => Err(lost.clone()),
            None if state.is_writable(now, WORTH_WAKING) => Ok(()),
            None => {
                state.room_waiters.push(done);
                state.urgent = state.open_last;
                drop(state);
                return self.wake_senders();
            }
        };
        drop(state);
        done(outcome);
    }

    /// Calls `done` when the volume is lost.
    pub fn when_lost(&self, done: Done<VolumeLost>) {
        let mut state = self.state.lock();
        match state.lost.clone() {
            Some(lost) => {
                drop(state);
                done(lost);
            }
            None => state.loss_waiters.push(done),
        }
    }

    /// The volume durable LSN.
    pub fn vdl(&self) -> Lsn {
        Lsn(self.vdl.load(Ordering::Acquire))
    }

    /// Every position.
    pub fn positions(&self) -> VolumePositions {
        self.state.lock().core.positions()
    }

    /// Keeps the horizon at or below VDL-now until the guard is dropped.
    pub fn read_point(self: &Arc<Self>) -> Result<ReadPoint, VolumeLost> {
        let mut state = self.state.lock();
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let lsn = self.vdl();
        *state.reads.entry(lsn).or_default() += 1;
        state.update_needed();
        Ok(ReadPoint { writer: self.clone(), lsn })
    }

    /// The volume is lost: everybody who waits hears of it.
    pub fn lose(&self, lost: VolumeLost) {
        let mut state = self.state.lock();
        if state.lost.is_some() {
            return;
        }
        tracing::info!(reason = %lost, "the volume is no longer written by this process");
        state.lost = Some(lost.clone());
        let waiters = std::mem::take(&mut state.waiters);
        let room = std::mem::take(&mut state.room_waiters);
        let losses = std::mem::take(&mut state.loss_waiters);
        drop(state);
        waiters.into_values().flatten().chain(room).for_each(|done| done(Err(lost.clone())));
        losses.into_iter().for_each(|done| done(lost.clone()));
        self.wake_senders();
    }

    /// Whether the volume is lost.
    pub fn is_lost(&self) -> bool {
        self.state.lock().lost.is_some()
    }

    /// Each replica's state, for status.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        let state = self.state.lock();
        let status = |(slot, member): (usize, &Member)| ReplicaStatus {
            node: member.node.0.clone(),
            zone: member.zone.clone(),
            connected: self.connected[slot].load(Ordering::Relaxed),
            scl: state.scls[slot],
            refusal: state.refusals[slot].clone(),
        };
        self.membership.members.iter().enumerate().map(status).collect()
    }

    /// Notes whether a replica is connected.
    pub fn set_connected(&self, slot: Slot, connected: bool) {
        self.connected[usize::from(slot.0)].store(connected, Ordering::Relaxed);
        self.state.lock().taken[usize::from(slot.0)] = if connected { Lsn::ZERO } else { NOTHING_KEPT };
    }

    /// Waits until there may be something to send to a replica.
    pub async fn wait_for_batches(&self, slot: Slot) {
        self.wake[usize::from(slot.0)].notified().await;
    }

    /// What a replica that was sent everything up to `sent` is to get next, at most about `max_bytes`.
    ///
    /// Only as many replicas as a write quorum needs are told that somebody waits. The others sync a few milliseconds
    /// later, with company; that is also how long a commit is late when one of the first does not answer.
    pub fn take(&self, slot: Slot, sent: Lsn, max_bytes: usize) -> Outbox {
        let mut state = self.state.lock();
        state.seal();
        let first = state.batches.partition_point(|batch| batch.last <= sent);
        let mut bytes = 0;
        let fits = |batch: &&Batch| {
            let room = bytes == 0 || bytes + batch.bytes.len() <= max_bytes;
            bytes += batch.bytes.len();
            room
        };
        let batches: Vec<Batch> = state.batches.range(first..).take_while(fits).cloned().collect();
        state.taken[usize::from(slot.0)] = batches.last().map_or(sent, |batch| batch.last);
        let urgent = state.urgent > self.vdl() && !self.is_spare(&state, slot);
        Outbox { batches, told: state.core.told(), urgent }
    }

    /// Whether there is something to send to a replica that nobody waits for: it can wait for company.
    pub fn may_wait(&self, slot: Slot, sent: Lsn) -> bool {
        let state = self.state.lock();
        let news = !state.open.is_empty() || state.batches.back().is_some_and(|batch| batch.last > sent);
        news && self.is_spare(&state, slot)
    }

    /// Whether a write quorum of replicas that answer stands before this one.
    fn is_spare(&self, state: &State, slot: Slot) -> bool {
        let vdl = self.vdl();
        let answers = |slot: usize| {
            let behind = state.scls[slot] < vdl && state.acked_at[slot].elapsed() > SILENCE;
            self.connected[slot].load(Ordering::Relaxed) && state.refusals[slot].is_none() && !behind
        };
        let own = usize::from(slot.0);
        let before = (0..own).filter(|slot| answers(*slot)).count();
        before >= usize::from(self.membership.profile.write_quorum) && answers(own)
    }

    /// A replica has acknowledged.
    pub fn acked(&self, slot: Slot, acked: &Acked, sent_at_ms: u64) {
        let now = self.now();
        let mut state = self.state.lock();
        state.refusals[usize::from(slot.0)] = None;
        state.scls[usize::from(slot.0)] = acked.scl;
        state.acked_at[usize::from(slot.0)] = Instant::now();
        let progress = state.core.acked(now, slot, acked, sent_at_ms);
        let room = state.take_room_waiters(now);
        if !progress.vcl_rose && !progress.vdl_rose {
            drop(state);
            return room.into_iter().for_each(|done| done(Ok(())));
        }
        let positions = state.core.positions();
        state.drop_batches(positions.vcl);
        self.vdl.store(positions.vdl.0, Ordering::Release);
        state.update_needed();
        let later = state.waiters.split_off(&positions.vdl.plus(1));
        let reached = std::mem::replace(&mut state.waiters, later);
        drop(state);
        reached.into_values().flatten().chain(room).for_each(|done| done(Ok(())));
    }

    /// A replica has refused. A newer epoch loses the volume.
    pub fn refused(&self, slot: Slot, refusal: &Refusal) {
        let mut state = self.state.lock();
        let fenced = state.core.refused(slot, refusal);
        let words = describe_refusal(refusal);
        let known = &mut state.refusals[usize::from(slot.0)];
        let changed = known.as_ref() != Some(&words);
        *known = Some(words.clone());
        drop(state);
        if changed {
            tracing::warn!(slot = slot.0, refusal = %words, "a replica refuses");
        }
        if let Some(by) = fenced {
            self.lose(VolumeLost::Fenced { by, own: self.epoch });
        }
    }

    fn wake_senders(&self) {
        self.wake_all.notify_one();
    }

    /// Passes wake-ups on to the senders.
    pub async fn run_waker(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake_all.notified() => self.wake.iter().for_each(Notify::notify_one),
            }
        }
    }

    /// Sends what nobody waits for after a short while, and logs the time when nothing else is logged.
    pub async fn run_sealer(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = self.seal_what_lingers().unwrap_or(HEARTBEAT);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.opened.notified() => {}
                () = tokio::time::sleep(pause) => self.heartbeat(),
            }
        }
    }

    /// Sends a batch that has been open for long enough. Returns when to look again; `None` once nothing was appended
    /// for a while: then [`WriterShared::opened`] tells of the next record. While records keep coming it does not, as
    /// that would wake another thread for every commit.
    fn seal_what_lingers(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        if state.open.is_empty() {
            state.sealer_rests = state.last_append.elapsed() >= LINGER;
            return (!state.sealer_rests).then_some(LINGER);
        }
        let left = LINGER.saturating_sub(state.opened_at.elapsed());
        if left > Duration::ZERO {
            return Some(left);
        }
        drop(state);
        self.wake_senders();
        Some(LINGER)
    }

    fn heartbeat(&self) {
        if self.state.lock().last_append.elapsed() >= HEARTBEAT {
            // Refused at the allocation limit or when lost: then there is nothing to mark the time of.
            let _ = self.append(&[NewRecord { codec: CODEC_NONE, payload: &[], groups: &[] }]);
        }
    }
}

impl State {
    fn place(
        &mut self,
        epoch: Epoch,
        now: Now,
        record: &NewRecord<'_>,
        len: u32,
        consistency_point: bool,
    ) -> Result<Lsn, AppendRefused> {
        let placement = self.core.place(now, len, consistency_point).map_err(|refused| match refused {
            PlaceRefused::Fenced { by } => VolumeLost::Fenced { by, own: epoch }.into(),
            _ => AppendRefused::AtAllocationLimit,
        })?;
        let lsn = placement.start.plus(u64::from(len));
        let mut links = Vec::new();
        self.core.link_groups(record.groups, lsn, &mut links);
        let flags = if consistency_point { FLAG_CONSISTENCY_POINT } else { 0 };
        RecordBuilder {
            flags,
            codec: record.codec,
            epoch: placement.epoch,
            start: placement.start,
            prev: placement.prev,
            stamp_us: placement.stamp_us,
            groups: &links,
            payload: record.payload,
        }
        .encode(&mut self.open);
        Ok(lsn)
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            let bytes = self.open.split().freeze();
            self.batch_bytes += bytes.len();
            self.batches.push_back(Batch { last: self.open_last, bytes });
        }
    }

    /// Lets go of batches that a write quorum has and that every connected replica was sent, or that are too much.
    fn drop_batches(&mut self, vcl: Lsn) {
        let taken = self.taken.iter().min().copied().unwrap_or(NOTHING_KEPT);
        while let Some(batch) = self.batches.front().filter(|batch| batch.last <= vcl) {
            if batch.last > taken && self.batch_bytes <= KEPT_BYTES {
                return;
            }
            self.batch_bytes -= batch.bytes.len();
            self.batches.pop_front();
        }
    }

    fn update_needed(&mut self) {
        self.core.set_needed(self.reads.keys().next().copied());
    }

    /// Whether records of so many bytes would get a place now: there is room, and the lease runs.
    fn is_writable(&self, now: Now, bytes: u64) -> bool {
        self.core.has_room(bytes) && now.monotonic_ms < self.core.lease_until_ms()
    }

    fn take_room_waiters(&mut self, now: Now) -> Vec<Done<Result<(), VolumeLost>>> {
        if self.room_waiters.is_empty() || !self.is_writable(now, WORTH_WAKING) {
            return Vec::new();
        }
        std::mem::take(&mut self.room_waiters)
    }
}

/// A position that a read is under way at.
pub struct ReadPoint {
    writer: Arc<WriterShared>,
    /// The position.
    pub lsn: Lsn,
}

impl Drop for ReadPoint {
    fn drop(&mut self) {
        let mut state = self.writer.state.lock();
        if let Some(count) = state.reads.get_mut(&self.lsn) {
            *count -= 1;
            if *count == 0 {
                state.reads.remove(&self.lsn);
                state.update_needed();
            }
        }
    }
}

fn encoded_len(record: &NewRecord<'_>) -> usize {
    RecordBuilder::encoded_len(record.groups.len(), record.payload.iter().map(|piece| piece.len()).sum())
}

fn describe_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::StaleEpoch(stale) => format!("it promised epoch {}", stale.promised),
        Refusal::LeaseHeld(held) => format!("the old writer's lease runs for {} ms more", held.remaining_ms),
        Refusal::ClockAhead(ahead) => {
            format!("this host's clock is {} ms ahead of its own: set the clocks", ahead.ahead_us / 1000)
        }
        Refusal::NoVolume(_) => "it does not keep the volume".to_owned(),
        Refusal::OtherIncarnation(other) => {
            format!("its disk was wiped or replaced (incarnation {}): it has to be repaired", other.own)
        }
        Refusal::Invalid(reason) => reason.text.clone(),
        Refusal::Stopped(stopped) => stopped.reason.text.clone(),
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]
mod tests;

//! The writer of a volume, as a pure state machine: where records go, and what is durable.
//!
//! It hands out places in the log, counts acknowledgements of its epoch, and says how far the log is complete (VCL)
//! and durable (VDL). It keeps no records: its driver sends them and keeps each until VCL has passed it. A refusal
//! with a newer epoch fences it for good. An acknowledgement may be lost, late or repeated: positions only rise.

mod clock;
mod links;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use zorya_types::planted::{PlantedBug, is_planted};
use zorya_types::{Epoch, GroupId, Lsn, Profile, Slot, VolumePositions};
use zorya_wire::GroupLink;
use zorya_wire::message::log::{Acked, Refusal, Told};

use crate::Now;
use crate::opening::Opened;

use clock::ReplicaClocks;
use links::GroupTails;

/// The writer's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterConfig {
    /// How far the log may run ahead of VDL, in bytes: the back pressure. One value for a volume's whole life, since an
    /// opening relies on it.
    pub allocation_limit: u64,
    /// How long the lease runs after a write quorum was last heard, in milliseconds.
    pub lease_ms: u64,
    /// How far a record's stamp may be ahead of the replicas' median clock, in microseconds.
    pub max_ahead_us: u64,
    /// How much log is kept for replicas that are behind, in bytes, although a write quorum no longer needs it.
    pub retain_bytes: u64,
}

impl Default for WriterConfig {
    fn default() -> Self {
        WriterConfig {
            allocation_limit: 32 << 20,
            lease_ms: 2_000,
            // Half of what a replica accepts, so that one whose clock is below the median accepts it too.
            max_ahead_us: 500_000,
            retain_bytes: 1 << 30,
        }
    }
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where it starts.
    pub start: Lsn,
    /// The LSN of the record before it.
    pub prev: Lsn,
    /// Its stamp, microseconds since 1970.
    pub stamp_us: u64,
    /// The writer's epoch.
    pub epoch: Epoch,
}

/// Why a record got no place. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceRefused {
    /// Storage cannot keep up: try again when VDL has risen.
    #[error("the log is at its allocation limit: wait until VDL rises")]
    AtAllocationLimit,
    /// No write quorum was heard for as long as the lease runs: try again when one is.
    #[error("no write quorum was heard for the length of the lease: wait until one is")]
    LeaseExpired,
    /// Another writer opened the volume.
    #[error("fenced by epoch {by}: open the volume anew")]
    Fenced {
        /// The epoch that replaced this one.
        by: Epoch,
    },
}

/// What an acknowledgement moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Batches up to VCL need not be kept any more.
    pub vcl_rose: bool,
    /// Waits up to VDL are over, and there is room.
    pub vdl_rose: bool,
}

/// What a replica acknowledged in this epoch.
#[derive(Clone, Copy, Debug, Default)]
struct SlotView {
    scl: Lsn,
    persisted: Lsn,
    /// When the newest request that renewed the lease was sent, in monotonic milliseconds.
    heard_ms: u64,
}

/// The writer of one volume in one epoch.
#[derive(Debug)]
pub struct Writer {
    config: WriterConfig,
    profile: Profile,
    epoch: Epoch,
    /// Where the epoch's first record starts.
    first: Lsn,
    /// The LSN of the last placed record, or the cut.
    last: Lsn,
    vcl: Lsn,
    vdl: Lsn,
    /// Consistency points that were placed above VCL, in order.
    points: VecDeque<Lsn>,
    /// The last placed record is a consistency point.
    at_point: bool,
    slots: Vec<SlotView>,
    stamp_us: u64,
    clocks: ReplicaClocks,
    tails: GroupTails,
    /// The lowest open read point; `None` while nobody reads in the past.
    needed: Option<Lsn>,
    gc: Lsn,
    trim: Lsn,
    fenced: Option<Epoch>,
}

impl Writer {
    /// The writer of a volume that was just opened.
    #[must_use]
    pub fn new(opened: &Opened, config: WriterConfig, _now: Now) -> Writer {
        let replicas = opened.membership.members.len();
        let heard = SlotView { heard_ms: opened.lease_from_ms, ..SlotView::default() };
        let mut slots = vec![heard; replicas];
        for (slot, scl) in &opened.scls {
            if let Some(view) = slots.get_mut(usize::from(slot.0)) {
                view.scl = (*scl).min(opened.cut);
            }
        }
        Writer {
            config,
            profile: opened.membership.profile.clone(),
            epoch: opened.epoch,
            first: opened.first,
            last: opened.cut,
            vcl: opened.cut,
            vdl: opened.cut,
            points: VecDeque::new(),
            at_point: true,
            slots,
            stamp_us: opened.stamp_us,
            clocks: ReplicaClocks::new(replicas),
            tails: GroupTails::default(),
            needed: None,
            gc: opened.told.gc.min(opened.cut),
            trim: opened.told.trim.min(opened.cut),
            fenced: None,
        }
    }

    /// Finds the place of a record of `len` encoded bytes.
    ///
    /// Until a write quorum's clocks are known, records carry the stamp of the log's last one: an append without
    /// records, sent first, makes them known.
    ///
    /// # Errors
    /// [`PlaceRefused`]; a record inside a batch is never refused for want of room (see [`Writer::has_room`]).
    pub fn place(&mut self, now: Now, len: u32, consistency_point: bool) -> Result<Placement, PlaceRefused> {
        if let Some(by) = self.fenced {
            return Err(PlaceRefused::Fenced { by });
        }
        if self.at_point && now.monotonic_ms >= self.lease_until_ms() {
            return Err(PlaceRefused::LeaseExpired);
        }
        if !self.has_room(u64::from(len)) {
            return Err(PlaceRefused::AtAllocationLimit);
        }
        if let Some(median_us) = self.clocks.median_us(now, self.profile.write_quorum) {
            let latest = median_us.saturating_add(self.config.max_ahead_us);
            self.stamp_us = self.stamp_us.max(now.clock_us.min(latest));
        }
        let start = self.next_start();
        let placement = Placement { start, prev: self.last, stamp_us: self.stamp_us, epoch: self.epoch };
        self.last = start.plus(u64::from(len));
        self.at_point = consistency_point;
        if consistency_point {
            self.points.push_back(self.last);
        }
        debug_assert_eq!(self.positions().validate(), Ok(()));
        Ok(placement)
    }

    /// Whether records of so many bytes together fit below the allocation limit: asked before the first record of a
    /// batch, so that a batch is never left half placed.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.next_start().plus(bytes) <= self.vdl.max(self.first).plus(self.config.allocation_limit)
    }

    fn next_start(&self) -> Lsn {
        self.last.max(self.first)
    }

    /// Links a record at `lsn` into the groups that it touches: appends a link for each to `out`.
    pub fn link_groups(&mut self, groups: &[GroupId], lsn: Lsn, out: &mut Vec<GroupLink>) {
        self.tails.link(groups, lsn, out);
    }

    /// The last record of every group at the cut, as the pages know it.
    pub fn set_tails(&mut self, tails: Vec<(GroupId, Lsn)>) {
        self.tails.set(tails);
    }

    /// Takes in a replica's acknowledgement. `sent_at_ms` is when the request that it answers, or an earlier one, was
    /// sent, in monotonic milliseconds.
    pub fn acked(&mut self, now: Now, slot: Slot, acked: &Acked, sent_at_ms: u64) -> Progress {
        let last = self.last;
        let Some(view) = self.slots.get_mut(usize::from(slot.0)).filter(|_| acked.epoch == self.epoch) else {
            return Progress::default();
        };
        view.scl = view.scl.max(acked.scl.min(last));
        view.persisted = view.persisted.max(acked.persisted);
        if acked.renewed {
            view.heard_ms = view.heard_ms.max(sent_at_ms);
        }
        self.clocks.note(now, slot, acked.clock_us);
        let progress = self.raise();
        self.raise_trim();
        debug_assert_eq!(self.positions().validate(), Ok(()));
        progress
    }

    fn raise(&mut self) -> Progress {
        let (vcl, vdl) = (self.vcl, self.vdl);
        self.vcl = self.vcl.max(self.on_quorum(|view| view.scl));
        let covered = self.points.partition_point(|point| *point <= self.vcl);
        self.vdl = self.points.drain(..covered).next_back().unwrap_or(self.vdl);
        self.raise_gc();
        Progress { vcl_rose: self.vcl > vcl, vdl_rose: self.vdl > vdl }
    }

    /// The highest value that a write quorum of replicas has reached.
    fn on_quorum<T: Ord + Copy>(&self, what: impl Fn(&SlotView) -> T) -> T {
        let mut values: Vec<T> = self.slots.iter().map(what).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        let mut quorum = usize::from(self.profile.write_quorum);
        if is_planted(PlantedBug::AckAtThree) && self.profile.replicas == 6 {
            quorum = 3;
        }
        values[quorum - 1]
    }

    /// Trim is what is in layers on a write quorum; what a slower replica still lacks is kept within `retain_bytes`.
    fn raise_trim(&mut self) {
        let everywhere = self.slots.iter().map(|view| view.persisted).min().unwrap_or_default();
        let beyond = Lsn(self.vdl.0.saturating_sub(self.config.retain_bytes));
        let trim = self.on_quorum(|view| view.persisted).min(everywhere.max(beyond)).min(self.vdl);
        self.trim = self.trim.max(trim);
    }

    fn raise_gc(&mut self) {
        let needed = self.needed.unwrap_or(self.vdl).min(self.vdl);
        self.gc = self.gc.max(needed);
    }

    /// Says which position is the lowest that somebody reads at; `None` if nobody reads in the past. A position that
    /// is below what was released earlier cannot be had back.
    pub fn set_needed(&mut self, lowest: Option<Lsn>) {
        self.needed = lowest;
        self.raise_gc();
    }

    /// Takes in a refusal. The newer epoch, if it fences this writer: nothing will be acknowledged any more.
    pub fn refused(&mut self, _slot: Slot, refusal: &Refusal) -> Option<Epoch> {
        if let Refusal::StaleEpoch(stale) = refusal
            && stale.promised > self.epoch
        {
            self.fenced = self.fenced.max(Some(stale.promised));
        }
        self.fenced
    }

    /// What replicas are to be told.
    #[must_use]
    pub fn told(&self) -> Told {
        Told { vdl: self.vdl, gc: self.gc, trim: self.trim }
    }

    /// Every position. Before the first record of an epoch is durable, the stretch that the opening annulled counts as
    /// part of the limit.
    #[must_use]
    pub fn positions(&self) -> VolumePositions {
        VolumePositions {
            trim: self.trim,
            archived: None,
            gc: self.gc,
            needed: self.needed.unwrap_or(self.vdl).clamp(self.gc, self.vdl),
            vdl: self.vdl,
            vcl: self.vcl,
            allocated: self.last,
            allocation_limit: self.config.allocation_limit + self.first.since(self.vdl),
        }
    }

    /// Until when the lease runs, in monotonic milliseconds: as long after a write quorum was last spoken to as
    /// replicas refuse to be promised to another.
    #[must_use]
    pub fn lease_until_ms(&self) -> u64 {
        self.on_quorum(|view| view.heard_ms) + self.config.lease_ms
    }

    /// The writer's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The epoch that fenced it, if one did.
    #[must_use]
    pub fn fenced(&self) -> Option<Epoch> {
        self.fenced
    }

    /// How far a replica acknowledged in this epoch.
    #[must_use]
    pub fn scl_of(&self, slot: Slot) -> Lsn {
        self.slots.get(usize::from(slot.0)).map_or(Lsn::ZERO, |view| view.scl)
    }
}

//! Small pieces for the core's tests: memberships, records, a time.

use bytes::{Bytes, BytesMut};
use zorya_types::{
    Annulled, Epoch, Incarnation, LogId, Lsn, Member, Membership, NodeId, Profile, Slot, Truncation, VolumeId,
};
use zorya_wire::RecordBuilder;
use zorya_wire::record::{CODEC_NONE, FLAG_CONSISTENCY_POINT};

use crate::Now;
use crate::replica::ReplicaConfig;

pub(crate) const VOLUME: VolumeId = VolumeId(7);
pub(crate) const LIMIT: u64 = 1_000;
/// The clock at time 0.
pub(crate) const CLOCK_US: u64 = 1_000_000_000;

pub(crate) fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, clock_us: CLOCK_US + monotonic_ms * 1_000 }
}

pub(crate) fn membership(profile: &str) -> Membership {
    let profile = Profile::named(profile).unwrap();
    let member = |index: u8| Member {
        node: NodeId(format!("node-{index}")),
        incarnation: Incarnation(u64::from(index) + 1),
        zone: "zone".to_owned(),
        address: "address".to_owned(),
    };
    Membership { generation: 1, members: (0..profile.replicas).map(member).collect(), profile }
}

pub(crate) fn config(slot: u8) -> ReplicaConfig {
    ReplicaConfig::new(VOLUME, LogId(1), Slot(slot), Incarnation(u64::from(slot) + 1), membership("6/3az"))
}

/// The truncation of the stretches (epoch, cut, first).
pub(crate) fn truncation(stretches: &[(u64, u64, u64)]) -> Truncation {
    let annulled = |(epoch, cut, first): &(u64, u64, u64)| Annulled {
        epoch: Epoch(*epoch),
        cut: Lsn(*cut),
        first: Lsn(*first),
    };
    Truncation::from_history(stretches.iter().map(annulled).collect()).unwrap()
}

/// Encodes records one after another.
pub(crate) struct Tape {
    epoch: u64,
    start: u64,
    prev: u64,
    pub stamp_us: u64,
    out: BytesMut,
}

impl Tape {
    /// Starts with the first record of an epoch.
    pub fn new(epoch: u64, cut: u64, first: u64) -> Tape {
        Tape { epoch, start: first, prev: cut, stamp_us: CLOCK_US, out: BytesMut::new() }
    }

    /// Appends a record of `len` bytes in all.
    pub fn record(&mut self, len: usize, point: bool) -> &mut Tape {
        let payload = vec![self.epoch as u8; len - RecordBuilder::encoded_len(0, 0)];
        let lsn = RecordBuilder {
            flags: if point { FLAG_CONSISTENCY_POINT } else { 0 },
            codec: CODEC_NONE,
            epoch: Epoch(self.epoch),
            start: Lsn(self.start),
            prev: Lsn(self.prev),
            stamp_us: self.stamp_us,
            groups: &[],
            payload: &[&payload],
        }
        .encode(&mut self.out);
        (self.start, self.prev) = (lsn.0, lsn.0);
        self
    }

    /// The records since the last call.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// One batch of one record.
    pub fn batch(&mut self, len: usize) -> Bytes {
        self.record(len, true).take()
    }
}

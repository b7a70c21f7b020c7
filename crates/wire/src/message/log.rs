//! Messages of the quorum log: what a writer, an opener and a peer say to a segment's replica of the log.

use bytes::Bytes;
use zorya_types::{Epoch, Incarnation, Lsn, Membership, Slot, Truncation};

use crate::{encoded_enum, encoded_struct};

encoded_struct! {
    /// What the writer tells with every message to a replica.
    #[derive(Copy, Default)]
    pub struct Told {
        /// Everything up to here is durable; pages may be made of it.
        pub vdl: Lsn,
        /// Nobody will read below this.
        pub gc: Lsn,
        /// The log up to here may go.
        pub trim: Lsn,
    }
}

encoded_struct! {
    /// Appends a batch: contiguous records, the last a consistency point. Without records it renews the lease and
    /// tells positions. Answered by [`Acked`], possibly one for several appends.
    pub struct Append {
        /// The writer's epoch.
        pub epoch: Epoch,
        /// Which life of the disk the writer means.
        pub incarnation: Incarnation,
        /// Positions.
        pub told: Told,
        /// Somebody waits for this batch: sync now. Otherwise the replica may wait a few milliseconds for company.
        pub urgent: bool,
    }
}

encoded_struct! {
    /// Opening, phase (a): promise never to accept anything of an older epoch.
    pub struct Promise {
        /// The ballot.
        pub epoch: Epoch,
        /// Which life of the disk the opener means.
        pub incarnation: Incarnation,
        /// The old writer is known to be dead: its lease need not be waited out.
        pub reaped: bool,
    }
}

encoded_struct! {
    /// Opening, phase (c): accept where the log ends and the new epoch starts.
    pub struct Accept {
        /// The ballot.
        pub epoch: Epoch,
        /// Which life of the disk the opener means.
        pub incarnation: Incarnation,
        /// (epoch, cut, first) with the history that it honours.
        pub truncation: Truncation,
    }
}

encoded_struct! {
    /// Opening, phase (d): get the log up to the cut, from your peers, and answer when it is on disk.
    pub struct CatchUp {
        /// The ballot.
        pub epoch: Epoch,
        /// Which life of the disk the opener means.
        pub incarnation: Incarnation,
        /// The cut.
        pub upto: Lsn,
    }
}

encoded_struct! {
    /// Gossip: what I have; what have you? Sent by a replica to a peer.
    pub struct Digest {
        /// Who asks.
        pub slot: Slot,
        /// The asker's promised epoch.
        pub promised: Epoch,
        /// The asker's newest accepted truncation's epoch; 0 without one.
        pub truncation: Epoch,
        /// The asker's SCL, on disk.
        pub scl: Lsn,
        /// The highest position that the asker holds, gaps or not.
        pub highest: Lsn,
        /// What the asker was told.
        pub told: Told,
    }
}

encoded_struct! {
    /// Gossip: send me records after `have`.
    pub struct Fetch {
        /// Who asks.
        pub slot: Slot,
        /// The asker's newest accepted truncation's epoch.
        pub truncation: Epoch,
        /// Records with a higher LSN are wanted, contiguous from the first whose `prev` is this.
        pub have: Lsn,
        /// At most about so many bytes.
        pub max_bytes: u32,
    }
}

encoded_enum! {
    /// A request to a volume's log replica.
    pub enum RequestBody {
        /// See [`Append`].
        Append(Append) = 1,
        /// See [`Promise`].
        Promise(Promise) = 2,
        /// See [`Accept`].
        Accept(Accept) = 3,
        /// See [`CatchUp`].
        CatchUp(CatchUp) = 4,
        /// See [`Digest`].
        Digest(Digest) = 5,
        /// See [`Fetch`].
        Fetch(Fetch) = 6,
    }
}

encoded_struct! {
    /// Acknowledges everything up to `scl`, for one epoch only.
    pub struct Acked {
        /// The epoch that the acknowledgement counts in.
        pub epoch: Epoch,
        /// On this replica's disk, without a gap.
        pub scl: Lsn,
        /// In layers, over all of this node's page segments of the volume.
        pub persisted: Lsn,
        /// The append renewed the writer's lease here. It does not while another opener asks for a promise, so that the
        /// lease ends and the volume can change hands.
        pub renewed: bool,
        /// The replica's clock, microseconds since 1970.
        pub clock_us: u64,
    }
}

/// How far a replica vouches for the end of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tail {
    /// It ended where it was left: nothing acknowledged can be missing.
    Clean = 0,
    /// A bad frame ended it and nothing shows that the frame was acknowledged; nothing shows the contrary either.
    Torn = 1,
    /// Something acknowledged is missing. It vouches for what it has and counts in no read quorum until repaired.
    Damaged = 2,
}

impl crate::codec::Encoded for Tail {
    fn put(&self, out: &mut bytes::BytesMut) {
        crate::codec::Encoded::put(&(*self as u8), out);
    }
    fn get(reader: &mut crate::codec::Reader) -> Result<Self, crate::codec::Malformed> {
        Ok(match reader.u8("tail")? {
            0 => Tail::Clean,
            1 => Tail::Torn,
            2 => Tail::Damaged,
            value => return Err(crate::codec::Malformed::BadValue { field: "tail", value: value.into() }),
        })
    }
}

encoded_struct! {
    /// The promise, and what the replica has at the moment the promise is on disk.
    pub struct Promised {
        /// The ballot that was promised.
        pub epoch: Epoch,
        /// On disk without a gap.
        pub scl: Lsn,
        /// The highest consistency point at or below `scl`.
        pub consistency_point: Lsn,
        /// The stamp of the record at `consistency_point`, microseconds since 1970; 0 for the empty log.
        pub stamp_us: u64,
        /// The newest truncation that it accepted.
        pub truncation: Option<Truncation>,
        /// The membership that it knows.
        pub membership: Membership,
        /// How far it vouches for its end.
        pub tail: Tail,
        /// What it saw its peers acknowledge: SCLs by slot.
        pub seen: Vec<(Slot, Lsn)>,
        /// What it was told.
        pub told: Told,
    }
}

encoded_struct! {
    /// The truncation is on disk.
    pub struct Accepted {
        /// The ballot.
        pub epoch: Epoch,
    }
}

encoded_struct! {
    /// The log up to the cut is on disk.
    pub struct CaughtUp {
        /// The ballot.
        pub epoch: Epoch,
        /// On disk without a gap.
        pub scl: Lsn,
    }
}

encoded_struct! {
    /// Gossip's answer to a digest: the peer's own digest, and its truncation if that is newer than the asker's.
    pub struct DigestReply {
        /// The peer's own.
        pub own: Digest,
        /// Newer than the asker's.
        pub truncation: Option<Truncation>,
    }
}

encoded_struct! {
    /// Gossip's answer to a fetch: records, contiguous, the last a consistency point. Empty if there are none.
    pub struct Records {
        /// The truncation epoch under which the peer holds them; the asker takes them only under the same one.
        pub truncation: Epoch,
        /// The peer no longer has the log at `have`: it is trimmed; ask for layers.
        pub trimmed: bool,
    }
}

encoded_struct! {
    /// A newer epoch was promised: the sender is fenced.
    pub struct StaleEpoch {
        /// The epoch that was promised.
        pub promised: Epoch,
    }
}

encoded_struct! {
    /// The old writer's lease still runs.
    pub struct LeaseHeld {
        /// For so much longer, in milliseconds.
        pub remaining_ms: u64,
    }
}

encoded_struct! {
    /// The batch is stamped too far ahead of this replica's clock.
    pub struct ClockAhead {
        /// By so much, in microseconds.
        pub ahead_us: u64,
    }
}

encoded_struct! {
    /// A reason in words, for the operator.
    pub struct Reason {
        /// What happened and what to do.
        pub text: String,
    }
}

encoded_struct! {
    /// This node does not keep the volume.
    pub struct NoVolume {}
}

encoded_struct! {
    /// This disk is not the one that was admitted: it was wiped or replaced.
    pub struct OtherIncarnation {
        /// The disk's own.
        pub own: Incarnation,
    }
}

encoded_enum! {
    /// A replica's refusal.
    pub enum Refusal {
        /// See [`StaleEpoch`].
        StaleEpoch(StaleEpoch) = 1,
        /// See [`LeaseHeld`].
        LeaseHeld(LeaseHeld) = 2,
        /// See [`ClockAhead`].
        ClockAhead(ClockAhead) = 3,
        /// See [`NoVolume`].
        NoVolume(NoVolume) = 4,
        /// See [`OtherIncarnation`].
        OtherIncarnation(OtherIncarnation) = 5,
        /// The records are not what they should be (a bad link, a bad checksum, a missing consistency point).
        Invalid(Reason) = 6,
        /// The node cannot write: its disk failed or is full.
        Stopped(Stopped) = 7,
    }
}

encoded_struct! {
    /// The node's log cannot be written any more, or not now.
    pub struct Stopped {
        /// What happened and what to do.
        pub reason: Reason,
        /// The disk is full: it may go on once there is room.
        pub full: bool,
    }
}

encoded_enum! {
    /// A replica's answer.
    pub enum ResponseBody {
        /// See [`Acked`].
        Acked(Acked) = 1,
        /// See [`Promised`].
        Promised(Promised) = 2,
        /// See [`Accepted`].
        Accepted(Accepted) = 3,
        /// See [`CaughtUp`].
        CaughtUp(CaughtUp) = 4,
        /// See [`DigestReply`].
        Digest(DigestReply) = 5,
        /// See [`Records`].
        Records(Records) = 6,
        /// See [`Refusal`].
        Refused(Refusal) = 7,
    }
}

/// A request with the records that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// The request.
    pub body: RequestBody,
    /// Encoded records ([`crate::record`]), of an append.
    pub records: Bytes,
}

/// An answer with the records that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogResponse {
    /// The answer.
    pub body: ResponseBody,
    /// Encoded records, of an answer to a fetch.
    pub records: Bytes,
}

macro_rules! with_records {
    ($name:ident, $body:ident) => {
        impl $name {
            /// The records that follow.
            #[must_use]
            pub fn records(&self) -> Bytes {
                self.records.clone()
            }

            /// The same message with these records after it.
            #[must_use]
            pub fn with_records(mut self, records: Bytes) -> Self {
                self.records = records;
                self
            }
        }

        impl<T: Into<$body>> From<T> for $name {
            fn from(body: T) -> Self {
                $name { body: body.into(), records: Bytes::new() }
            }
        }

        impl crate::codec::Encoded for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                self.body.put(out);
            }
            fn get(reader: &mut crate::codec::Reader) -> Result<Self, crate::codec::Malformed> {
                Ok($name { body: $body::get(reader)?, records: Bytes::new() })
            }
        }
    };
}

with_records!(LogRequest, RequestBody);
with_records!(LogResponse, ResponseBody);

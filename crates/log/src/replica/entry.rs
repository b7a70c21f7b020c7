//! What a replica puts on disk. Drawn in `docs/formats/replica-entry.md`.

use bytes::{Bytes, BytesMut};
use zorya_types::{Epoch, Truncation};
use zorya_wire::codec::Encoded;
use zorya_wire::message::log::{Tail, Told};
use zorya_wire::{Malformed, Reader};

/// One entry of a replica, in the order in which it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Records: whole batches, each linked to the one before it.
    Batch {
        /// The encoded records.
        records: Bytes,
        /// What the replica had been told.
        told: Told,
    },
    /// Nothing older than the epoch is accepted any more.
    Promise {
        /// The ballot.
        epoch: Epoch,
    },
    /// The truncation was accepted, and with it its epoch promised.
    Accept {
        /// The truncation, which replaces older ones.
        truncation: Truncation,
    },
    /// What the replica had been told, so that an idle volume's restart knows its VDL.
    Told {
        /// The positions.
        told: Told,
    },
    /// How far the replica vouches for its end, when a restart or a repair changed that.
    Vouch {
        /// The state of its end.
        tail: Tail,
    },
    /// Everything but records: entries other than batches that are older may go.
    Snapshot(HardState),
}

/// What a replica must never forget, beside its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardState {
    /// Nothing older is accepted.
    pub promised: Epoch,
    /// The newest accepted truncation; `None` before the volume's first opening.
    pub truncation: Option<Truncation>,
    /// The positions that it was told.
    pub told: Told,
    /// How far it vouches for its end.
    pub tail: Tail,
    /// The highest stamp that it ever stored, microseconds since 1970: the records that have it may be released.
    pub stamp_us: u64,
}

impl Default for HardState {
    fn default() -> Self {
        HardState {
            promised: Epoch(0),
            truncation: None,
            told: Told::default(),
            tail: Tail::Clean,
            stamp_us: 0,
        }
    }
}

const KIND_BATCH: u8 = 1;
const KIND_PROMISE: u8 = 2;
const KIND_ACCEPT: u8 = 3;
const KIND_TOLD: u8 = 4;
const KIND_VOUCH: u8 = 5;
const KIND_SNAPSHOT: u8 = 6;

impl Entry {
    /// Bytes of a batch's payload before its records; a [`super::Piece`] counts from after them.
    pub const BATCH_HEADER_LEN: u32 = 24;

    /// The number that says how to read the payload.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Entry::Batch { .. } => KIND_BATCH,
            Entry::Promise { .. } => KIND_PROMISE,
            Entry::Accept { .. } => KIND_ACCEPT,
            Entry::Told { .. } => KIND_TOLD,
            Entry::Vouch { .. } => KIND_VOUCH,
            Entry::Snapshot(_) => KIND_SNAPSHOT,
        }
    }

    /// The payload in pieces; a batch's records are shared, not copied.
    #[must_use]
    pub fn payload(&self) -> Vec<Bytes> {
        let mut head = BytesMut::new();
        match self {
            Entry::Batch { records, told } => {
                told.put(&mut head);
                return vec![head.freeze(), records.clone()];
            }
            Entry::Promise { epoch } => epoch.put(&mut head),
            Entry::Accept { truncation } => truncation.put(&mut head),
            Entry::Told { told } => told.put(&mut head),
            Entry::Vouch { tail } => tail.put(&mut head),
            Entry::Snapshot(state) => {
                state.promised.put(&mut head);
                state.truncation.put(&mut head);
                state.told.put(&mut head);
                state.tail.put(&mut head);
                state.stamp_us.put(&mut head);
            }
        }
        vec![head.freeze()]
    }

    /// Kind and payload in one buffer.
    #[must_use]
    pub fn encode(&self) -> (u8, Bytes) {
        (self.kind(), Bytes::from(self.payload().concat()))
    }

    /// Reads a payload of that kind.
    ///
    /// # Errors
    /// [`Malformed`] if the kind is unknown or the payload is not what it promises.
    pub fn decode(kind: u8, payload: Bytes) -> Result<Entry, Malformed> {
        let mut reader = Reader::new(payload);
        let entry = match kind {
            KIND_BATCH => {
                let told = Told::get(&mut reader)?;
                Entry::Batch { records: reader.take(reader.remaining(), "records")?, told }
            }
            KIND_PROMISE => Entry::Promise { epoch: Epoch::get(&mut reader)? },
            KIND_ACCEPT => Entry::Accept { truncation: Truncation::get(&mut reader)? },
            KIND_TOLD => Entry::Told { told: Told::get(&mut reader)? },
            KIND_VOUCH => Entry::Vouch { tail: Tail::get(&mut reader)? },
            KIND_SNAPSHOT => Entry::Snapshot(HardState {
                promised: Epoch::get(&mut reader)?,
                truncation: Option::get(&mut reader)?,
                told: Told::get(&mut reader)?,
                tail: Tail::get(&mut reader)?,
                stamp_us: u64::get(&mut reader)?,
            }),
            kind => return Err(Malformed::BadValue { field: "entry kind", value: kind.into() }),
        };
        reader.finish()?;
        Ok(entry)
    }
}

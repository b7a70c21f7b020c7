//! Messages of the page segments: reads of (epoch, key, LSN, lineage).

use bytes::Bytes;
use zorya_types::{Epoch, GroupId, Key, Lineage, Lsn};

use super::log::{NoVolume, Reason, StaleEpoch};
use crate::{encoded_enum, encoded_struct};

encoded_struct! {
    /// What every read names.
    pub struct ReadAt {
        /// The reader's epoch; an older one than promised is refused.
        pub epoch: Epoch,
        /// As of this position, which the reader knows to be durable.
        pub lsn: Lsn,
        /// In this history.
        pub lineage: Lineage,
    }
}

encoded_struct! {
    /// Reads the newest versions of keys at or below a position.
    pub struct Read {
        /// When and in which history.
        pub at: ReadAt,
        /// Which keys, each with the group that holds it. At most 128.
        pub keys: Vec<(GroupId, Key)>,
    }
}

encoded_struct! {
    /// Reads the entries of a key range in order.
    pub struct Scan {
        /// When and in which history.
        pub at: ReadAt,
        /// Which group.
        pub group: GroupId,
        /// Inclusive.
        pub from: Key,
        /// Exclusive.
        pub to: Key,
        /// At most about so many bytes; the rest by another scan.
        pub max_bytes: u32,
    }
}

encoded_struct! {
    /// Asks for the LSN of the last record of every group at or below a position: where an opened volume's
    /// per-group links go on.
    pub struct GroupTails {
        /// When and in which history.
        pub at: ReadAt,
    }
}

encoded_enum! {
    /// A request to a volume's page segments on a node.
    pub enum PagesRequest {
        /// See [`Read`].
        Read(Read) = 1,
        /// See [`Scan`].
        Scan(Scan) = 2,
        /// See [`GroupTails`].
        GroupTails(GroupTails) = 3,
    }
}

encoded_struct! {
    /// The values, in the order of the keys: `None` where the key does not exist (a block: all zeroes).
    pub struct Values {
        /// By key.
        pub values: Vec<Option<Bytes>>,
    }
}

encoded_struct! {
    /// Entries of a range, in order.
    pub struct Entries {
        /// Keys and values.
        pub entries: Vec<(Key, Bytes)>,
        /// Where to go on; `None` at the end of the range.
        pub next: Option<Key>,
    }
}

encoded_struct! {
    /// The last record of every group.
    pub struct Tails {
        /// By group.
        pub tails: Vec<(GroupId, Lsn)>,
    }
}

encoded_struct! {
    /// Versions that old are gone.
    pub struct BelowHorizon {
        /// The lowest position that can be read.
        pub gc: Lsn,
    }
}

encoded_struct! {
    /// This segment has not got so far, and did not within its patience. Ask another replica.
    pub struct NotApplied {
        /// How far it has got.
        pub applied: Lsn,
    }
}

encoded_enum! {
    /// Why a read was not answered: never zeroes instead.
    pub enum ReadRefused {
        /// See [`StaleEpoch`].
        StaleEpoch(StaleEpoch) = 1,
        /// See [`BelowHorizon`].
        BelowHorizon(BelowHorizon) = 2,
        /// See [`NotApplied`].
        NotApplied(NotApplied) = 3,
        /// See [`NoVolume`].
        NoVolume(NoVolume) = 4,
        /// A layer is damaged, or a block cannot be derived. Ask another replica.
        Unreadable(Reason) = 5,
    }
}

encoded_enum! {
    /// A page segment's answer.
    pub enum PagesResponse {
        /// See [`Values`].
        Values(Values) = 1,
        /// See [`Entries`].
        Entries(Entries) = 2,
        /// See [`Tails`].
        Tails(Tails) = 3,
        /// See [`ReadRefused`].
        Refused(ReadRefused) = 4,
    }
}

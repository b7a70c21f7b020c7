//! Identities and the log position.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A position in a volume's log, in bytes. Monotonic, never reused.
    ///
    /// A record occupies `(start, lsn]`, where `lsn - start` is its encoded length; *the LSN of a record is its
    /// end*. "Durable up to L" therefore means that every record with `lsn <= L` is durable. 0 is the empty log.
    Lsn(u64)
);
number!(
    /// The ballot of a volume's writer. Raised by opening the volume; an older epoch is refused by every segment.
    Epoch(u64)
);
number!(
    /// One history of a volume. Crash truncation keeps it; backtrack, clone and restore take a new one.
    LogId(u32)
);
number!(
    /// A protection group: up to 10 GiB of a volume's blocks, kept by six page segments. 0 holds the namespace.
    GroupId(u32)
);
number!(
    /// A place in a volume's membership, `0..replicas`.
    Slot(u8)
);
number!(
    /// One life of a storage node's disk, drawn at random when the disk is first used. A wiped disk gets a new one
    /// and never votes for what the old one had promised.
    Incarnation(u64)
);

impl Lsn {
    /// The position before the first record.
    pub const ZERO: Lsn = Lsn(0);
    /// A position above every record.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position `bytes` after this one, saturating.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// How many bytes this position is ahead of `earlier`; 0 if it is behind.
    #[must_use]
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Epoch {
    /// The next ballot.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// A volume: the storage of one cluster. Printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(pub u128);

/// A storage node. Chosen when its disk is first used, printed as its configured name, such as `az1-a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

/// One replica of one protection group's pages, or (without a group) of the volume's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The volume.
    pub volume: VolumeId,
    /// The protection group.
    pub group: GroupId,
    /// Which of the replicas.
    pub slot: Slot,
}

/// A volume id that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a volume id is 32 hexadecimal digits, not {0:?}")]
pub struct BadVolumeId(String);

impl FromStr for VolumeId {
    type Err = BadVolumeId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 {
            return Err(BadVolumeId(text.to_owned()));
        }
        u128::from_str_radix(text, 16).map(VolumeId).map_err(|_| BadVolumeId(text.to_owned()))
    }
}

impl TryFrom<String> for VolumeId {
    type Error = BadVolumeId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> String {
        id.to_string()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeId({self})")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_id_reads_back_as_it_prints() {
        let id = VolumeId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), id);
        assert!("xyz".parse::<VolumeId>().is_err());
    }
}

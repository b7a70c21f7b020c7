//! The log record: the unit of the volume's log. Drawn in `docs/formats/record.md`.
//!
//! A record is checksummed once, by the writer, and then travels and rests unchanged: on the wire, in a segment's
//! log file, in gossip. It carries its epoch, its own LSN (its end), a link to the record before it, and for every
//! protection group it touches a link to the record before it in that group. What it means is the payload's codec's
//! business (`zorya-redo`).

use bytes::{BufMut, Bytes, BytesMut};
use zorya_types::{Epoch, GroupId, Lsn};

/// The version that this code writes and the newest that it reads.
pub const RECORD_VERSION: u8 = 1;
/// Bytes before the group links.
pub const FIXED_HEADER_LEN: usize = 48;
/// Bytes of one group link.
pub const GROUP_LINK_LEN: usize = 12;
/// The largest record, in bytes: a 1 MiB write of the engine and room to spare.
pub const MAX_RECORD_LEN: usize = 4 << 20;

/// The record ends a consistency point: a reader may stop here.
pub const FLAG_CONSISTENCY_POINT: u8 = 1;
/// The payload is sealed with the volume key (reserved: no writer sets it yet).
pub const FLAG_ENCRYPTED: u8 = 2;

/// The payload is empty: a heartbeat that only carries the time.
pub const CODEC_NONE: u16 = 0;
/// The payload is a list of operations on keys (`docs/formats/byte-range.md`).
pub const CODEC_BYTE_RANGE: u16 = 1;

/// The link of a record to the one before it in a protection group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLink {
    /// The group that the record touches.
    pub group: GroupId,
    /// The LSN of the record before it in that group; 0 for the group's first.
    pub prev: Lsn,
}

/// What a record says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The whole record's length in bytes, header included.
    pub len: u32,
    /// [`FLAG_CONSISTENCY_POINT`] and friends.
    pub flags: u8,
    /// How to read the payload.
    pub codec: u16,
    /// The key version that the payload is sealed with; 0 for plain.
    pub key_slot: u16,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Its position: its end in the log.
    pub lsn: Lsn,
    /// The LSN of the record before it in the log.
    pub prev: Lsn,
    /// When it was made, microseconds since 1970; never falls along the log.
    pub stamp_us: u64,
    /// The groups it touches.
    pub groups: Vec<GroupLink>,
}

/// A record: its header and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The decoded header.
    pub header: RecordHeader,
    /// The payload, sharing the record's buffer.
    pub payload: Bytes,
    /// The whole encoded record.
    pub encoded: Bytes,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("the record is cut off: {have} of {need} bytes")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The length is impossible.
    #[error("a record cannot have {0} bytes")]
    BadLength(u32),
    /// The checksum differs.
    #[error("the record's checksum is {stored:08x}, its bytes give {computed:08x}")]
    BadChecksum {
        /// What the record says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A newer version wrote it.
    #[error("the record has format {0}, this binary reads up to {RECORD_VERSION}: use a newer zorya")]
    NewerFormat(u8),
    /// The positions contradict each other.
    #[error("the record at {lsn} with {len} bytes cannot follow {prev}")]
    BadLink {
        /// Its position.
        lsn: Lsn,
        /// The position before it.
        prev: Lsn,
        /// Its length in bytes.
        len: u32,
    },
}

impl RecordHeader {
    /// Where the record starts: its LSN less its length. Equals `prev`, except for the first record of an epoch.
    #[must_use]
    pub fn start(&self) -> Lsn {
        Lsn(self.lsn.0 - u64::from(self.len))
    }

    /// Whether a reader may stop after it.
    #[must_use]
    pub fn is_consistency_point(&self) -> bool {
        self.flags & FLAG_CONSISTENCY_POINT != 0
    }
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

fn le_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

impl Record {
    /// Takes the first record off `bytes`, checking everything that it says about itself.
    pub fn decode(bytes: &mut Bytes) -> Result<Record, RecordError> {
        if bytes.len() < FIXED_HEADER_LEN {
            return Err(RecordError::Truncated { have: bytes.len(), need: FIXED_HEADER_LEN });
        }
        let len = le_u32(bytes, 4);
        let groups = usize::from(le_u16(bytes, 10));
        let header_len = FIXED_HEADER_LEN + groups * GROUP_LINK_LEN;
        if (len as usize) < header_len || len as usize > MAX_RECORD_LEN {
            return Err(RecordError::BadLength(len));
        }
        if bytes.len() < len as usize {
            return Err(RecordError::Truncated { have: bytes.len(), need: len as usize });
        }
        let encoded = bytes.slice(..len as usize);
        let (stored, computed) = (le_u32(&encoded, 0), crc32c::crc32c(&encoded[4..]));
        if stored != computed {
            return Err(RecordError::BadChecksum { stored, computed });
        }
        if encoded[8] != RECORD_VERSION {
            return Err(RecordError::NewerFormat(encoded[8]));
        }
        let header = Self::header(&encoded, groups)?;
        let payload = encoded.slice(header_len..);
        let _ = bytes.split_to(len as usize);
        Ok(Record { header, payload, encoded })
    }

    fn header(encoded: &[u8], groups: usize) -> Result<RecordHeader, RecordError> {
        let header = RecordHeader {
            len: le_u32(encoded, 4),
            flags: encoded[9],
            codec: le_u16(encoded, 12),
            key_slot: le_u16(encoded, 14),
            epoch: Epoch(le_u64(encoded, 16)),
            lsn: Lsn(le_u64(encoded, 24)),
            prev: Lsn(le_u64(encoded, 32)),
            stamp_us: le_u64(encoded, 40),
            groups: (0..groups)
                .map(|index| FIXED_HEADER_LEN + index * GROUP_LINK_LEN)
                .map(|at| GroupLink {
                    group: GroupId(le_u32(encoded, at)),
                    prev: Lsn(le_u64(encoded, at + 4)),
                })
                .collect(),
        };
        let fits =
            header.lsn.0.checked_sub(u64::from(header.len)).is_some_and(|start| start >= header.prev.0);
        if !fits {
            return Err(RecordError::BadLink { lsn: header.lsn, prev: header.prev, len: header.len });
        }
        Ok(header)
    }
}

/// Everything about a record that the writer knows before it is placed in the log.
#[derive(Clone, Copy, Debug)]
pub struct RecordBuilder<'a> {
    /// [`FLAG_CONSISTENCY_POINT`] and friends.
    pub flags: u8,
    /// How to read the payload.
    pub codec: u16,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Where the record starts.
    pub start: Lsn,
    /// The LSN of the record before it.
    pub prev: Lsn,
    /// When it was made, microseconds since 1970.
    pub stamp_us: u64,
    /// The groups it touches, at most 65,535.
    pub groups: &'a [GroupLink],
    /// What it says, in pieces.
    pub payload: &'a [&'a [u8]],
}

impl RecordBuilder<'_> {
    /// How many bytes a record with so many groups and payload bytes takes.
    #[must_use]
    pub fn encoded_len(groups: usize, payload_bytes: usize) -> usize {
        FIXED_HEADER_LEN + groups * GROUP_LINK_LEN + payload_bytes
    }

    /// Appends the record to `out` and returns its LSN.
    ///
    /// # Panics
    /// If it is longer than [`MAX_RECORD_LEN`] or names more than 65,535 groups.
    pub fn encode(&self, out: &mut BytesMut) -> Lsn {
        let payload_len: usize = self.payload.iter().map(|piece| piece.len()).sum();
        let len = Self::encoded_len(self.groups.len(), payload_len);
        assert!(
            len <= MAX_RECORD_LEN && self.groups.len() <= usize::from(u16::MAX),
            "a record of {len} bytes"
        );
        let lsn = self.start.plus(len as u64);
        let at = out.len();
        out.reserve(len);
        out.put_u32_le(0);
        out.put_u32_le(len as u32);
        out.put_u8(RECORD_VERSION);
        out.put_u8(self.flags);
        out.put_u16_le(self.groups.len() as u16);
        out.put_u16_le(self.codec);
        out.put_u16_le(0);
        out.put_u64_le(self.epoch.0);
        out.put_u64_le(lsn.0);
        out.put_u64_le(self.prev.0);
        out.put_u64_le(self.stamp_us);
        for link in self.groups {
            out.put_u32_le(link.group.0);
            out.put_u64_le(link.prev.0);
        }
        for piece in self.payload {
            out.put_slice(piece);
        }
        let crc = crc32c::crc32c(&out[at + 4..]);
        out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        lsn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(out: &mut BytesMut) -> Lsn {
        RecordBuilder {
            flags: FLAG_CONSISTENCY_POINT,
            codec: CODEC_BYTE_RANGE,
            epoch: Epoch(3),
            start: Lsn(100),
            prev: Lsn(90),
            stamp_us: 5,
            groups: &[GroupLink { group: GroupId(2), prev: Lsn(7) }],
            payload: &[b"ab", b"c"],
        }
        .encode(out)
    }

    #[test]
    fn a_record_has_these_bytes_in_version_1() {
        let mut out = BytesMut::new();
        assert_eq!(sample(&mut out), Lsn(163));
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            &hex[8..],
            "3f000000010101000100000003000000000000\
             00a3000000000000005a00000000000000050000000000000002000000070000000000000061\
             6263"
                .replace(char::is_whitespace, "")
        );
    }

    #[test]
    fn a_record_reads_back_and_any_flipped_bit_is_seen() {
        let mut out = BytesMut::new();
        sample(&mut out);
        let good = out.freeze();
        let record = Record::decode(&mut good.clone()).unwrap();
        assert_eq!(record.payload.as_ref(), b"abc");
        assert_eq!(record.header.start(), Lsn(100));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&mut Bytes::from(bad)).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(Record::decode(&mut good.slice(..cut)).is_err());
        }
    }
}

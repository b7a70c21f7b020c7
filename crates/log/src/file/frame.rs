//! One frame of the log. Drawn to the byte in `docs/formats/node-log.md`.
//!
//! A frame knows its own position and the incarnation of its log (through its checksum), so that what a recycled file
//! held in an earlier life is never taken for a frame, nor are frames inside somebody's payload.

use bytes::{Buf, BufMut};
use zorya_types::VolumeId;

/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_LEN: usize = 64;
/// The longest payload, in bytes.
pub(super) const MAX_PAYLOAD: u64 = 16 << 20;
/// Every frame starts at a multiple of this.
pub(super) const ALIGNMENT: u64 = 8;

pub(super) const MAGIC: [u8; 4] = *b"ZLF\x01";
const CLASS_ENTRY: u8 = 1;
const CLASS_MARK: u8 = 2;

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An entry of a volume.
    Entry,
    /// The log's own: says only that everything before it was synced.
    Mark,
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) class: Class,
    /// The caller's kind of entry.
    pub(super) kind: u8,
    pub(super) volume: VolumeId,
    pub(super) payload_len: u32,
    pub(super) payload_checksum: u32,
    /// Where the frame starts.
    pub(super) position: u64,
    /// When this was written, everything below was known to be on disk.
    pub(super) flushed: u64,
}

impl FrameHeader {
    /// The position after the frame and its padding: where the next may start.
    pub(super) fn end(&self) -> u64 {
        self.position + frame_len(u64::from(self.payload_len))
    }

    pub(super) fn encode(&self, incarnation: u64) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [0; FRAME_HEADER_LEN];
        let mut out = &mut bytes[..];
        out.put_slice(&MAGIC);
        out.put_u8(match self.class {
            Class::Entry => CLASS_ENTRY,
            Class::Mark => CLASS_MARK,
        });
        out.put_u8(self.kind);
        out.put_u16_le(0);
        out.put_u32_le(self.payload_len);
        out.put_u32_le(self.payload_checksum);
        out.put_u128_le(self.volume.0);
        out.put_u64_le(self.position);
        out.put_u64_le(self.flushed);
        let checksum = checksum(incarnation, &bytes[..FRAME_HEADER_LEN - 4]);
        bytes[FRAME_HEADER_LEN - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header of the frame at `position`, or `None` if these bytes are not one of this log, at this place.
    pub(super) fn decode(bytes: &[u8], incarnation: u64, position: u64) -> Option<FrameHeader> {
        let (head, stored) = bytes.get(..FRAME_HEADER_LEN)?.split_last_chunk::<4>()?;
        if head[..4] != MAGIC || checksum(incarnation, head) != u32::from_le_bytes(*stored) {
            return None;
        }
        let mut fields = &head[4..];
        let class = match fields.get_u8() {
            CLASS_ENTRY => Class::Entry,
            CLASS_MARK => Class::Mark,
            _ => return None,
        };
        let kind = fields.get_u8();
        let _reserved = fields.get_u16_le();
        let (payload_len, payload_checksum) = (fields.get_u32_le(), fields.get_u32_le());
        let volume = VolumeId(fields.get_u128_le());
        let (own, flushed) = (fields.get_u64_le(), fields.get_u64_le());
        let plausible = own == position && flushed <= position && u64::from(payload_len) <= MAX_PAYLOAD;
        plausible.then_some(FrameHeader {
            class,
            kind,
            volume,
            payload_len,
            payload_checksum,
            position,
            flushed,
        })
    }
}

/// Bytes that a frame takes in the file, with the padding up to the next one.
pub(super) fn frame_len(payload_len: u64) -> u64 {
    (FRAME_HEADER_LEN as u64 + payload_len).next_multiple_of(ALIGNMENT)
}

fn checksum(incarnation: u64, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&incarnation.to_le_bytes()), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            class: Class::Entry,
            kind: 3,
            volume: VolumeId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
            payload_len: 5,
            payload_checksum: crc32c::crc32c(b"hello"),
            position: 0x2000,
            flushed: 0x1000,
        }
    }

    #[test]
    fn the_bytes_of_version_1() {
        let expected = "5a4c46010103000005000000\
             4cbb719a\
             000102030405060708090a0b0c0d0e0f\
             0020000000000000\
             0010000000000000\
             000000000000000000000000\
             9d2066d8";
        let shown: String = header().encode(7).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_header_reads_back_only_at_its_place_and_in_its_log() {
        let bytes = header().encode(7);
        assert_eq!(FrameHeader::decode(&bytes, 7, 0x2000), Some(header()));
        assert_eq!(FrameHeader::decode(&bytes, 8, 0x2000), None);
        assert_eq!(FrameHeader::decode(&bytes, 7, 0x2008), None);
        assert_eq!(FrameHeader::decode(&bytes[..63], 7, 0x2000), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().encode(7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&flipped, 7, 0x2000), None, "bit {bit}");
        }
    }
}

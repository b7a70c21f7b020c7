//! Frames on a connection. Drawn in `docs/formats/frame.md`.
//!
//! A frame is a 24-byte header and a body. The header's checksum covers the header and the first `checked` bytes of
//! the body; the rest of the body is log records, which carry their own checksums.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The protocol version that both sides of a connection must speak.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 24;
/// The longest body that is accepted, in bytes.
pub const MAX_BODY_LEN: usize = 16 << 20;

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the body.
    pub body: u32,
    /// How many of them, from the front, the frame's checksum covers.
    pub checked: u32,
    /// Which message.
    pub kind: u16,
    /// Pairs a response with its request.
    pub id: u64,
    checksum: u32,
}

/// Why bytes are not a frame. The connection is closed: what follows cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is impossible.
    #[error("a frame of {0} bytes is over the limit of {MAX_BODY_LEN}")]
    TooLong(u32),
    /// More bytes are said to be checked than there are.
    #[error("a frame of {body} bytes cannot have {checked} checked ones")]
    BadChecked {
        /// Bytes of the body.
        body: u32,
        /// Bytes said to be checked.
        checked: u32,
    },
    /// The peer speaks another version.
    #[error("the peer speaks protocol {0}, this binary {PROTOCOL_VERSION}: run the same zorya on both sides")]
    OtherVersion(u8),
    /// The checksum differs.
    #[error("a frame was damaged on the way (checksum {stored:08x}, bytes give {computed:08x})")]
    BadChecksum {
        /// What the frame says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
}

impl FrameHeader {
    /// Decodes and checks a header; the body's checksum is [`FrameHeader::check`]ed once it is there.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<FrameHeader, FrameError> {
        let mut fields = &bytes[..];
        let (body, checked) = (fields.get_u32_le(), fields.get_u32_le());
        let kind = fields.get_u16_le();
        let version = fields.get_u8();
        let _reserved = fields.get_u8();
        let id = fields.get_u64_le();
        let checksum = fields.get_u32_le();
        if version != PROTOCOL_VERSION {
            return Err(FrameError::OtherVersion(version));
        }
        if body as usize > MAX_BODY_LEN {
            return Err(FrameError::TooLong(body));
        }
        if checked > body {
            return Err(FrameError::BadChecked { body, checked });
        }
        Ok(FrameHeader { body, checked, kind, id, checksum })
    }

    /// Checks the body (and the header with it) against the checksum.
    pub fn check(&self, body: &Bytes) -> Result<(), FrameError> {
        let mut header = [0; HEADER_LEN];
        Self::fill(&mut header, self.body, self.checked, self.kind, self.id);
        let covered = &body[..(self.checked as usize).min(body.len())];
        let computed = crc32c::crc32c_append(crc32c::crc32c(&header[..20]), covered);
        if computed != self.checksum {
            return Err(FrameError::BadChecksum { stored: self.checksum, computed });
        }
        Ok(())
    }

    fn fill(header: &mut [u8; HEADER_LEN], body: u32, checked: u32, kind: u16, id: u64) {
        let mut out = &mut header[..];
        out.put_u32_le(body);
        out.put_u32_le(checked);
        out.put_u16_le(kind);
        out.put_u8(PROTOCOL_VERSION);
        out.put_u8(0);
        out.put_u64_le(id);
    }
}

/// The header of a frame whose body is `checked` followed by `unchecked_len` bytes of records.
#[must_use]
pub fn header(kind: u16, id: u64, checked: &[u8], unchecked_len: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    FrameHeader::fill(&mut header, (checked.len() + unchecked_len) as u32, checked.len() as u32, kind, id);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..20]), checked);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// A whole frame in one buffer.
#[must_use]
pub fn encode(kind: u16, id: u64, checked: &[u8], unchecked: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_LEN + checked.len() + unchecked.len());
    out.put_slice(&header(kind, id, checked, unchecked.len()));
    out.put_slice(checked);
    out.put_slice(unchecked);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_damage_to_header_or_checked_bytes_is_seen() {
        let frame = encode(7, 42, b"checked", b"records");
        let mut head = [0; HEADER_LEN];
        head.copy_from_slice(&frame[..HEADER_LEN]);
        let header = FrameHeader::decode(&head).unwrap();
        let body = frame.slice(HEADER_LEN..);
        header.check(&body).unwrap();
        assert_eq!((header.kind, header.id, header.body, header.checked), (7, 42, 14, 7));
        for bit in 0..(HEADER_LEN + 7) * 8 {
            let mut bad = frame.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            if bit / 8 == 11 {
                continue; // reserved byte: zero for every reader of this version
            }
            head.copy_from_slice(&bad[..HEADER_LEN]);
            let seen =
                FrameHeader::decode(&head).and_then(|h| h.check(&Bytes::from(bad[HEADER_LEN..].to_vec())));
            assert!(seen.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_header_has_these_bytes_in_version_1() {
        let bytes = header(0x0102, 0x0304, b"x", 2);
        assert_eq!(&bytes[..20], &[3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
    }
}

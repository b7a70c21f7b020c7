//! The block at the start of every log file. Drawn to the byte in `docs/formats/node-log.md`.

use bytes::{Buf, BufMut};

use super::{OpenError, Position, Scars};

/// Bytes before a file's first frame.
pub(super) const HEADER_BLOCK: u64 = 4096;
/// The newest format that is known here, and the one that is written.
pub(super) const FORMAT: u16 = 1;

const MAGIC: [u8; 8] = *b"ZORYALOG";
const LEN: usize = 128;
/// The header is there twice, so that one bad sector does not cost a file.
const COPIES: [usize; 2] = [0, 2048];
const CIPHER_NONE: u16 = 0;

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Drawn at random when the log was made; the same in all its files.
    pub(super) incarnation: u64,
    /// Files are numbered from 1, without a gap.
    pub(super) number: u64,
    /// The position of the file's first byte.
    pub(super) first: u64,
    /// The file's length, in bytes.
    pub(super) len: u64,
    /// Where the log before this file ends. It was synced up to there before this header was written; what older
    /// files hold above is not part of the log.
    pub(super) resumes: u64,
    /// The newest bad ends that the log went on after.
    pub(super) scars: Scars,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(LEN);
        header.put_slice(&MAGIC);
        header.put_u16_le(FORMAT);
        header.put_u16_le(CIPHER_NONE);
        header.put_u32_le(0);
        header.put_u64_le(self.incarnation);
        header.put_u64_le(self.number);
        header.put_u64_le(self.first);
        header.put_u64_le(self.len);
        header.put_u64_le(self.resumes);
        header.put_u64_le(self.scars.torn.map_or(0, |at| at.0));
        header.put_u64_le(self.scars.damaged.map_or(0, |at| at.0));
        header.resize(LEN - 4, 0);
        header.put_u32_le(crc32c::crc32c(&header));
        let mut block = vec![0; HEADER_BLOCK as usize];
        for start in COPIES {
            block[start..start + LEN].copy_from_slice(&header);
        }
        block
    }

    /// Reads a header block; `None` if neither copy is whole. `name` is for the error message.
    pub(super) fn decode(block: &[u8], name: &str) -> Result<Option<FileHeader>, OpenError> {
        for start in COPIES {
            let Some(copy) = block.get(start..start + LEN) else { continue };
            if let Some(header) = FileHeader::decode_copy(copy, name)? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn decode_copy(copy: &[u8], name: &str) -> Result<Option<FileHeader>, OpenError> {
        let Some((head, stored)) = copy.split_last_chunk::<4>() else { return Ok(None) };
        if head[..8] != MAGIC || crc32c::crc32c(head) != u32::from_le_bytes(*stored) {
            return Ok(None);
        }
        let mut fields = &head[8..];
        let (format, cipher) = (fields.get_u16_le(), fields.get_u16_le());
        if format > FORMAT {
            return Err(OpenError::NewerFormat { name: name.to_owned(), found: format, known: FORMAT });
        }
        if cipher != CIPHER_NONE {
            return Err(OpenError::UnknownCipher { name: name.to_owned(), cipher });
        }
        let _key_slot = fields.get_u32_le();
        let (incarnation, number) = (fields.get_u64_le(), fields.get_u64_le());
        let (first, len, resumes) = (fields.get_u64_le(), fields.get_u64_le(), fields.get_u64_le());
        let mut scar = || Some(fields.get_u64_le()).filter(|at| *at > 0).map(Position);
        let scars = Scars { torn: scar(), damaged: scar() };
        let plausible = len > HEADER_BLOCK && resumes <= first && first.checked_add(len).is_some();
        Ok(plausible.then_some(FileHeader { incarnation, number, first, len, resumes, scars }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            incarnation: 0x0123_4567_89ab_cdef,
            number: 2,
            first: 0x0080_0000,
            len: 0x0400_0000,
            resumes: 0x007f_f000,
            scars: Scars { torn: Some(Position(0x1238)), damaged: None },
        }
    }

    #[test]
    fn the_bytes_of_version_1() {
        let expected = "5a4f5259414c4f47\
             0100000000000000\
             efcdab8967452301\
             0200000000000000\
             0000800000000000\
             0000000400000000\
             00f07f0000000000\
             3812000000000000\
             0000000000000000";
        let block = header().encode();
        let shown: String = block[..72].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, expected);
        assert!(block[72..124].iter().all(|byte| *byte == 0));
        assert_eq!(block[124..128], [0x2d, 0x82, 0x21, 0xc5]);
        assert_eq!(block[2048..2176], block[..128]);
    }

    #[test]
    fn one_bad_copy_does_not_matter_and_two_do() {
        let mut block = header().encode();
        block[30] ^= 1;
        assert_eq!(FileHeader::decode(&block, "f").unwrap(), Some(header()));
        block[2048] ^= 1;
        assert_eq!(FileHeader::decode(&block, "f").unwrap(), None);
        assert_eq!(FileHeader::decode(&block[..10], "f").unwrap(), None);
    }

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut block = header().encode();
        for start in COPIES {
            block[start + at] = value;
            let checksum = crc32c::crc32c(&block[start..start + LEN - 4]);
            block[start + LEN - 4..start + LEN].copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }

    #[test]
    fn a_newer_format_or_a_cipher_is_refused_with_its_name() {
        let newer = FileHeader::decode(&changed(8, 9), "f").unwrap_err();
        assert!(newer.to_string().contains("format 9"), "{newer}");
        let cipher = FileHeader::decode(&changed(10, 4), "f").unwrap_err();
        assert!(cipher.to_string().contains("cipher 4"), "{cipher}");
    }
}

//! The fixed parts of a layer's file: header, sections, footer.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use zorya_types::{GroupId, Key, LogId, Lsn, VolumeId};
use zorya_wire::codec::Encoded;
use zorya_wire::{Malformed, Reader};

use super::{LayerIdentity, LayerKind};
use crate::chain::At;
use crate::clears::Clears;

/// The version that this code writes and the newest that it reads.
pub(crate) const LAYER_VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 128;
pub(super) const FOOTER_LEN: usize = 96;
/// Before every block and section: length and CRC-32C of what follows.
pub(super) const SECTION_HEAD_LEN: usize = 8;
/// A block is closed once it has this many bytes: small, since a read looks for one page in each of several layers, but
/// the index of 10 GiB of images has to stay in memory (30 MiB).
pub(super) const BLOCK_BYTES: usize = 16 << 10;

const MAGIC: &[u8; 8] = b"ZORYALYR";
const END_MAGIC: &[u8; 8] = b"ZORYAEND";

/// Why a layer's header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    NewerFormat(u16),
}

pub(super) fn encode_header(identity: &LayerIdentity) -> [u8; HEADER_LEN] {
    let mut out = BytesMut::with_capacity(HEADER_LEN);
    out.put_slice(MAGIC);
    out.put_u16_le(LAYER_VERSION);
    out.put_u8(identity.kind as u8);
    out.put_bytes(0, 1 + 2 + 2 + 32); // cipher, key slot, flags, salt: plain
    identity.volume.put(&mut out);
    identity.log.put(&mut out);
    identity.group.put(&mut out);
    identity.after.put(&mut out);
    identity.upto.put(&mut out);
    out.put_bytes(0, HEADER_LEN - 4 - out.len());
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    let mut header = [0; HEADER_LEN];
    header.copy_from_slice(&out);
    header
}

pub(super) fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<LayerIdentity, BadHeader> {
    if &bytes[..8] != MAGIC {
        return Err(BadHeader::Damaged("no layer's magic number"));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version > LAYER_VERSION {
        return Err(BadHeader::NewerFormat(version));
    }
    if crc32c::crc32c(&bytes[..HEADER_LEN - 4]).to_le_bytes() != bytes[HEADER_LEN - 4..] {
        return Err(BadHeader::Damaged("the header's checksum differs"));
    }
    decode_identity(bytes).map_err(|_| BadHeader::Damaged("an impossible header"))
}

fn decode_identity(bytes: &[u8]) -> Result<LayerIdentity, Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(&bytes[10..]));
    let kind = match reader.u8("kind")? {
        1 => LayerKind::Delta,
        2 => LayerKind::Image,
        value => return Err(Malformed::BadValue { field: "kind", value: value.into() }),
    };
    let cipher = reader.u8("cipher")?;
    if cipher != 0 {
        return Err(Malformed::BadValue { field: "cipher", value: cipher.into() });
    }
    reader.take(2 + 2 + 32, "key slot, flags and salt")?;
    Ok(LayerIdentity {
        kind,
        volume: VolumeId::get(&mut reader)?,
        log: LogId::get(&mut reader)?,
        group: GroupId::get(&mut reader)?,
        after: Lsn::get(&mut reader)?,
        upto: Lsn::get(&mut reader)?,
    })
}

/// Where a section stands in the file: its head's position and its content's length. Length 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub at: u64,
    pub len: u32,
}

/// The end of a layer's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub clears: Section,
    pub filter: Section,
    pub index: Section,
    pub entries: u64,
    pub hash: [u8; 32],
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = BytesMut::with_capacity(FOOTER_LEN);
        for section in [self.clears, self.filter, self.index] {
            out.put_u64_le(section.at);
            out.put_u32_le(section.len);
        }
        out.put_u64_le(self.entries);
        out.put_slice(&self.hash);
        out.put_u64_le(0);
        out.put_slice(END_MAGIC);
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        let mut footer = [0; FOOTER_LEN];
        footer.copy_from_slice(&out);
        footer
    }

    pub(super) fn decode(bytes: &[u8; FOOTER_LEN]) -> Result<Footer, &'static str> {
        if &bytes[FOOTER_LEN - 12..FOOTER_LEN - 4] != END_MAGIC {
            return Err("no layer's end");
        }
        if crc32c::crc32c(&bytes[..FOOTER_LEN - 4]).to_le_bytes() != bytes[FOOTER_LEN - 4..] {
            return Err("the footer's checksum differs");
        }
        Self::fields(bytes).map_err(|_| "an impossible footer")
    }

    fn fields(bytes: &[u8]) -> Result<Footer, Malformed> {
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
        let mut section = || -> Result<Section, Malformed> {
            Ok(Section { at: reader.u64("section")?, len: reader.u32("section")? })
        };
        let (clears, filter, index) = (section()?, section()?, section()?);
        let entries = reader.u64("entries")?;
        let mut hash = [0; 32];
        hash.copy_from_slice(&reader.take(32, "hash")?);
        Ok(Footer { clears, filter, index, entries, hash })
    }
}

/// One block as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockRef {
    /// Its first entry's key.
    pub first: Key,
    /// Its first entry's record.
    pub first_lsn: Lsn,
    /// Where its head stands in the file.
    pub at: u64,
    /// Its content's length.
    pub len: u32,
    /// Its content's CRC-32C.
    pub crc: u32,
}

const BLOCK_REF_LEN: usize = Key::ENCODED_LEN + 8 + 8 + 4 + 4;

pub(super) fn encode_index(blocks: &[BlockRef]) -> BytesMut {
    let mut out = BytesMut::with_capacity(4 + blocks.len() * BLOCK_REF_LEN);
    out.put_u32_le(blocks.len() as u32);
    for block in blocks {
        block.first.put(&mut out);
        block.first_lsn.put(&mut out);
        out.put_u64_le(block.at);
        out.put_u32_le(block.len);
        out.put_u32_le(block.crc);
    }
    out
}

pub(super) fn decode_index(content: Bytes) -> Result<Vec<BlockRef>, Malformed> {
    let mut reader = Reader::new(content);
    let blocks = reader.list("blocks", BLOCK_REF_LEN, |reader| {
        Ok(BlockRef {
            first: Key::get(reader)?,
            first_lsn: Lsn::get(reader)?,
            at: reader.u64("at")?,
            len: reader.u32("len")?,
            crc: reader.u32("crc")?,
        })
    })?;
    reader.finish()?;
    Ok(blocks)
}

const CLEAR_LEN: usize = 2 * Key::ENCODED_LEN + 8 + 4;

pub(super) fn encode_clears(clears: &Clears) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32_le(clears.iter().count() as u32);
    for (from, to, at) in clears.iter() {
        from.put(&mut out);
        to.put(&mut out);
        at.lsn.put(&mut out);
        out.put_u32_le(at.reference);
    }
    out
}

pub(super) fn decode_clears(content: Bytes) -> Result<Clears, Malformed> {
    let mut reader = Reader::new(content);
    let list = reader.list("clears", CLEAR_LEN, |reader| {
        let (from, to) = (Key::get(reader)?, Key::get(reader)?);
        if from >= to {
            return Err(Malformed::BadValue { field: "clear", value: 0 });
        }
        Ok((from, to, At { lsn: Lsn::get(reader)?, reference: reader.u32("reference")? }))
    })?;
    reader.finish()?;
    let mut clears = Clears::default();
    list.into_iter().for_each(|(from, to, at)| clears.add(from, to, at));
    Ok(clears)
}

/// The hash of a layer's plaintext: of what it is and of its sections. The index holds the blocks' checksums, so that
/// the blocks need not be read again.
pub(super) fn plaintext_hash(header: &[u8; HEADER_LEN], sections: [&[u8]; 3]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([header[10]]);
    hasher.update(&header[48..HEADER_LEN - 4]);
    for section in sections {
        hasher.update((section.len() as u64).to_le_bytes());
        hasher.update(section);
    }
    hasher.finalize().into()
}

/// The format version in the first 10 bytes of a layer; `None` if they are not a layer's.
pub(crate) fn header_version(start: &[u8; 10]) -> Option<u16> {
    (&start[..8] == MAGIC).then(|| u16::from_le_bytes([start[8], start[9]]))
}

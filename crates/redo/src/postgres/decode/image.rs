//! The page images of records: whole pages, minus a hole of zeroes, perhaps compressed.

use super::pglz;
use super::record::{BlockReference, Compression, Record};
use crate::postgres::error::Underivable;
use crate::postgres::position::BLOCK_LEN;

/// Writes the image that `reference` of `record` carries into `block`.
///
/// Follows `RestoreBlockImage` in `access/transam/xlogreader.c`.
pub fn restore(
    record: &Record<'_>,
    reference: &BlockReference,
    block: &mut [u8; BLOCK_LEN],
) -> Result<(), Underivable> {
    let image = reference.image.as_ref().ok_or(Underivable::BadImage("the reference has none"))?;
    let source = record.image_bytes(reference);
    let hole_start = usize::from(image.hole_offset);
    let hole_len = usize::from(image.hole_len);
    let kept = BLOCK_LEN.checked_sub(hole_len).ok_or(Underivable::BadImage("its hole is too long"))?;
    if hole_start > kept {
        return Err(Underivable::BadImage("its hole ends beyond the page"));
    }
    let target = &mut block[..kept];
    match image.compression {
        Compression::None => {
            if source.len() != kept {
                return Err(Underivable::BadImage("image and hole are not a page"));
            }
            target.copy_from_slice(source);
        }
        Compression::Pglz => pglz::decompress(source, target).ok_or(Underivable::BadImage("bad pglz"))?,
        Compression::Lz4 => {
            let len = lz4_flex::block::decompress_into(source, target)
                .map_err(|_| Underivable::BadImage("bad lz4"))?;
            if len != kept {
                return Err(Underivable::BadImage("lz4 of another length"));
            }
        }
        Compression::Zstd => unzstd(source, target)?,
    }
    block.copy_within(hole_start..kept, hole_start + hole_len);
    block[hole_start..hole_start + hole_len].fill(0);
    Ok(())
}

fn unzstd(source: &[u8], target: &mut [u8]) -> Result<(), Underivable> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    let len = decoder.decode_all(source, target).map_err(|_| Underivable::BadImage("bad zstd"))?;
    if len == target.len() { Ok(()) } else { Err(Underivable::BadImage("zstd of another length")) }
}

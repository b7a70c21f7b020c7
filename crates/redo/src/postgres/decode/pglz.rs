//! PostgreSQL's own compression, the default of `wal_compression`.

/// Decompresses `source` into exactly `target`; `None` if it does not decode to that many bytes and no more.
///
/// Follows `pglz_decompress` in `src/common/pg_lzcompress.c`, with its `check_complete`: a control byte for every
/// eight items, low bit first; a clear bit is a literal byte, a set bit a tag of a length and a distance back.
#[must_use]
pub fn decompress(source: &[u8], target: &mut [u8]) -> Option<()> {
    let (mut from, mut to) = (0, 0);
    while from < source.len() && to < target.len() {
        let mut control = source[from];
        from += 1;
        for _ in 0..8 {
            if from >= source.len() || to >= target.len() {
                break;
            }
            if control & 1 == 0 {
                target[to] = source[from];
                (from, to) = (from + 1, to + 1);
            } else {
                let (len, distance) = tag(source, &mut from)?;
                let len = len.min(target.len() - to);
                copy_back(target, to, distance, len)?;
                to += len;
            }
            control >>= 1;
        }
    }
    (from == source.len() && to == target.len()).then_some(())
}

fn tag(source: &[u8], from: &mut usize) -> Option<(usize, usize)> {
    let (first, second) = (*source.get(*from)?, *source.get(*from + 1)?);
    *from += 2;
    let mut len = usize::from(first & 0x0f) + 3;
    let distance = usize::from(first & 0xf0) << 4 | usize::from(second);
    if len == 18 {
        len += usize::from(*source.get(*from)?);
        *from += 1;
    }
    Some((len, distance))
}

/// Copies `len` bytes from `distance` before `to`; the ranges may overlap, and then a pattern repeats.
fn copy_back(target: &mut [u8], to: usize, distance: usize, len: usize) -> Option<()> {
    if distance == 0 || distance > to {
        return None;
    }
    if distance >= len {
        target.copy_within(to - distance..to - distance + len, to);
    } else {
        for at in to..to + len {
            target[at] = target[at - distance];
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::decompress;

    #[test]
    fn literals_and_overlapping_matches_decode() {
        // Three literals, then a match of 6 bytes from 3 back, then one literal.
        let source = [0b0000_1000, b'a', b'b', b'c', 0x03, 0x03, b'!'];
        let mut target = [0; 10];
        assert_eq!(decompress(&source, &mut target), Some(()));
        assert_eq!(&target, b"abcabcabc!");
    }

    #[test]
    fn what_is_too_short_or_too_long_or_points_before_the_start_does_not_decode() {
        let mut target = [0; 10];
        assert_eq!(decompress(&[0b0000_1000, b'a', b'b', b'c', 0x03, 0x03], &mut target), None);
        assert_eq!(decompress(&[0b0000_0001, 0x03, 0x01], &mut target), None);
        assert_eq!(decompress(&[0, 1, 2, 3, 4], &mut target[..3]), None);
    }
}

//! The content of rows: a function of who wrote them, so that it need not be kept to be checked.

use super::RowId;
use crate::seed::Numbers;

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Which of its versions.
    pub version: u32,
    /// Its payload.
    pub payload: String,
    /// CRC-32C of the payload, as the client computed it.
    pub checksum: u32,
}

impl Content {
    /// What version `version` of a row holds.
    #[must_use]
    pub fn of(row: RowId, version: u32, bytes: u32) -> Content {
        let payload = payload(row, version, bytes);
        let checksum = crc32c::crc32c(payload.as_bytes());
        Content { version, payload, checksum }
    }
}

/// `bytes` characters that nothing compresses much and that need no quoting in SQL.
#[must_use]
pub fn payload(row: RowId, version: u32, bytes: u32) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (client, sequence, part) = row;
    let seed = [client, sequence, part, version]
        .iter()
        .fold(0, |seed, word| crate::seed::mix(seed ^ u64::from(*word)).wrapping_add(0x51_7cc1_b727_220a));
    let mut numbers = Numbers::from_seed(seed);
    let mut text = String::with_capacity(bytes as usize);
    while text.len() < bytes as usize {
        let number = numbers.draw();
        let left = bytes as usize - text.len();
        text.extend((0..10.min(left)).map(|at| char::from(LETTERS[(number >> (6 * at)) as usize & 63])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_as_long_as_asked_and_another_for_every_row_and_version() {
        let one = payload((1, 2, 3), 0, 101);
        assert_eq!(one.len(), 101);
        assert_eq!(one, payload((1, 2, 3), 0, 101));
        for other in [payload((1, 2, 3), 1, 101), payload((1, 2, 4), 0, 101), payload((2, 1, 3), 0, 101)] {
            assert_ne!(one, other);
        }
        assert!(payload((0, 0, 0), 0, 0).is_empty());
    }
}

//! The bytes of a file, holes left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are kept or left out together.
const PIECE: usize = 4096;
const READ_AT_ONCE: usize = 256 << 10;
static ZEROES: [u8; PIECE] = [0; PIECE];

/// A file's bytes. Pieces of zeroes are not kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    len: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes, not zero: pieces of {PIECE} {:?}", self.len, self.pieces.keys())
    }
}

impl Content {
    /// Reads a file of `len` bytes with `read`, which fills the buffer from an offset.
    pub fn read(len: u64, mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<Content> {
        let mut content = Content { len, pieces: BTreeMap::new() };
        let mut buffer = vec![0; READ_AT_ONCE.min(len as usize)];
        let mut at = 0;
        while at < len {
            let size = READ_AT_ONCE.min((len - at) as usize);
            read(&mut buffer[..size], at)?;
            for (index, piece) in buffer[..size].chunks(PIECE).enumerate() {
                if piece != &ZEROES[..piece.len()] {
                    content.pieces.insert(at / PIECE as u64 + index as u64, piece.into());
                }
            }
            at += size as u64;
        }
        Ok(content)
    }

    /// Reads a whole file. Returns `before` if nothing changed, so that equal contents are kept once.
    pub fn of_file(file: &File, before: Option<&Arc<Content>>) -> io::Result<Arc<Content>> {
        let len = file.metadata()?.len();
        let content = Content::read(len, |buffer, at| file.read_exact_at(buffer, at))?;
        Ok(match before {
            Some(before) if **before == content => Arc::clone(before),
            _ => Arc::new(content),
        })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Writes it to an empty file.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(self.len)?;
        for (index, piece) in &self.pieces {
            file.write_all_at(piece, index * PIECE as u64)?;
        }
        Ok(())
    }

    /// The piece of a number, cut or filled with zeroes to a whole one.
    fn piece(&self, number: u64) -> [u8; PIECE] {
        let mut whole = [0; PIECE];
        if let Some(piece) = self.pieces.get(&number) {
            whole[..piece.len()].copy_from_slice(piece);
        }
        whole
    }

    /// The numbers of all pieces that either has.
    fn numbers<'a>(&'a self, other: &'a Content) -> std::collections::BTreeSet<u64> {
        self.pieces.keys().chain(other.pieces.keys()).copied().collect()
    }

    /// The first byte in which two contents differ; bytes beyond the end count as zeroes. `None` if in none.
    pub fn first_difference(&self, other: &Content) -> Option<u64> {
        self.numbers(other).into_iter().find_map(|number| {
            let (ours, theirs) = (self.piece(number), other.piece(number));
            let at = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs)?;
            Some(number * PIECE as u64 + at as u64)
        })
    }

    /// The end of the last byte in which two contents differ, as [`Content::first_difference`].
    pub fn end_of_difference(&self, other: &Content) -> u64 {
        let last = self.numbers(other).into_iter().rev().find_map(|number| {
            let (ours, theirs) = (self.piece(number), other.piece(number));
            let at = (0..PIECE).rev().find(|&at| ours[at] != theirs[at])?;
            Some(number * PIECE as u64 + at as u64 + 1)
        });
        last.unwrap_or(0)
    }

    /// Whether every piece is as in one of two contents.
    pub fn is_mixed_of(&self, one: &Content, other: &Content) -> bool {
        let mut numbers = self.numbers(one);
        numbers.extend(other.pieces.keys());
        numbers.into_iter().all(|number| {
            let piece = self.piece(number);
            piece == one.piece(number) || piece == other.piece(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> Content {
        Content::read(bytes.len() as u64, |buffer, at| {
            buffer.copy_from_slice(&bytes[at as usize..at as usize + buffer.len()]);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn differences_are_found_to_the_byte() {
        let mut bytes = vec![0; 20_000];
        let before = content(&bytes);
        bytes[5000] = 1;
        bytes[12_287] = 2;
        let after = content(&bytes);
        assert_eq!(before.first_difference(&after), Some(5000));
        assert_eq!(before.end_of_difference(&after), 12_288);
        assert_eq!(before.first_difference(&before), None);
        bytes[5000] = 0;
        assert!(content(&bytes).is_mixed_of(&before, &after));
        bytes[12_286] = 7;
        assert!(!content(&bytes).is_mixed_of(&before, &after));
    }
}

//! Little-endian numbers out of bytes that may be too short.

use super::error::Underivable;

/// The bytes of a structure of a record, read front to back. Running out is [`Underivable::ShortRecord`].
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Underivable> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Underivable::ShortRecord)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Underivable> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(Underivable::ShortRecord)?;
        self.0 = rest;
        Ok(*front)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Underivable> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16, Underivable> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, Underivable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64, Underivable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Passes over `len` bytes of padding.
    pub fn skip(&mut self, len: usize) -> Result<(), Underivable> {
        self.bytes(len).map(drop)
    }

    /// `count` numbers of two bytes.
    pub fn offsets(&mut self, count: usize) -> Result<Offsets<'a>, Underivable> {
        Ok(Offsets(self.bytes(count * 2)?))
    }
}

/// An array of 16-bit numbers, not aligned, as records hold offset numbers.
#[derive(Clone, Copy, Debug)]
pub struct Offsets<'a>(&'a [u8]);

impl<'a> Offsets<'a> {
    /// All the numbers that `bytes` hold; an odd last byte is not one.
    pub fn all(bytes: &'a [u8]) -> Self {
        Self(&bytes[..bytes.len() & !1])
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.len() / 2
    }

    /// The numbers in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + 'a {
        self.0.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
    }

    /// The number at `index`, if there is one.
    pub fn get(self, index: usize) -> Option<u16> {
        let pair = self.0.get(index * 2..index * 2 + 2)?;
        Some(u16::from_le_bytes([pair[0], pair[1]]))
    }
}

/// The number of two bytes at `at`, if there are that many.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The number of four bytes at `at`, if there are that many.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The number of eight bytes at `at`, if there are that many.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `len` up to the next multiple of eight (`MAXALIGN`).
pub const fn align8(len: usize) -> usize {
    (len + 7) & !7
}

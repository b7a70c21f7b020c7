//! A byte position in PostgreSQL's write-ahead log.

use std::fmt;

/// Bytes in a page of the log and in a block of a relation (`XLOG_BLCKSZ`, `BLCKSZ`).
pub const BLOCK_LEN: usize = 8192;

/// A position in PostgreSQL's WAL, in bytes from its beginning: what PostgreSQL calls an LSN. It has nothing to do
/// with a position in the volume's log. Prints as PostgreSQL does, `0/1A2B3C`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPosition(pub u64);

impl WalPosition {
    /// How far into its page the position lies.
    #[must_use]
    pub fn page_offset(self) -> usize {
        (self.0 % BLOCK_LEN as u64) as usize
    }

    /// The position `bytes` later.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        Self(self.0.saturating_add(bytes as u64))
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The text is not of the form `X/Y` with two hexadecimal numbers of 32 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a WAL position; one looks like 0/1A2B3C")]
pub struct BadWalPosition(String);

impl std::str::FromStr for WalPosition {
    type Err = BadWalPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadWalPosition(text.to_owned());
        let (high, low) = text.trim().split_once('/').ok_or_else(bad)?;
        let part = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| bad());
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::WalPosition;

    #[test]
    fn a_position_prints_and_parses_as_postgresql_does() {
        let position = WalPosition(0x12_0000_ab0f);
        assert_eq!(position.to_string(), "12/AB0F");
        assert_eq!("12/AB0F".parse(), Ok(position));
        assert!("12AB0F".parse::<WalPosition>().is_err());
        assert!("x/1".parse::<WalPosition>().is_err());
    }
}

//! The major versions of PostgreSQL. Every page of a log says which one wrote it, and their records differ.
//!
//! What differs is in one place of each family: an exhaustive `match` over [`Major`], so that one version more is a list
//! of places from the compiler. They are:
//!
//! | place | what differs |
//! |---|---|
//! | [`super::decode::record`] | flags of page images (15) |
//! | `heap2::prune` | pruning, freezing and vacuuming: three records until 15, one since 17 |
//! | `heap2`, flags of VISIBLE | a bit for catalogs (16) |
//! | [`super::visibility`] | pages of the map as references of heap records (17) |
//! | `btree::delete` | nothing that redo reads; redo of a vacuum does more (18) |
//! | `gist`, `hash`, `spgist` | fields for standbys before the offsets (16), squeezed pages that do not change (17) |
//! | [`super::xact`] | dropped statistics: none (14), of 12 bytes, of 16 (18) |
//! | [`super::files`] | operations on databases (15) |
//! | [`super::slru`] | page numbers of 64 bits (17) |
//! | [`super::checkpoint`], [`super::control`] | `wal_level` in checkpoints (17), the control file's version |

use super::error::Underivable;

/// A major version whose logs can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Major {
    /// PostgreSQL 14.
    V14 = 14,
    /// PostgreSQL 15.
    V15 = 15,
    /// PostgreSQL 16.
    V16 = 16,
    /// PostgreSQL 17.
    V17 = 17,
    /// PostgreSQL 18.
    V18 = 18,
}

impl Major {
    /// All of them, the oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The version's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What the header of every page of its logs begins with (`XLOG_PAGE_MAGIC`).
    #[must_use]
    pub const fn page_magic(self) -> u16 {
        match self {
            Self::V14 => 0xd10d,
            Self::V15 => 0xd110,
            Self::V16 => 0xd113,
            Self::V17 => 0xd116,
            Self::V18 => 0xd118,
        }
    }

    /// The version whose logs' pages begin so; `None` if it is none of these.
    #[must_use]
    pub fn of_page_magic(magic: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|major| major.page_magic() == magic)
    }

    /// Whether redo is written for the version, and was verified against it.
    #[must_use]
    pub const fn is_written(self) -> bool {
        match self {
            Self::V15 | Self::V17 => true,
            Self::V14 | Self::V16 | Self::V18 => false,
        }
    }

    /// Fails unless [`Major::is_written`].
    pub const fn check_written(self) -> Result<(), Underivable> {
        if self.is_written() { Ok(()) } else { Err(Underivable::NotWritten(self)) }
    }
}

impl std::fmt::Display for Major {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_by_the_magic_of_its_pages() {
        for major in Major::ALL {
            assert_eq!(Major::of_page_magic(major.page_magic()), Some(major));
        }
        assert_eq!(Major::of_page_magic(0xd106), None);
        assert_eq!(Major::V17.to_string(), "PostgreSQL 17");
    }

    #[test]
    fn versions_without_redo_are_refused_by_name() {
        for (major, written) in Major::ALL.into_iter().zip([false, true, false, true, false]) {
            let expected = if written { Ok(()) } else { Err(Underivable::NotWritten(major)) };
            assert_eq!(major.check_written(), expected);
        }
        assert_eq!(Underivable::NotWritten(Major::V16).to_string(), "redo is not written for PostgreSQL 16");
    }
}

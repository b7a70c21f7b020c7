//! Minor releases: most write the same log, some do not.

use super::major::Major;

/// A minor release of a major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The major version.
    pub major: Major,
    /// The number behind its point.
    pub minor: u32,
}

impl Release {
    /// Whether the record of a multixact also writes where the next one's members begin (`RecordNewMultiXact` in
    /// `access/transam/multixact.c`): since the releases of December 2025.
    #[must_use]
    pub const fn writes_next_offset(self) -> bool {
        self.minor
            >= match self.major {
                Major::V14 => 21,
                Major::V15 => 16,
                Major::V16 => 12,
                Major::V17 => 8,
                Major::V18 => 2,
            }
    }

    /// Whether GiST pages remember that tuples were deleted (`GistMarkTuplesDeleted`), which nothing reads: until the
    /// releases of November 2026.
    #[must_use]
    pub const fn marks_gist_deletions(self) -> bool {
        self.minor
            < match self.major {
                Major::V14 => 25,
                Major::V15 => 20,
                Major::V16 => 16,
                Major::V17 => 12,
                Major::V18 => 7,
            }
    }
}

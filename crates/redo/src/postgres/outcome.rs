//! What redo did to a block, and what it must know beside record and block.

/// What redo did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The block changed; its LSN is the record's end.
    Changed,
    /// The block changed, but its LSN stays (bits of visibility).
    ChangedKeepingLsn,
    /// The record only leans on the block: it is locked while others change.
    LockOnly,
    /// The block holds the record already: its LSN is not before the record's end.
    AlreadyThere,
}

/// Settings and properties of the server that change what redo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether changes of hint bits count as changes (`XLogHintBitIsNeeded`): with data checksums or `wal_log_hints`.
    pub hints_logged: bool,
    /// Whether GiST pages remember that tuples were deleted: [`super::release::Release::marks_gist_deletions`].
    pub marks_gist_deletions: bool,
}

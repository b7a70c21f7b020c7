//! Why a block cannot be derived from a record.

use super::major::Major;

/// Why redo cannot say what a block is after a record. It is a value for the caller to report and to answer with a
/// page image; the block that was being changed is to be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Underivable {
    /// The log is of a major version whose redo is not written.
    #[error("redo is not written for {0}")]
    NotWritten(Major),
    /// No redo is known for the record's resource manager and operation.
    #[error("resource manager {manager} operation {operation:#04x} is not known")]
    UnknownRecord {
        /// The resource manager's number.
        manager: u8,
        /// The operation: the upper four bits of the record's info byte.
        operation: u8,
    },
    /// The record's redo says nothing of a block reference of that number.
    #[error("resource manager {manager} operation {operation:#04x} has no block reference {id}")]
    UnknownReference {
        /// The resource manager's number.
        manager: u8,
        /// The operation.
        operation: u8,
        /// The reference's number in the record.
        id: u8,
    },
    /// The record sets a flag that this version does not know.
    #[error("unknown flags {0:#06x}")]
    UnknownFlags(u16),
    /// The record's data ends before the structure that should be there.
    #[error("the record's data is too short")]
    ShortRecord,
    /// The record's data is longer than, or contradicts, what it describes.
    #[error("the record's data does not fit its operation: {0}")]
    BadRecord(&'static str),
    /// The page is not one that the record can have been written for.
    #[error("the page does not fit the record: {0}")]
    BadPage(&'static str),
    /// A page image cannot be restored.
    #[error("the page image cannot be restored: {0}")]
    BadImage(&'static str),
}

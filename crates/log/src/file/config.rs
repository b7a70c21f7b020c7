//! The log's settings.

use std::time::Duration;

use super::OpenError;
use super::frame::{FRAME_HEADER_LEN, MAX_PAYLOAD};
use super::header::HEADER_BLOCK;

/// How the log uses its disk.
#[derive(Clone, Copy, Debug)]
pub struct FileConfig {
    /// The length of a new file, in bytes: a multiple of 4096. An entry never crosses the end of a file, so this also
    /// limits the entries. A file that an open has to make is shorter, so that opening is quick.
    pub file_bytes: u64,
    /// How many files are kept ready ahead of need.
    pub spare_files: usize,
    /// How long an entry that nobody waits for may wait for company before a sync.
    pub linger: Duration,
    /// Appends wait when so many bytes are not on disk yet.
    pub max_pending_bytes: u64,
}

impl Default for FileConfig {
    fn default() -> FileConfig {
        FileConfig {
            file_bytes: 64 << 20,
            spare_files: 1,
            linger: Duration::from_millis(3),
            max_pending_bytes: 64 << 20,
        }
    }
}

const LEAST_FILE_BYTES: u64 = 64 << 10;
const MOST_FILE_BYTES: u64 = 1 << 32;
/// The length of a file that an open has to make, unless files are shorter anyway: opening should be quick.
pub(super) const FIRST_FILE_BYTES: u64 = 8 << 20;

impl FileConfig {
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let possible = (LEAST_FILE_BYTES..=MOST_FILE_BYTES).contains(&self.file_bytes)
            && self.file_bytes.is_multiple_of(HEADER_BLOCK);
        let refusal = OpenError::BadFileBytes {
            file_bytes: self.file_bytes,
            min: LEAST_FILE_BYTES,
            max: MOST_FILE_BYTES,
        };
        possible.then_some(()).ok_or(refusal)
    }

    /// The longest payload, in bytes.
    pub(super) fn max_payload(&self) -> u64 {
        MAX_PAYLOAD.min(self.file_bytes - HEADER_BLOCK - FRAME_HEADER_LEN as u64)
    }
}

//! Page writes that the kernel splits, put together again.
//!
//! The kernel sometimes delivers one 8 KiB write of the engine as two or three WRITE requests: consecutive, in order,
//! with nothing of that inode between them while the writer lives, because it holds the inode's lock. Bytes up to the
//! last page boundary are logged at once; the rest, a *head*, is held until its continuation arrives and then logged
//! with it as one record. So no record ever holds a part of a page write.
//!
//! A page write begins on a boundary. A write that begins inside a page and continues no head is therefore no part of
//! a page write; it is logged as it is.
//!
//! ```text
//!   no head --WRITE that ends on a boundary----------------------------> no head   (all logged)
//!   no head --WRITE that ends inside a page that it began at or before-> head      (up to the boundary logged)
//!   head    --WRITE by the same handle where the head ends-------------> as above, head and write as one write
//!   head    --any other WRITE------------------------------------------> as without head; the head is dropped
//!   head    --RELEASE, FSYNC, truncation-------------------------------> no head   (docs/records/0001)
//! ```

use super::BLOCK;

/// The first bytes of a page whose write is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The file handle that wrote it.
    pub handle: u64,
    /// Where it begins in the file: a page boundary.
    pub start: u64,
    /// The bytes, fewer than a page.
    pub bytes: Vec<u8>,
    /// The file's size in bytes before it.
    pub old_size: u64,
}

/// What to do with one WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// It continues the head, so that the head's bytes come first.
    pub continues: bool,
    /// Log from here (the head's start, if it continues).
    pub log_from: u64,
    /// Log up to here; equal to `log_from` if there is nothing to log yet.
    pub log_to: u64,
    /// Hold from `log_to` up to here; equal to `log_to` if there is nothing to hold.
    pub hold_to: u64,
}

impl Head {
    /// Where it ends: where its continuation begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Whether it replaces bytes that the file has, so that logging it alone would tear a page.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.start < self.old_size
    }
}

/// Decides what to do with a WRITE of `len` bytes at `offset` by `handle` to a file written in pages.
#[must_use]
pub fn fragment(head: Option<&Head>, handle: u64, offset: u64, len: u64) -> Fragment {
    let continues = head.is_some_and(|head| head.handle == handle && head.end() == offset);
    let log_from = match head {
        Some(head) if continues => head.start,
        _ => offset,
    };
    let end = offset + len;
    let boundary = end - end % BLOCK;
    let log_to =
        if boundary < log_from || (boundary == log_from && log_from % BLOCK != 0) { end } else { boundary };
    Fragment { continues, log_from, log_to, hold_to: end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(start: u64, len: usize) -> Head {
        Head { handle: 7, start, bytes: vec![1; len], old_size: 0 }
    }

    #[test]
    fn what_becomes_of_each_write() {
        // (head, handle, offset, len) -> (continues, log_from, log_to, hold_to)
        let page = 8192;
        let held = |start, len| Some(head(start, len));
        for (given, handle, offset, len, expected) in [
            (None, 7, 0, page, (false, 0, page, page)),
            (None, 7, page, 2 * page, (false, page, 3 * page, 3 * page)),
            (None, 7, 0, 3840, (false, 0, 0, 3840)),
            (None, 7, 0, page + 100, (false, 0, page, page + 100)),
            (held(0, 3840), 7, 3840, 4352, (true, 0, page, page)),
            (held(0, 3840), 7, 3840, 256, (true, 0, 0, 4096)),
            (held(0, 4096), 7, 4096, 4096, (true, 0, page, page)),
            (held(page, 3840), 7, page + 3840, 4352 + 100, (true, page, 2 * page, 2 * page + 100)),
            (held(0, 3840), 8, 3840, 4352, (false, 3840, page, page)),
            (held(0, 3840), 7, page, page, (false, page, 2 * page, 2 * page)),
            (None, 7, 512, 512, (false, 512, 1024, 1024)),
            (None, 7, 4096, 4096, (false, 4096, page, page)),
            (None, 7, 4096, page, (false, 4096, page, page + 4096)),
        ] {
            let got = fragment(given.as_ref(), handle, offset, len);
            let got = (got.continues, got.log_from, got.log_to, got.hold_to);
            assert_eq!(got, expected, "{given:?} {handle} {offset} {len}");
        }
    }

    #[test]
    fn a_head_beyond_the_end_of_the_file_overwrites_nothing() {
        assert!(!Head { old_size: 8192, ..head(8192, 10) }.overwrites());
        assert!(Head { old_size: 8193, ..head(8192, 10) }.overwrites());
    }
}

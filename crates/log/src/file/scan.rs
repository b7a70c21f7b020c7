//! Reading one log file: frame after frame, and looking for what lies beyond a bad one.

use std::io;

use bytes::Bytes;

use super::disk::DiskFile;
use super::frame::{ALIGNMENT, Class, FRAME_HEADER_LEN, FrameHeader, MAGIC};

/// What there is at a position.
pub(super) enum At {
    /// A whole frame.
    Frame(FrameHeader, Bytes),
    /// The file ends before a frame could fit.
    NoRoom,
    /// Zeroes, as the log leaves them after its end.
    Blank,
    /// Anything else: a frame that was not written to its end, or was damaged.
    Bad,
}

/// What lies beyond a bad or missing frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beyond {
    /// No frame.
    Nothing,
    /// Frames that were written together with the bad one.
    Unsynced,
    /// A frame that was only written once the bad one had been synced.
    Synced,
}

/// One file, read through a window.
pub(super) struct FileScan<'a> {
    file: &'a dyn DiskFile,
    incarnation: u64,
    /// The position of the file's first byte.
    first: u64,
    /// Nothing at or after this position is read.
    end: u64,
    window: Vec<u8>,
    /// The position of the window's first byte.
    window_at: u64,
}

const WINDOW: u64 = 1 << 20;

impl<'a> FileScan<'a> {
    /// A scan of the file whose first byte is at position `first`, up to position `end`.
    pub(super) fn new(file: &'a dyn DiskFile, incarnation: u64, first: u64, end: u64) -> FileScan<'a> {
        FileScan { file, incarnation, first, end, window: Vec::new(), window_at: first }
    }

    /// `len` bytes from `position` on, or as many as there are before the end.
    fn bytes(&mut self, position: u64, len: u64) -> io::Result<&[u8]> {
        let len = len.min(self.end.saturating_sub(position));
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || position + len > window_end {
            let wanted = len.max(WINDOW).min(self.end - position);
            self.window.clear();
            self.window.resize(wanted as usize, 0);
            self.window_at = position;
            let read = self.file.read_at(position - self.first, &mut self.window);
            if read.is_err() {
                self.window.clear();
            }
            read?;
        }
        let start = (position - self.window_at) as usize;
        Ok(&self.window[start..start + len as usize])
    }

    /// What there is at `position`.
    pub(super) fn at(&mut self, position: u64) -> io::Result<At> {
        let incarnation = self.incarnation;
        let bytes = self.bytes(position, FRAME_HEADER_LEN as u64)?;
        if bytes.len() < FRAME_HEADER_LEN {
            return Ok(At::NoRoom);
        }
        let Some(header) = FrameHeader::decode(bytes, incarnation, position) else {
            let blank = bytes.iter().all(|byte| *byte == 0);
            return Ok(if blank { At::Blank } else { At::Bad });
        };
        let start = position + FRAME_HEADER_LEN as u64;
        let payload = self.bytes(start, header.payload_len.into())?;
        let whole = payload.len() == header.payload_len as usize
            && crc32c::crc32c(payload) == header.payload_checksum;
        Ok(if whole { At::Frame(header, Bytes::copy_from_slice(payload)) } else { At::Bad })
    }

    /// Looks at every place from `position` on where a frame of this log could start; `seen` gets the headers.
    fn headers_from(&mut self, position: u64, mut seen: impl FnMut(FrameHeader)) -> io::Result<()> {
        let incarnation = self.incarnation;
        let mut at = position.next_multiple_of(ALIGNMENT);
        while at + FRAME_HEADER_LEN as u64 <= self.end {
            let bytes = self.bytes(at, WINDOW)?;
            let mut offset = 0;
            while offset + FRAME_HEADER_LEN <= bytes.len() {
                if bytes[offset..offset + MAGIC.len()] == MAGIC {
                    FrameHeader::decode(&bytes[offset..], incarnation, at + offset as u64).map(&mut seen);
                }
                offset += ALIGNMENT as usize;
            }
            at += offset as u64;
        }
        Ok(())
    }

    /// What lies beyond the bad or missing frame at `position`. A group of frames is written only after the group
    /// before it was synced, and says so: a header with a higher flushed mark proves that the bad frame was on disk.
    pub(super) fn beyond(&mut self, position: u64) -> io::Result<Beyond> {
        let mut beyond = Beyond::Nothing;
        self.headers_from(position, |header| {
            let shows = if header.flushed > position { Beyond::Synced } else { Beyond::Unsynced };
            beyond = beyond.max(shows);
        })?;
        Ok(beyond)
    }

    /// The positions of whole entries from `position` on.
    pub(super) fn entries_from(&mut self, position: u64) -> io::Result<Vec<u64>> {
        let mut candidates = Vec::new();
        self.headers_from(position, |header| {
            if header.class == Class::Entry {
                candidates.push(header.position);
            }
        })?;
        let mut whole = Vec::new();
        for candidate in candidates {
            if matches!(self.at(candidate)?, At::Frame(..)) {
                whole.push(candidate);
            }
        }
        Ok(whole)
    }
}

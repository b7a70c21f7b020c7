//! Entries in memory: those that wait for the disk, and the newest of those that are on it.
//!
//! The queue also gives every entry its position. It is plain state without I/O; [`super::NodeLog`] keeps it under a
//! lock.

use std::collections::VecDeque;

use bytes::Bytes;
use zorya_types::VolumeId;

use super::frame::{Class, FRAME_HEADER_LEN, FrameHeader, frame_len};
use super::header::HEADER_BLOCK;

/// Bytes of written entries that are kept, so that reading what was just appended needs no disk.
const RECENT_BYTES: u64 = 8 << 20;
/// Frame bytes after which a group is full and written, whoever else waits.
const GROUP_BYTES: u64 = 8 << 20;

/// An entry with its place.
#[derive(Clone)]
pub(super) struct Queued {
    pub(super) position: u64,
    pub(super) volume: VolumeId,
    pub(super) kind: u8,
    pub(super) payload: Bytes,
    payload_checksum: u32,
}

impl Queued {
    /// The position after its frame.
    pub(super) fn end(&self) -> u64 {
        self.position + frame_len(self.payload.len() as u64)
    }

    /// The memory that it takes, about.
    fn held_bytes(&self) -> u64 {
        (size_of::<Queued>() + self.payload.len()) as u64
    }

    /// Its frame's header, for a group that is written when everything below `flushed` is on disk.
    pub(super) fn header(&self, flushed: u64) -> FrameHeader {
        FrameHeader {
            class: Class::Entry,
            kind: self.kind,
            volume: self.volume,
            payload_len: self.payload.len() as u32,
            payload_checksum: self.payload_checksum,
            position: self.position,
            flushed,
        }
    }
}

/// An entry that was not given a place yet; its checksum is computed outside of any lock.
pub(super) struct Unplaced {
    pub(super) volume: VolumeId,
    pub(super) kind: u8,
    payload: Bytes,
    payload_checksum: u32,
}

impl Unplaced {
    /// Copies the pieces together.
    pub(super) fn new(volume: VolumeId, kind: u8, pieces: &[Bytes]) -> Unplaced {
        let mut payload = Vec::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| payload.extend_from_slice(piece));
        let payload_checksum = crc32c::crc32c(&payload);
        Unplaced { volume, kind, payload: Bytes::from(payload), payload_checksum }
    }

    /// Bytes of its frame.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(self.payload.len() as u64)
    }
}

/// The queue.
pub(super) struct Queue {
    /// Ordered by position: first written ones, then those that wait.
    entries: VecDeque<Queued>,
    /// The memory that all of them take.
    held_bytes: u64,
    /// Frame bytes of those that wait or are being written.
    pending_bytes: u64,
    /// Where the next entry goes if it fits.
    next: u64,
    /// The end of the file that the next entry goes to.
    file_end: u64,
    /// That file's length, in bytes.
    file_len: u64,
    /// The length of the files after that one, in bytes.
    file_bytes: u64,
    /// Entries from here on wait to be taken.
    taken: u64,
    /// Entries below are on disk.
    durable: u64,
    /// Somebody waits for the entries below.
    urgent: u64,
}

impl Queue {
    /// An empty queue for a log that goes on at `next`, in a file of `file_len` bytes that ends at `file_end`.
    pub(super) fn new(next: u64, file_end: u64, file_len: u64, file_bytes: u64) -> Queue {
        Queue {
            entries: VecDeque::new(),
            held_bytes: 0,
            pending_bytes: 0,
            next,
            file_end,
            file_len,
            file_bytes,
            taken: next,
            durable: next,
            urgent: 0,
        }
    }

    /// Gives an entry its position and queues it. It never crosses the end of a file.
    pub(super) fn push(&mut self, entry: Unplaced, urgent: bool) -> u64 {
        if self.next + entry.frame_len() > self.file_end {
            self.next = self.file_end + HEADER_BLOCK;
            self.file_end += self.file_bytes;
            self.file_len = self.file_bytes;
        }
        let Unplaced { volume, kind, payload, payload_checksum } = entry;
        let entry = Queued { position: self.next, volume, kind, payload, payload_checksum };
        let (position, end) = (entry.position, entry.end());
        assert!(
            end <= self.file_end,
            "an entry of {position}..{end} does not fit in a file up to {}",
            self.file_end
        );
        self.held_bytes += entry.held_bytes();
        self.pending_bytes += end - position;
        self.next = end;
        if urgent {
            self.urgent = end;
        }
        self.entries.push_back(entry);
        position
    }

    /// Takes the place of a mark, if the file has room for one and nothing waits.
    pub(super) fn place_mark(&mut self) -> Option<u64> {
        self.has_room_for_mark().then(|| {
            let position = self.next;
            self.next += FRAME_HEADER_LEN as u64;
            self.taken = self.next;
            position
        })
    }

    /// Whether a mark could be written now.
    pub(super) fn has_room_for_mark(&self) -> bool {
        self.is_idle() && self.next + FRAME_HEADER_LEN as u64 <= self.file_end
    }

    /// The next group to write: entries of one file, in order, without a gap.
    pub(super) fn take_group(&mut self, file_end: u64) -> Vec<Queued> {
        let start = self.index_of(self.taken);
        let mut bytes = 0;
        let group: Vec<Queued> = self
            .entries
            .range(start..)
            .take_while(|entry| {
                let room = entry.end() <= file_end && (bytes == 0 || bytes < GROUP_BYTES);
                bytes += entry.end() - entry.position;
                room
            })
            .cloned()
            .collect();
        if let Some(last) = group.last() {
            self.taken = last.end();
        }
        group
    }

    /// Everything below `end` is on disk, `bytes` of frames more than before.
    pub(super) fn written(&mut self, end: u64, bytes: u64) {
        assert!(
            self.durable <= end && end <= self.taken,
            "durable {}..{end}, taken {}",
            self.durable,
            self.taken
        );
        self.durable = end;
        self.pending_bytes -= bytes;
        while self.held_bytes > RECENT_BYTES && self.entries.front().is_some_and(|entry| entry.position < end)
        {
            self.held_bytes -= self.entries.pop_front().map_or(0, |entry| entry.held_bytes());
        }
    }

    /// The entry at `position`, if memory still has it.
    pub(super) fn get(&self, position: u64) -> Option<&Queued> {
        self.entries.get(self.index_of(position)).filter(|entry| entry.position == position)
    }

    /// The position of the first entry that waits.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        Some(self.entries.get(self.index_of(self.taken))?.position)
    }

    /// Whether no entry waits to be taken.
    pub(super) fn is_idle(&self) -> bool {
        self.first_waiting().is_none()
    }

    /// Whether what waits should be written without waiting for company.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent > self.taken || self.is_full()
    }

    /// Whether so much waits that no company is needed.
    pub(super) fn is_full(&self) -> bool {
        self.pending_bytes >= GROUP_BYTES
    }

    /// Whether the file that entries go to is used enough for the next one to be made ready.
    pub(super) fn wants_next_file(&self) -> bool {
        self.file_end - self.next < self.file_len / 4 * 3
    }

    /// Frame bytes that are not on disk yet.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Everything that starts below is on disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Where the next entry goes if it fits.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn index_of(&self, position: u64) -> usize {
        self.entries.partition_point(|entry| entry.position < position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Unplaced {
        Unplaced::new(VolumeId(1), 1, &[Bytes::from(vec![1; len])])
    }

    #[test]
    fn an_entry_that_does_not_fit_goes_to_the_next_file_and_to_a_group_of_its_own() {
        let mut queue = Queue::new(4096, 8192, 8192, 16384);
        assert_eq!(queue.push(entry(1000), false), 4096);
        assert_eq!(queue.push(entry(1001), false), 4096 + 1064);
        assert_eq!(queue.push(entry(4000), false), 8192 + 4096);
        assert_eq!(queue.push(entry(10), false), 8192 + 4096 + 4064);
        assert_eq!(queue.take_group(8192).len(), 2);
        assert_eq!(queue.take_group(8192).len(), 0);
        assert_eq!(queue.first_waiting(), Some(12288));
        assert_eq!(queue.take_group(8192 + 16384).len(), 2);
        assert!(queue.is_idle());
    }

    #[test]
    fn urgency_ends_when_the_entry_is_taken() {
        let mut queue = Queue::new(4096, 1 << 20, 1 << 20, 1 << 20);
        queue.push(entry(10), false);
        assert!(!queue.is_urgent());
        queue.push(entry(10), true);
        queue.push(entry(10), false);
        assert!(queue.is_urgent());
        queue.take_group(1 << 20);
        assert!(!queue.is_urgent());
    }

    #[test]
    fn only_written_entries_are_evicted() {
        let mut queue = Queue::new(4096, 1 << 30, 1 << 30, 1 << 30);
        let positions: Vec<u64> = (0..12).map(|_| queue.push(entry(1 << 20), false)).collect();
        let first = queue.take_group(1 << 30);
        let end = first.last().map_or(0, Queued::end);
        let bytes = first.iter().map(|entry| entry.end() - entry.position).sum();
        assert!(queue.get(positions[0]).is_some());
        queue.written(end, bytes);
        assert!(queue.get(positions[4]).is_none());
        assert!(queue.get(positions[5]).is_some() && queue.get(positions[11]).is_some());
        assert!(queue.pending_bytes() > 0);
    }
}

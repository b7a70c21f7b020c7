//! The thread that writes: group commit over all volumes.
//!
//! Everything that waits is one group: one write, one fdatasync, and only then is the next group taken. A frame's
//! flushed mark is its group's start, so a later group's frame on disk proves that the earlier groups were synced.
//! After a failed write or sync the thread ends; it never tries again, because what the disk holds is then unknown.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::error::is_full;
use super::frame::{ALIGNMENT, Class, FRAME_HEADER_LEN, FrameHeader};
use super::header::{FileHeader, HEADER_BLOCK};
use super::queue::Queued;
use super::recover::LogFile;
use super::shared::Shared;
use super::spares::Spare;
use super::{LogEvent, NodeLogError, Position, Scars, names};

/// After so much quiet, a mark is written that says that the last entries were synced.
const QUIET: Duration = Duration::from_millis(100);
/// Writes end on a multiple of this, so that the kernel never has to read a block in order to write a part of it.
const BLOCK: u64 = 4096;
static ZEROES: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// The state of the thread.
pub(super) struct GroupWriter {
    pub(super) shared: Arc<Shared>,
    /// The file that is written.
    pub(super) current: LogFile,
    /// Where the log ends: the start of the next group.
    pub(super) end: u64,
    pub(super) scars: Scars,
    /// Nothing in the log says yet that the last entries were synced.
    pub(super) unmarked: bool,
    /// The planted bug: say that it is on disk without syncing.
    pub(super) skip_sync: bool,
    pub(super) events: Box<dyn Fn(LogEvent) + Send>,
}

enum Work {
    Group,
    Mark(u64),
    End,
}

impl GroupWriter {
    /// Runs until the log is closed or a write fails.
    pub(super) fn run(mut self) {
        loop {
            let done = match self.next_work() {
                Work::Group => self.write_group(),
                Work::Mark(position) => self.write_mark(position),
                Work::End => return,
            };
            match done {
                Ok(()) => {}
                Err(NodeLogError::Closed) => return,
                Err(error) => {
                    self.shared.stop(error.clone());
                    (self.events)(LogEvent::Failed(error));
                    return;
                }
            }
        }
    }

    fn next_work(&self) -> Work {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let quiet_until = Instant::now() + QUIET;
        let mut company_until = None;
        loop {
            let now = Instant::now();
            let waits = !state.queue.is_idle();
            if waits {
                let until = *company_until.get_or_insert(now + shared.config.linger);
                if state.queue.is_urgent() || state.closing || now >= until {
                    return Work::Group;
                }
                shared.work.wait_until(&mut state, until);
                continue;
            }
            let quiet = state.closing || now >= quiet_until;
            if self.unmarked
                && quiet
                && let Some(position) = state.queue.place_mark()
            {
                return Work::Mark(position);
            }
            if state.closing {
                return Work::End;
            }
            if self.unmarked && !quiet {
                shared.work.wait_until(&mut state, quiet_until);
            } else {
                shared.work.wait(&mut state);
            }
        }
    }

    fn write_group(&mut self) -> Result<(), NodeLogError> {
        let waiting = self.shared.state.lock().queue.first_waiting();
        if waiting.is_some_and(|position| position >= self.current.end()) {
            self.next_file()?;
        }
        let group = self.shared.state.lock().queue.take_group(self.current.end());
        let Some(last) = group.last() else { return Ok(()) };
        assert_eq!(group[0].position, self.end, "a group must start where the log ends");
        let end = last.end();
        let flushed = self.end;
        let frames = group.iter().map(|entry| (entry.header(flushed), &entry.payload[..]));
        self.write(frames, end)?;
        self.unmarked = true;
        self.finish(end, group.len() as u64, group.iter().map(|entry| entry.payload.len() as u64).sum());
        drop::<Vec<Queued>>(group);
        (self.events)(LogEvent::Durable(Position(end)));
        Ok(())
    }

    fn write_mark(&mut self, position: u64) -> Result<(), NodeLogError> {
        let header = FrameHeader {
            class: Class::Mark,
            kind: 0,
            volume: zorya_types::VolumeId(0),
            payload_len: 0,
            payload_checksum: 0,
            position,
            flushed: self.end,
        };
        assert_eq!(position, self.end, "a mark must stand where the log ends");
        self.write([(header, &[][..])].into_iter(), header.end())?;
        self.unmarked = false;
        self.finish(header.end(), 0, 0);
        Ok(())
    }

    /// Writes frames from the end of the log up to position `end`, zeroes after them, and syncs.
    fn write<'a>(
        &mut self,
        frames: impl Iterator<Item = (FrameHeader, &'a [u8])>,
        end: u64,
    ) -> Result<(), NodeLogError> {
        let incarnation = self.shared.incarnation;
        let frames: Vec<_> = frames.map(|(header, payload)| (header.encode(incarnation), payload)).collect();
        let mut slices = Vec::with_capacity(frames.len() * 3 + 1);
        for (header, payload) in &frames {
            let padding = payload.len().next_multiple_of(ALIGNMENT as usize) - payload.len();
            slices.extend([IoSlice::new(header), IoSlice::new(payload), IoSlice::new(&ZEROES[..padding])]);
        }
        slices.push(IoSlice::new(&ZEROES[..self.zeroes_after(end)]));
        let offset = self.end - self.current.first;
        self.current.file.write_at(offset, &mut slices).map_err(stopped("a write"))?;
        let started = Instant::now();
        if !self.skip_sync {
            self.current.file.sync().map_err(stopped("an fdatasync"))?;
        }
        let mut state = self.shared.state.lock();
        state.counters.fsyncs += 1;
        state.counters.sync_time += started.elapsed();
        state.counters.written_bytes += end - self.end;
        Ok(())
    }

    /// Zeroes to write after the end: at least a frame header's worth, so that the end is told from what the file held
    /// before, and up to a block.
    fn zeroes_after(&self, end: u64) -> usize {
        let upto = (end + FRAME_HEADER_LEN as u64).next_multiple_of(BLOCK).min(self.current.end());
        (upto - end) as usize
    }

    fn finish(&mut self, end: u64, entries: u64, payload_bytes: u64) {
        let mut state = self.shared.state.lock();
        let bytes = if entries > 0 { end - self.end } else { 0 };
        state.queue.written(end, bytes);
        state.counters.entries += entries;
        state.counters.payload_bytes += payload_bytes;
        let wants = state.wants_spare(self.shared.config.spare_files);
        drop(state);
        self.end = end;
        self.shared.room.notify_all();
        if wants {
            self.shared.housekeeping.notify_all();
        }
    }

    /// Goes on in the next file; waits for one if the disk is full.
    fn next_file(&mut self) -> Result<(), NodeLogError> {
        let spare = self.wait_for_spare()?;
        let header = FileHeader {
            incarnation: self.shared.incarnation,
            number: self.current.number + 1,
            first: self.current.end(),
            len: spare.len,
            resumes: self.end,
            scars: self.scars,
        };
        let file =
            put_into_use(&*self.shared.disk, spare, &header).map_err(stopped("starting a log file"))?;
        self.current = file.clone();
        self.end = file.first + HEADER_BLOCK;
        self.shared.state.lock().files.push(file);
        Ok(())
    }

    fn wait_for_spare(&self) -> Result<Spare, NodeLogError> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        loop {
            if let Some(spare) = state.spares.pop() {
                state.needs_spare = false;
                if state.full.take().is_some() {
                    drop(state);
                    (self.events)(LogEvent::Room);
                }
                return Ok(spare);
            }
            state.needs_spare = true;
            shared.housekeeping.notify_all();
            match state.no_spare.clone() {
                Some(error) if !is_full(&error) => {
                    return Err(NodeLogError::Stopped { step: "making a log file", source: error });
                }
                Some(_) if state.closing => return Err(NodeLogError::Closed),
                Some(error) if state.full.is_none() => {
                    let error = NodeLogError::Full(error);
                    state.full = Some(error.clone());
                    drop(state);
                    shared.room.notify_all();
                    (self.events)(LogEvent::Full(error));
                    state = shared.state.lock();
                }
                _ => shared.work.wait(&mut state),
            }
        }
    }
}

fn stopped(step: &'static str) -> impl FnOnce(io::Error) -> NodeLogError {
    move |error| NodeLogError::Stopped { step, source: Arc::new(error) }
}

/// Makes a spare the log's next file. The header is on disk before the file has its name.
pub(super) fn put_into_use(disk: &dyn Disk, spare: Spare, header: &FileHeader) -> io::Result<LogFile> {
    assert_eq!(spare.len, header.len, "the header must tell the file's length");
    let block = header.encode();
    spare.file.write_at(0, &mut [IoSlice::new(&block), IoSlice::new(&ZEROES[..BLOCK as usize])])?;
    spare.file.sync()?;
    disk.rename(&spare.name, &names::log_name(header.number))?;
    disk.sync_names()?;
    Ok(LogFile { number: header.number, first: header.first, len: header.len, file: spare.file })
}

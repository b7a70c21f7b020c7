//! Writing: group commit over all volumes.
//!
//! Everything that waits is one group: one write, one fdatasync, and only then is the next group taken. A frame's
//! flushed mark is its group's start, so a later group's frame on disk proves that the earlier groups were synced.
//! After a failed write or sync nothing is ever written again, because what the disk holds is then unknown.
//!
//! Whoever holds the [`GroupWriter`] writes. That is the log's own thread, or, for a small group on a quick disk, the
//! thread that waits for it: handing the group over and being woken again costs more than such a disk takes.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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

/// A group of more bytes than this is for the log's thread.
const SMALL: u64 = 128 << 10;
/// A disk is quick while its last write and sync took no longer than this together.
const QUICK: Duration = Duration::from_millis(1);

/// What writing needs; one at a time has it.
pub(super) struct GroupWriter {
    pub(super) shared: Arc<Shared>,
    /// The file that is written.
    pub(super) current: LogFile,
    /// Where the log ends: the start of the next group.
    pub(super) end: u64,
    pub(super) scars: Scars,
    /// How long the last write and sync took.
    pub(super) took: Duration,
    /// The planted bug: say that it is on disk without syncing.
    pub(super) skip_sync: bool,
    pub(super) events: Box<dyn Fn(LogEvent) + Send>,
}

/// The log's thread: writes until the log is closed or stops.
pub(super) fn run(shared: &Shared, writer: &Mutex<GroupWriter>) {
    loop {
        let work = next_work(shared);
        let mut writer = writer.lock();
        let goes_on = match work {
            Work::Group => writer.attempt(GroupWriter::write_group),
            Work::Mark => writer.attempt(GroupWriter::write_mark),
            Work::End => return,
        };
        if !goes_on {
            return;
        }
    }
}

/// Has what somebody waits for written: by this thread if that is quick, else by the log's. Returns at once if nobody
/// waits.
pub(super) fn hurry(shared: &Shared, writer: &Mutex<GroupWriter>) {
    let state = shared.state.lock();
    let (urgent, small) = (state.queue.is_urgent(), state.queue.pending_bytes() <= SMALL);
    let waiting = state.queue.first_waiting();
    drop(state);
    if !urgent {
        return;
    }
    let mut own = writer.try_lock().filter(|writer| {
        small && writer.took <= QUICK && waiting.is_some_and(|position| position < writer.current.end())
    });
    match &mut own {
        Some(writer) => {
            writer.attempt(GroupWriter::write_group);
        }
        None => {
            shared.work.notify_one();
        }
    }
}

enum Work {
    Group,
    Mark,
    End,
}

/// Waits for something to do. By the time that it is done, another may have done it.
fn next_work(shared: &Shared) -> Work {
    let mut state = shared.state.lock();
    let mut company_until = None;
    loop {
        let now = Instant::now();
        if state.stopped.is_some() {
            return Work::End;
        }
        if !state.queue.is_idle() {
            let until = *company_until.get_or_insert(now + shared.config.linger);
            if state.queue.is_urgent() || state.closing || now >= until {
                return Work::Group;
            }
            shared.work.wait_until(&mut state, until);
            continue;
        }
        company_until = None;
        let quiet_from = state.unmarked_since.map(|since| since + QUIET);
        match quiet_from {
            Some(from) if (state.closing || now >= from) && state.queue.has_room_for_mark() => {
                return Work::Mark;
            }
            _ if state.closing => return Work::End,
            Some(from) if now < from => {
                shared.work.wait_until(&mut state, from);
            }
            _ => shared.work.wait(&mut state),
        }
    }
}

impl GroupWriter {
    /// Writes, and says whether there may be more to write. A failure stops the log for good.
    fn attempt(&mut self, write: impl FnOnce(&mut GroupWriter) -> Result<(), NodeLogError>) -> bool {
        if self.shared.state.lock().stopped.is_some() {
            return false;
        }
        match write(self) {
            Ok(()) => true,
            Err(NodeLogError::Closed) => false,
            Err(error) => {
                self.shared.stop(error.clone());
                (self.events)(LogEvent::Failed(error));
                false
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
        self.finish(end, group.len() as u64, group.iter().map(|entry| entry.payload.len() as u64).sum());
        drop::<Vec<Queued>>(group);
        (self.events)(LogEvent::Durable(Position(end)));
        Ok(())
    }

    fn write_mark(&mut self) -> Result<(), NodeLogError> {
        let place = self.shared.state.lock().queue.place_mark();
        let Some(position) = place else { return Ok(()) };
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
        let began = Instant::now();
        self.current.file.write_at(offset, &mut slices).map_err(stopped("a write"))?;
        let started = Instant::now();
        if !self.skip_sync {
            self.current.file.sync().map_err(stopped("an fdatasync"))?;
        }
        self.took = began.elapsed();
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
        let was_marked = state.unmarked_since.is_none();
        state.unmarked_since = (entries > 0).then(Instant::now);
        drop(state);
        self.end = end;
        if was_marked && entries > 0 {
            // The log's thread writes the mark later.
            self.shared.work.notify_one();
        }
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

//! The node's log on disk: one per storage node, shared by all its volumes.
//!
//! What it is: numbered files of a fixed size, written from front to back with frames, one frame per entry. It is drawn
//! to the byte in `docs/formats/node-log.md`. It promises: an entry that was reported durable is found by every later
//! open, in order, exactly once and unchanged, or the open says [`Tail::Damaged`]; nothing is found that was not
//! appended. It relies on: the disk keeping what was synced, and writing a 512-byte sector whole or not at all.
//!
//! - **On retry**: an append is not retried by anyone; a failed sync is final for this process.
//! - **On crash**: open reads the log from its oldest file, and syncs what it found before it says so.
//! - **When the disk is full**: files are made ahead and never grow, so only the making of the next file can fail. Then
//!   appends are refused, what was taken waits in memory, and all goes on when there is room.
//!
//! Roles: [`config`] is the settings; [`queue`] gives places and holds what waits; [`sync`] writes groups; [`keeper`] and [`spares`] keep files
//! ready; [`recover`] and [`scan`] read a log at open; [`frame`], [`header`] and [`names`] are the format; [`disk`] and [`direct`] are
//! the I/O.

mod config;
mod direct;
pub mod disk;
mod error;
mod frame;
mod header;
mod keeper;
mod names;
mod queue;
mod read;
mod recover;
mod scan;
mod shared;
mod spares;
mod sync;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use zorya_types::planted::{PlantedBug, is_planted};
use zorya_types::{Incarnation, VolumeId};
use zorya_wire::message::log::Tail;

pub use config::FileConfig;
pub use error::{NodeLogError, OpenError, ReadError};

use config::FIRST_FILE_BYTES;
use disk::Disk;
use header::{FileHeader, HEADER_BLOCK};
use queue::{Queue, Unplaced};
use recover::{LogFile, Recovered};
use shared::{Shared, State};
use spares::Spare;

/// A position in the node's log, in bytes since its first file. An entry is named by the position of its frame. Never
/// reused; entries have increasing positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An entry that the log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub position: Position,
    /// Whose it is.
    pub volume: VolumeId,
    /// What it is, in its owner's words.
    pub kind: u8,
    /// The entry.
    pub payload: Bytes,
}

/// What the log tells its owner. Called on the log's thread or within [`NodeLog::hurry`]; must not block.
#[derive(Clone, Debug)]
pub enum LogEvent {
    /// Everything that starts below this is on disk.
    Durable(Position),
    /// The log stopped for good. Entries that were not durable are not.
    Failed(NodeLogError),
    /// The disk is full: appends are refused, what was taken waits.
    Full(NodeLogError),
    /// There is room again: what waited is written, appends are taken.
    Room,
}

/// Where the log went on after a bad end. A volume whose newest resolved opening lies above both is not touched by
/// them; see `docs/formats/node-log.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scars {
    /// The newest torn end: whether entries were lost there is not known.
    pub torn: Option<Position>,
    /// The newest damaged end: entries that had been synced were lost there.
    pub damaged: Option<Position>,
}

impl Scars {
    /// How far one vouches for a volume whose state below `resolved` no longer matters.
    #[must_use]
    pub fn tail_above(&self, resolved: Position) -> Tail {
        let above = |scar: Option<Position>| scar.is_some_and(|scar| scar >= resolved);
        match (above(self.damaged), above(self.torn)) {
            (true, _) => Tail::Damaged,
            (false, true) => Tail::Torn,
            (false, false) => Tail::Clean,
        }
    }
}

/// What the log holds and did, for status and metrics. Counts are since the open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files of the log, those to be recycled not counted.
    pub files: usize,
    /// Their bytes.
    pub file_bytes: u64,
    /// Files that are ready to be used.
    pub spare_files: usize,
    /// Their bytes.
    pub spare_bytes: u64,
    /// The position of the oldest file.
    pub oldest: Position,
    /// Where the next entry goes.
    pub next: Position,
    /// Everything that starts below is on disk.
    pub durable: Position,
    /// Bytes that were appended and are not on disk yet.
    pub pending_bytes: u64,
    /// Entries written.
    pub entries: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// Bytes written with frame headers and padding.
    pub written_bytes: u64,
    /// Syncs, one for each group.
    pub fsyncs: u64,
    /// The time that they took together.
    pub sync_time: Duration,
    /// The log takes no entry now.
    pub full: bool,
    /// The log takes no entry any more.
    pub stopped: bool,
}

/// An open node log. Dropping it is the same as [`NodeLog::shutdown`].
pub struct NodeLog {
    shared: Arc<Shared>,
    writer: Arc<Mutex<sync::GroupWriter>>,
    scars: Scars,
    beyond_damage: Vec<Position>,
    threads: Vec<JoinHandle<()>>,
}

impl NodeLog {
    /// Opens the log in `dir`, or makes one. `found` gets every entry of the proven log, from the oldest file on; all
    /// of them are on disk when this returns. The tail says how the log ended *this time* ([`NodeLog::scars`] for
    /// earlier times). `events` is called from then on.
    pub fn open(
        dir: &Path,
        config: FileConfig,
        found: impl FnMut(Found),
        events: impl Fn(LogEvent) + Send + 'static,
    ) -> Result<(NodeLog, Tail), OpenError> {
        NodeLog::open_on(Arc::new(disk::Directory::open(dir)?), config, found, events)
    }

    /// As [`NodeLog::open`], on any disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: FileConfig,
        mut found: impl FnMut(Found),
        events: impl Fn(LogEvent) + Send + 'static,
    ) -> Result<(NodeLog, Tail), OpenError> {
        config.check()?;
        let mut recovered = recover::recover(&*disk, &mut found)?;
        let (mut spares, mut next_spare) =
            spares::found(&*disk, config.file_bytes, config.spare_files + 1)
                .map_err(OpenError::io("look after the spare files", "the directory"))?;
        let incarnation = recovered.incarnation.unwrap_or_else(rand::random);
        let went_on = recovered.tail == Tail::Clean && !recovered.files.is_empty();
        if !went_on {
            let file = resume(&*disk, &config, &recovered, incarnation, &mut spares, &mut next_spare)?;
            recovered.end = file.first + HEADER_BLOCK;
            recovered.unmarked = false;
            recovered.files.push(file);
        }
        let tail = recovered.tail;
        let queue = {
            let file = newest(&recovered);
            Queue::new(recovered.end, file.end(), file.len, config.file_bytes)
        };
        let state = State::new(queue, recovered.files.clone(), spares, next_spare);
        let shared = Arc::new(Shared::new(disk, config, incarnation, state));
        let log = NodeLog::start(shared, recovered, Box::new(events))?;
        Ok((log, tail))
    }

    fn start(
        shared: Arc<Shared>,
        recovered: Recovered,
        events: Box<dyn Fn(LogEvent) + Send>,
    ) -> Result<NodeLog, OpenError> {
        let writer = sync::GroupWriter {
            shared: shared.clone(),
            current: newest(&recovered).clone(),
            end: recovered.end,
            scars: recovered.scars,
            took: Duration::ZERO,
            skip_sync: is_planted(PlantedBug::NoFdatasync),
            events,
        };
        shared.state.lock().unmarked_since = recovered.unmarked.then(Instant::now);
        let writer = Arc::new(Mutex::new(writer));
        let (scars, beyond_damage) = (recovered.scars, recovered.beyond_damage);
        let mut log = NodeLog {
            shared: shared.clone(),
            writer: writer.clone(),
            scars,
            beyond_damage,
            threads: Vec::new(),
        };
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(OpenError::io("start the thread", name))
        };
        let syncing = shared.clone();
        log.threads.push(spawn("log-sync", Box::new(move || sync::run(&syncing, &writer)))?);
        log.threads.push(spawn("log-files", Box::new(move || keeper::run(&shared)))?);
        Ok(log)
    }

    /// Queues an entry and returns its position; [`LogEvent::Durable`] tells when it is on disk. Waits only while more
    /// than the configured bytes are pending. `urgent`: somebody waits for it, and the caller calls [`NodeLog::hurry`]
    /// once it has appended everything that it knows of.
    pub fn append(
        &self,
        volume: VolumeId,
        kind: u8,
        payload: &[Bytes],
        urgent: bool,
    ) -> Result<Position, NodeLogError> {
        let config = &self.shared.config;
        let len: u64 = payload.iter().map(|piece| piece.len() as u64).sum();
        if len > config.max_payload() {
            return Err(NodeLogError::TooLong { len, max: config.max_payload() });
        }
        let entry = Unplaced::new(volume, kind, payload);
        let mut state = self.shared.state.lock();
        loop {
            if let Some(refusal) = state.refusal() {
                return Err(refusal);
            }
            let pending = state.queue.pending_bytes();
            if pending == 0 || pending + entry.frame_len() <= config.max_pending_bytes {
                break;
            }
            self.shared.work.notify_one();
            self.shared.room.wait(&mut state);
        }
        let was_idle = state.queue.is_idle();
        let position = state.queue.push(entry, urgent);
        let wake = was_idle && !urgent || state.queue.is_full();
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(Position(position))
    }

    /// Has urgent entries written and synced: by the calling thread where that is quick, else by the log's.
    pub fn hurry(&self) {
        sync::hurry(&self.shared, &self.writer);
    }

    /// Nothing that starts below `position` is needed any more: whole files below it are recycled.
    pub fn release_below(&self, position: Position) {
        let mut state = self.shared.state.lock();
        let written = state.files.len() - 1;
        let unneeded = state.files[..written].iter().take_while(|file| file.end() <= position.0).count();
        let files: Vec<LogFile> = state.files.drain(..unneeded).collect();
        state.released.extend(files);
        drop(state);
        if unneeded > 0 {
            self.shared.housekeeping.notify_all();
        }
    }

    /// What the log holds and did.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.shared.state.lock();
        let counters = state.counters;
        Usage {
            files: state.files.len(),
            file_bytes: state.files.iter().map(|file| file.len).sum(),
            spare_files: state.spares.len(),
            spare_bytes: state.spares.iter().map(|spare| spare.len).sum(),
            oldest: Position(state.files.first().map_or(0, |file| file.first)),
            next: Position(state.queue.next()),
            durable: Position(state.queue.durable()),
            pending_bytes: state.queue.pending_bytes(),
            entries: counters.entries,
            payload_bytes: counters.payload_bytes,
            written_bytes: counters.written_bytes,
            fsyncs: counters.fsyncs,
            sync_time: counters.sync_time,
            full: state.full.is_some(),
            stopped: state.stopped.is_some(),
        }
    }

    /// The random number that this log was given when it was made. A wiped disk gets another.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.shared.incarnation)
    }

    /// The bad ends that this log went on after, those of earlier opens included.
    #[must_use]
    pub fn scars(&self) -> Scars {
        self.scars
    }

    /// Entries that were found whole beyond damage, oldest first, to be had by [`NodeLog::read`]. What was between them
    /// and the proven log is missing, so they prove nothing about a volume's records; but a promise among them binds.
    #[must_use]
    pub fn beyond_damage(&self) -> &[Position] {
        &self.beyond_damage
    }

    /// Writes what waits, syncs it and ends the threads. What the disk has no room for is lost, as in a crash.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for NodeLog {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            // An owner may be dropped by its own callback, on the log's thread; that one ends by itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the node's log panicked");
            }
        }
    }
}

/// The newest file.
fn newest(recovered: &Recovered) -> &LogFile {
    recovered.files.last().expect("a log that is open has a file")
}

/// Starts the file that a new log begins with, or that goes on after a bad end. The old file keeps its bytes.
fn resume(
    disk: &dyn Disk,
    config: &FileConfig,
    recovered: &Recovered,
    incarnation: u64,
    spares: &mut Vec<Spare>,
    next_spare: &mut u64,
) -> Result<LogFile, OpenError> {
    let last = recovered.files.last();
    let number = last.map_or(1, |last| last.number + 1);
    let spare = match spares.pop() {
        Some(spare) => spare,
        None => {
            let len = config.file_bytes.min(FIRST_FILE_BYTES);
            *next_spare += 1;
            let made = spares::make(disk, *next_spare - 1, len, &|| true);
            let made = made.and_then(|made| made.ok_or_else(|| std::io::ErrorKind::Interrupted.into()));
            made.map_err(|error| OpenError::making(names::log_name(number), len, error))?
        }
    };
    let header = FileHeader {
        incarnation,
        number,
        first: last.map_or(0, LogFile::end),
        len: spare.len,
        resumes: recovered.end,
        scars: recovered.scars,
    };
    sync::put_into_use(disk, spare, &header).map_err(OpenError::io("start", names::log_name(header.number)))
}

//! What the log's threads and its callers share.
//!
//! | thread | owns | born | dies |
//! |---|---|---|---|
//! | `log-sync` ([`super::sync`]) | what is left to it: groups that nobody waits for, large ones, all on a slow disk | at open | at shutdown, or when a write or sync failed |
//! | `log-files` ([`super::keeper`]) | making, recycling and removing files | at open | at shutdown |
//!
//! Nobody does I/O while holding the lock of the state. Who holds the [`super::sync::GroupWriter`] owns the file that is
//! written, and calls `events`; its lock is taken before that of the state.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::Disk;
use super::queue::Queue;
use super::recover::LogFile;
use super::spares::Spare;
use super::{FileConfig, NodeLogError};

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: FileConfig,
    pub(super) incarnation: u64,
    pub(super) state: Mutex<State>,
    /// For the sync thread: there are entries, or a spare, or the end.
    pub(super) work: Condvar,
    /// For callers of append: less is pending, or nothing will be taken any more.
    pub(super) room: Condvar,
    /// For the file keeper: something was released, a file is wanted, or the end.
    pub(super) housekeeping: Condvar,
}

pub(super) struct State {
    pub(super) queue: Queue,
    /// The log's files, oldest first.
    pub(super) files: Vec<LogFile>,
    /// Files that the log no longer needs, for the keeper.
    pub(super) released: VecDeque<LogFile>,
    pub(super) spares: Vec<Spare>,
    pub(super) next_spare: u64,
    /// Why the keeper could not make a file, the last time it tried. Cleared when it could.
    pub(super) no_spare: Option<Arc<io::Error>>,
    /// The sync thread waits for a spare.
    pub(super) needs_spare: bool,
    /// Nothing in the log says yet that the last entries were synced, which were written then.
    pub(super) unmarked_since: Option<Instant>,
    /// Set while the disk is full.
    pub(super) full: Option<NodeLogError>,
    /// Set once, for good.
    pub(super) stopped: Option<NodeLogError>,
    pub(super) closing: bool,
    pub(super) counters: Counters,
}

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) entries: u64,
    pub(super) payload_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) fsyncs: u64,
    pub(super) sync_time: Duration,
}

impl State {
    /// The state of a log that was just opened.
    pub(super) fn new(queue: Queue, files: Vec<LogFile>, spares: Vec<Spare>, next_spare: u64) -> State {
        State {
            queue,
            files,
            released: VecDeque::new(),
            spares,
            next_spare,
            no_spare: None,
            needs_spare: false,
            unmarked_since: None,
            full: None,
            stopped: None,
            closing: false,
            counters: Counters::default(),
        }
    }

    /// Why an append is refused now.
    pub(super) fn refusal(&self) -> Option<NodeLogError> {
        let closed = self.closing.then_some(NodeLogError::Closed);
        self.stopped.clone().or(self.full.clone()).or(closed)
    }

    /// Whether the keeper should make a file.
    pub(super) fn wants_spare(&self, spare_files: usize) -> bool {
        self.spares.is_empty() && self.needs_spare
            || self.spares.len() < spare_files && self.queue.wants_next_file()
    }
}

impl Shared {
    /// What the threads of a log in this state share.
    pub(super) fn new(disk: Arc<dyn Disk>, config: FileConfig, incarnation: u64, state: State) -> Shared {
        let (work, room, housekeeping) = (Condvar::new(), Condvar::new(), Condvar::new());
        Shared { disk, config, incarnation, state: Mutex::new(state), work, room, housekeeping }
    }

    /// Stops the log for good: nothing is taken any more.
    pub(super) fn stop(&self, error: NodeLogError) {
        let mut state = self.state.lock();
        state.stopped.get_or_insert(error);
        drop(state);
        self.room.notify_all();
        self.housekeeping.notify_all();
    }

    /// Asks the threads to end.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_all();
        self.housekeeping.notify_all();
    }
}

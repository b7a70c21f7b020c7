//! The lock, the one queue of parked changes, and what happens after unlocking.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::{Mutex, MutexGuard};
use zorya_storage::store::{ReadFailed, VolumeStore};
use zorya_types::{GroupId, Key};

use super::state::{State, Stop, Wait};
use crate::errno::FsError;

/// A request to run again, or to run at last.
pub type Task = Box<dyn FnOnce(&Arc<Volume>) + Send>;

/// Work for the housekeeping thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Drop a range of the kernel's cache of an inode, then call [`Volume::invalidated`].
    Invalidate {
        /// The inode.
        ino: u64,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Call [`Volume::settle_waited_for`] if the head of this inode is still held after a grace period.
    SettleHead {
        /// The inode.
        ino: u64,
    },
}

/// How the first change of the queue is waiting. At most one wait is under way.
///
/// ```text
///   Idle --a change parks--> Asking --the store took the callback--> Waiting --callback--> Idle or Asking
///                              \--callback within the call--> Early --> Idle or Asking
/// ```
#[derive(Debug, Default)]
pub(super) enum Wakeup {
    /// The queue is empty.
    #[default]
    Idle,
    /// The store is being asked.
    Asking,
    /// The store will call back.
    Waiting,
    /// The store called back while it was being asked.
    Early(Option<FsError>),
}

/// A change that waits in the queue.
pub(super) trait Parked: Send {
    /// Tries again. An error is what it waits for now.
    fn attempt(&mut self, state: &mut State) -> Result<(), Wait>;
    /// Gives up.
    fn fail(&mut self, error: FsError);
    /// Answers, after `attempt` returned `Ok` or after `fail`.
    fn answer(self: Box<Self>);
}

struct ParkedChange<T, A, D> {
    attempt: A,
    done: D,
    outcome: Option<Result<T, FsError>>,
}

impl<T, A, D> Parked for ParkedChange<T, A, D>
where
    T: Send,
    A: FnMut(&mut State) -> Result<T, Stop> + Send,
    D: FnOnce(Result<T, FsError>) + Send,
{
    fn attempt(&mut self, state: &mut State) -> Result<(), Wait> {
        let outcome = match (self.attempt)(state) {
            Ok(value) => Ok(value),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Wait(wait)) => return Err(wait),
        };
        self.outcome = Some(outcome);
        Ok(())
    }

    fn fail(&mut self, error: FsError) {
        self.outcome = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome;
        assert!(outcome.is_some(), "a parked change is answered after it was decided");
        if let Some(outcome) = outcome {
            (self.done)(outcome);
        }
    }
}

/// An open volume. Shared by the FUSE threads, the store's callbacks and the housekeeping thread.
pub struct Volume {
    state: Mutex<State>,
    pub(super) store: Arc<dyn VolumeStore>,
    chores: Mutex<Sender<Chore>>,
}

impl Volume {
    pub(super) fn new(state: State, store: Arc<dyn VolumeStore>, chores: Sender<Chore>) -> Volume {
        Volume { state: Mutex::new(state), store, chores: Mutex::new(chores) }
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn VolumeStore> {
        &self.store
    }

    /// Looks at the state. Short, and never while waiting for anything.
    pub fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Unlocks, and does what the state asked for meanwhile.
    pub(super) fn unlock(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.effects.chores.is_empty() && state.effects.tasks.is_empty() {
            return;
        }
        let effects = std::mem::take(&mut state.effects);
        drop(state);
        for chore in effects.chores {
            self.send(chore);
        }
        for task in effects.tasks {
            task(self);
        }
    }

    fn send(&self, chore: Chore) {
        if self.chores.lock().send(chore).is_err() {
            tracing::debug!(?chore, "the mount is ending: nobody does it any more");
        }
    }

    /// Makes a change: now, or in its turn once what it waits for is there. `attempt` may run several times; each run
    /// either changes nothing or succeeds.
    pub fn change<T: Send + 'static>(
        self: &Arc<Self>,
        mut attempt: impl FnMut(&mut State) -> Result<T, Stop> + Send + 'static,
        done: impl FnOnce(Result<T, FsError>) + Send + 'static,
    ) {
        let mut state = self.lock();
        let wait = if state.queue.is_empty() {
            match attempt(&mut state) {
                Ok(value) => {
                    self.unlock(state);
                    return done(Ok(value));
                }
                Err(Stop::Failed(error)) => {
                    self.unlock(state);
                    return done(Err(error));
                }
                Err(Stop::Wait(wait)) => Some(wait),
            }
        } else {
            None
        };
        self.park(state, Box::new(ParkedChange { attempt, done, outcome: None }), wait);
    }

    /// A WRITE by a handle.
    pub fn write(
        self: &Arc<Self>,
        handle: u64,
        ino: u64,
        offset: u64,
        data: &[u8],
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        self.write_from(Some(handle), ino, offset, data, done);
    }

    /// A WRITE of memory pages that were changed through a mapping.
    pub fn write_back(
        self: &Arc<Self>,
        ino: u64,
        offset: u64,
        data: &[u8],
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        self.write_from(None, ino, offset, data, done);
    }

    /// As [`Volume::change`], but the bytes are copied only if they have to be parked.
    fn write_from(
        self: &Arc<Self>,
        handle: Option<u64>,
        ino: u64,
        offset: u64,
        data: &[u8],
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let mut state = self.lock();
        let wait = if state.queue.is_empty() {
            match state.write(handle, ino, offset, data) {
                Ok(()) => {
                    self.unlock(state);
                    return done(Ok(()));
                }
                Err(Stop::Failed(error)) => {
                    self.unlock(state);
                    return done(Err(error));
                }
                Err(Stop::Wait(wait)) => Some(wait),
            }
        } else {
            None
        };
        let data = data.to_vec();
        let attempt = move |state: &mut State| state.write(handle, ino, offset, &data);
        self.park(state, Box::new(ParkedChange { attempt, done, outcome: None }), wait);
    }

    /// Puts a change at the end of the queue; `wait` is what it needs if it is the first.
    fn park(self: &Arc<Self>, mut state: MutexGuard<'_, State>, change: Box<dyn Parked>, wait: Option<Wait>) {
        state.queue.push_back(change);
        if wait.is_some() {
            state.wakeup = Wakeup::Asking;
        }
        self.unlock(state);
        if let Some(wait) = wait {
            self.drive(wait);
        }
    }

    fn wait_for(self: &Arc<Self>, wait: Wait) {
        let volume = Arc::clone(self);
        match wait {
            Wait::Room => self.store.when_room(Box::new(move |room| {
                volume.wake(room.err().map(FsError::from));
            })),
            Wait::Blocks(keys) => self.fetch(keys, move |fetched| {
                volume.wake(fetched.err().map(FsError::from));
            }),
        }
    }

    /// Waits for what the first parked change needs. A store may call back at once, from within the call that asks it:
    /// then the queue goes on here, not there, so that the stack does not grow with the queue.
    fn drive(self: &Arc<Self>, mut wait: Wait) {
        loop {
            self.wait_for(wait);
            let mut state = self.lock();
            match std::mem::replace(&mut state.wakeup, Wakeup::Waiting) {
                Wakeup::Early(error) => match self.run_queue(state, error) {
                    Some(next) => wait = next,
                    None => return,
                },
                Wakeup::Idle | Wakeup::Asking | Wakeup::Waiting => return,
            }
        }
    }

    /// What the first parked change waited for is there, or never will be.
    fn wake(self: &Arc<Self>, error: Option<FsError>) {
        let mut state = self.lock();
        if matches!(state.wakeup, Wakeup::Asking) {
            state.wakeup = Wakeup::Early(error);
            return;
        }
        if let Some(wait) = self.run_queue(state, error) {
            self.drive(wait);
        }
    }

    /// Runs the queue until it is empty or its first change waits; returns for what. `error` is why the first cannot
    /// go on. Answers after unlocking.
    fn run_queue(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        mut error: Option<FsError>,
    ) -> Option<Wait> {
        let mut answered = Vec::new();
        let mut wait = None;
        while let Some(mut parked) = state.queue.pop_front() {
            let attempted = match error.take() {
                Some(error) => {
                    parked.fail(error);
                    Ok(())
                }
                None => parked.attempt(&mut state),
            };
            match attempted {
                Ok(()) => answered.push(parked),
                Err(needed) => {
                    state.queue.push_front(parked);
                    wait = Some(needed);
                    break;
                }
            }
        }
        state.wakeup = if wait.is_some() { Wakeup::Asking } else { Wakeup::Idle };
        self.unlock(state);
        for parked in answered {
            parked.answer();
        }
        wait
    }

    /// Fetches blocks into the cache, unless they are changed meanwhile.
    fn fetch(
        self: &Arc<Self>,
        keys: Vec<(GroupId, Key)>,
        then: impl FnOnce(Result<(), ReadFailed>) + Send + 'static,
    ) {
        self.look(|state| state.begin_fetch(&keys));
        let volume = Arc::clone(self);
        let wanted = keys.clone();
        self.store.read(
            &keys,
            Box::new(move |blocks| {
                let outcome = volume.look(|state| state.end_fetch(&wanted, blocks).map(drop));
                then(outcome);
            }),
        );
    }
}

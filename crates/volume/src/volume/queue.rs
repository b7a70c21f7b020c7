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
        state.queue.push_back(Box::new(ParkedChange { attempt, done, outcome: None }));
        self.unlock(state);
        if let Some(wait) = wait {
            self.wait_for(wait);
        }
    }

    /// A WRITE: as [`Volume::change`], but the bytes are copied only if they have to be parked.
    pub fn write(
        self: &Arc<Self>,
        handle: u64,
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
        state.queue.push_back(Box::new(ParkedChange { attempt, done, outcome: None }));
        self.unlock(state);
        if let Some(wait) = wait {
            self.wait_for(wait);
        }
    }

    fn wait_for(self: &Arc<Self>, wait: Wait) {
        let volume = Arc::clone(self);
        match wait {
            Wait::Room => self.store.when_room(Box::new(move |room| {
                volume.resume(room.err().map(FsError::from));
            })),
            Wait::Blocks(keys) => self.fetch(keys, move |fetched| {
                volume.resume(fetched.err().map(FsError::from));
            }),
        }
    }

    /// Runs the queue until it is empty or its first change waits. `error` is why the first cannot go on.
    fn resume(self: &Arc<Self>, mut error: Option<FsError>) {
        loop {
            let mut state = self.lock();
            let Some(mut parked) = state.queue.pop_front() else { return };
            let attempted = match error.take() {
                Some(error) => {
                    parked.fail(error);
                    Ok(())
                }
                None => parked.attempt(&mut state),
            };
            match attempted {
                Ok(()) => {
                    self.unlock(state);
                    parked.answer();
                }
                Err(wait) => {
                    state.queue.push_front(parked);
                    self.unlock(state);
                    return self.wait_for(wait);
                }
            }
        }
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

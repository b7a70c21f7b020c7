//! OPEN, RELEASE and FSYNC, and what becomes of a held head there (`docs/records/0001-held-heads-at-release.md`).

use std::fs::File;
use std::sync::Arc;

use zorya_storage::store::VolumeLost;
use zorya_types::planted;

use super::now_ns;
use super::queue::{Chore, Task, Volume};
use super::state::{OpenFile, State, Stop};
use crate::errno::FsError;
use crate::namespace::{Change, Edit, Kind};

impl State {
    /// Opens an inode and returns its handle.
    pub(super) fn open_inode(&mut self, ino: u64) -> Result<u64, FsError> {
        let inode = self.namespace.inode(ino)?;
        let (is_file, local) = (inode.kind == Kind::Regular, inode.local);
        let content = if is_file && local && self.open.get(&ino).is_none_or(|file| file.local.is_none()) {
            Some(self.local_files.content(ino)?)
        } else {
            None
        };
        let file = self.open.entry(ino).or_default();
        file.count += 1;
        if content.is_some() {
            file.local = content;
        }
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(handle, ino);
        Ok(handle)
    }

    /// The content of an open local file; `None` for a shipped one.
    pub fn local_content(&self, ino: u64) -> Option<Arc<File>> {
        self.open.get(&ino).and_then(|file| file.local.clone())
    }

    /// Whether an inode is open.
    #[must_use]
    pub fn is_open(&self, ino: u64) -> bool {
        self.open.get(&ino).is_some_and(|file| file.count > 0)
    }

    /// Whether a request that relies on the kernel's cache of this inode has to wait.
    pub(super) fn is_gated(&self, ino: u64) -> bool {
        self.open.get(&ino).is_some_and(|file| file.head.is_some() || file.invalidating > 0)
    }

    /// Whether a range of the kernel's cache of this inode is being dropped.
    #[must_use]
    pub fn is_invalidating(&self, ino: u64) -> bool {
        self.open.get(&ino).is_some_and(|file| file.invalidating > 0)
    }

    /// Lets waiting requests go on, if there is neither a head nor an invalidation any more.
    pub(super) fn open_gates(&mut self, ino: u64) {
        if self.is_gated(ino) {
            return;
        }
        if let Some(file) = self.open.get_mut(&ino) {
            self.effects.tasks.append(&mut file.gated);
        }
    }

    /// Ends a head at the end of its writer: kept if `same_writer` lives and says so, or if it replaces nothing.
    pub(super) fn settle_head(&mut self, ino: u64, same_writer: bool) -> Result<(), Stop> {
        let Some(head) = self.open.get(&ino).and_then(|file| file.head.as_ref()) else { return Ok(()) };
        if same_writer || !head.overwrites() { self.log_head(ino) } else { self.drop_head(ino) }
    }

    fn head_is_by(&self, ino: u64, handle: u64) -> bool {
        let head = self.open.get(&ino).and_then(|file| file.head.as_ref());
        head.is_some_and(|head| head.handle == handle)
    }

    /// Releases a handle: the last one of an orphan ends it, and times that only memory knows are logged.
    pub(super) fn release(&mut self, handle: u64) -> Result<(), Stop> {
        let Some(&ino) = self.handles.get(&handle) else { return Ok(()) };
        if self.head_is_by(ino, handle) {
            self.settle_head(ino, false)?;
        }
        let Some(file) = self.open.get(&ino) else { return Ok(()) };
        let last = file.count <= 1;
        if let Ok(inode) = self.namespace.inode(ino) {
            if last && inode.nlink == 0 && inode.kind != Kind::Directory {
                let change = self.namespace.plan_reap(ino)?;
                self.commit(&change)?;
            } else {
                self.log_times(ino)?;
            }
        }
        self.forget_handle(handle, ino);
        Ok(())
    }

    /// Logs an inode whose times only memory knows.
    fn log_times(&mut self, ino: u64) -> Result<(), Stop> {
        if self.open.get(&ino).is_some_and(|file| file.times_dirty) {
            let edits = vec![Edit::PutInode(ino, self.namespace.inode(ino)?.clone())];
            self.commit(&Change { edits, ..Change::default() })?;
            self.set_times_dirty(ino, false);
        }
        Ok(())
    }

    fn forget_handle(&mut self, handle: u64, ino: u64) {
        self.handles.remove(&handle);
        let Some(file) = self.open.get_mut(&ino) else { return };
        file.count = file.count.saturating_sub(1);
        file.times_dirty = false;
        if file.count == 0 && file.invalidating == 0 && file.gated.is_empty() {
            self.open.remove(&ino);
        }
    }
}

impl Volume {
    /// Runs a request that relies on the kernel's cache of this inode: now, or when no unfinished page is in it.
    pub fn gated(self: &Arc<Self>, ino: u64, request: impl FnOnce(&Arc<Volume>) + Send + 'static) {
        let mut state = self.lock();
        if !state.is_gated(ino) {
            self.unlock(state);
            return request(self);
        }
        if let Some(file) = state.open.get_mut(&ino) {
            let first = file.gated.is_empty();
            file.gated.push(Box::new(request) as Task);
            if first && file.head.is_some() {
                state.effects.chores.push(Chore::SettleHead { ino });
            }
        }
        self.unlock(state);
    }

    /// Opens an inode, and truncates it if `truncate`.
    pub fn open_file(
        self: &Arc<Self>,
        ino: u64,
        truncate: bool,
        done: impl FnOnce(Result<u64, FsError>) + Send + 'static,
    ) {
        self.gated(ino, move |volume| {
            if !truncate {
                let opened = volume.look(|state| state.open_inode(ino));
                return done(opened);
            }
            let attempt = move |state: &mut State| {
                let mut inode = state.namespace.inode(ino)?.clone();
                if inode.local {
                    state.local_files.content(ino)?.set_len(0)?;
                    let now = now_ns();
                    state.namespace.touch(ino, |inode| {
                        inode.size = 0;
                        (inode.mtime, inode.ctime) = (now, now);
                    });
                } else {
                    inode.mode = inode.mode_without_set_id();
                    let now = now_ns();
                    (inode.mtime, inode.ctime) = (now, now);
                    state.resize(ino, inode, 0)?;
                }
                Ok(state.open_inode(ino)?)
            };
            volume.change(attempt, done);
        });
    }

    /// Releases a handle.
    pub fn release(self: &Arc<Self>, handle: u64, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        self.change(move |state| state.release(handle), done);
    }

    /// Answers once everything that was written before is durable; without `data_only` the file's times as well.
    pub fn fsync(
        self: &Arc<Self>,
        ino: u64,
        handle: u64,
        data_only: bool,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let settled = {
            let state = self.lock();
            let logged = |file: &OpenFile| file.head.is_none() && (data_only || !file.times_dirty);
            state.open.get(&ino).is_none_or(logged)
        };
        if settled {
            return self.durable(done);
        }
        let volume = Arc::clone(self);
        self.change(
            move |state| {
                state.settle_head(ino, state.head_is_by(ino, handle))?;
                if data_only { Ok(()) } else { state.log_times(ino) }
            },
            move |settled| match settled {
                Ok(()) => volume.gated(ino, move |volume| volume.durable(done)),
                Err(error) => done(Err(error)),
            },
        );
    }

    /// Answers once everything that was appended before is durable.
    pub fn durable(self: &Arc<Self>, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        if planted::is_planted(planted::PlantedBug::FsyncAnsweredEarly) {
            return done(Ok(()));
        }
        let lsn = self.look(|state| state.last_lsn);
        let answer = move |durable: Result<(), VolumeLost>| done(durable.map_err(FsError::from));
        self.store.when_durable(lsn, Box::new(answer));
    }

    /// A local file was written up to `end`.
    pub fn local_written(&self, ino: u64, end: u64) {
        let now = now_ns();
        self.look(|state| {
            state.namespace.touch(ino, |inode| {
                inode.size = inode.size.max(end);
                (inode.mtime, inode.ctime) = (now, now);
            });
        });
    }

    /// A range of the kernel's cache is gone.
    pub fn invalidated(self: &Arc<Self>, ino: u64) {
        let mut state = self.lock();
        if let Some(file) = state.open.get_mut(&ino) {
            file.invalidating = file.invalidating.saturating_sub(1);
            let unused = file.count == 0 && file.invalidating == 0;
            state.open_gates(ino);
            if unused {
                state.open.remove(&ino);
            }
        }
        self.unlock(state);
    }

    /// A request waits for a head whose writer neither went on nor ended: it is taken for a short write and kept.
    pub fn settle_waited_for(self: &Arc<Self>, ino: u64) {
        let waited_for = self.look(|state| {
            state.open.get(&ino).is_some_and(|file| file.head.is_some() && !file.gated.is_empty())
        });
        if waited_for {
            self.change(
                move |state| state.settle_head(ino, true),
                move |settled| {
                    if let Err(error) = settled {
                        tracing::error!(ino, %error, "an unfinished page write could not be settled");
                    }
                },
            );
        }
    }
}

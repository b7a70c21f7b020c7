//! Requests that change the namespace.

use std::sync::Arc;

use super::now_ns;
use super::queue::Volume;
use super::state::{State, Stop};
use crate::errno::FsError;
use crate::namespace::plan::{At, NewNode};
use crate::namespace::{Change, Edit, Inode, Kind};
use crate::path_class::PathClass;

const MAX_TARGET: usize = 4095;

/// A name in a directory, owned, for requests that may be parked.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The size in bytes.
    pub size: Option<u64>,
    /// Last access, nanoseconds since 1970.
    pub atime: Option<i64>,
    /// Last change of the content.
    pub mtime: Option<i64>,
    /// The file handle that asks for a size.
    pub handle: Option<u64>,
}

/// An inode as a reply shows it: its number, what it is, its size with a held head, and what of it is there.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its number.
    pub ino: u64,
    /// What it is; the size counts a held head.
    pub inode: Inode,
    /// The bytes that are there, holes of whole extents left out.
    pub allocated: u64,
}

impl Place {
    /// As the planner takes it.
    #[must_use]
    pub fn at(&self) -> At<'_> {
        At { parent: self.parent, name: &self.name }
    }
}

impl State {
    /// An inode as a reply shows it.
    pub fn show(&self, ino: u64) -> Result<Shown, FsError> {
        if let Some(removed) = self.namespace.removed_directory(ino) {
            return Ok(Shown { ino, inode: removed.clone(), allocated: 0 });
        }
        let mut inode = self.namespace.inode(ino)?.clone();
        inode.size = self.visible_size(ino)?;
        let allocated = if inode.local { inode.size } else { self.allocated(ino) };
        Ok(Shown { ino, inode, allocated })
    }

    fn create(&mut self, place: &Place, node: &NewNode) -> Result<u64, Stop> {
        if node.target.len() > MAX_TARGET {
            return Err(FsError::NameTooLong.into());
        }
        if node.kind == Kind::Symlink {
            self.check_link_target(place, &node.target)?;
        }
        let (change, ino) = self.namespace.plan_create(place.at(), node.clone(), now_ns())?;
        self.commit(&change)?;
        Ok(ino)
    }

    /// Names at which a symbolic link would have the engine put data outside the volume are refused. Other inodes have
    /// no target, which leaves nothing.
    fn check_link_target(&self, place: &Place, target: &[u8]) -> Result<(), FsError> {
        let leaves = target.starts_with(b"/") || target.split(|&byte| byte == b'/').any(|part| part == b"..");
        if !leaves || !self.namespace.is_data_link(place.parent, &place.name) {
            return Ok(());
        }
        let reason = format!(
            "{:?} -> {:?}: {}",
            String::from_utf8_lossy(&place.name),
            String::from_utf8_lossy(target),
            self.namespace.class().link_remedy()
        );
        tracing::error!("data outside the volume is refused: {reason}");
        Err(FsError::OffVolume(reason))
    }

    fn unlink(&mut self, place: &Place) -> Result<(), Stop> {
        let change = self.namespace.plan_unlink(place.at(), now_ns(), |ino| self.is_open(ino))?;
        self.commit(&change)
    }

    fn rename(&mut self, from: &Place, to: &Place, replace: bool) -> Result<(), Stop> {
        if let Ok(ino) = self.namespace.lookup(from.parent, &from.name) {
            self.check_link_target(to, &self.namespace.inode(ino)?.target)?;
            self.ship_if_named(ino, to)?;
        }
        let change =
            self.namespace.plan_rename(from.at(), to.at(), replace, now_ns(), |ino| self.is_open(ino))?;
        self.commit(&change)
    }

    fn link(&mut self, ino: u64, to: &Place) -> Result<(), Stop> {
        self.check_link_target(to, &self.namespace.inode(ino)?.target)?;
        self.ship_if_named(ino, to)?;
        let change = self.namespace.plan_link(ino, to.at(), now_ns())?;
        self.commit(&change)
    }

    /// A local file that gets a name which is not local is shipped first.
    fn ship_if_named(&mut self, ino: u64, to: &Place) -> Result<(), Stop> {
        let inode = self.namespace.inode(ino)?;
        let goes_local = self.namespace.inode(to.parent)?.local
            || self.namespace.classify(to.parent, &to.name) == PathClass::Local;
        if !inode.local || goes_local || inode.kind == Kind::Socket {
            return Ok(());
        }
        if inode.kind == Kind::Directory {
            return Err(FsError::CrossStorage.into());
        }
        self.ship(ino)
    }

    fn set_attributes(&mut self, ino: u64, set: &SetAttributes) -> Result<(), Stop> {
        let mut inode = self.namespace.inode(ino)?.clone();
        let now = now_ns();
        inode.ctime = now;
        if set.uid.is_some() || set.gid.is_some() || set.size.is_some() {
            inode.mode = inode.mode_without_set_id();
        }
        inode.mode = set.mode.map_or(inode.mode, |mode| mode & 0o7777);
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        inode.atime = set.atime.unwrap_or(inode.atime);
        if let Some(size) = set.size {
            if inode.kind != Kind::Regular {
                return Err(FsError::Invalid.into());
            }
            // ftruncate(2) always counts as a change, truncate(2) only if the size is another.
            let changes = set.handle.is_some() || size != self.visible_size(ino)?;
            inode.mtime = set.mtime.unwrap_or(if changes { now } else { inode.mtime });
            return self.set_size(ino, inode, size, set.handle);
        }
        inode.mtime = set.mtime.unwrap_or(inode.mtime);
        self.commit(&Change { edits: vec![Edit::PutInode(ino, inode)], ..Change::default() })
    }

    fn set_size(&mut self, ino: u64, mut inode: Inode, size: u64, handle: Option<u64>) -> Result<(), Stop> {
        if inode.local {
            self.local_files.content(ino)?.set_len(size)?;
            inode.size = size;
            return self.commit(&Change { edits: vec![Edit::PutInode(ino, inode)], ..Change::default() });
        }
        let head = self.open.get(&ino).and_then(|file| file.head.as_ref());
        if let Some(by) = head.map(|head| head.handle) {
            self.settle_head(ino, handle == Some(by))?;
            inode.size = self.namespace.inode(ino)?.size;
        }
        self.resize(ino, inode, size)
    }
}

/// Makes requests of the namespace methods of [`Volume`].
impl Volume {
    /// Creates an inode with one name.
    pub fn create(
        self: &Arc<Self>,
        place: Place,
        node: NewNode,
        done: impl FnOnce(Result<Shown, FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            let ino = state.create(&place, &node)?;
            Ok(state.show(ino)?)
        };
        self.change(attempt, done);
    }

    /// Creates a regular file and opens it.
    pub fn create_open(
        self: &Arc<Self>,
        place: Place,
        node: NewNode,
        done: impl FnOnce(Result<(Shown, u64), FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            let ino = state.create(&place, &node)?;
            let handle = state.open_inode(ino)?;
            Ok((state.show(ino)?, handle))
        };
        self.change(attempt, done);
    }

    /// Removes a name that is not a directory's.
    pub fn unlink(self: &Arc<Self>, place: Place, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        self.change(move |state| state.unlink(&place), done);
    }

    /// Removes an empty directory.
    pub fn rmdir(self: &Arc<Self>, place: Place, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        let attempt = move |state: &mut State| {
            let change = state.namespace.plan_rmdir(place.at(), now_ns())?;
            state.commit(&change)
        };
        self.change(attempt, done);
    }

    /// Renames; an existing target goes in the same record, or is an error without `replace`.
    pub fn rename(
        self: &Arc<Self>,
        from: Place,
        to: Place,
        replace: bool,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        self.change(move |state| state.rename(&from, &to, replace), done);
    }

    /// Gives an inode another name.
    pub fn link(
        self: &Arc<Self>,
        ino: u64,
        to: Place,
        done: impl FnOnce(Result<Shown, FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            state.link(ino, &to)?;
            Ok(state.show(ino)?)
        };
        self.change(attempt, done);
    }

    /// Sets attributes, the size among them.
    pub fn set_attributes(
        self: &Arc<Self>,
        ino: u64,
        set: SetAttributes,
        done: impl FnOnce(Result<Shown, FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            state.set_attributes(ino, &set)?;
            Ok(state.show(ino)?)
        };
        self.change(attempt, done);
    }

    /// Makes a range of a file zeroes, extending it if `extend`.
    pub fn zero_range(
        self: &Arc<Self>,
        ino: u64,
        offset: u64,
        len: u64,
        extend: bool,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            state.settle_head(ino, true)?;
            state.zero_range(ino, offset, len, extend)
        };
        self.change(attempt, done);
    }

    /// Promises room in a file and extends it to at least `size` bytes. There is nothing to reserve.
    pub fn extend(
        self: &Arc<Self>,
        ino: u64,
        size: u64,
        done: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let attempt = move |state: &mut State| {
            state.settle_head(ino, true)?;
            if state.namespace.inode(ino)?.size >= size {
                let now = now_ns();
                state.namespace.touch(ino, |inode| (inode.mtime, inode.ctime) = (now, now));
                state.set_times_dirty(ino, true);
                return Ok(());
            }
            state.set_attributes(ino, &SetAttributes { size: Some(size), ..SetAttributes::default() })
        };
        self.change(attempt, done);
    }
}

//! Requests planned into changes. Nothing here has an effect.

use std::sync::Arc;

use super::change::{Change, Edit};
use super::inode::{Dirent, Inode, Kind, Placement};
use super::{INODE_RESERVATION, Namespace, ROOT};
use crate::errno::FsError;
use crate::path_class::{PathClass, SEGMENT_BLOCKS};

const MAX_LINKS: u32 = 65_000;
const SET_GROUP_ID: u32 = 0o2000;

/// What to create.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group, unless the directory hands its own down.
    pub gid: u32,
    /// A device's number.
    pub rdev: u32,
    /// A symbolic link's target.
    pub target: Vec<u8>,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The directory.
    pub parent: u64,
    /// The name.
    pub name: &'a [u8],
}

/// What an existing target of a rename means.
struct Replaced {
    cookie: u64,
    ino: u64,
    local: bool,
}

impl Namespace {
    /// Plans a new inode with one name, and returns its number.
    pub fn plan_create(&self, at: At<'_>, node: NewNode, now: i64) -> Result<(Change, u64), FsError> {
        self.check_free(at)?;
        let parent = self.inode(at.parent)?;
        let class = self.classify(at.parent, at.name);
        let local = parent.local || class == PathClass::Local || node.kind == Kind::Socket;
        let mut change = Change::default();
        let ino = if local { self.next_local_ino } else { self.reserve(&mut change) };
        let (placement, paged) =
            if local { (Placement::of_inode(ino), false) } else { self.place(class, ino, &mut change) };
        let inherits = parent.mode & SET_GROUP_ID != 0;
        let directory = node.kind == Kind::Directory;
        let inode = Inode {
            kind: node.kind,
            mode: node.mode & 0o7777 | if inherits && directory { SET_GROUP_ID } else { 0 },
            uid: node.uid,
            gid: if inherits { parent.gid } else { node.gid },
            nlink: if directory { 2 } else { 1 },
            rdev: node.rdev,
            size: node.target.len() as u64,
            atime: now,
            mtime: now,
            ctime: now,
            parent: if directory { at.parent } else { 0 },
            placement,
            paged,
            target: Arc::from(node.target),
            local,
        };
        let entry = Dirent { ino, kind: node.kind, name: Arc::from(at.name), local };
        let cookie = self.next_cookie(at.parent)?;
        change.edits.push(Edit::PutInode(ino, inode));
        change.edits.push(Edit::PutDirent { directory: at.parent, cookie, entry });
        change.edits.push(self.touch_parent(at.parent, now, i32::from(directory), local)?);
        Ok((change, ino))
    }

    /// Plans another name for an inode.
    pub fn plan_link(&self, ino: u64, at: At<'_>, now: i64) -> Result<Change, FsError> {
        self.check_free(at)?;
        let mut inode = self.inode(ino)?.clone();
        if inode.kind == Kind::Directory {
            return Err(FsError::IsDirectory);
        }
        if inode.nlink == 0 {
            return Err(FsError::Stale(ino));
        }
        if inode.nlink >= MAX_LINKS {
            return Err(FsError::TooManyLinks);
        }
        if self.inode(at.parent)?.local && !inode.local {
            return Err(FsError::CrossStorage);
        }
        inode.nlink += 1;
        inode.ctime = now;
        let (kind, local) = (inode.kind, inode.local);
        let entry = Dirent { ino, kind, name: Arc::from(at.name), local };
        let cookie = self.next_cookie(at.parent)?;
        let edits = vec![
            Edit::PutInode(ino, inode),
            Edit::PutDirent { directory: at.parent, cookie, entry },
            self.touch_parent(at.parent, now, 0, local)?,
        ];
        Ok(Change { edits, ..Change::default() })
    }

    /// Plans the loss of a name that is not a directory's. `open` says whether an inode is open.
    pub fn plan_unlink(&self, at: At<'_>, now: i64, open: impl Fn(u64) -> bool) -> Result<Change, FsError> {
        let (cookie, entry) = self.directory(at.parent)?.get(at.name).ok_or(FsError::NotFound)?;
        if entry.kind == Kind::Directory {
            return Err(FsError::IsDirectory);
        }
        let (ino, local) = (entry.ino, entry.local);
        let mut change = Change::default();
        change.edits.push(Edit::DropDirent { directory: at.parent, cookie, local });
        change.edits.push(self.touch_parent(at.parent, now, 0, local)?);
        self.lose_name(&mut change, ino, now, open)?;
        Ok(change)
    }

    /// Plans the end of an empty directory.
    pub fn plan_rmdir(&self, at: At<'_>, now: i64) -> Result<Change, FsError> {
        let (cookie, entry) = self.directory(at.parent)?.get(at.name).ok_or(FsError::NotFound)?;
        if !self.directory(entry.ino)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        let edits = vec![
            Edit::DropDirent { directory: at.parent, cookie, local: entry.local },
            Edit::DropInode { ino: entry.ino, local: entry.local },
            self.touch_parent(at.parent, now, -1, entry.local)?,
        ];
        Ok(Change { edits, ..Change::default() })
    }

    /// Plans a rename; `replace` says whether an existing target may go.
    pub fn plan_rename(
        &self,
        from: At<'_>,
        to: At<'_>,
        replace: bool,
        now: i64,
        open: impl Fn(u64) -> bool,
    ) -> Result<Change, FsError> {
        if to.name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        let (old_cookie, moved) = self.directory(from.parent)?.get(from.name).ok_or(FsError::NotFound)?;
        let (ino, kind) = (moved.ino, moved.kind);
        let target = self.replaced(ino, kind, to, replace)?;
        let mut change = Change::default();
        if target.as_ref().is_some_and(|target| target.ino == ino) {
            return Ok(change);
        }
        let mut inode = self.moved_inode(ino, from, to, now)?;
        let moved_local = moved.local;
        change.edits.push(Edit::DropDirent {
            directory: from.parent,
            cookie: old_cookie,
            local: moved_local,
        });
        if let Some(target) = &target {
            let directory = to.parent;
            change.edits.push(Edit::DropDirent { directory, cookie: target.cookie, local: target.local });
            if kind == Kind::Directory {
                change.edits.push(Edit::DropInode { ino: target.ino, local: target.local });
            } else {
                self.lose_name(&mut change, target.ino, now, open)?;
            }
        }
        if kind == Kind::Directory {
            inode.parent = to.parent;
        }
        let local = inode.local;
        let entry = Dirent { ino, kind, name: Arc::from(to.name), local };
        let cookie = self.next_cookie(to.parent)?;
        change.edits.push(Edit::PutInode(ino, inode));
        change.edits.push(Edit::PutDirent { directory: to.parent, cookie, entry });
        let counts = |parent: u64, local: bool| -> Result<i32, FsError> {
            // A shipped directory does not count the local ones in it.
            Ok(i32::from(kind == Kind::Directory && (!local || self.inode(parent)?.local)))
        };
        let lost = target.as_ref().map_or(Ok(0), |target| counts(to.parent, target.local))?;
        let all_local = local && target.as_ref().is_none_or(|target| target.local);
        if from.parent == to.parent {
            change.edits.push(self.touch_parent(to.parent, now, -lost, all_local)?);
        } else {
            let (left, came) = (counts(from.parent, local)?, counts(to.parent, local)?);
            change.edits.push(self.touch_parent(from.parent, now, -left, local)?);
            change.edits.push(self.touch_parent(to.parent, now, came - lost, all_local)?);
        }
        Ok(change)
    }

    /// Plans the end of an inode without names, data included.
    pub fn plan_reap(&self, ino: u64) -> Result<Change, FsError> {
        let inode = self.inode(ino)?;
        assert_eq!(inode.nlink, 0, "inode {ino} still has names");
        let mut change = Change::default();
        self.drop_file(&mut change, ino, inode);
        Ok(change)
    }

    fn moved_inode(&self, ino: u64, from: At<'_>, to: At<'_>, now: i64) -> Result<Inode, FsError> {
        let mut inode = self.inode(ino)?.clone();
        let (source, destination) = (self.inode(from.parent)?, self.inode(to.parent)?);
        if inode.kind == Kind::Directory {
            if self.is_within(ino, to.parent) {
                return Err(FsError::Invalid);
            }
            if source.local != destination.local {
                return Err(FsError::CrossStorage);
            }
        } else if destination.local && !inode.local {
            return Err(FsError::CrossStorage);
        }
        inode.ctime = now;
        if !inode.local {
            inode.paged =
                matches!(self.classify(to.parent, to.name), PathClass::Paged | PathClass::Relation { .. });
        }
        Ok(inode)
    }

    fn replaced(&self, ino: u64, kind: Kind, to: At<'_>, replace: bool) -> Result<Option<Replaced>, FsError> {
        let Some((cookie, target)) = self.directory(to.parent)?.get(to.name) else { return Ok(None) };
        if !replace {
            return Err(FsError::Exists);
        }
        if target.ino != ino {
            match (kind, target.kind) {
                (Kind::Directory, Kind::Directory) if !self.directory(target.ino)?.is_empty() => {
                    return Err(FsError::NotEmpty);
                }
                (Kind::Directory, Kind::Directory) => {}
                (Kind::Directory, _) => return Err(FsError::NotDirectory),
                (_, Kind::Directory) => return Err(FsError::IsDirectory),
                _ => {}
            }
        }
        Ok(Some(Replaced { cookie, ino: target.ino, local: target.local }))
    }

    fn check_free(&self, at: At<'_>) -> Result<(), FsError> {
        if at.name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        match self.directory(at.parent)?.get(at.name) {
            Some(_) => Err(FsError::Exists),
            None => Ok(()),
        }
    }

    fn next_cookie(&self, directory: u64) -> Result<u64, FsError> {
        Ok(self.directory(directory)?.next_cookie)
    }

    fn reserve(&self, change: &mut Change) -> u64 {
        if self.next_ino >= self.reserved_ino {
            change.edits.push(Edit::ReserveInodes(self.next_ino + INODE_RESERVATION));
        }
        self.next_ino
    }

    /// Where a new file's blocks go. A relation's keys may still be held by an orphan that was unlinked while open: an
    /// empty one gives them up, another one keeps them and the new file is keyed by its inode.
    fn place(&self, class: PathClass, ino: u64, change: &mut Change) -> (Placement, bool) {
        let own = Placement::of_inode(ino);
        match class {
            PathClass::Relation { file, segment } => {
                let wanted = Placement { file, first: segment * SEGMENT_BLOCKS };
                let Some(&owner) = self.relation_owners.get(&wanted) else { return (wanted, true) };
                match self.inodes.get(&owner) {
                    Some(orphan) if orphan.nlink == 0 && orphan.size == 0 => {
                        let placement = Placement::of_inode(owner);
                        change.edits.push(Edit::PutInode(owner, Inode { placement, ..orphan.clone() }));
                        (wanted, true)
                    }
                    _ => (own, true),
                }
            }
            PathClass::Paged => (own, true),
            PathClass::Local | PathClass::Plain => (own, false),
        }
    }

    fn touch_parent(&self, parent: u64, now: i64, links: i32, local: bool) -> Result<Edit, FsError> {
        let mut inode = self.inode(parent)?.clone();
        inode.mtime = now;
        inode.ctime = now;
        if local && !inode.local {
            return Ok(Edit::TouchInode(parent, inode));
        }
        inode.nlink = inode.nlink.saturating_add_signed(links);
        Ok(Edit::PutInode(parent, inode))
    }

    fn lose_name(
        &self,
        change: &mut Change,
        ino: u64,
        now: i64,
        open: impl Fn(u64) -> bool,
    ) -> Result<(), FsError> {
        let mut inode = self.inode(ino)?.clone();
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.ctime = now;
        if inode.nlink == 0 && !open(ino) {
            self.drop_file(change, ino, &inode);
        } else {
            change.edits.push(Edit::PutInode(ino, inode));
        }
        Ok(())
    }

    fn drop_file(&self, change: &mut Change, ino: u64, inode: &Inode) {
        change.edits.push(Edit::DropInode { ino, local: inode.local });
        if inode.kind == Kind::Regular {
            if inode.local {
                change.dropped_local.push(ino);
            } else {
                change.dropped.push(inode.placement);
            }
        }
    }

    /// The root directory of a new volume.
    #[must_use]
    pub fn plan_root(&self, owner: (u32, u32), now: i64) -> Change {
        let inode = Inode {
            kind: Kind::Directory,
            mode: 0o755,
            uid: owner.0,
            gid: owner.1,
            nlink: 2,
            rdev: 0,
            size: 0,
            atime: now,
            mtime: now,
            ctime: now,
            parent: ROOT,
            placement: Placement::of_inode(ROOT),
            paged: false,
            target: Arc::from(Vec::new()),
            local: false,
        };
        let edits = vec![Edit::PutInode(ROOT, inode), Edit::ReserveInodes(ROOT + 1)];
        Change { edits, ..Change::default() }
    }
}

//! Everything below a directory, and how two trees compare.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::{SCRATCH, SET_TIMES_BELOW, raw};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// One name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
    pub owner: (u32, u32),
    pub links: u64,
    /// Last access and change, seconds and nanoseconds since 1970.
    pub times: [(i64, i64); 2],
    /// A file's bytes; empty otherwise.
    pub content: Arc<Content>,
    /// A symbolic link's target; empty otherwise.
    pub target: Vec<u8>,
    /// Gone with the mount. Only known of the reference.
    pub local: bool,
}

/// Everything below a directory, by path.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The directory's own inode.
    pub root: u64,
    pub entries: BTreeMap<String, Entry>,
}

/// How exactly times have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// A time that was set is what was set, one that a clock gave is a clock's.
    Exact,
    /// As exact, but a directory's time may be from before a local name changed in it.
    Reopened,
    /// As exact, but where a clock gave a time the earlier one may have stayed: a change of the content alone is not
    /// logged before the file is closed or synced.
    MayBeOld,
}

impl Tree {
    /// Reads a directory. Contents that did not change since `before` are shared with it.
    pub fn of(root: &Path, before: Option<&Tree>) -> io::Result<Tree> {
        let mut tree = Tree { root: fs::metadata(root)?.ino(), entries: BTreeMap::new() };
        let mut read = HashMap::new();
        tree.read(root, "", before, &mut read)?;
        Ok(tree)
    }

    fn read(
        &mut self,
        directory: &Path,
        prefix: &str,
        before: Option<&Tree>,
        read: &mut HashMap<u64, Arc<Content>>,
    ) -> io::Result<()> {
        for item in fs::read_dir(directory)? {
            let item = item?;
            let path = item.path();
            let name = item.file_name().to_string_lossy().into_owned();
            let below = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let meta = fs::symlink_metadata(&path)?;
            let mut entry = Entry::of(&meta);
            match entry.kind {
                Kind::File => {
                    entry.content = match read.get(&entry.inode) {
                        Some(content) => Arc::clone(content),
                        None => {
                            let old = before.and_then(|tree| tree.entries.get(&below));
                            let file = File::open(&path)?;
                            Content::of_file(&file, old.map(|entry| &entry.content))?
                        }
                    };
                    read.insert(entry.inode, Arc::clone(&entry.content));
                }
                Kind::Link => entry.target = fs::read_link(&path)?.into_os_string().into_vec(),
                Kind::Directory => self.read(&path, &below, before, read)?,
                Kind::Other => {}
            }
            self.entries.insert(below, entry);
        }
        Ok(())
    }

    /// The tree without what ends with the mount, and without what is there only while an operation goes on.
    pub fn durable(&self) -> Tree {
        let mut tree = Tree { root: self.root, entries: BTreeMap::new() };
        let mut gone: Option<String> = None;
        for (path, entry) in &self.entries {
            if gone.as_ref().is_some_and(|gone| path.starts_with(gone.as_str())) || is_scratch(path) {
                continue;
            }
            if entry.local {
                gone = Some(format!("{path}/"));
                continue;
            }
            tree.entries.insert(path.clone(), entry.clone());
        }
        let mut links: HashMap<u64, u64> = HashMap::new();
        for entry in tree.entries.values() {
            *links.entry(entry.inode).or_default() += 1;
        }
        for entry in tree.entries.values_mut().filter(|entry| entry.kind != Kind::Directory) {
            entry.links = links[&entry.inode];
        }
        tree.count_directories();
        tree
    }

    /// The tree without what is there only while an operation goes on.
    pub fn without_scratch(mut self) -> Tree {
        self.entries.retain(|path, _| !is_scratch(path));
        self
    }

    /// Removes what an operation left that a crash cut short.
    pub fn remove_scratch(root: &Path) -> io::Result<()> {
        let found = Tree::of(root, None)?;
        found
            .entries
            .keys()
            .filter(|path| is_scratch(path))
            .try_for_each(|path| fs::remove_file(root.join(path)))
    }

    /// Links of directories: a shipped one does not count the local ones in it.
    pub fn count_directories(&mut self) {
        let mut below: HashMap<String, u64> = HashMap::new();
        for (path, entry) in self.entries.iter().filter(|(_, entry)| entry.kind == Kind::Directory) {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if !entry.local || self.entries.get(parent).is_some_and(|parent| parent.local) {
                *below.entry(parent.to_owned()).or_default() += 1;
            }
        }
        for (path, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.kind == Kind::Directory) {
            entry.links = 2 + below.get(path).copied().unwrap_or(0);
        }
    }

    /// For every path the first path of the same inode.
    fn twins(&self) -> HashMap<&str, &str> {
        let mut first: HashMap<u64, &str> = HashMap::new();
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), *first.entry(entry.inode).or_insert(path.as_str())))
            .collect()
    }

    /// In what this tree is not as `expected` says. Empty: in nothing.
    pub fn differences(&self, expected: &Tree, times: Times) -> Vec<String> {
        let mut found = Vec::new();
        for path in self.entries.keys().filter(|path| !expected.entries.contains_key(*path)) {
            found.push(format!("{path}: is there, and should not be"));
        }
        let (ours, theirs) = (self.twins(), expected.twins());
        for (path, wanted) in &expected.entries {
            let Some(entry) = self.entries.get(path) else {
                found.push(format!("{path}: is missing"));
                continue;
            };
            let fields = entry.differences(wanted, times);
            found.extend(fields.into_iter().map(|difference| format!("{path}: {difference}")));
            if ours[path.as_str()] != theirs[path.as_str()] {
                found.push(format!(
                    "{path}: is {:?}, should be {:?}",
                    ours[path.as_str()],
                    theirs[path.as_str()]
                ));
            }
        }
        found
    }

    /// Makes a directory of it. The directory must be empty.
    pub fn write_to(&self, root: &Path) -> io::Result<()> {
        let mut made: HashMap<u64, String> = HashMap::new();
        for (path, entry) in &self.entries {
            let at = root.join(path);
            if let Some(twin) = made.get(&entry.inode).filter(|_| entry.kind != Kind::Directory) {
                fs::hard_link(root.join(twin), at)?;
                continue;
            }
            made.insert(entry.inode, path.clone());
            match entry.kind {
                Kind::File => {
                    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)?;
                    entry.content.write_to(&file)?;
                }
                Kind::Directory => fs::create_dir(&at)?,
                Kind::Link => {
                    std::os::unix::fs::symlink(std::ffi::OsString::from_vec(entry.target.clone()), &at)?;
                }
                Kind::Other => {}
            }
            std::os::unix::fs::lchown(&at, Some(entry.owner.0), Some(entry.owner.1))?;
        }
        // What is in a directory changes its times; so the last come first.
        for (path, entry) in self.entries.iter().rev() {
            let at = root.join(path);
            if entry.kind != Kind::Link {
                fs::set_permissions(&at, fs::Permissions::from_mode(entry.mode))?;
            }
            raw::set_times(&at, Some(entry.times[0]), Some(entry.times[1]))?;
        }
        Ok(())
    }
}

/// Whether a path is there only while an operation goes on.
fn is_scratch(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let numbered = |kind: &str| {
        name.strip_prefix(kind)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    path == SCRATCH || ["stays", "goes", "comes"].into_iter().any(numbered)
}

impl Entry {
    fn of(meta: &fs::Metadata) -> Entry {
        let kind = match meta.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Entry {
            kind,
            inode: meta.ino(),
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            times: [(meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec())],
            content: Arc::default(),
            target: Vec::new(),
            local: false,
        }
    }

    fn differences(&self, expected: &Entry, times: Times) -> Vec<String> {
        let mut found = self.differences_but_content(expected, times);
        if self.content != expected.content {
            let at = self.content.first_difference(&expected.content);
            let (ours, theirs) = (self.content.len(), expected.content.len());
            found.push(format!("has {ours} bytes, should have {theirs}; first other byte: {at:?}"));
        }
        found
    }

    /// As [`Entry::differences`], whatever the bytes of a file are.
    pub fn differences_but_content(&self, expected: &Entry, times: Times) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                found.push(format!("{what} is {ours}, should be {theirs}"));
            }
        };
        check("the type", format!("{:?}", self.kind), format!("{:?}", expected.kind));
        check("the mode", format!("{:o}", self.mode), format!("{:o}", expected.mode));
        check("the owner", format!("{:?}", self.owner), format!("{:?}", expected.owner));
        check("the link count", self.links.to_string(), expected.links.to_string());
        check("the target", format!("{:?}", self.target), format!("{:?}", expected.target));
        for (what, ours, theirs) in [
            ("the time of access", self.times[0], expected.times[0]),
            ("the time of change", self.times[1], expected.times[1]),
        ] {
            let (set, ours_set) = (theirs.0 < SET_TIMES_BELOW, ours.0 < SET_TIMES_BELOW);
            if set {
                check(what, format!("{ours:?}"), format!("{theirs:?}"));
            } else if times == Times::Exact || (times == Times::Reopened && self.kind != Kind::Directory) {
                check(what, format!("set: {ours_set}"), "set: false".to_owned());
            }
        }
        found
    }
}

//! What a log says that a volume holds, without a mount.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;

use zorya_volume::EngineClass;
use zorya_volume::namespace::{Inode, Kind as InodeKind, ROOT};
use zorya_volume::volume::{Volume, VolumeOptions};

use crate::reference::content::Content;
use crate::reference::tree::{Entry, Kind, Tree};
use crate::support::memory_store::{Logged, MemoryStore};

/// Opens the volume that a log gives and reads everything in it.
pub fn of_log(log: &[Logged], class: EngineClass) -> Result<Tree, String> {
    let local = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = VolumeOptions { class, cache_bytes: 0, local_dir: local.path().to_owned(), owner: (0, 0) };
    let (chores, _list) = channel();
    let volume = Volume::open(&options, Arc::new(MemoryStore::from_log(log)), chores)
        .map_err(|error| format!("the volume does not open: {error:?}"))?;
    volume.look(|state| state.namespace.validate())?;
    let mut reader = Reader { volume, read: HashMap::new() };
    let mut tree = Tree { root: ROOT, ..Tree::default() };
    reader.directory(&mut tree, ROOT, "")?;
    reader.check_orphans()?;
    Ok(tree.without_scratch())
}

struct Reader {
    volume: Arc<Volume>,
    read: HashMap<u64, Arc<Content>>,
}

impl Reader {
    fn directory(&mut self, tree: &mut Tree, directory: u64, prefix: &str) -> Result<(), String> {
        let listed: Vec<(String, u64, Inode)> = self.volume.look(|state| {
            let entries = state.namespace.directory(directory).map_err(|error| error.to_string())?.after(0);
            let named = |ino: u64| state.namespace.inode(ino).cloned().map_err(|error| error.to_string());
            entries
                .map(|(_, entry)| {
                    Ok((String::from_utf8_lossy(&entry.name).into_owned(), entry.ino, named(entry.ino)?))
                })
                .collect::<Result<_, String>>()
        })?;
        for (name, ino, inode) in listed {
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let mut entry = described(ino, &inode);
            if entry.kind == Kind::File {
                entry.content = self.content(ino, inode.size)?;
            }
            let is_directory = entry.kind == Kind::Directory;
            tree.entries.insert(path.clone(), entry);
            if is_directory {
                self.directory(tree, ino, &path)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, ino: u64, size: u64) -> Result<Arc<Content>, String> {
        if let Some(content) = self.read.get(&ino) {
            return Ok(Arc::clone(content));
        }
        let volume = Arc::clone(&self.volume);
        let content = Content::read(size, |buffer, at| {
            let (sender, answer) = channel();
            volume
                .read(ino, at, buffer.len() as u32, move |read| sender.send(read).expect("it is waited for"));
            let bytes = answer.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
            if bytes.len() != buffer.len() {
                return Err(io::Error::other(format!("{} bytes of {} at {at}", bytes.len(), buffer.len())));
            }
            buffer.copy_from_slice(&bytes);
            Ok(())
        });
        let content = Arc::new(content.map_err(|error| format!("inode {ino}: {error}"))?);
        self.read.insert(ino, Arc::clone(&content));
        Ok(content)
    }

    /// Files that were unlinked while they were open are gone.
    fn check_orphans(&self) -> Result<(), String> {
        self.volume.look(|state| {
            let orphan = state.namespace.inodes().find(|(_, inode)| inode.nlink == 0);
            orphan.map_or(Ok(()), |(ino, _)| Err(format!("inode {ino} is an orphan and was not reaped")))
        })
    }
}

fn described(ino: u64, inode: &Inode) -> Entry {
    let time = |ns: i64| (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    Entry {
        kind: match inode.kind {
            InodeKind::Regular => Kind::File,
            InodeKind::Directory => Kind::Directory,
            InodeKind::Symlink => Kind::Link,
            _ => Kind::Other,
        },
        inode: ino,
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        links: u64::from(inode.nlink),
        times: [time(inode.atime), time(inode.mtime)],
        content: Arc::default(),
        target: inode.target.to_vec(),
        local: false,
    }
}

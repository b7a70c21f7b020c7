//! Which names are local to the mount, and which files are written in pages, from what the reference directory shows.
//!
//! A name is local if its inode is; an inode is local if it was created at a local name or in a local directory, until
//! it gets a name that is neither (`docs/volume.md`, Names). Inode numbers of the reference are never given out twice.

use std::collections::{HashMap, HashSet};

use zorya_volume::EngineClass;
use zorya_volume::path_class::PathClass;

use super::tree::{Kind, Tree};

/// What is known of the reference's names and inodes.
#[derive(Default)]
pub struct Locality {
    /// (directory's inode, name) -> inode.
    names: HashMap<(u64, String), u64>,
    known: HashSet<u64>,
    local_inodes: HashSet<u64>,
    local_names: HashSet<(u64, String)>,
    /// Had a paged name once.
    maybe_paged: HashSet<u64>,
    /// Had paged names only.
    surely_paged: HashSet<u64>,
}

impl Locality {
    /// Takes in what an operation changed, and marks the local entries of the tree.
    pub fn observe(&mut self, class: EngineClass, tree: &mut Tree) {
        let mut names = HashMap::new();
        let root = tree.root;
        let inodes: HashMap<String, u64> =
            tree.entries.iter().map(|(path, entry)| (path.clone(), entry.inode)).collect();
        // Paths ascend, so that a directory comes before what is in it.
        for (path, entry) in &mut tree.entries {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let directory = inodes.get(parent).copied().unwrap_or(root);
            let place = (directory, name.to_owned());
            let components: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            let at = class.classify(&components);
            if self.names.get(&place) != Some(&entry.inode) {
                let local = self.local_inodes.contains(&directory) || at == PathClass::Local;
                self.take_in(
                    entry.inode,
                    &place,
                    local,
                    matches!(at, PathClass::Paged | PathClass::Relation { .. }),
                );
            }
            entry.local = self.local_names.contains(&place);
            names.insert(place, entry.inode);
        }
        self.local_names.retain(|place| names.contains_key(place));
        self.names = names;
    }

    fn take_in(&mut self, inode: u64, place: &(u64, String), local: bool, paged: bool) {
        let is_new = self.known.insert(inode);
        if is_new && local {
            self.local_inodes.insert(inode);
        } else if !local {
            self.local_inodes.remove(&inode);
        }
        if self.local_inodes.contains(&inode) {
            self.local_names.insert(place.clone());
        } else {
            self.local_names.remove(place);
        }
        if paged {
            self.maybe_paged.insert(inode);
        }
        if is_new && paged {
            self.surely_paged.insert(inode);
        } else if !paged {
            self.surely_paged.remove(&inode);
        }
    }

    /// What a new mount finds: nothing is local, whatever its name. How a file was written before is not known.
    pub fn of_found(class: EngineClass, tree: &mut Tree) -> Locality {
        let mut locality = Locality::default();
        locality.observe(class, tree);
        let mut found = Locality { names: locality.names, known: locality.known, ..Locality::default() };
        tree.entries.values_mut().for_each(|entry| entry.local = false);
        if class == EngineClass::Postgres {
            let files = tree.entries.values().filter(|entry| entry.kind == Kind::File);
            found.maybe_paged.extend(files.map(|entry| entry.inode));
        }
        found
    }

    pub fn is_local_inode(&self, inode: u64) -> bool {
        self.local_inodes.contains(&inode)
    }

    /// Whether a short write to this file may be held back until it is synced.
    pub fn maybe_paged(&self, inode: u64) -> bool {
        self.maybe_paged.contains(&inode)
    }

    /// Whether this file can only ever have been written in pages.
    pub fn surely_paged(&self, inode: u64) -> bool {
        self.surely_paged.contains(&inode)
    }
}

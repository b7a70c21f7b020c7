//! The namespace against a model: what names lead where, and that the log says the same as memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use zorya_redo::byte_range::{Encoder, Op, decode};
use zorya_types::Key;
use zorya_volume::EngineClass;
use zorya_volume::errno::FsError;
use zorya_volume::namespace::plan::{At, NewNode};
use zorya_volume::namespace::{Change, Kind, Namespace, ROOT};

/// A request on one of a few names in one of a few directories.
#[derive(Clone, Debug)]
enum Request {
    Create(u8, u8, bool),
    Remove(u8, u8),
    RemoveDirectory(u8, u8),
    Link((u8, u8), (u8, u8)),
    Rename((u8, u8), (u8, u8), bool),
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let place = || (0u8..4, 0u8..4);
    let request = prop_oneof![
        (0u8..4, 0u8..4, any::<bool>()).prop_map(|(dir, name, is_dir)| Request::Create(dir, name, is_dir)),
        place().prop_map(|(dir, name)| Request::Remove(dir, name)),
        place().prop_map(|(dir, name)| Request::RemoveDirectory(dir, name)),
        (place(), place()).prop_map(|(from, to)| Request::Link(from, to)),
        (place(), place(), any::<bool>()).prop_map(|(from, to, replace)| Request::Rename(from, to, replace)),
    ];
    proptest::collection::vec(request, 1..80)
}

/// The model: (directory, name) -> inode; which inodes are directories.
#[derive(Default)]
struct Model {
    names: BTreeMap<(u64, u8), u64>,
    directories: Vec<u64>,
}

impl Model {
    fn is_directory(&self, ino: u64) -> bool {
        self.directories.contains(&ino)
    }

    fn is_empty(&self, directory: u64) -> bool {
        !self.names.keys().any(|&(parent, _)| parent == directory)
    }

    fn links(&self, ino: u64) -> usize {
        self.names.values().filter(|&&to| to == ino).count()
    }

    fn contains(&self, directory: u64, below: u64) -> bool {
        directory == below
            || self.names.iter().any(|(&(parent, _), &ino)| ino == below && self.contains(directory, parent))
    }

    fn rename(&mut self, from: (u64, u8), to: (u64, u8), replace: bool) -> bool {
        let Some(&moved) = self.names.get(&from) else { return false };
        let is_directory = self.is_directory(moved);
        if is_directory && self.contains(moved, to.0) {
            return false;
        }
        if let Some(&target) = self.names.get(&to) {
            if !replace {
                return false;
            }
            if target == moved {
                return true;
            }
            if self.is_directory(target) != is_directory || (is_directory && !self.is_empty(target)) {
                return false;
            }
            self.directories.retain(|&ino| ino != target);
        }
        self.names.remove(&from);
        self.names.insert(to, moved);
        true
    }
}

fn commit(namespace: &mut Namespace, log: &mut BTreeMap<Key, Bytes>, change: &Change) {
    let mut encoder = Encoder::new();
    change.encode(&mut encoder);
    for op in decode(&encoder.finish()).unwrap() {
        match op {
            Op::Put { key, value } => drop(log.insert(key, value)),
            Op::Delete { key } => drop(log.remove(&key)),
            other => panic!("{other:?} is no operation on entries"),
        }
    }
    namespace.apply(change);
}

fn name(name: u8) -> Vec<u8> {
    vec![b'a' + name]
}

/// Does a request on both; returns whether the model did it.
fn step(
    namespace: &Namespace,
    model: &mut Model,
    request: &Request,
    now: i64,
) -> (Result<Change, FsError>, bool) {
    // Directories by their order of creation, whether they still exist or not.
    let parent = |index: u8, model: &Model| match index {
        0 => ROOT,
        index => model.directories.get(usize::from(index)).copied().unwrap_or(ROOT),
    };
    match *request {
        Request::Create(dir, child, is_dir) => {
            let (parent, named) = (parent(dir, model), name(child));
            let kind = if is_dir { Kind::Directory } else { Kind::Regular };
            let node = NewNode { kind, mode: 0o644, uid: 1, gid: 2, rdev: 0, target: Vec::new() };
            let planned = namespace.plan_create(At { parent, name: &named }, node, now);
            let free = !model.names.contains_key(&(parent, child));
            if let (Ok((_, ino)), true) = (&planned, free) {
                model.names.insert((parent, child), *ino);
                if is_dir {
                    model.directories.push(*ino);
                }
            }
            (planned.map(|(change, _)| change), free)
        }
        Request::Remove(dir, child) => {
            let (parent, named) = (parent(dir, model), name(child));
            let planned = namespace.plan_unlink(At { parent, name: &named }, now, |_| false);
            let is_file = model.names.get(&(parent, child)).is_some_and(|&ino| !model.is_directory(ino));
            if is_file {
                model.names.remove(&(parent, child));
            }
            (planned, is_file)
        }
        Request::RemoveDirectory(dir, child) => {
            let (parent, named) = (parent(dir, model), name(child));
            let planned = namespace.plan_rmdir(At { parent, name: &named }, now);
            let target = model.names.get(&(parent, child)).copied();
            let can = target.is_some_and(|ino| model.is_directory(ino) && model.is_empty(ino));
            if let (Some(ino), true) = (target, can) {
                model.names.remove(&(parent, child));
                model.directories.retain(|&directory| directory != ino);
            }
            (planned, can)
        }
        Request::Link(from, to) => {
            let (from_parent, to_parent) = (parent(from.0, model), parent(to.0, model));
            let (source, named) = (model.names.get(&(from_parent, from.1)).copied(), name(to.1));
            let ino = source.unwrap_or(u64::MAX >> 2);
            let planned = namespace.plan_link(ino, At { parent: to_parent, name: &named }, now);
            let can = source.is_some_and(|ino| !model.is_directory(ino))
                && !model.names.contains_key(&(to_parent, to.1));
            if can {
                model.names.insert((to_parent, to.1), ino);
            }
            (planned, can)
        }
        Request::Rename(from, to, replace) => {
            let (from, to) = ((parent(from.0, model), from.1), (parent(to.0, model), to.1));
            let (old, new) = (name(from.1), name(to.1));
            let (old, new) = (At { parent: from.0, name: &old }, At { parent: to.0, name: &new });
            let planned = namespace.plan_rename(old, new, replace, now, |_| false);
            (planned, model.rename(from, to, replace))
        }
    }
}

fn check(namespace: &Namespace, model: &Model) {
    for directory in std::iter::once(&ROOT).chain(&model.directories) {
        let listed: BTreeMap<u8, u64> = namespace
            .directory(*directory)
            .unwrap()
            .after(0)
            .map(|(_, entry)| (entry.name[0] - b'a', entry.ino))
            .collect();
        let expected: BTreeMap<u8, u64> = model
            .names
            .iter()
            .filter(|((parent, _), _)| parent == directory)
            .map(|(&(_, n), &i)| (n, i))
            .collect();
        assert_eq!(listed, expected, "directory {directory}");
        let below = expected.values().filter(|ino| model.is_directory(**ino)).count();
        assert_eq!(
            namespace.inode(*directory).unwrap().nlink as usize,
            2 + below,
            "links of directory {directory}"
        );
    }
    for &ino in model.names.values().filter(|ino| !model.is_directory(**ino)) {
        assert_eq!(namespace.inode(ino).unwrap().nlink as usize, model.links(ino));
    }
    let known: std::collections::BTreeSet<u64> = model.names.values().copied().collect();
    assert_eq!(namespace.inode_count(), known.len() + 1, "nothing is left behind");
}

proptest! {
    #[test]
    fn memory_log_and_model_agree(requests in requests()) {
        let mut namespace = Namespace::empty(EngineClass::None);
        let mut log = BTreeMap::new();
        let root = namespace.plan_root((0, 0), 1);
        commit(&mut namespace, &mut log, &root);
        let mut model = Model { directories: vec![ROOT], ..Model::default() };
        for (now, request) in requests.iter().enumerate() {
            let (planned, expected) = step(&namespace, &mut model, request, now as i64);
            prop_assert_eq!(planned.is_ok(), expected, "{:?}: {:?}", request, planned.err());
            if let Ok(change) = planned {
                commit(&mut namespace, &mut log, &change);
            }
        }
        model.directories.remove(0);
        check(&namespace, &model);
        let mut loaded = Namespace::empty(EngineClass::None);
        for (key, value) in &log {
            loaded.load(*key, value).unwrap();
        }
        loaded.validate().unwrap();
        check(&loaded, &model);
        for (ino, inode) in namespace.inodes() {
            prop_assert_eq!(loaded.inode(ino).unwrap(), inode);
        }
    }
}

//! Formatting a volume, and opening one: the namespace into memory, orphans reaped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use zorya_redo::byte_range::Encoder;
use zorya_storage::store::{AppendRefused, NewRecord, ReadFailed, VolumeLost, VolumeStore};
use zorya_types::{BLOCK_SIZE, FileKey, GroupId, Key, KeyClass};
use zorya_wire::record::CODEC_BYTE_RANGE;

use super::now_ns;
use super::queue::{Chore, Volume};
use super::state::State;
use crate::errno::FsError;
use crate::file::cache::BlockCache;
use crate::file::extents::Extents;
use crate::local::LocalFiles;
use crate::namespace::change::FACT_FORMAT;
use crate::namespace::inode::{BadValue, VolumeFormat, decode_group};
use crate::namespace::{Kind, Namespace};
use crate::path_class::EngineClass;

/// The cache holds at least this many blocks (8 MiB), so that one request's blocks always fit.
const MIN_CACHE_BLOCKS: u64 = 1024;
const EXTENT_FILE_BITS: u32 = 112;

/// How to open a volume.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// Whose list of path classes applies. A volume keeps the one that it was formatted with.
    pub class: EngineClass,
    /// The block cache's bound in bytes.
    pub cache_bytes: u64,
    /// Where local files' content goes.
    pub local_dir: PathBuf,
    /// User and group of the root directory of a new volume.
    pub owner: (u32, u32),
}

/// Why a volume cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Storage cannot answer.
    #[error("reading the volume's namespace failed")]
    Read(#[from] ReadFailed),
    /// The volume is lost to this process.
    #[error(transparent)]
    Lost(#[from] VolumeLost),
    /// An entry cannot be read.
    #[error("the namespace entry {key:?} cannot be read")]
    BadEntry {
        /// The entry.
        key: Key,
        /// Why.
        #[source]
        source: BadValue,
    },
    /// The entries contradict each other.
    #[error("the volume's namespace is damaged: {0}")]
    Damaged(String),
    /// Entries, but no format: not a volume of this kind.
    #[error("the volume has entries but no format: it was not written by zorya mount")]
    NoFormat,
    /// The volume is another engine's.
    #[error("the volume was formatted for {found:?}, not for {asked:?}: mount it with that class")]
    OtherEngine {
        /// What it is.
        found: EngineClass,
        /// What was asked for.
        asked: EngineClass,
    },
    /// The directory for local content does not work.
    #[error("the local directory {path:?} cannot be used")]
    LocalDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The first records of the mount were refused.
    #[error("the mount's first records were refused: {0}")]
    Refused(String),
}

impl Volume {
    /// Opens a volume; formats it first if nothing was ever written to it. Blocks until storage answered.
    pub fn open(
        options: &VolumeOptions,
        store: Arc<dyn VolumeStore>,
        chores: Sender<Chore>,
    ) -> Result<Arc<Volume>, LoadError> {
        let local_files = LocalFiles::open(&options.local_dir)
            .map_err(|source| LoadError::LocalDir { path: options.local_dir.clone(), source })?;
        let (namespace, extents) = load(options, &store)?;
        let capacity = (options.cache_bytes / BLOCK_SIZE as u64).max(MIN_CACHE_BLOCKS);
        let cache = BlockCache::new(capacity as usize);
        let state = State::new(namespace, extents, cache, Arc::clone(&store), local_files);
        let volume = Arc::new(Volume::new(state, store, chores));
        volume.reap_orphans();
        Ok(volume)
    }

    fn reap_orphans(self: &Arc<Self>) {
        let orphans: Vec<u64> = self.look(|state| {
            let inodes = state.namespace.inodes();
            inodes
                .filter(|(_, inode)| inode.nlink == 0 && inode.kind != Kind::Directory)
                .map(|(ino, _)| ino)
                .collect()
        });
        for ino in orphans {
            self.change(
                move |state| {
                    let change = state.namespace.plan_reap(ino)?;
                    state.commit(&change)
                },
                move |reaped: Result<(), FsError>| match reaped {
                    Ok(()) => tracing::info!(ino, "an orphan of an earlier mount is reaped"),
                    Err(error) => tracing::warn!(ino, %error, "an orphan of an earlier mount stays"),
                },
            );
        }
    }
}

fn load(options: &VolumeOptions, store: &Arc<dyn VolumeStore>) -> Result<(Namespace, Extents), LoadError> {
    let from = Key::volume(0);
    let to = Key { hi: Key::extent(FileKey(0), 0).hi.wrapping_add(1 << 120), lo: 0 };
    let entries = store.scan(GroupId(0), from, to)?;
    if entries.is_empty() {
        return format(options, store).map(|namespace| (namespace, Extents::default()));
    }
    check_format(options, &entries)?;
    let mut namespace = Namespace::empty(options.class);
    let mut extents = Extents::default();
    for (key, value) in &entries {
        let bad = |source| LoadError::BadEntry { key: *key, source };
        if key.class() == Some(KeyClass::Extent) {
            let group = GroupId(decode_group(value).map_err(bad)?);
            extents.insert(file_of_extent(*key), key.lo, group);
        } else {
            namespace.load(*key, value).map_err(bad)?;
        }
    }
    namespace.validate().map_err(LoadError::Damaged)?;
    namespace.count_links();
    for (_, inode) in namespace.inodes().filter(|(_, inode)| inode.kind == Kind::Regular) {
        extents.count_loaded(inode.placement.file, inode.placement.first, inode.size);
    }
    Ok((namespace, extents))
}

fn check_format(options: &VolumeOptions, entries: &[(Key, bytes::Bytes)]) -> Result<(), LoadError> {
    let key = Key::volume(FACT_FORMAT);
    let (_, value) = entries.iter().find(|(at, _)| *at == key).ok_or(LoadError::NoFormat)?;
    let format = VolumeFormat::decode(value).map_err(|source| LoadError::BadEntry { key, source })?;
    if format.engine != options.class {
        return Err(LoadError::OtherEngine { found: format.engine, asked: options.class });
    }
    Ok(())
}

/// Undoes [`Key::extent`].
fn file_of_extent(key: Key) -> FileKey {
    let payload = key.payload();
    FileKey((payload >> EXTENT_FILE_BITS) << 120 | payload & ((1 << EXTENT_FILE_BITS) - 1))
}

/// Writes the format and the root directory as one record and waits until it is durable.
fn format(options: &VolumeOptions, store: &Arc<dyn VolumeStore>) -> Result<Namespace, LoadError> {
    let mut namespace = Namespace::empty(options.class);
    let change = namespace.plan_root(options.owner, now_ns());
    let mut encoder = Encoder::new();
    encoder.put(Key::volume(FACT_FORMAT), &VolumeFormat { engine: options.class }.encode());
    change.encode(&mut encoder);
    let payload = [encoder.payload()];
    let record = NewRecord { codec: CODEC_BYTE_RANGE, payload: &payload, groups: &[GroupId(0)] };
    let lsn = store.append(record).map_err(|refused| match refused {
        AppendRefused::Lost(lost) => LoadError::Lost(lost),
        AppendRefused::AtAllocationLimit => LoadError::Refused(refused.to_string()),
    })?;
    let (done, durable) = std::sync::mpsc::channel();
    store.when_durable(
        lsn,
        Box::new(move |outcome| {
            // The receiver waits below for as long as this callback exists.
            let _ = done.send(outcome);
        }),
    );
    durable.recv().map_err(|gone| LoadError::Refused(gone.to_string()))??;
    namespace.apply(&change);
    Ok(namespace)
}

//! What the page store may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cache::Cache;

/// The settings of a volume's pages. All but the last decide where layers are cut: replicas build equal layers only
/// with equal values.
#[derive(Clone, Debug)]
pub struct PagesConfig {
    /// A flush cut every so many bytes of LSN.
    pub flush_bytes: u64,
    /// Also a flush cut between records whose stamps lie in different periods of so many microseconds.
    pub flush_us: u64,
    /// A compaction cut every so many times `flush_bytes`; also how many merged delta layers a key range may collect before it
    /// gets a new image.
    pub max_deltas: usize,
    /// About how large an image layer or a merged delta layer becomes, in bytes.
    pub layer_bytes: u64,
    /// What all volumes of the node share.
    pub node: Arc<NodeMemory>,
}

impl Default for PagesConfig {
    /// Cuts of 16 MiB or 5 minutes, compaction every 128 MiB, layers of 32 MiB, 64 MiB of index and 16 MiB of cache.
    fn default() -> PagesConfig {
        PagesConfig {
            flush_bytes: 16 << 20,
            flush_us: 300_000_000,
            max_deltas: 8,
            layer_bytes: 32 << 20,
            node: NodeMemory::new(64 << 20, 16 << 20),
        }
    }
}

/// The memory that all page stores of one process share.
#[derive(Debug)]
pub struct NodeMemory {
    /// How many bytes the indexes of the newest log may take.
    index_limit: usize,
    /// How many they take.
    index_bytes: AtomicUsize,
    /// Blocks and indexes of layers.
    pub(crate) cache: Cache,
}

impl NodeMemory {
    /// Limits in bytes: of the indexes over the newest log, and of the cache of layer blocks.
    #[must_use]
    pub fn new(index_limit: usize, cache_limit: usize) -> Arc<NodeMemory> {
        Arc::new(NodeMemory { index_limit, index_bytes: AtomicUsize::new(0), cache: Cache::new(cache_limit) })
    }

    /// Bytes of index in use.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.index_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of cached layer blocks and indexes.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.index_bytes() > self.index_limit
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.index_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.index_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

//! READ: from the cache, from holes, from storage, with a held head on top.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zorya_storage::store::ReadFailed;
use zorya_types::{BLOCK_SIZE, GroupId, Key};

use super::queue::Volume;
use super::state::{Base, State};
use crate::errno::FsError;
use crate::file::{BLOCK, zero_block};

/// While the cache has room, a small read that storage has to answer takes the blocks around it along, aligned, so many in
/// all. A storage node reads neighbours together for a fraction of what each costs alone, and an engine that recovers
/// or warms up soon wants most of them.
const NEIGHBOURS: u64 = 8;

/// Blocks that were fetched for a request and are still the newest.
type Fetched = HashMap<Key, Bytes>;

/// What is fetched beside what a READ needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Neighbours,
}

/// What a READ needs.
enum Plan {
    /// Nothing more: the bytes.
    Ready(Assembly),
    /// These blocks first.
    Fetch(Vec<(GroupId, Key)>),
}

/// The pieces of an answer: blocks, the range of bytes wanted of them, and a head over it.
struct Assembly {
    blocks: Vec<Bytes>,
    skip: usize,
    len: usize,
    /// Bytes over the answer, from an offset in it.
    over: Option<(usize, Vec<u8>)>,
}

impl Assembly {
    fn into_bytes(self) -> Bytes {
        let Assembly { blocks, skip, len, over } = self;
        if let ([block], None) = (blocks.as_slice(), &over) {
            return block.slice(skip..skip + len);
        }
        let mut out = Vec::with_capacity(len);
        for (index, block) in blocks.iter().enumerate() {
            let from = if index == 0 { skip } else { 0 };
            let to = BLOCK_SIZE.min(from + len - out.len());
            out.extend_from_slice(&block[from..to]);
        }
        if let Some((at, bytes)) = over {
            out[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        out.into()
    }
}

impl Volume {
    /// Reads up to `len` bytes at `offset` of a shipped file; fewer at its end.
    pub fn read(
        self: &Arc<Self>,
        ino: u64,
        offset: u64,
        len: u32,
        done: impl FnOnce(Result<Bytes, FsError>) + Send + 'static,
    ) {
        self.read_with(ino, offset, len, Fetched::new(), Beside::Neighbours, done);
    }

    fn read_with(
        self: &Arc<Self>,
        ino: u64,
        offset: u64,
        len: u32,
        fetched: Fetched,
        beside: Beside,
        done: impl FnOnce(Result<Bytes, FsError>) + Send + 'static,
    ) {
        let mut state = self.lock();
        let mut keys = match state.plan_read(ino, offset, len, &fetched) {
            Ok(Plan::Fetch(keys)) => keys,
            Ok(Plan::Ready(assembly)) => {
                drop(state);
                return done(Ok(assembly.into_bytes()));
            }
            Err(error) => {
                drop(state);
                return done(Err(error));
            }
        };
        let needed = keys.len();
        if beside == Beside::Neighbours {
            let blocks = offset / BLOCK..offset.saturating_add(u64::from(len)).div_ceil(BLOCK);
            state.add_neighbours(ino, blocks, &mut keys);
        }
        state.begin_fetch(&keys);
        drop(state);
        let volume = Arc::clone(self);
        let wanted = keys.clone();
        self.store.read(
            &keys,
            Box::new(move |blocks| {
                let fetched = volume.look(|state| state.end_fetch(&wanted, blocks));
                match fetched {
                    Ok(fetched) => volume.read_with(ino, offset, len, fetched, beside, done),
                    // A neighbour that cannot be read is none of this request's business.
                    Err(_) if wanted.len() > needed => {
                        volume.read_with(ino, offset, len, Fetched::new(), Beside::Nothing, done);
                    }
                    Err(error) => done(Err(error.into())),
                }
            }),
        );
    }
}

impl State {
    fn plan_read(&mut self, ino: u64, offset: u64, len: u32, fetched: &Fetched) -> Result<Plan, FsError> {
        let size = self.visible_size(ino)?;
        let placement = self.namespace.inode(ino)?.placement;
        let end = size.min(offset.saturating_add(u64::from(len)));
        if offset >= end {
            return Ok(Plan::Ready(Assembly { blocks: Vec::new(), skip: 0, len: 0, over: None }));
        }
        let (first, last) = (offset / BLOCK, (end - 1) / BLOCK);
        let mut blocks = Vec::with_capacity((last - first + 1) as usize);
        let mut missing = Vec::new();
        for block in first..=last {
            let number = placement.first + block;
            let key = Key::block(placement.file, number);
            match self.base(placement.file, number) {
                Base::Known(data) => blocks.push(data),
                Base::Zero => blocks.push(zero_block()),
                Base::Stored(group) => match fetched.get(&key) {
                    Some(data) => blocks.push(data.clone()),
                    None => missing.push((group, key)),
                },
            }
        }
        if !missing.is_empty() {
            return Ok(Plan::Fetch(missing));
        }
        let over = self.head_over(ino, offset, end);
        Ok(Plan::Ready(Assembly {
            blocks,
            skip: (offset % BLOCK) as usize,
            len: (end - offset) as usize,
            over,
        }))
    }

    /// Adds the neighbours of `keys`, which a small read of `blocks` of an inode has to fetch, if the cache has room.
    fn add_neighbours(&mut self, ino: u64, blocks: Range<u64>, keys: &mut Vec<(GroupId, Key)>) {
        if keys.len() as u64 >= NEIGHBOURS || !self.cache.has_room_for(2 * NEIGHBOURS as usize) {
            return;
        }
        let Ok(inode) = self.namespace.inode(ino) else { return };
        let (placement, end) = (inode.placement, inode.size.div_ceil(BLOCK));
        let aligned =
            blocks.start / NEIGHBOURS * NEIGHBOURS..blocks.end.next_multiple_of(NEIGHBOURS).min(end);
        for block in aligned.filter(|block| !blocks.contains(block)) {
            let number = placement.first + block;
            let Some(group) = self.only_stored(placement.file, number) else { continue };
            let key = Key::block(placement.file, number);
            if !self.fetches.contains_key(&key) {
                keys.push((group, key));
            }
        }
    }

    /// The bytes of a held head that lie in `offset..end`, and where in the answer.
    fn head_over(&self, ino: u64, offset: u64, end: u64) -> Option<(usize, Vec<u8>)> {
        let head = self.open.get(&ino)?.head.as_ref()?;
        let (from, to) = (head.start.max(offset), head.end().min(end));
        if from >= to {
            return None;
        }
        let bytes = head.bytes[(from - head.start) as usize..(to - head.start) as usize].to_vec();
        Some(((from - offset) as usize, bytes))
    }

    /// Notes that blocks are being fetched, so that a change meanwhile is noticed.
    pub(super) fn begin_fetch(&mut self, keys: &[(GroupId, Key)]) {
        for (_, key) in keys {
            self.fetches.entry(*key).or_default().readers += 1;
        }
    }

    /// Takes in fetched blocks and returns those that are still the newest.
    pub(super) fn end_fetch(
        &mut self,
        keys: &[(GroupId, Key)],
        blocks: Result<Vec<Option<Bytes>>, ReadFailed>,
    ) -> Result<Fetched, ReadFailed> {
        let mut fresh = Fetched::new();
        let vdl = self.store.vdl();
        let blocks = blocks.and_then(|blocks| well_formed(keys, blocks));
        for (index, (_, key)) in keys.iter().enumerate() {
            let stale = self.leave_fetch(*key);
            if let (Ok(blocks), false) = (&blocks, stale) {
                let data = blocks[index].clone().unwrap_or_else(zero_block);
                self.cache.insert(*key, data.clone(), zorya_types::Lsn::ZERO, vdl);
                fresh.insert(*key, data);
            }
        }
        blocks.map(|_| fresh)
    }

    /// Ends one fetch of a block, and says whether it was changed meanwhile.
    fn leave_fetch(&mut self, key: Key) -> bool {
        let Some(fetch) = self.fetches.get_mut(&key) else { return true };
        fetch.readers -= 1;
        let stale = fetch.stale;
        if fetch.readers == 0 {
            self.fetches.remove(&key);
        }
        stale
    }
}

/// An answer of storage with as many blocks as were asked for, each whole.
fn well_formed(
    keys: &[(GroupId, Key)],
    blocks: Vec<Option<Bytes>>,
) -> Result<Vec<Option<Bytes>>, ReadFailed> {
    let wrong = |key: Key, len: usize| ReadFailed::Unreadable {
        key,
        reason: format!(
            "storage answered {} keys with {} values, this one with {len} bytes",
            keys.len(),
            blocks.len()
        ),
    };
    if let (true, Some(&(_, key))) = (blocks.len() != keys.len(), keys.first()) {
        return Err(wrong(key, 0));
    }
    for ((_, key), block) in keys.iter().zip(&blocks) {
        if let Some(block) = block.as_ref().filter(|block| block.len() != BLOCK_SIZE) {
            return Err(wrong(*key, block.len()));
        }
    }
    Ok(blocks)
}

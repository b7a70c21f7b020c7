//! A volume store in memory whose durability and room are controlled by the test.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use zorya_redo::{Effect, apply, touches};
use zorya_storage::store::{AppendRefused, Done, NewRecord, ReadFailed, VolumeLost, VolumeStore};
use zorya_types::{Epoch, GroupId, Key, Lsn, VolumePositions};

const HEADER: u64 = 60;

/// A record as it was appended.
#[derive(Clone, Debug)]
pub struct Logged {
    pub lsn: Lsn,
    pub codec: u16,
    pub payload: Bytes,
    pub groups: Vec<GroupId>,
    pub consistent: bool,
}

type Waiter = Done<Result<(), VolumeLost>>;

/// What the thread of a slow store is asked for.
enum Wish {
    /// Somebody waits for durability or room.
    Durable,
    /// A read is answered.
    Answer(Box<dyn FnOnce() + Send>),
}

struct Inner {
    log: Vec<Logged>,
    keep_log: bool,
    pending: VecDeque<Logged>,
    values: BTreeMap<Key, Bytes>,
    groups: BTreeMap<Key, GroupId>,
    vdl: Lsn,
    allocated: Lsn,
    hold: bool,
    limit: u64,
    lost: Option<VolumeLost>,
    durable: Vec<(Lsn, Waiter)>,
    room: Vec<Waiter>,
    reads: u64,
    held_reads: Option<Vec<Box<dyn FnOnce() + Send>>>,
    /// A key whose reads fail.
    damaged: Option<Key>,
    answers_early: bool,
    free_bytes: Option<u64>,
    records: u64,
    bytes: u64,
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    /// Where a slow store's thread listens.
    thread: Option<Sender<Wish>>,
}

impl MemoryStore {
    /// Everything is durable at once.
    pub fn new() -> MemoryStore {
        MemoryStore::from_log(&[])
    }

    /// Records become durable about `delay` after they were appended, and callbacks run on another thread.
    pub fn delayed(delay: Duration) -> MemoryStore {
        let store = MemoryStore::new();
        store.inner.lock().keep_log = false;
        store.with_thread(delay)
    }

    /// The volume that a log gives. New records become durable when somebody waits for them, or for room: the log may
    /// be `limit` bytes ahead. Callbacks run on another thread.
    pub fn lagging(log: &[Logged], limit: u64) -> MemoryStore {
        let store = MemoryStore::from_log(log);
        store.limit(limit);
        store.with_thread(Duration::ZERO)
    }

    fn with_thread(mut self, delay: Duration) -> MemoryStore {
        self.hold();
        let (sender, receiver) = channel();
        let acting = self.clone();
        thread::spawn(move || {
            while let Ok(wish) = receiver.recv() {
                match wish {
                    Wish::Answer(answer) => answer(),
                    Wish::Durable => {
                        let upto = match &*acting.inner.lock() {
                            // An earlier wish was theirs too.
                            inner if inner.durable.is_empty() && inner.room.is_empty() => continue,
                            inner => inner.allocated,
                        };
                        thread::sleep(delay);
                        acting.advance(upto);
                    }
                }
            }
        });
        self.thread = Some(sender);
        self
    }

    /// The volume that a log (or a prefix of one) gives.
    pub fn from_log(log: &[Logged]) -> MemoryStore {
        let inner = Inner {
            log: Vec::new(),
            keep_log: true,
            pending: VecDeque::new(),
            values: BTreeMap::new(),
            groups: BTreeMap::new(),
            vdl: Lsn(0),
            allocated: Lsn(0),
            hold: false,
            limit: u64::MAX,
            lost: None,
            durable: Vec::new(),
            room: Vec::new(),
            reads: 0,
            held_reads: None,
            damaged: None,
            answers_early: false,
            free_bytes: None,
            records: 0,
            bytes: 0,
        };
        let store = MemoryStore { inner: Arc::new(Mutex::new(inner)), thread: None };
        {
            let mut inner = store.inner.lock();
            for record in log {
                inner.apply(record);
                inner.log.push(record.clone());
                inner.allocated = record.lsn;
                inner.vdl = record.lsn;
            }
        }
        store
    }

    /// From now on nothing becomes durable until [`MemoryStore::advance`].
    pub fn hold(&self) {
        self.inner.lock().hold = true;
    }

    /// Everything is durable, now and from now on.
    pub fn unhold(&self) {
        self.inner.lock().hold = false;
        let upto = self.inner.lock().allocated;
        self.advance(upto);
    }

    /// Makes the log durable up to `upto`.
    pub fn advance(&self, upto: Lsn) {
        let (durable, room) = {
            let mut inner = self.inner.lock();
            while inner.pending.front().is_some_and(|record| record.lsn <= upto) {
                let record = inner.pending.pop_front().unwrap();
                inner.apply(&record);
                inner.vdl = record.lsn;
            }
            let vdl = inner.vdl;
            let waiting = std::mem::take(&mut inner.durable);
            let (durable, waiting) = waiting.into_iter().partition(|(lsn, _)| *lsn <= vdl);
            inner.durable = waiting;
            let room = if inner.is_roomy() { std::mem::take(&mut inner.room) } else { Vec::new() };
            let durable: Vec<(Lsn, Waiter)> = durable;
            (durable, room)
        };
        for (_, done) in durable {
            done(Ok(()));
        }
        for done in room {
            done(Ok(()));
        }
    }

    fn wish(&self, wish: Wish) {
        if let Some(thread) = &self.thread {
            thread.send(wish).unwrap();
        }
    }

    /// A broken store: whoever waits for durability is told at once that it is there.
    pub fn answer_early(&self) {
        self.inner.lock().answers_early = true;
    }

    /// What storage says that it has room for.
    pub fn has_free(&self, bytes: u64) {
        self.inner.lock().free_bytes = Some(bytes);
    }

    /// How many records the log has.
    pub fn log_len(&self) -> usize {
        self.inner.lock().log.len()
    }

    /// How many of them are durable.
    pub fn durable_records(&self) -> usize {
        let inner = self.inner.lock();
        inner.log.len() - inner.pending.len()
    }

    /// How many bytes may be appended beyond VDL.
    pub fn limit(&self, bytes: u64) {
        self.inner.lock().limit = bytes;
    }

    /// The volume is another's now.
    pub fn lose(&self) {
        let lost = VolumeLost::Fenced { by: Epoch(2), own: Epoch(1) };
        let (durable, room) = {
            let mut inner = self.inner.lock();
            inner.lost = Some(lost.clone());
            (std::mem::take(&mut inner.durable), std::mem::take(&mut inner.room))
        };
        for (_, done) in durable {
            done(Err(lost.clone()));
        }
        for done in room {
            done(Err(lost.clone()));
        }
    }

    /// From now on reads are not answered until [`MemoryStore::answer_reads`].
    pub fn hold_reads(&self) {
        self.inner.lock().held_reads.get_or_insert_default();
    }

    /// Answers the reads that were held, as of when they were asked.
    pub fn answer_reads(&self) {
        let held = self.inner.lock().held_reads.take().unwrap_or_default();
        for read in held {
            read();
        }
    }

    /// From now on this key, if it is there, cannot be read.
    pub fn damage(&self, key: Key) {
        let mut inner = self.inner.lock();
        assert!(inner.values.contains_key(&key), "{key:?} was never written");
        inner.damaged = Some(key);
    }

    pub fn held_reads(&self) -> usize {
        self.inner.lock().held_reads.as_ref().map_or(0, Vec::len)
    }

    pub fn log(&self) -> Vec<Logged> {
        self.inner.lock().log.clone()
    }

    pub fn reads(&self) -> u64 {
        self.inner.lock().reads
    }

    pub fn records(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.records, inner.bytes)
    }

    pub fn waiting_for_durable(&self) -> usize {
        self.inner.lock().durable.len()
    }

    pub fn waiting_for_room(&self) -> usize {
        self.inner.lock().room.len()
    }

    /// Blocks that have a version.
    pub fn block_count(&self) -> usize {
        self.inner.lock().values.keys().filter(|key| key.is_block()).count()
    }
}

impl Inner {
    /// Who waits for room is told of it when it is worth it.
    fn is_roomy(&self) -> bool {
        self.has_room(self.limit / 4)
    }

    fn has_room(&self, len: u64) -> bool {
        self.allocated.0.saturating_add(len) <= self.vdl.0.saturating_add(self.limit)
    }

    fn apply(&mut self, record: &Logged) {
        for touch in touches(record.codec, &record.payload).unwrap() {
            match touch.effect {
                Effect::Image | Effect::Delta => {
                    let base = self.values.get(&touch.key).cloned();
                    let value =
                        apply(record.codec, &record.payload, touch.reference, touch.key, base.as_deref())
                            .unwrap();
                    // A value of its own, so that a small value does not keep a large record.
                    self.values.insert(touch.key, Bytes::copy_from_slice(&value));
                }
                Effect::Delete => {
                    self.values.remove(&touch.key);
                }
                Effect::Clear { to } => {
                    let gone: Vec<Key> = self.values.range(touch.key..to).map(|(&key, _)| key).collect();
                    for key in gone {
                        self.values.remove(&key);
                        self.groups.remove(&key);
                    }
                }
            }
        }
    }

    fn append(&mut self, records: &[NewRecord<'_>]) -> Result<Lsn, AppendRefused> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone().into());
        }
        let len = |record: &NewRecord<'_>| {
            HEADER + record.payload.iter().map(|part| part.len() as u64).sum::<u64>()
        };
        if !self.has_room(records.iter().map(len).sum()) {
            return Err(AppendRefused::AtAllocationLimit);
        }
        for (index, record) in records.iter().enumerate() {
            let payload = Bytes::from(record.payload.concat());
            assert!(
                payload.len() + 1024 < zorya_wire::record::MAX_RECORD_LEN,
                "a record of {}",
                payload.len()
            );
            self.check_groups(record, &payload);
            self.allocated = self.allocated.plus(len(record));
            self.records += 1;
            self.bytes += payload.len() as u64;
            let logged = Logged {
                lsn: self.allocated,
                codec: record.codec,
                payload,
                groups: record.groups.to_vec(),
                consistent: index + 1 == records.len(),
            };
            if self.keep_log {
                self.log.push(logged.clone());
            }
            if self.hold {
                self.pending.push_back(logged);
            } else {
                self.apply(&logged);
                self.vdl = logged.lsn;
            }
        }
        Ok(self.allocated)
    }

    /// Entries live in group 0, and a record without groups touches nothing.
    fn check_groups(&self, record: &NewRecord<'_>, payload: &Bytes) {
        let touches = touches(record.codec, payload).unwrap();
        assert!(!touches.is_empty(), "an empty record");
        assert!(!record.groups.is_empty(), "a record without groups");
        let entries = touches.iter().any(|touch| !touch.key.is_block());
        assert!(!entries || record.groups.contains(&GroupId(0)), "entries live in group 0");
    }
}

impl VolumeStore for MemoryStore {
    fn append(&self, record: NewRecord<'_>) -> Result<Lsn, AppendRefused> {
        self.inner.lock().append(&[record])
    }

    fn append_atomically(&self, records: &[NewRecord<'_>]) -> Result<Lsn, AppendRefused> {
        self.inner.lock().append(records)
    }

    fn when_room(&self, done: Done<Result<(), VolumeLost>>) {
        let mut inner = self.inner.lock();
        let outcome = match &inner.lost {
            Some(lost) => Err(lost.clone()),
            None if inner.is_roomy() => Ok(()),
            None => {
                inner.room.push(done);
                drop(inner);
                return self.wish(Wish::Durable);
            }
        };
        drop(inner);
        done(outcome);
    }

    fn when_durable(&self, lsn: Lsn, done: Done<Result<(), VolumeLost>>) {
        let mut inner = self.inner.lock();
        let outcome = match &inner.lost {
            Some(lost) => Err(lost.clone()),
            None if lsn <= inner.vdl || inner.answers_early => Ok(()),
            None => {
                inner.durable.push((lsn, done));
                drop(inner);
                return self.wish(Wish::Durable);
            }
        };
        drop(inner);
        done(outcome);
    }

    fn vdl(&self) -> Lsn {
        self.inner.lock().vdl
    }

    fn positions(&self) -> VolumePositions {
        let inner = self.inner.lock();
        VolumePositions {
            vdl: inner.vdl,
            vcl: inner.vdl,
            allocated: inner.allocated,
            allocation_limit: inner.limit,
            ..VolumePositions::default()
        }
    }

    fn epoch(&self) -> Epoch {
        Epoch(1)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.lock().free_bytes
    }

    fn read(&self, keys: &[(GroupId, Key)], done: Done<Result<Vec<Option<Bytes>>, ReadFailed>>) {
        let mut inner = self.inner.lock();
        inner.reads += 1;
        let values: Vec<_> = keys.iter().map(|(_, key)| inner.values.get(key).cloned()).collect();
        let damaged = inner.damaged.filter(|damaged| keys.iter().any(|(_, key)| key == damaged));
        let outcome = match (&inner.lost, damaged) {
            (Some(lost), _) => Err(lost.clone().into()),
            (None, Some(key)) => Err(ReadFailed::Unreadable { key, reason: "damaged".to_owned() }),
            (None, None) => Ok(values),
        };
        if let Some(held) = &mut inner.held_reads {
            return held.push(Box::new(move || done(outcome)));
        }
        drop(inner);
        match &self.thread {
            Some(_) => self.wish(Wish::Answer(Box::new(move || done(outcome)))),
            None => done(outcome),
        }
    }

    fn scan(&self, _group: GroupId, from: Key, to: Key) -> Result<Vec<(Key, Bytes)>, ReadFailed> {
        let inner = self.inner.lock();
        Ok(inner.values.range(from..to).map(|(&key, value)| (key, value.clone())).collect())
    }
}

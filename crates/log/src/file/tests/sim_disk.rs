//! A disk in memory that records every call, so that the image that a power cut would leave can be made for any moment.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::file::Position;
use crate::file::disk::{Disk, DiskFile};

const SECTOR: u64 = 512;

/// To which file, where, and what.
type Write = (usize, u64, Vec<u8>);

/// What happened, in order.
#[derive(Clone, Debug)]
enum Call {
    Create {
        name: String,
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncNames,
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync {
        file: usize,
    },
    /// A failed sync: what was written is never going to be on the disk.
    Lose {
        file: usize,
    },
    /// Not a call: the log said that everything below is durable.
    Durable(Position),
}

/// What is on a disk.
#[derive(Clone, Default)]
pub(super) struct Image {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
}

/// Which faults the disk shows.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// The next sync fails.
    pub(super) sync_fails: bool,
    /// The next write fails.
    pub(super) write_fails: bool,
    /// Bytes that all files together may have.
    pub(super) capacity: Option<u64>,
    /// What the disk says is free.
    pub(super) free_bytes: Option<u64>,
    /// How long a sync takes.
    pub(super) sync_takes: Duration,
    /// Syncs do not end.
    pub(super) hold_syncs: bool,
}

#[derive(Default)]
struct State {
    start: Image,
    calls: Vec<Call>,
    /// What a reader sees.
    now: Image,
    /// What the disk has for certain, by file.
    synced: Vec<Vec<u8>>,
    unsynced: Vec<Write>,
    faults: Faults,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Syncs are no longer held.
    released: Arc<Condvar>,
}

struct SimFile {
    state: Arc<Mutex<State>>,
    released: Arc<Condvar>,
    file: usize,
}

impl SimDisk {
    /// A disk with that on it, and nothing unsynced.
    pub(super) fn of(image: Image) -> SimDisk {
        let state =
            State { synced: image.files.clone(), now: image.clone(), start: image, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(state)), released: Arc::default() }
    }

    /// Notes in the record that this was reported durable.
    pub(super) fn note_durable(&self, position: Position) {
        self.state.lock().calls.push(Call::Durable(position));
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// How many calls there were when something was first reported durable.
    pub(super) fn calls_until_durable(&self) -> usize {
        let state = self.state.lock();
        let note = state.calls.iter().position(|call| matches!(call, Call::Durable(_)));
        note.map_or(state.calls.len(), |at| at + 1)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
        self.released.notify_all();
    }

    /// What a reader sees now: what is left when the process dies and the machine goes on.
    pub(super) fn now(&self) -> Image {
        self.state.lock().now.clone()
    }

    /// What a power cut after so many calls could leave, and what had been reported durable by then.
    pub(super) fn cut_after(&self, calls: usize, rng: &mut StdRng) -> (Image, Position) {
        let state = self.state.lock();
        let mut cut = Cut::new(&state.start);
        for call in &state.calls[..calls] {
            cut.play(call);
        }
        (cut.image(rng), cut.durable)
    }
}

/// A disk on which calls are played until the power is cut.
struct Cut {
    synced: Image,
    names: Vec<Call>,
    writes: Vec<Write>,
    durable: Position,
}

impl Cut {
    fn new(start: &Image) -> Cut {
        Cut { synced: start.clone(), names: Vec::new(), writes: Vec::new(), durable: Position(0) }
    }

    fn play(&mut self, call: &Call) {
        match call {
            Call::Create { file, .. } => {
                self.synced.files.resize(file + 1, Vec::new());
                self.names.push(call.clone());
            }
            Call::Rename { .. } | Call::Remove { .. } => self.names.push(call.clone()),
            Call::SyncNames => {
                std::mem::take(&mut self.names).iter().for_each(|call| self.synced.apply(call))
            }
            Call::Write { file, offset, bytes } => self.writes.push((*file, *offset, bytes.clone())),
            Call::Sync { file } => {
                let (synced, rest) =
                    std::mem::take(&mut self.writes).into_iter().partition(|write| write.0 == *file);
                self.writes = rest;
                let synced: Vec<Write> = synced;
                synced
                    .iter()
                    .for_each(|(file, offset, bytes)| put(&mut self.synced.files[*file], *offset, bytes));
            }
            Call::Lose { file } => self.writes.retain(|write| write.0 != *file),
            Call::Durable(position) => self.durable = *position,
        }
    }

    /// Of the unsynced names a prefix; of the unsynced sectors none, all, a prefix or any subset.
    fn image(&self, rng: &mut StdRng) -> Image {
        let mut image = self.synced.clone();
        let kept = rng.random_range(0..=self.names.len());
        self.names[..kept].iter().for_each(|call| image.apply(call));
        let sectors: Vec<(usize, u64, &[u8])> = self.writes.iter().flat_map(sectors).collect();
        let manner = rng.random_range(0..4);
        let prefix = rng.random_range(0..=sectors.len());
        let share = rng.random_range(0.0..1.0);
        for (index, (file, offset, bytes)) in sectors.into_iter().enumerate() {
            let kept = match manner {
                0 => false,
                1 => true,
                2 => index < prefix,
                _ => rng.random_bool(share),
            };
            if kept {
                put(&mut image.files[file], offset, bytes);
            }
        }
        image
    }
}

fn sectors((file, offset, bytes): &Write) -> Vec<(usize, u64, &[u8])> {
    let mut pieces = Vec::new();
    let (mut offset, mut rest) = (*offset, &bytes[..]);
    while !rest.is_empty() {
        let len = (SECTOR - offset % SECTOR).min(rest.len() as u64);
        let (piece, after) = rest.split_at(len as usize);
        pieces.push((*file, offset, piece));
        (offset, rest) = (offset + len, after);
    }
    pieces
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset as usize..end].copy_from_slice(bytes);
}

impl Image {
    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create { name, file } => {
                self.names.insert(name.clone(), *file);
            }
            Call::Rename { from, to } => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
            }
            Call::Remove { name } => {
                self.names.remove(name);
            }
            other => panic!("{other:?} does not change names"),
        }
    }

    /// The content of the log's files, by name.
    pub(super) fn log_files(&mut self) -> BTreeMap<String, &mut Vec<u8>> {
        let names: BTreeMap<usize, &String> = self.names.iter().map(|(name, file)| (*file, name)).collect();
        let files = self.files.iter_mut().enumerate();
        files
            .filter_map(|(file, bytes)| Some(((*names.get(&file)?).clone(), bytes)))
            .filter(|(name, _)| name.ends_with(".log"))
            .collect()
    }

    /// Takes a file away.
    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name).unwrap();
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().now.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        if state.now.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.now.files.len();
        state.now.files.push(Vec::new());
        state.synced.push(Vec::new());
        let call = Call::Create { name: name.to_owned(), file };
        state.now.apply(&call);
        state.calls.push(call);
        Ok(Arc::new(SimFile { state: self.state.clone(), released: self.released.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = *self.state.lock().now.names.get(name).ok_or_else(|| missing(name))?;
        Ok(Arc::new(SimFile { state: self.state.clone(), released: self.released.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        assert!(!state.now.names.contains_key(to), "{from} would replace {to}");
        let call = Call::Rename { from: from.to_owned(), to: to.to_owned() };
        state.now.apply(&call);
        state.calls.push(call);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let call = Call::Remove { name: name.to_owned() };
        state.now.apply(&call);
        state.calls.push(call);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().faults.free_bytes.unwrap_or(u64::MAX))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.state.lock().calls.push(Call::SyncNames);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state.lock().now.files[self.file].len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let there = state.now.files[self.file].get(offset as usize..offset as usize + bytes.len());
        bytes.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut state = self.state.lock();
        if std::mem::take(&mut state.faults.write_fails) {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(state.now.files[self.file].len() as u64);
        let used: u64 = state.now.names.values().map(|file| state.now.files[*file].len() as u64).sum();
        if more > 0 && state.faults.capacity.is_some_and(|capacity| used + more > capacity) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        put(&mut state.now.files[self.file], offset, &bytes);
        state.unsynced.push((self.file, offset, bytes.clone()));
        state.calls.push(Call::Write { file: self.file, offset, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let takes = self.state.lock().faults.sync_takes;
        std::thread::sleep(takes);
        let mut state = self.state.lock();
        while state.faults.hold_syncs {
            self.released.wait(&mut state);
        }
        if std::mem::take(&mut state.faults.sync_fails) {
            // As Linux: the pages stay readable, but are clean now and will never be written.
            state.unsynced.retain(|write| write.0 != self.file);
            state.calls.push(Call::Lose { file: self.file });
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let (synced, rest) =
            std::mem::take(&mut state.unsynced).into_iter().partition(|write| write.0 == self.file);
        state.unsynced = rest;
        let synced: Vec<Write> = synced;
        synced.iter().for_each(|(file, offset, bytes)| put(&mut state.synced[*file], *offset, bytes));
        state.calls.push(Call::Sync { file: self.file });
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let synced = state.synced[self.file].clone();
        let unsynced = state.unsynced.iter().any(|write| write.0 == self.file);
        assert!(!unsynced, "only what was synced can be dropped from memory");
        state.now.files[self.file] = synced;
        Ok(())
    }
}

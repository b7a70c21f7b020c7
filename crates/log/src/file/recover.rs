//! Opening a log: which files it consists of, what is in them, and how they end.
//!
//! Nothing is written here. A file's header says where the log before it ends (`resumes`), and it is written only
//! after everything before was synced; so the chain of headers tells where each file's content must reach to, and
//! the frames of the last file tell the rest.

use std::io;
use std::sync::Arc;

use zorya_wire::message::log::Tail;

use super::disk::{Disk, DiskFile};
use super::frame::Class;
use super::header::{FileHeader, HEADER_BLOCK};
use super::scan::{At, Beyond, FileScan};
use super::{Found, OpenError, Position, Scars, names};

/// A file of the log.
#[derive(Clone)]
pub(super) struct LogFile {
    pub(super) number: u64,
    /// The position of its first byte.
    pub(super) first: u64,
    /// Its length, in bytes.
    pub(super) len: u64,
    pub(super) file: Arc<dyn DiskFile>,
}

impl LogFile {
    /// The position after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.first + self.len
    }
}

/// What was found on disk.
pub(super) struct Recovered {
    /// Every file, oldest first, also those that hold nothing proven.
    pub(super) files: Vec<LogFile>,
    /// `None`: there is no log yet.
    pub(super) incarnation: Option<u64>,
    /// How the log ended this time.
    pub(super) tail: Tail,
    /// Where the proven log ends.
    pub(super) end: u64,
    /// The bad ends so far, this one included.
    pub(super) scars: Scars,
    /// Entries beyond damage: whole, but what was between is missing.
    pub(super) beyond_damage: Vec<Position>,
    /// The last frame is an entry: nothing in the log says yet that it was synced.
    pub(super) unmarked: bool,
}

struct Candidate {
    file: LogFile,
    /// `None`: it cannot be read.
    header: Option<FileHeader>,
    name: String,
    /// Bytes that the file really has.
    real_len: u64,
}

/// Reads the whole log. `found` gets every entry of the proven part in order.
pub(super) fn recover(disk: &dyn Disk, found: &mut dyn FnMut(Found)) -> Result<Recovered, OpenError> {
    let candidates = candidates(disk)?;
    let Some(header) = candidates.iter().find_map(|candidate| candidate.header) else {
        return if candidates.is_empty() {
            Ok(Recovered::nothing())
        } else {
            Err(OpenError::NothingReadable)
        };
    };
    let newest = candidates.iter().rev().find_map(|candidate| candidate.header);
    let mut reading = Reading {
        candidates: &candidates,
        incarnation: header.incarnation,
        found,
        beyond_damage: Vec::new(),
        unmarked: false,
    };
    let (tail, end) = reading.chain()?;
    let mut scars = newest.map_or(Scars::default(), |header| header.scars);
    match tail {
        Tail::Clean => {}
        Tail::Torn => scars.torn = Some(Position(end)),
        Tail::Damaged => scars.damaged = Some(Position(end)),
    }
    let (beyond_damage, unmarked) = (reading.beyond_damage, reading.unmarked);
    let files = candidates.into_iter().map(|candidate| candidate.file).collect();
    Ok(Recovered { files, incarnation: Some(header.incarnation), tail, end, scars, beyond_damage, unmarked })
}

impl Recovered {
    fn nothing() -> Recovered {
        Recovered {
            files: Vec::new(),
            incarnation: None,
            tail: Tail::Clean,
            end: 0,
            scars: Scars::default(),
            beyond_damage: Vec::new(),
            unmarked: false,
        }
    }
}

/// Opens every file and reads its header. What memory holds is synced and then dropped first: after a failed sync, an
/// earlier process may have left pages there that the disk never got.
fn candidates(disk: &dyn Disk) -> Result<Vec<Candidate>, OpenError> {
    let names = disk.names().map_err(OpenError::io("list the files", "the directory"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| names::log_number(name)).collect();
    numbers.sort_unstable();
    let newest = numbers.last().copied();
    let mut candidates = Vec::with_capacity(numbers.len());
    for number in numbers {
        candidates.push(candidate(disk, number, Some(number) == newest)?);
    }
    check_one_log(&candidates)?;
    place_unreadable(&mut candidates);
    Ok(candidates)
}

fn candidate(disk: &dyn Disk, number: u64, newest: bool) -> Result<Candidate, OpenError> {
    let name = names::log_name(number);
    let file = disk.open(&name).map_err(OpenError::io("open", name.as_str()))?;
    if newest {
        file.sync().and_then(|()| file.forget_cached()).map_err(OpenError::io("sync", name.as_str()))?;
    }
    let real_len = file.length().map_err(OpenError::io("read the length of", name.as_str()))?;
    let mut block = vec![0; real_len.min(HEADER_BLOCK) as usize];
    file.read_at(0, &mut block).map_err(OpenError::io("read", name.as_str()))?;
    let header = FileHeader::decode(&block, &name)?.filter(|header| header.number == number);
    let (first, len) = header.map_or((0, real_len), |header| (header.first, header.len));
    Ok(Candidate { file: LogFile { number, first, len, file }, header, name, real_len })
}

fn check_one_log(candidates: &[Candidate]) -> Result<(), OpenError> {
    let mut headers =
        candidates.iter().filter_map(|candidate| Some((&candidate.name, candidate.header?.incarnation)));
    let Some((_, expected)) = headers.next() else { return Ok(()) };
    match headers.find(|(_, found)| *found != expected) {
        Some((name, found)) => Err(OpenError::OtherLog { name: name.clone(), found, expected }),
        None => Ok(()),
    }
}

/// Files whose header is unreadable get the place that their neighbours leave, so that no position is used again.
fn place_unreadable(candidates: &mut [Candidate]) {
    let readable = candidates.iter().position(|candidate| candidate.header.is_some()).unwrap_or(0);
    let mut start = candidates.get(readable).map_or(0, |candidate| candidate.file.first);
    for candidate in candidates.iter_mut().take(readable).rev() {
        start = start.saturating_sub(candidate.file.len);
        candidate.file.first = start;
    }
    let mut end = start;
    for candidate in candidates {
        if candidate.header.is_none() {
            candidate.file.first = end;
        }
        end = candidate.file.end();
    }
}

struct Reading<'a> {
    candidates: &'a [Candidate],
    incarnation: u64,
    found: &'a mut dyn FnMut(Found),
    beyond_damage: Vec<Position>,
    unmarked: bool,
}

impl Reading<'_> {
    /// Follows the chain of files; how it ends, and where.
    fn chain(&mut self) -> Result<(Tail, u64), OpenError> {
        let mut index = self.start();
        loop {
            let candidate = &self.candidates[index];
            let successor = self.successor(&candidate.file);
            let must_reach = successor.map(|next| self.resumes(next));
            let (tail, end) = match candidate.header {
                Some(_) => self.file(index, must_reach)?,
                None => unreadable(&candidate.file, must_reach),
            };
            match successor {
                Some(next) if tail == Tail::Clean => {
                    if self.candidates[next]
                        .header
                        .is_some_and(|header| header.scars.damaged == Some(Position(end)))
                    {
                        self.salvage(index, end, next)?;
                    }
                    index = next;
                }
                _ => {
                    if tail == Tail::Damaged {
                        self.salvage(index, end, self.candidates.len())?;
                    }
                    return Ok((tail, end));
                }
            }
        }
    }

    fn resumes(&self, index: usize) -> u64 {
        self.candidates[index].header.map_or(0, |header| header.resumes)
    }

    /// Where the chain starts: at the oldest file, unless a later one resumed from before it.
    fn start(&self) -> usize {
        let oldest = self.candidates[0].file.first;
        let later = (1..self.candidates.len()).rev();
        later
            .filter(|index| self.candidates[*index].header.is_some_and(|header| header.resumes < oldest))
            .max()
            .unwrap_or(0)
    }

    /// The file with which the log goes on after `file`: the newest that resumes inside it.
    fn successor(&self, file: &LogFile) -> Option<usize> {
        (0..self.candidates.len()).rev().find(|index| {
            let candidate = &self.candidates[*index];
            candidate.header.is_some_and(|header| {
                header.number > file.number && header.resumes > file.first && header.resumes <= file.end()
            })
        })
    }

    /// Reads one file. `must_reach`: where the next file says that it ends.
    fn file(&mut self, index: usize, must_reach: Option<u64>) -> Result<(Tail, u64), OpenError> {
        let candidate = &self.candidates[index];
        let file = &candidate.file;
        let real_end = file.first + candidate.real_len.min(file.len);
        let limit = must_reach.unwrap_or(u64::MAX).min(real_end);
        let failed = |source| OpenError::io("read", candidate.name.as_str())(source);
        let mut scan = FileScan::new(&*file.file, self.incarnation, file.first, limit);
        let mut position = file.first + HEADER_BLOCK;
        let stopped = loop {
            match scan.at(position).map_err(failed)? {
                At::Frame(header, payload) => {
                    self.unmarked = header.class == Class::Entry;
                    if header.class == Class::Entry {
                        let position = Position(position);
                        (self.found)(Found { position, volume: header.volume, kind: header.kind, payload });
                    }
                    position = header.end();
                }
                other => break other,
            }
        };
        let newest = index + 1 == self.candidates.len();
        let tail = match must_reach {
            Some(end) if end == position => Tail::Clean,
            Some(_) => Tail::Damaged,
            None if !newest || real_end < file.end() => Tail::Damaged,
            None => last_file_tail(&mut scan, position, &stopped).map_err(failed)?,
        };
        Ok((tail, position))
    }

    /// Collects the entries beyond damage at `end` in file `index`, and in the files after it up to `before`.
    fn salvage(&mut self, index: usize, end: u64, before: usize) -> Result<(), OpenError> {
        for (at, candidate) in self.candidates.iter().enumerate().take(before).skip(index) {
            let file = &candidate.file;
            let from = if at == index { end } else { file.first + HEADER_BLOCK };
            let real_end = file.first + candidate.real_len.min(file.len);
            let mut scan = FileScan::new(&*file.file, self.incarnation, file.first, real_end);
            let entries = scan.entries_from(from).map_err(OpenError::io("read", candidate.name.as_str()))?;
            self.beyond_damage.extend(entries.into_iter().map(Position));
        }
        Ok(())
    }
}

/// How a file ends that cannot be read: at its start, which is fine only if the log already went on after that.
fn unreadable(file: &LogFile, must_reach: Option<u64>) -> (Tail, u64) {
    let end = file.first + HEADER_BLOCK;
    (if must_reach == Some(end) { Tail::Clean } else { Tail::Damaged }, end)
}

/// How the newest file ends, judged by what is at its end and beyond.
fn last_file_tail(scan: &mut FileScan<'_>, end: u64, stopped: &At) -> io::Result<Tail> {
    Ok(match (scan.beyond(end)?, stopped) {
        (Beyond::Synced, _) => Tail::Damaged,
        (Beyond::Nothing, At::NoRoom | At::Blank) => Tail::Clean,
        (Beyond::Unsynced, _) | (Beyond::Nothing, _) => Tail::Torn,
    })
}

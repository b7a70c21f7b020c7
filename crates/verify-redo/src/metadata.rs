//! What is derived beside blocks of relations: files of transactions, relation maps, prepared transactions, origins,
//! counters. Compared with every checkpoint record, and with the files of the stopped server.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zorya_redo::postgres::checkpoint::{Checkpoint, Counters};
use zorya_redo::postgres::control::ControlFile;
use zorya_redo::postgres::decode::record::Record;
use zorya_redo::postgres::files::{Directory, FileChange};
use zorya_redo::postgres::origins::Origins;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::recovery::Recovered;
use zorya_redo::postgres::running::RunningXids;
use zorya_redo::postgres::slru::{PAGES_PER_SEGMENT, Slru, SlruChange, SlruRedo, SlruRules, is_truncated};
use zorya_redo::postgres::xact::{self, Xact};
use zorya_redo::postgres::{BLOCK_LEN, Underivable, WalPosition, manager};

const ALL: [Slru; 4] = [Slru::Status, Slru::Time, Slru::Offsets, Slru::Members];
/// Identities that the server may have handed out without a record of theirs yet: one a session, and some.
const UNLOGGED_IDS: u32 = 200;
/// Object numbers that a record of them hands out at once (`VAR_OID_PREFETCH`).
const OID_PREFETCH: u32 = 8192;

/// How much was compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// Checkpoint records.
    pub checkpoints: u64,
    /// Pages of files of transactions.
    pub pages: u64,
    /// Other files: relation maps, prepared transactions, origins, the control file.
    pub files: u64,
}

impl Compared {
    /// Adds what was compared elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.checkpoints += other.checkpoints;
        self.pages += other.pages;
        self.files += other.files;
    }
}

/// All of it.
pub struct Metadata {
    base: PathBuf,
    slru: SlruRedo,
    /// Pages that were touched; `None` once their segment is gone.
    pages: HashMap<(Slru, u32), Option<Box<Block>>>,
    /// The base's segments that are not gone.
    base_segments: BTreeSet<(Slru, u32)>,
    timeline: u32,
    counters: Counters,
    /// The counters after records since the last checkpoint, where they changed.
    history: VecDeque<(WalPosition, Counters)>,
    running: RunningXids,
    /// Whether a crash cut a record off and no checkpoint has followed: transactions may have been left behind.
    crashed: bool,
    prepared: BTreeMap<u32, Vec<u8>>,
    maps: BTreeMap<Directory, Vec<u8>>,
    origins: Origins,
    control: ControlFile,
    /// What was compared.
    pub compared: Compared,
}

impl Metadata {
    /// The state of a server that was stopped, with its data directory as base.
    pub fn over(base: &Path, next_offset: bool) -> Result<Self> {
        let control = ControlFile::read(&fs::read(base.join("global/pg_control"))?)?;
        let rules = SlruRules { next_offset, commit_times: control.keeps_commit_times() };
        let origins = fs::read(base.join("pg_logical/replorigin_checkpoint")).unwrap_or_default();
        let checkpoint = control.checkpoint()?;
        Ok(Self {
            base: base.to_owned(),
            timeline: checkpoint.timeline,
            slru: SlruRedo::new(rules),
            pages: HashMap::new(),
            base_segments: segments(base)?,
            counters: checkpoint.counters,
            history: VecDeque::new(),
            running: RunningXids::default(),
            crashed: false,
            prepared: BTreeMap::new(),
            maps: BTreeMap::new(),
            origins: Origins::read(&origins),
            control,
            compared: Compared::default(),
        })
    }

    /// The base's timeline.
    pub fn timeline(&self) -> u32 {
        self.timeline
    }

    /// Follows a record; returns what does not fit.
    pub fn observe(&mut self, record: &Record<'_>) -> Vec<String> {
        let mut findings = Vec::new();
        if let Err(underivable) = self.follow(record, &mut findings) {
            findings.push(underivable.to_string());
        }
        findings
    }

    fn follow(&mut self, record: &Record<'_>, findings: &mut Vec<String>) -> Result<(), Underivable> {
        if let Some((checkpoint, shutdown)) = Checkpoint::of(record)? {
            self.compared.checkpoints += 1;
            self.check_counters(&checkpoint, shutdown, findings);
            self.crashed &= !shutdown;
        }
        let before = self.counters;
        self.counters.observe(record)?;
        if self.counters != before {
            self.history.push_back((record.start, self.counters));
        }
        self.crashed |= matches!(Recovered::of(record)?, Some(Recovered::GivenUp(_)));
        self.running.observe(record)?;
        self.origins.observe(record)?;
        let mut changes = Vec::new();
        self.slru.changes(record, |change| changes.push(change))?;
        for change in changes {
            self.change(change);
        }
        match record.manager {
            manager::XACT => match xact::read(record)? {
                Xact::Prepare(prepared) => {
                    self.prepared.insert(prepared.xid, prepared.file());
                }
                Xact::End(end) if end.prepared && self.prepared.remove(&end.xid).is_none() => {
                    findings.push(format!("transaction {} was not prepared", end.xid));
                }
                _ => {}
            },
            manager::XLOG if record.operation() == 0x60 => self.control.set_parameters(record.main())?,
            _ => {}
        }
        Ok(())
    }

    /// Takes over what a record does to relation maps.
    pub fn change_files(&mut self, change: &FileChange<'_>) {
        match *change {
            FileChange::RelationMap { directory, content } => {
                self.maps.insert(directory, content.to_vec());
            }
            FileChange::CloneDatabase { to, from } => {
                if let Some(map) = self.maps.get(&from).cloned() {
                    self.maps.insert(to, map);
                }
            }
            FileChange::DropDatabase(directory) => {
                self.maps.remove(&directory);
            }
            _ => {}
        }
    }

    fn change(&mut self, change: SlruChange) {
        match change {
            SlruChange::Truncate(slru, cutoff) => {
                self.remove(slru, |segment| is_truncated(slru, cutoff, segment));
            }
            SlruChange::TruncateMembers(first, end) => {
                let (first, end) = (first / PAGES_PER_SEGMENT, end / PAGES_PER_SEGMENT);
                let wraps = first > end;
                self.remove(Slru::Members, |segment| {
                    if wraps { segment >= first || segment < end } else { (first..end).contains(&segment) }
                });
            }
            _ => {
                let Some((slru, number)) = change.page() else { return };
                let page = self.page(slru, number);
                change.apply(page.get_or_insert_with(|| Box::new([0; BLOCK_LEN])));
            }
        }
    }

    /// A page; `None` if it is neither derived nor in the base.
    fn page(&mut self, slru: Slru, number: u32) -> &mut Option<Box<Block>> {
        let (base, segments) = (&self.base, &self.base_segments);
        self.pages.entry((slru, number)).or_insert_with(|| {
            let exists = segments.contains(&(slru, number / PAGES_PER_SEGMENT));
            if exists { read_page(base, slru, number) } else { None }
        })
    }

    fn remove(&mut self, slru: Slru, is_gone: impl Fn(u32) -> bool) {
        self.base_segments.retain(|(kind, segment)| *kind != slru || !is_gone(*segment));
        for ((_, number), page) in self.pages.iter_mut().filter(|((kind, _), _)| *kind == slru) {
            if is_gone(number / PAGES_PER_SEGMENT) {
                *page = None;
            }
        }
    }

    /// A checkpoint's counters were taken at some time between its redo position and its record.
    fn check_counters(&mut self, checkpoint: &Checkpoint, shutdown: bool, findings: &mut Vec<String>) {
        while self.history.len() > 1 && self.history[1].0 < checkpoint.redo {
            self.history.pop_front();
        }
        let (theirs, now) = (checkpoint.counters, self.counters);
        let then = self
            .history
            .front()
            .filter(|(at, _)| *at < checkpoint.redo)
            .map_or(now, |(_, counters)| *counters);
        let slack = if shutdown { 0 } else { UNLOGGED_IDS };
        let mut check = |name: &str, fits: bool| {
            if !fits {
                let kind = if shutdown { "shutdown" } else { "online" };
                findings.push(format!(
                    "{name} of the {kind} checkpoint: {theirs:?}, tracked {then:?} to {now:?}"
                ));
            }
        };
        let least = if shutdown { &now } else { &then };
        let xids = theirs.next_xid.wrapping_sub(least.next_xid);
        check("next_xid", xids <= now.next_xid.wrapping_sub(least.next_xid) + u64::from(slack));
        // These go around their ends.
        let within = |theirs: u32, low: u32, high: u32| {
            u64::from(theirs.wrapping_sub(low)) <= u64::from(high.wrapping_sub(low)) + u64::from(slack)
        };
        check("next_multi", within(theirs.next_multi, least.next_multi, now.next_multi));
        check("next_offset", within(theirs.next_offset, least.next_offset, now.next_offset));
        check(
            "newest_commit_time",
            within(theirs.newest_commit_time, least.newest_commit_time, now.newest_commit_time),
        );
        let oids = if shutdown {
            now.next_oid.wrapping_sub(OID_PREFETCH)..=now.next_oid
        } else {
            least.next_oid..=now.next_oid
        };
        check("next_oid", oids.contains(&theirs.next_oid));
        // The oldest ones move without a record where nothing can be removed; storage's are on the safe side.
        let reaches = |theirs: u32, ours: u32| (theirs.wrapping_sub(ours) as i32) >= 0;
        let oldest_xids = [now.oldest_xid.0, then.oldest_xid.0];
        check("oldest_xid", oldest_xids.iter().any(|&oldest| reaches(theirs.oldest_xid.0, oldest)));
        check("oldest_multi", reaches(theirs.oldest_multi.0, then.oldest_multi.0));
        check("oldest_commit_time", reaches(theirs.oldest_commit_time, then.oldest_commit_time));
        if shutdown && !self.running.is_empty() && !self.crashed {
            findings.push(format!("{} transactions run while the server shuts down", self.running.len()));
        }
    }

    /// Compares all of it with the files of the stopped server.
    pub fn compare_files(&mut self, data: &Path) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for slru in ALL {
            self.compare_slru(data, slru, &mut findings)?;
        }
        for (directory, map) in &self.maps {
            let path = match directory.database {
                0 => "global/pg_filenode.map".to_owned(),
                database => format!("base/{database}/pg_filenode.map"),
            };
            self.compared.files += 1;
            if fs::read(data.join(&path)).context("reading a relation map")? != *map {
                findings.push(format!("{path} differs"));
            }
        }
        let mut files = names(&data.join("pg_twophase"))?;
        files.sort();
        let expected: Vec<_> = self.prepared.keys().map(|xid| format!("{xid:08X}")).collect();
        if files != expected {
            findings.push(format!("prepared transactions: files {files:?}, derived {expected:?}"));
        }
        for (xid, state) in &self.prepared {
            self.compared.files += 1;
            if fs::read(data.join(format!("pg_twophase/{xid:08X}"))).ok().as_ref() != Some(state) {
                findings.push(format!("pg_twophase/{xid:08X} differs"));
            }
        }
        self.compared.files += 2;
        let origins = fs::read(data.join("pg_logical/replorigin_checkpoint")).unwrap_or_default();
        if Origins::read(&origins) != self.origins || self.origins.file().len() != origins.len() {
            findings.push(format!("origins differ: derived {:?}", self.origins));
        }
        let control = ControlFile::read(&fs::read(data.join("global/pg_control"))?)?;
        let start = control.checkpoint_position();
        let theirs = control.checkpoint()?;
        // The derived file, started at the server's own last checkpoint, differs from it in its state only.
        let ours = ControlFile::read(&self.control.clone().starting_at(start, &theirs))?;
        let same = ControlFile::read(&control.starting_at(start, &theirs))?;
        if ours != same {
            findings.push("global/pg_control differs".to_owned());
        }
        Ok(findings)
    }

    fn compare_slru(&mut self, data: &Path, slru: Slru, findings: &mut Vec<String>) -> Result<()> {
        let directory = data.join(slru.directory());
        for name in names(&directory)? {
            let segment =
                u32::from_str_radix(&name, 16).context("a file of transactions has a strange name")?;
            let file = fs::read(directory.join(&name))?;
            for (index, theirs) in (0..).zip(file.chunks_exact(BLOCK_LEN)) {
                let number = segment * PAGES_PER_SEGMENT + index;
                self.compared.pages += 1;
                let page = self.page(slru, number);
                // A page that was never written to has no record either.
                let zeroes = [0; BLOCK_LEN];
                let ours = page.as_deref().map_or(&zeroes[..], |page| &page[..]);
                if let Some(at) = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs) {
                    let name = slru.directory();
                    findings.push(format!(
                        "{name} page {number}: byte {at}: derived {:02x}, file {:02x}",
                        ours[at], theirs[at]
                    ));
                }
            }
        }
        for (_, segment) in self.base_segments.iter().filter(|(kind, _)| *kind == slru) {
            if !directory.join(format!("{segment:04X}")).exists() {
                findings
                    .push(format!("{} {segment:04X} was not removed, but is not there", slru.directory()));
            }
        }
        for ((_, number), page) in self.pages.iter().filter(|((kind, _), _)| *kind == slru) {
            let path = directory.join(format!("{:04X}", number / PAGES_PER_SEGMENT));
            let len = path.metadata().map_or(0, |file| file.len() / BLOCK_LEN as u64);
            let exists = u64::from(number % PAGES_PER_SEGMENT) < len;
            let empty = page.as_ref().is_none_or(|page| page.iter().all(|&byte| byte == 0));
            if !exists && !empty {
                findings.push(format!("{} page {number} was derived, but is not there", slru.directory()));
            }
        }
        Ok(())
    }
}

impl Metadata {
    /// Makes the files beside relations in `target`, which is a copy of the base, what redo derived.
    pub fn write_files(&self, target: &Path) -> Result<()> {
        for slru in ALL {
            self.write_slru(&target.join(slru.directory()), slru)?;
        }
        for (directory, map) in &self.maps {
            let path = match directory.database {
                0 => target.join("global/pg_filenode.map"),
                database => target.join(format!("base/{database}/pg_filenode.map")),
            };
            fs::write(path, map)?;
        }
        for (xid, state) in &self.prepared {
            fs::write(target.join(format!("pg_twophase/{xid:08X}")), state)?;
        }
        fs::write(target.join("pg_logical/replorigin_checkpoint"), self.origins.file())?;
        Ok(())
    }

    fn write_slru(&self, directory: &Path, slru: Slru) -> Result<()> {
        for name in names(directory)? {
            let segment = u32::from_str_radix(&name, 16).context("a strange name")?;
            if !self.base_segments.contains(&(slru, segment)) {
                fs::remove_file(directory.join(name))?;
            }
        }
        let mut segments: BTreeMap<u32, BTreeMap<u32, &Option<Box<Block>>>> = BTreeMap::new();
        for ((_, number), page) in self.pages.iter().filter(|((kind, _), _)| *kind == slru) {
            segments.entry(number / PAGES_PER_SEGMENT).or_default().insert(number % PAGES_PER_SEGMENT, page);
        }
        for (segment, pages) in segments {
            let path = directory.join(format!("{segment:04X}"));
            if pages.values().all(|page| page.is_none()) {
                let _ = fs::remove_file(path);
                continue;
            }
            let mut file = fs::read(&path).unwrap_or_default();
            for (index, page) in pages {
                let at = index as usize * BLOCK_LEN;
                file.resize(file.len().max(at + BLOCK_LEN), 0);
                if let Some(page) = page {
                    file[at..at + BLOCK_LEN].copy_from_slice(&page[..]);
                }
            }
            fs::write(path, file)?;
        }
        Ok(())
    }

    /// The tracked counters, as a checkpoint at the end of the log has them.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The control file as it would be, but for the checkpoint.
    pub fn control(&self) -> &ControlFile {
        &self.control
    }
}

fn read_page(base: &Path, slru: Slru, number: u32) -> Option<Box<Block>> {
    let path = base.join(slru.directory()).join(format!("{:04X}", number / PAGES_PER_SEGMENT));
    let file = fs::read(path).ok()?;
    let page = file.chunks_exact(BLOCK_LEN).nth((number % PAGES_PER_SEGMENT) as usize)?;
    let mut block = Box::new([0; BLOCK_LEN]);
    block.copy_from_slice(page);
    Some(block)
}

/// The segments of transactions' files in a data directory.
fn segments(base: &Path) -> Result<BTreeSet<(Slru, u32)>> {
    let mut segments = BTreeSet::new();
    for slru in ALL {
        for name in names(&base.join(slru.directory()))? {
            let number =
                u32::from_str_radix(&name, 16).context("a file of transactions has a strange name")?;
            segments.insert((slru, number));
        }
    }
    Ok(segments)
}

/// The names of a directory's entries.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

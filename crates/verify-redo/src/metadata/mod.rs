//! What is derived beside blocks of relations: files of transactions, relation maps, prepared transactions, origins,
//! counters. Compared with every checkpoint record, and with the files of the stopped server.

mod counters;
mod files;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zorya_redo::postgres::checkpoint::{Checkpoint, Counters};
use zorya_redo::postgres::control::ControlFile;
use zorya_redo::postgres::decode::record::Record;
use zorya_redo::postgres::files::{Directory, FileChange};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::origins::Origins;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::recovery::Recovered;
use zorya_redo::postgres::release::Release;
use zorya_redo::postgres::running::RunningXids;
use zorya_redo::postgres::slru::{PAGES_PER_SEGMENT, Slru, SlruChange, SlruRedo, SlruRules, is_truncated};
use zorya_redo::postgres::xact::{self, Xact};
use zorya_redo::postgres::{BLOCK_LEN, Underivable, WalPosition, manager};

const ALL: [Slru; 4] = [Slru::Status, Slru::Time, Slru::Offsets, Slru::Members];

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
    major: Major,
    base: PathBuf,
    slru: SlruRedo,
    /// Pages that were touched; `None` once their segment is gone.
    pages: HashMap<(Slru, u32), Option<Box<Block>>>,
    /// The base's segments that are not gone.
    base_segments: BTreeSet<(Slru, u32)>,
    timeline: u32,
    /// Where redo begins after the base.
    begin: WalPosition,
    counters: Counters,
    /// The counters after records since the last checkpoint, where they changed.
    history: VecDeque<(WalPosition, Counters)>,
    running: RunningXids,
    /// Whether a crash cut a record off and no checkpoint has followed: transactions may have been left behind.
    crashed: bool,
    /// Prepared transactions: the names of their files, and what is in them.
    prepared: BTreeMap<u32, (String, Vec<u8>)>,
    maps: BTreeMap<Directory, Vec<u8>>,
    origins: Origins,
    control: ControlFile,
    /// What was compared.
    pub compared: Compared,
}

impl Metadata {
    /// The state of a server that was stopped, with its data directory as base.
    pub fn over(base: &Path, release: Release) -> Result<Self> {
        let control = ControlFile::read(release.major, &fs::read(base.join("global/pg_control"))?)?;
        let next_offset = release.writes_next_offset();
        let rules = SlruRules { next_offset, commit_times: control.keeps_commit_times() };
        let origins = fs::read(base.join("pg_logical/replorigin_checkpoint")).unwrap_or_default();
        let checkpoint = control.checkpoint()?;
        Ok(Self {
            major: release.major,
            base: base.to_owned(),
            timeline: checkpoint.timeline,
            begin: checkpoint.redo,
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

    /// The name of the directory that a tablespace has for this version.
    pub fn version_directory(&self) -> String {
        format!("PG_{}_{}", self.major.number(), self.control.catalog_version())
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
                    let name = prepared.file_name(self.major, self.counters.next_xid);
                    self.prepared.insert(prepared.xid, (name, prepared.file()));
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

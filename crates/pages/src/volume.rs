//! All page segments of one volume on one node.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use zorya_redo::{Effect, Touch};
use zorya_types::{GroupId, Key, Lineage, LogId, Lsn, VolumeId};
use zorya_wire::{Record, RecordHeader};

use crate::chain::Chain;
use crate::config::PagesConfig;
use crate::error::{ApplyError, OpenError, ReadError, WorkError};
use crate::group::Group;
use crate::lineage::{VersionSource, Window, read_lineage, scan_lineage};

/// The page segments of one volume's log on one node, one per protection group.
///
/// Every method may be called from any thread. Records are applied by one caller at a time; so is background work.
pub struct VolumePages {
    dir: PathBuf,
    volume: VolumeId,
    log: LogId,
    config: PagesConfig,
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    ingest: Mutex<Ingest>,
    /// Up to here versions can be read. Follows `ingest`.
    applied: AtomicU64,
    persisted: AtomicU64,
    gc: AtomicU64,
    /// The pages of the logs that this one branched from.
    parents: RwLock<Vec<Arc<VolumePages>>>,
}

/// The state of applying the log.
struct Ingest {
    /// The end of the interval that is being applied.
    interval_end: Lsn,
    /// The last record of every group.
    tails: BTreeMap<GroupId, Lsn>,
    touches: Vec<Touch>,
}

/// What a volume's pages take, for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagesUsage {
    /// Bytes of the index over the newest log.
    pub memory_bytes: usize,
}

impl VolumePages {
    /// Opens the pages of a volume's log in their directory, which is created if it is not there.
    pub fn open(
        dir: &Path,
        volume: VolumeId,
        log: LogId,
        config: PagesConfig,
    ) -> Result<VolumePages, OpenError> {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })?;
        let ingest =
            Ingest { interval_end: Lsn(config.flush_bytes), tails: BTreeMap::new(), touches: Vec::new() };
        Ok(VolumePages {
            dir: dir.to_owned(),
            volume,
            log,
            config,
            groups: RwLock::default(),
            ingest: Mutex::new(ingest),
            applied: AtomicU64::new(0),
            persisted: AtomicU64::new(0),
            gc: AtomicU64::new(0),
            parents: RwLock::default(),
        })
    }

    /// Which volume.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Names the pages of the logs that this one branched from, for reads along a lineage.
    pub fn set_parents(&self, parents: Vec<Arc<VolumePages>>) {
        *self.parents.write() = parents;
    }

    /// Applies the next record of the log. A record at or below [`VolumePages::applied`] is here already and ignored.
    pub fn apply(&self, record: &Record) -> Result<(), ApplyError> {
        let header = &record.header;
        let mut ingest = self.ingest.lock();
        let applied = self.applied();
        if header.lsn <= applied {
            return Ok(());
        }
        ingest.check_links(header, applied)?;
        if self.config.node.is_over_limit() && self.has_closed_intervals() {
            return Err(ApplyError::Backlog);
        }
        ingest.touches.clear();
        zorya_redo::touches_into(header.codec, &record.payload, &mut ingest.touches)
            .map_err(|source| ApplyError::Underivable { lsn: header.lsn, source })?;
        self.close_intervals_below(&mut ingest, header.lsn);
        for link in &header.groups {
            let touches = ingest.touches.iter().filter(|touch| belongs(touch, link.group, header));
            let end = ingest.interval_end;
            self.group_or_new(link.group, end).add(header.lsn, header.codec, &record.payload, touches);
        }
        for link in &header.groups {
            ingest.tails.insert(link.group, header.lsn);
        }
        self.applied.store(header.lsn.0, Ordering::Release);
        Ok(())
    }

    /// Says that every record up to `upto` was applied, so that an idle volume's position rises too.
    pub fn advance(&self, upto: Lsn) {
        let mut ingest = self.ingest.lock();
        if upto <= self.applied() {
            return;
        }
        self.close_intervals_below(&mut ingest, upto.plus(1));
        self.applied.store(upto.0, Ordering::Release);
    }

    /// Up to here versions can be read.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// Up to here every group's versions are in layers on disk, named by the manifest.
    #[must_use]
    pub fn persisted(&self) -> Lsn {
        Lsn(self.persisted.load(Ordering::Acquire))
    }

    /// The horizon: reads below it are refused.
    #[must_use]
    pub fn gc(&self) -> Lsn {
        Lsn(self.gc.load(Ordering::Acquire))
    }

    /// Raises the horizon: nobody reads below `gc` any more. Lower values change nothing.
    pub fn set_gc(&self, gc: Lsn) {
        self.gc.fetch_max(gc.0, Ordering::AcqRel);
    }

    /// The value of a key as a reader at `lsn` of that history sees it; `None` if it is absent (a block: zeroes).
    pub fn read(
        &self,
        lineage: &Lineage,
        lsn: Lsn,
        group: GroupId,
        key: Key,
    ) -> Result<Option<Bytes>, ReadError> {
        self.check_readable(lineage, lsn)?;
        read_lineage(self, lineage, lsn, group, key)
    }

    /// The next keys of `from..to` and their values, about `max_bytes` of them, and where to go on if that was not all.
    pub fn scan(
        &self,
        lineage: &Lineage,
        lsn: Lsn,
        group: GroupId,
        from: Key,
        to: Key,
        max_bytes: usize,
    ) -> Result<(Vec<(Key, Bytes)>, Option<Key>), ReadError> {
        self.check_readable(lineage, lsn)?;
        scan_lineage(self, lineage, lsn, group, (from, to), max_bytes)
    }

    /// The last record of every group. `lsn` is the cut that the volume was opened at: it was applied, and nothing
    /// newer was.
    #[must_use]
    pub fn tails(&self, lsn: Lsn) -> Vec<(GroupId, Lsn)> {
        let ingest = self.ingest.lock();
        ingest.tails.iter().filter(|(_, tail)| **tail <= lsn).map(|(group, tail)| (*group, *tail)).collect()
    }

    /// Does one step of the work that is due and says whether there is more.
    pub fn work(&self) -> Result<bool, WorkError> {
        Ok(false)
    }

    /// What these pages take.
    #[must_use]
    pub fn usage(&self) -> PagesUsage {
        PagesUsage { memory_bytes: self.config.node.index_bytes() }
    }

    /// Deletes every file of these pages, for ever.
    pub fn destroy(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.dir)
    }

    fn has_closed_intervals(&self) -> bool {
        false
    }

    /// A read before the first record has no window that could be refused.
    fn check_readable(&self, lineage: &Lineage, lsn: Lsn) -> Result<(), ReadError> {
        let gc = self.gc();
        let before_all = lineage.spans().first().is_some_and(|first| lsn <= first.from);
        if before_all && lsn < gc { Err(ReadError::BelowHorizon { gc }) } else { Ok(()) }
    }

    fn group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&group).cloned()
    }

    fn group_or_new(&self, group: GroupId, interval_end: Lsn) -> Arc<Group> {
        if let Some(group) = self.group(group) {
            return group;
        }
        let new = || Arc::new(Group::new(interval_end, Arc::clone(&self.config.node)));
        Arc::clone(self.groups.write().entry(group).or_insert_with(new))
    }

    /// Closes the current interval if a record at `lsn` lies above it.
    fn close_intervals_below(&self, ingest: &mut Ingest, lsn: Lsn) {
        if lsn <= ingest.interval_end {
            return;
        }
        ingest.interval_end = interval_end(lsn, self.config.flush_bytes);
        for group in self.groups.read().values() {
            group.freeze(ingest.interval_end);
        }
    }
}

/// The end of the interval between flush cuts that a record at `lsn` belongs to.
fn interval_end(lsn: Lsn, flush_bytes: u64) -> Lsn {
    Lsn(lsn.0.div_ceil(flush_bytes).saturating_mul(flush_bytes))
}

/// Whether a touch may concern a group that its record names. Entries live in group 0. Which of several groups a block
/// lives in is not said by the record: each gets the version, and reads name the right one.
fn belongs(touch: &Touch, group: GroupId, header: &RecordHeader) -> bool {
    let spans_groups = touch.key.is_block() || matches!(touch.effect, Effect::Clear { .. });
    spans_groups || group == GroupId(0) || header.groups.iter().all(|link| link.group != GroupId(0))
}

impl Ingest {
    fn check_links(&self, header: &RecordHeader, applied: Lsn) -> Result<(), ApplyError> {
        if header.prev > applied {
            return Err(ApplyError::Gap { lsn: header.lsn, prev: header.prev, have: applied });
        }
        for link in &header.groups {
            let have = self.tails.get(&link.group).copied().unwrap_or_default();
            if have != link.prev {
                return Err(ApplyError::GroupGap {
                    lsn: header.lsn,
                    group: link.group,
                    prev: link.prev,
                    have,
                });
            }
        }
        Ok(())
    }
}

impl VersionSource for VolumePages {
    fn collect(&self, window: Window, group: GroupId, key: Key, chain: &mut Chain) -> Result<(), ReadError> {
        if window.log != self.log {
            return self.parent(window.log)?.collect(window, group, key, chain);
        }
        self.check_window(window)?;
        if let Some(group) = self.group(group) {
            group.collect(window, key, chain)?;
        }
        self.check_horizon(window)
    }

    fn keys(
        &self,
        window: Window,
        group: GroupId,
        range: (Key, Key),
        limit: usize,
    ) -> Result<(Vec<Key>, Key), ReadError> {
        if window.log != self.log {
            return self.parent(window.log)?.keys(window, group, range, limit);
        }
        self.check_window(window)?;
        let found = match self.group(group) {
            Some(group) => group.keys(range, limit)?,
            None => (Vec::new(), range.1),
        };
        self.check_horizon(window)?;
        Ok(found)
    }
}

impl VolumePages {
    fn parent(&self, log: LogId) -> Result<Arc<VolumePages>, ReadError> {
        let parents = self.parents.read();
        parents.iter().find(|parent| parent.log == log).cloned().ok_or(ReadError::UnknownLog { log })
    }

    fn check_window(&self, window: Window) -> Result<(), ReadError> {
        let applied = self.applied();
        if window.upto > applied { Err(ReadError::NotApplied { applied }) } else { Ok(()) }
    }

    /// Checked after the versions were collected: layers go only after the horizon has risen.
    fn check_horizon(&self, window: Window) -> Result<(), ReadError> {
        let gc = self.gc();
        if window.upto < gc { Err(ReadError::BelowHorizon { gc }) } else { Ok(()) }
    }
}

//! All page segments of one volume on one node.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use zorya_redo::{Effect, Touch};
use zorya_types::{GroupId, Key, Lineage, LogId, Lsn, VolumeId};
use zorya_wire::{Record, RecordHeader};

use crate::chain::Chain;
use crate::config::PagesConfig;
use crate::error::{ApplyError, OpenError, ReadError};
use crate::group::Group;
use crate::layer::{Layer, LayerDesc, LayerKind};
use crate::layer_set::LayerSet;
use crate::lineage::{Scanned, VersionSource, Window, read_lineage, scan_lineage};
use crate::recovery;
use crate::work::Worker;

/// The page segments of one volume's log on one node, one per protection group.
///
/// Every method may be called from any thread. Records are applied by one caller at a time; so is background work.
pub struct VolumePages {
    pub(crate) dir: PathBuf,
    pub(crate) volume: VolumeId,
    pub(crate) log: LogId,
    pub(crate) config: PagesConfig,
    pub(crate) groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    pub(crate) ingest: Mutex<Ingest>,
    /// Background work; held through its I/O, never by readers or by [`VolumePages::apply`].
    pub(crate) worker: Mutex<Worker>,
    /// Up to here versions can be read. Follows `ingest`.
    applied: AtomicU64,
    pub(crate) persisted: AtomicU64,
    gc: AtomicU64,
    /// See [`crate::manifest::Manifest::branch`].
    branch: AtomicBool,
    /// The pages of the logs that this one branched from.
    parents: RwLock<Vec<Arc<VolumePages>>>,
}

/// The state of applying the log.
pub(crate) struct Ingest {
    /// The exclusive start of the interval that is being applied.
    after: Lsn,
    /// Where it ends at the latest: a multiple of the flush cut.
    interval_end: Lsn,
    /// The last record's LSN and stamp in microseconds.
    last: (Lsn, u64),
    /// The last record of every group.
    tails: BTreeMap<GroupId, Lsn>,
    /// Closed intervals that are not in layers yet, oldest first.
    pub(crate) closed: VecDeque<Cut>,
    touches: Vec<Touch>,
}

/// A closed interval between flush cuts.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Its end.
    pub end: Lsn,
    /// Up to here there is nothing more: the start of the interval that came after it.
    pub persisted: Lsn,
    /// The last record of every group at its end.
    pub tails: Vec<(GroupId, Lsn)>,
}

/// What a volume's pages take, for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagesUsage {
    /// Bytes of the index over the newest log.
    pub memory_bytes: usize,
    /// Closed intervals that wait to be flushed.
    pub closed_intervals: usize,
    /// Delta layers.
    pub deltas: LayersUsage,
    /// Image layers.
    pub images: LayersUsage,
    /// Layers in which a read or the scrub found damage.
    pub damaged_layers: u64,
}

/// What the layers of one kind take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayersUsage {
    /// How many.
    pub layers: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl VolumePages {
    /// Opens the pages of a volume's log in their directory, which is created if it is not there.
    pub fn open(
        dir: &Path,
        volume: VolumeId,
        log: LogId,
        config: PagesConfig,
    ) -> Result<VolumePages, OpenError> {
        let manifest = recovery::recover(dir, volume, log)?;
        let interval_end = interval_end(manifest.persisted.plus(1), config.flush_bytes);
        let mut layers: BTreeMap<GroupId, Vec<Arc<Layer>>> =
            manifest.tails.iter().map(|(group, _)| (*group, Vec::new())).collect();
        for desc in &manifest.layers {
            let layer = Layer::new(dir, volume, log, desc.clone(), Arc::clone(&config.node));
            layers.entry(desc.group).or_default().push(Arc::new(layer));
        }
        let group = |layers| Arc::new(Group::new(LayerSet::new(layers), Arc::clone(&config.node)));
        let groups = layers.into_iter().map(|(id, layers)| (id, group(layers))).collect();
        let ingest = Ingest {
            after: manifest.persisted,
            interval_end,
            last: (manifest.persisted, 0),
            tails: manifest.tails.iter().copied().collect(),
            closed: VecDeque::new(),
            touches: Vec::new(),
        };
        Ok(VolumePages {
            dir: dir.to_owned(),
            volume,
            log,
            groups: RwLock::new(groups),
            ingest: Mutex::new(ingest),
            applied: AtomicU64::new(manifest.persisted.0),
            persisted: AtomicU64::new(manifest.persisted.0),
            gc: AtomicU64::new(manifest.gc.0),
            branch: AtomicBool::new(manifest.branch),
            parents: RwLock::default(),
            worker: Mutex::new(Worker::new(manifest)),
            config,
        })
    }

    /// Which volume.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Names the pages of the logs that this one branched from, for reads along a lineage. A branch's are to be named
    /// after every open, and for the first time before its first record.
    pub fn set_parents(&self, parents: Vec<Arc<VolumePages>>) {
        if !parents.is_empty() {
            self.branch.store(true, Ordering::Release);
        }
        *self.parents.write() = parents;
    }

    /// Whether values may depend on a parent's.
    pub(crate) fn is_branch(&self) -> bool {
        self.branch.load(Ordering::Acquire)
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
        if self.config.node.is_over_limit() && !ingest.closed.is_empty() {
            return Err(ApplyError::Backlog);
        }
        ingest.touches.clear();
        zorya_redo::touches_into(header.codec, &record.payload, &mut ingest.touches)
            .map_err(|source| ApplyError::Underivable { lsn: header.lsn, source })?;
        self.close_at_cut(&mut ingest, header.lsn);
        self.close_when_old(&mut ingest, header.stamp_us);
        for link in &header.groups {
            let touches = ingest.touches.iter().filter(|touch| belongs(touch, link.group, header));
            self.group_or_new(link.group).add(header.lsn, header.codec, &record.payload, touches);
        }
        for link in &header.groups {
            ingest.tails.insert(link.group, header.lsn);
        }
        ingest.last = (header.lsn, header.stamp_us);
        self.applied.store(header.lsn.0, Ordering::Release);
        Ok(())
    }

    /// Says that every record up to `upto` was applied, so that an idle volume's position rises too.
    pub fn advance(&self, upto: Lsn) {
        let mut ingest = self.ingest.lock();
        if upto <= self.applied() {
            return;
        }
        self.close_at_cut(&mut ingest, upto.plus(1));
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
    ) -> Result<Scanned, ReadError> {
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

    /// What these pages take.
    #[must_use]
    pub fn usage(&self) -> PagesUsage {
        let groups: Vec<Arc<Group>> = self.groups.read().values().cloned().collect();
        let mut usage =
            PagesUsage { closed_intervals: self.ingest.lock().closed.len(), ..PagesUsage::default() };
        for group in groups {
            usage.memory_bytes += group.memory_bytes();
            for layer in group.layers().iter() {
                let kind = match layer.desc.kind {
                    LayerKind::Delta => &mut usage.deltas,
                    LayerKind::Image => &mut usage.images,
                };
                kind.layers += 1;
                kind.bytes += layer.desc.bytes;
                usage.damaged_layers += u64::from(layer.is_damaged());
            }
        }
        usage
    }

    /// Every layer, as the manifest names it, in order of group, kind, LSN and key. Replicas that applied the same log
    /// have equal ones, but for the files' numbers and which are deleted already.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerDesc> {
        let groups: Vec<Arc<Group>> = self.groups.read().values().cloned().collect();
        let mut layers: Vec<LayerDesc> =
            groups.iter().flat_map(|group| group.layers().descs().collect::<Vec<_>>()).collect();
        layers.sort_by_key(|layer| (layer.group, layer.kind, layer.upto, layer.from, layer.level));
        layers
    }

    /// Deletes every file of these pages, for ever.
    pub fn destroy(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.dir)
    }

    /// A read before the first record has no window that could be refused.
    fn check_readable(&self, lineage: &Lineage, lsn: Lsn) -> Result<(), ReadError> {
        let gc = self.gc();
        let before_all = lineage.spans().first().is_some_and(|first| lsn <= first.from);
        if before_all && lsn < gc { Err(ReadError::BelowHorizon { gc }) } else { Ok(()) }
    }

    pub(crate) fn group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&group).cloned()
    }

    fn group_or_new(&self, group: GroupId) -> Arc<Group> {
        if let Some(group) = self.group(group) {
            return group;
        }
        let new = || Arc::new(Group::new(LayerSet::default(), Arc::clone(&self.config.node)));
        Arc::clone(self.groups.write().entry(group).or_insert_with(new))
    }

    /// Closes the current interval if a record at `lsn` lies above the cut that ends it.
    fn close_at_cut(&self, ingest: &mut Ingest, lsn: Lsn) {
        if lsn <= ingest.interval_end {
            return;
        }
        let end = ingest.interval_end;
        ingest.interval_end = interval_end(lsn, self.config.flush_bytes);
        let next_after = Lsn(ingest.interval_end.0 - self.config.flush_bytes);
        self.close(ingest, end, next_after);
    }

    /// Closes the current interval after its last record if the next one's stamp lies in another period, so that a volume
    /// that is hardly written does not pin the log. Records that are the first of their interval close nothing: that
    /// makes the outcome the same after a restart.
    fn close_when_old(&self, ingest: &mut Ingest, stamp_us: u64) {
        let (last, last_us) = ingest.last;
        let period = self.config.flush_us.max(1);
        if last > ingest.after && last_us / period != stamp_us / period {
            self.close(ingest, last, last);
        }
    }

    /// Closes the current interval at `end`; the next one starts after `next_after`.
    fn close(&self, ingest: &mut Ingest, end: Lsn, next_after: Lsn) {
        let tails = ingest.tails.iter().map(|(group, tail)| (*group, *tail)).collect();
        for group in self.groups.read().values() {
            group.freeze(ingest.after, end);
        }
        ingest.closed.push_back(Cut { end, persisted: next_after, tails });
        ingest.after = next_after;
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
            Some(group) => group.keys(window, range, limit)?,
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

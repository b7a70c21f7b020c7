//! Background work: flushing closed intervals, compaction, deleting layers, scrubbing.
//!
//! One step at a time, so that a flush waits for no more than a piece of a compaction. Each step writes its files
//! first, then the manifest, then shows the new layers to readers; an error before the manifest leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zorya_types::{GroupId, Lsn};

use crate::compaction::Compaction;
use crate::error::{ReadError, WorkError};
use crate::group::Group;
use crate::layer::{Layer, LayerDesc, LayerIdentity, LayerKind, LayerWriter};
use crate::layer_set::LayerSet;
use crate::manifest::Manifest;
use crate::memory::MemTable;
use crate::volume::{Cut, VolumePages};

/// How long a compaction that has just become due may rest after a piece of 256 KiB: it goes on at 4 MiB a second.
const REST: Duration = Duration::from_millis(64);

/// What background work keeps between steps.
pub(crate) struct Worker {
    /// As it is on disk.
    manifest: Manifest,
    /// The number of the next layer's file. Never falls, so that no file of a failed step is overwritten.
    next_file: u64,
    /// The compaction under way. After a restart it starts again.
    compaction: Option<Compaction>,
    /// The manifest's generation and the number of compaction cuts below the horizon when unused layers were last looked
    /// for: there are no new ones until one of the two changes.
    looked_for_unused: (u64, u64),
    /// The layer and block that the scrub looks at next.
    scrub: (u64, usize),
}

impl Worker {
    pub(crate) fn new(manifest: Manifest) -> Worker {
        Worker {
            next_file: manifest.next_file,
            manifest,
            compaction: None,
            looked_for_unused: (0, 0),
            scrub: (0, 0),
        }
    }
}

impl VolumePages {
    /// Does one step of the background work that is due, the most urgent first, and says whether there is more. After an
    /// error the same step is tried again by the next call. On a full disk it makes what room it can first.
    pub fn work(&self) -> Result<bool, WorkError> {
        let mut worker = self.worker.lock();
        match self.step(&mut worker) {
            Err(error) if error.is_disk_full() => {
                worker.compaction = None;
                if self.delete_unused(&mut worker)? { Ok(true) } else { Err(error) }
            }
            outcome => outcome,
        }
    }

    fn step(&self, worker: &mut Worker) -> Result<bool, WorkError> {
        let due = self.ingest.lock().closed.front().cloned();
        if let Some(cut) = due {
            self.flush(worker, &cut)?;
            return Ok(true);
        }
        if worker.compaction.is_none() {
            // Before the next compaction: under load that keeps compactions busy they would wait for ever.
            if self.delete_unused(worker)? {
                return Ok(true);
            }
            worker.compaction = self.plan_compaction()?;
        }
        if worker.compaction.is_some() {
            self.compact(worker)?;
            return Ok(true);
        }
        self.scrub(worker);
        Ok(false)
    }

    /// Writes a closed interval as one delta layer per group.
    fn flush(&self, worker: &mut Worker, cut: &Cut) -> Result<(), WorkError> {
        let before = worker.manifest.persisted;
        assert!(cut.persisted >= before, "persisted {before} cannot fall to {}", cut.persisted);
        let mut written = Written::default();
        let mut changed = Vec::new();
        for (id, group) in self.all_groups() {
            let Some(table) = group.frozen(cut.end) else { continue };
            let layer = self.new_layer(self.write_interval(id, &table, take_number(worker))?);
            written.add(Arc::clone(&layer));
            changed.push((id, group.layers().with([layer])));
        }
        let manifest = Manifest {
            persisted: cut.persisted,
            tails: cut.tails.clone(),
            ..self.next_manifest(worker, &changed)
        };
        self.commit(worker, manifest, changed, cut.end)?;
        written.keep();
        self.persisted.store(cut.persisted.0, Ordering::Release);
        self.ingest.lock().closed.pop_front();
        Ok(())
    }

    fn write_interval(&self, group: GroupId, table: &MemTable, number: u64) -> Result<LayerDesc, WorkError> {
        let (after, upto) = table.interval();
        let mut writer =
            LayerWriter::create(&self.dir, self.identity(group, LayerKind::Delta, after, upto), number)?;
        for entry in table.iter() {
            let (key, at, change) = entry.map_err(ReadError::from)?;
            writer.push(key, at, &change)?;
        }
        writer.finish(table.clears(), None)
    }

    /// How long the next step of [`VolumePages::work`] may be put off, so that others have the disk and the processors: only
    /// while that is a piece of a compaction, and less the further it has fallen behind the log.
    #[must_use]
    pub fn may_rest(&self) -> Duration {
        let worker = self.worker.lock();
        match &worker.compaction {
            Some(compaction) if self.ingest.lock().closed.is_empty() => {
                let behind = self.persisted().0.saturating_sub(compaction.cut().0);
                // No rest once the next compaction is due as well.
                let left = 1.0 - behind as f64 / self.compaction_every() as f64;
                REST.mul_f64(left.max(0.0))
            }
            _ => Duration::ZERO,
        }
    }

    /// One piece of the compaction under way, or its end.
    fn compact(&self, worker: &mut Worker) -> Result<(), WorkError> {
        let Some(mut compaction) = worker.compaction.take() else { return Ok(()) };
        let mut number = || take_number(worker);
        let finished = compaction.step(self, &mut number);
        if !matches!(finished, Ok(true)) {
            worker.compaction = Some(compaction);
            return finished.map(|_| ());
        }
        let Some(group) = self.group(compaction.group()) else { return Ok(()) };
        let written = compaction.take_written();
        let mut layers = group.layers().with(written.layers());
        layers.supersede_upto(compaction.cut());
        let changed = vec![(compaction.group(), layers)];
        let manifest = self.next_manifest(worker, &changed);
        self.commit(worker, manifest, changed, Lsn::ZERO)?;
        written.keep();
        Ok(())
    }

    /// Deletes the layers that no reader at or above the horizon uses.
    fn delete_unused(&self, worker: &mut Worker) -> Result<bool, WorkError> {
        let gc = self.gc();
        let state = (worker.manifest.generation, gc.0 / self.compaction_every());
        if worker.looked_for_unused == state {
            return Ok(false);
        }
        let mut doomed = Vec::new();
        let mut changed = Vec::new();
        for (id, group) in self.all_groups() {
            let layers = group.layers();
            let unused = layers.unused(gc);
            if !unused.is_empty() {
                let files: Vec<u64> = unused.iter().map(|layer| layer.desc.file).collect();
                changed.push((id, layers.without(&files)));
                doomed.extend(unused);
            }
        }
        if doomed.is_empty() {
            worker.looked_for_unused = state;
            return Ok(false);
        }
        let manifest = self.next_manifest(worker, &changed);
        self.commit(worker, manifest, changed, Lsn::ZERO)?;
        doomed.iter().for_each(|layer| layer.doom());
        Ok(true)
    }

    /// Verifies one block, so that damage shows before somebody needs the block.
    fn scrub(&self, worker: &mut Worker) {
        let (file, block) = worker.scrub;
        let mut layers: Vec<Arc<Layer>> = self
            .all_groups()
            .iter()
            .flat_map(|(_, group)| group.layers().iter().cloned().collect::<Vec<_>>())
            .collect();
        layers.sort_by_key(|layer| layer.desc.file);
        let Some(layer) = layers.iter().find(|layer| layer.desc.file >= file) else {
            worker.scrub = (0, 0);
            return;
        };
        let block = if layer.desc.file == file { block } else { 0 };
        worker.scrub = match layer.verify_block(block) {
            Ok(true) => (layer.desc.file, block + 1),
            Ok(false) => (layer.desc.file + 1, 0),
            Err(error) => {
                tracing::error!(volume = %self.volume, %error, "the scrub found damage");
                (layer.desc.file + 1, 0)
            }
        };
    }

    /// The manifest after these groups' layers have changed.
    fn next_manifest(&self, worker: &Worker, changed: &[(GroupId, LayerSet)]) -> Manifest {
        let mut layers = Vec::new();
        for (id, group) in self.all_groups() {
            match changed.iter().find(|(changed, _)| *changed == id) {
                Some((_, set)) => layers.extend(set.descs()),
                None => layers.extend(group.layers().descs()),
            }
        }
        Manifest {
            generation: worker.manifest.generation + 1,
            gc: self.gc(),
            branch: self.is_branch(),
            next_file: worker.next_file,
            layers,
            ..worker.manifest.clone()
        }
    }

    /// Writes the manifest, then shows the new layers to readers.
    fn commit(
        &self,
        worker: &mut Worker,
        manifest: Manifest,
        changed: Vec<(GroupId, LayerSet)>,
        flushed: Lsn,
    ) -> Result<(), WorkError> {
        manifest.install(&self.dir)?;
        worker.manifest = manifest;
        for (id, layers) in changed {
            if let Some(group) = self.group(id) {
                group.install(layers, flushed);
            }
        }
        Ok(())
    }

    fn all_groups(&self) -> Vec<(GroupId, Arc<Group>)> {
        self.groups.read().iter().map(|(id, group)| (*id, Arc::clone(group))).collect()
    }

    pub(crate) fn identity(&self, group: GroupId, kind: LayerKind, after: Lsn, upto: Lsn) -> LayerIdentity {
        LayerIdentity { kind, volume: self.volume, log: self.log, group, after, upto }
    }

    pub(crate) fn new_layer(&self, desc: LayerDesc) -> Arc<Layer> {
        Arc::new(Layer::new(&self.dir, self.volume, self.log, desc, Arc::clone(&self.config.node)))
    }
}

fn take_number(worker: &mut Worker) -> u64 {
    let number = worker.next_file;
    worker.next_file += 1;
    number
}

/// Layers that are written but not in the manifest: their files go again unless they are kept.
#[derive(Default)]
pub(crate) struct Written {
    layers: Vec<Arc<Layer>>,
}

impl Written {
    pub(crate) fn add(&mut self, layer: Arc<Layer>) {
        self.layers.push(layer);
    }

    pub(crate) fn append(&mut self, mut other: Written) {
        self.layers.append(&mut other.layers);
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = Arc<Layer>> + '_ {
        self.layers.iter().cloned()
    }

    /// The manifest names them now.
    pub(crate) fn keep(mut self) {
        self.layers.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.layers.iter().for_each(|layer| layer.doom());
    }
}

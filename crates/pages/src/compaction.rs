//! Compaction of one group at a cut: new images for the key ranges that changed much, merged delta layers for the rest.
//!
//! The cut, the ranges and the layers' bounds follow from the layers up to the cut, which follow from the log: replicas
//! compact alike, whenever they get to it. Nothing is dropped; layers go when the horizon has passed the cut.

use std::collections::VecDeque;
use std::sync::Arc;

use zorya_types::{GroupId, Key, Lsn};

use crate::chain::{At, Change};
use crate::clears::Clears;
use crate::error::{ReadError, WorkError};
use crate::layer::{Layer, LayerDesc, LayerKind, LayerWriter};
use crate::layer_set::LayerSet;
use crate::merge::{Fold, Merge};
use crate::volume::VolumePages;
use crate::work::Written;

/// How many neighbouring ranges one step rewrites at most.
const RANGES_PER_STEP: usize = 4;

/// A key range and its image before.
#[derive(Clone, Debug)]
struct Range {
    from: Key,
    to: Key,
    image: Option<Arc<Layer>>,
}

#[derive(Debug)]
enum Task {
    /// New images for neighbouring ranges.
    Image(Vec<Range>),
    /// Merge the flushed layers between two keys.
    Merge { from: Key, to: Key },
}

/// A compaction that is under way.
pub(crate) struct Compaction {
    group: GroupId,
    cut: Lsn,
    layers: Arc<LayerSet>,
    tasks: VecDeque<Task>,
    written: Written,
}

impl VolumePages {
    /// Bytes of LSN between compaction cuts.
    pub(crate) fn compaction_every(&self) -> u64 {
        self.config.flush_bytes * self.config.max_deltas.max(1) as u64
    }

    /// The oldest compaction that is due, if any.
    pub(crate) fn plan_compaction(&self) -> Result<Option<Compaction>, ReadError> {
        let every = self.compaction_every();
        let groups: Vec<_> = self.groups.read().iter().map(|(id, group)| (*id, group.layers())).collect();
        for (group, layers) in groups {
            let Some(oldest) = layers.oldest_flushed() else { continue };
            let cut = Lsn(oldest.0.div_ceil(every) * every);
            if cut <= self.persisted() {
                let tasks = self.plan_tasks(&layers, cut)?;
                return Ok(Some(Compaction { group, cut, layers, tasks, written: Written::default() }));
            }
        }
        Ok(None)
    }

    fn compacted(&self, desc: LayerDesc) -> Arc<Layer> {
        self.new_layer(LayerDesc { level: 1, ..desc })
    }

    fn plan_tasks(&self, layers: &LayerSet, cut: Lsn) -> Result<VecDeque<Task>, ReadError> {
        let mut ranges: Vec<Range> = layers
            .images_at(cut)
            .into_iter()
            .map(|image| Range { from: image.desc.from, to: image.desc.to, image: Some(image) })
            .collect();
        if ranges.is_empty() {
            ranges.push(Range { from: Key::MIN, to: Key::MAX, image: None });
        }
        let mut tasks = VecDeque::new();
        for range in ranges {
            let rewrite = self.deserves_image(layers, cut, &range)?;
            match tasks.back_mut() {
                Some(Task::Image(held)) if rewrite && held.len() < RANGES_PER_STEP => held.push(range),
                Some(Task::Merge { to, .. }) if !rewrite => *to = range.to,
                _ if rewrite => tasks.push_back(Task::Image(vec![range])),
                _ => tasks.push_back(Task::Merge { from: range.from, to: range.to }),
            }
        }
        Ok(tasks)
    }

    /// A new image is worth writing when the deltas since the last are as large as it, when merged layers have piled up,
    /// or when it is small. A branch has no images: its values are not complete without its parent's.
    fn deserves_image(&self, layers: &LayerSet, cut: Lsn, range: &Range) -> Result<bool, ReadError> {
        if self.is_branch() {
            return Ok(false);
        }
        let (after, image_bytes) =
            range.image.as_ref().map_or((Lsn::ZERO, 0), |image| (image.desc.upto, image.desc.bytes));
        let (mut delta_bytes, mut merged) = (0, 0);
        for delta in layers.deltas_at(cut) {
            if delta.desc.upto > after && delta.desc.overlaps(range.from, range.to) {
                delta_bytes += delta.index()?.bytes_in(range.from, range.to);
                merged += usize::from(delta.desc.level > 0);
            }
        }
        let is_small = image_bytes < self.config.layer_bytes / 8;
        Ok(is_small || delta_bytes >= image_bytes || merged >= self.config.max_deltas)
    }
}

impl Compaction {
    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    pub(crate) fn cut(&self) -> Lsn {
        self.cut
    }

    /// The layers to put in place, once all tasks are done.
    pub(crate) fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    /// Does the next task; `true` if that was the last.
    pub(crate) fn step(
        &mut self,
        pages: &VolumePages,
        number: &mut dyn FnMut() -> u64,
    ) -> Result<bool, WorkError> {
        let written = match self.tasks.front() {
            Some(Task::Image(ranges)) => self.image(pages, ranges, number)?,
            Some(Task::Merge { from, to }) => self.merge(pages, *from, *to, number)?,
            None => return Ok(true),
        };
        self.written.append(written);
        self.tasks.pop_front();
        Ok(self.tasks.is_empty())
    }

    /// Writes images of neighbouring ranges, cut anew by size.
    fn image(
        &self,
        pages: &VolumePages,
        ranges: &[Range],
        number: &mut dyn FnMut() -> u64,
    ) -> Result<Written, WorkError> {
        let identity = pages.identity(self.group, LayerKind::Image, self.cut, self.cut);
        let mut written = Written::default();
        let (mut from, mut to) = (ranges[0].from, ranges[0].to);
        let mut writer = LayerWriter::create(&pages.dir, identity, number())?;
        for range in ranges {
            let deltas = self.layers.deltas_at(self.cut).cloned().collect();
            let mut fold = Fold::new(deltas, range.image.clone(), (range.from, range.to), self.cut)?;
            while let Some((key, value)) = fold.next()? {
                if writer.len() >= pages.config.layer_bytes {
                    let next = LayerWriter::create(&pages.dir, identity, number())?;
                    let full = std::mem::replace(&mut writer, next);
                    written.add(pages.compacted(full.finish(&Clears::default(), Some((from, key)))?));
                    from = key;
                }
                writer.push(key, At::first(self.cut), &Change::Image(value))?;
            }
            to = range.to;
        }
        written.add(pages.compacted(writer.finish(&Clears::default(), Some((from, to)))?));
        Ok(written)
    }

    /// Merges what the flushed layers hold of `from..to`, cut by size between keys.
    fn merge(
        &self,
        pages: &VolumePages,
        from: Key,
        to: Key,
        number: &mut dyn FnMut() -> u64,
    ) -> Result<Written, WorkError> {
        let is_input = |layer: &&Arc<Layer>| layer.desc.level == 0 && layer.desc.overlaps(from, to);
        let inputs: Vec<_> = self.layers.deltas_at(self.cut).filter(is_input).cloned().collect();
        let Some(after) = inputs.iter().map(|layer| layer.desc.after).min() else {
            return Ok(Written::default());
        };
        let identity = pages.identity(self.group, LayerKind::Delta, after, self.cut);
        let mut merge = Merge::new(&inputs, from, to)?;
        let mut written = Written::default();
        let (mut start, mut last) = (from, None);
        let mut writer: Option<LayerWriter> = None;
        while let Some((key, at, change)) = merge.next()? {
            let full =
                |writer: &mut LayerWriter| writer.len() >= pages.config.layer_bytes && last != Some(key);
            if let Some(full) = writer.take_if(full) {
                written.add(pages.compacted(full.finish(&clears_of(&inputs, start, key)?, None)?));
                start = key;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(LayerWriter::create(&pages.dir, identity, number())?),
            };
            writer.push(key, at, &change)?;
            last = Some(key);
        }
        let clears = clears_of(&inputs, start, to)?;
        if writer.is_none() && !clears.is_empty() {
            writer = Some(LayerWriter::create(&pages.dir, identity, number())?);
        }
        if let Some(writer) = writer {
            written.add(pages.compacted(writer.finish(&clears, None)?));
        }
        Ok(written)
    }
}

/// The range tombstones of some layers, cut to `from..to`.
fn clears_of(layers: &[Arc<Layer>], from: Key, to: Key) -> Result<Clears, ReadError> {
    let mut clears = Clears::default();
    for layer in layers {
        for (low, high, at) in layer.index()?.clears.iter() {
            let (low, high) = (low.max(from), high.min(to));
            if low < high {
                clears.add(low, high, at);
            }
        }
    }
    Ok(clears)
}

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
use crate::layer::{Layer, LayerDesc, LayerIdentity, LayerKind, LayerWriter};
use crate::layer_set::LayerSet;
use crate::merge::{Fold, Merge};
use crate::volume::VolumePages;
use crate::work::Written;

/// How many neighbouring ranges one task rewrites at most.
const RANGES_PER_TASK: usize = 4;
/// A step passes about so many bytes of versions on.
const PIECE_BYTES: usize = 256 << 10;

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
    /// The first task, once it has begun.
    begun: Option<Rewriting>,
    written: Written,
}

/// A task that is under way: entries, cut into layers by size.
struct Rewriting {
    identity: LayerIdentity,
    source: Source,
    /// What the next layer is about.
    from: Key,
    to: Key,
    last: Option<Key>,
    writer: Option<LayerWriter>,
    written: Written,
}

/// Where the entries of a task come from.
enum Source {
    /// The values of neighbouring ranges at the cut.
    Images { layers: Arc<LayerSet>, cut: Lsn, ranges: VecDeque<Range>, fold: Option<Fold> },
    /// All versions in some flushed layers.
    Deltas { inputs: Vec<Arc<Layer>>, merge: Merge },
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
                return Ok(Some(Compaction {
                    group,
                    cut,
                    layers,
                    tasks,
                    begun: None,
                    written: Written::default(),
                }));
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
                Some(Task::Image(held)) if rewrite && held.len() < RANGES_PER_TASK => held.push(range),
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

    /// Does the next piece; `true` if that was the last. After an error the task that the piece belongs to begins again.
    pub(crate) fn step(
        &mut self,
        pages: &VolumePages,
        number: &mut dyn FnMut() -> u64,
    ) -> Result<bool, WorkError> {
        let mut rewriting = match (self.begun.take(), self.tasks.front()) {
            (Some(begun), _) => begun,
            (None, Some(task)) => self.begin(pages, task)?,
            (None, None) => return Ok(true),
        };
        if rewriting.piece(pages, number)? {
            self.written.append(rewriting.written);
            self.tasks.pop_front();
        } else {
            self.begun = Some(rewriting);
        }
        Ok(self.tasks.is_empty())
    }

    fn begin(&self, pages: &VolumePages, task: &Task) -> Result<Rewriting, WorkError> {
        let (from, to, identity, source) = match task {
            Task::Image(ranges) => {
                let (from, to) = (ranges[0].from, ranges[ranges.len() - 1].to);
                let (layers, ranges) = (Arc::clone(&self.layers), ranges.iter().cloned().collect());
                let identity = pages.identity(self.group, LayerKind::Image, self.cut, self.cut);
                (from, to, identity, Source::Images { layers, cut: self.cut, ranges, fold: None })
            }
            Task::Merge { from, to } => {
                let (from, to) = (*from, *to);
                let is_input = |layer: &&Arc<Layer>| layer.desc.level == 0 && layer.desc.overlaps(from, to);
                let inputs: Vec<_> = self.layers.deltas_at(self.cut).filter(is_input).cloned().collect();
                let after = inputs.iter().map(|layer| layer.desc.after).min().unwrap_or(self.cut);
                let identity = pages.identity(self.group, LayerKind::Delta, after, self.cut);
                let merge = Merge::new(&inputs, from, to)?;
                (from, to, identity, Source::Deltas { inputs, merge })
            }
        };
        let written = Written::default();
        Ok(Rewriting { identity, source, from, to, last: None, writer: None, written })
    }
}

impl Rewriting {
    /// Goes on for a piece; `true` at the end.
    fn piece(&mut self, pages: &VolumePages, number: &mut dyn FnMut() -> u64) -> Result<bool, WorkError> {
        let mut passed = 0;
        while passed < PIECE_BYTES {
            let Some((key, at, change)) = self.source.next()? else {
                self.end(pages, number)?;
                return Ok(true);
            };
            let is_full = |writer: &LayerWriter| writer.len() >= pages.config.layer_bytes;
            if self.last != Some(key) && self.writer.as_ref().is_some_and(is_full) {
                self.close(pages, key)?;
            }
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => none.insert(LayerWriter::create(&pages.dir, self.identity, number())?),
            };
            writer.push(key, at, &change)?;
            passed += change.len();
            self.last = Some(key);
        }
        Ok(false)
    }

    /// Ends the last layer. An image without entries answers for its range all the same.
    fn end(&mut self, pages: &VolumePages, number: &mut dyn FnMut() -> u64) -> Result<(), WorkError> {
        let says_something = match &self.source {
            Source::Images { .. } => true,
            Source::Deltas { inputs, .. } => !clears_of(inputs, self.from, self.to)?.is_empty(),
        };
        if self.writer.is_none() && says_something {
            self.writer = Some(LayerWriter::create(&pages.dir, self.identity, number())?);
        }
        self.close(pages, self.to)
    }

    /// Ends the layer that is being written, which is about what lies below `to`.
    fn close(&mut self, pages: &VolumePages, to: Key) -> Result<(), WorkError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let desc = match &self.source {
            Source::Images { .. } => writer.finish(&Clears::default(), Some((self.from, to)))?,
            Source::Deltas { inputs, .. } => writer.finish(&clears_of(inputs, self.from, to)?, None)?,
        };
        self.written.add(pages.compacted(desc));
        self.from = to;
        Ok(())
    }
}

impl Source {
    /// The next entry, in order of key, then time.
    fn next(&mut self) -> Result<Option<(Key, At, Change)>, ReadError> {
        let (layers, cut, ranges, current) = match self {
            Source::Deltas { merge, .. } => return merge.next(),
            Source::Images { layers, cut, ranges, fold } => (layers, *cut, ranges, fold),
        };
        loop {
            if let Some(fold) = current
                && let Some((key, value)) = fold.next()?
            {
                return Ok(Some((key, At::first(cut), Change::Image(value))));
            }
            let Some(range) = ranges.pop_front() else { return Ok(None) };
            let deltas = layers.deltas_at(cut).cloned().collect();
            *current = Some(Fold::new(deltas, range.image, (range.from, range.to), cut)?);
        }
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

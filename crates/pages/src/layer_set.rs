//! The layers of one group, and which of them a read needs.

use std::sync::Arc;

use zorya_types::{Key, Lsn};

use crate::chain::Chain;
use crate::error::ReadError;
use crate::layer::{Layer, LayerDesc, LayerKind};
use crate::lineage::Window;

/// An immutable set of layers; every change makes a new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerSet {
    /// Newest interval first.
    deltas: Vec<Delta>,
    images: Vec<Arc<Layer>>,
}

#[derive(Clone, Debug)]
struct Delta {
    layer: Arc<Layer>,
    /// See [`LayerDesc::superseded`].
    superseded: Option<Lsn>,
}

impl LayerSet {
    pub(crate) fn new(layers: impl IntoIterator<Item = Arc<Layer>>) -> LayerSet {
        let mut set = LayerSet::default();
        for layer in layers {
            match layer.desc.kind {
                LayerKind::Delta => {
                    let superseded = layer.desc.superseded;
                    set.deltas.push(Delta { layer, superseded });
                }
                LayerKind::Image => set.images.push(layer),
            }
        }
        set.deltas.sort_by_key(|delta| std::cmp::Reverse(delta.layer.desc.upto));
        set
    }

    /// This set and the layers `added`.
    pub(crate) fn with(&self, added: impl IntoIterator<Item = Arc<Layer>>) -> LayerSet {
        let mut set = self.clone();
        let added = LayerSet::new(added);
        set.images.extend(added.images);
        set.deltas.extend(added.deltas);
        set.deltas.sort_by_key(|delta| std::cmp::Reverse(delta.layer.desc.upto));
        set
    }

    /// This set without the layers of these files.
    pub(crate) fn without(&self, files: &[u64]) -> LayerSet {
        let mut set = self.clone();
        set.deltas.retain(|delta| !files.contains(&delta.layer.desc.file));
        set.images.retain(|image| !files.contains(&image.desc.file));
        set
    }

    /// Says of every flushed layer up to `cut` that readers from there on find its versions elsewhere.
    pub(crate) fn supersede_upto(&mut self, cut: Lsn) {
        for delta in &mut self.deltas {
            if delta.is_flushed() && delta.layer.desc.upto <= cut {
                delta.superseded = Some(cut);
            }
        }
    }

    /// The layers as the manifest names them.
    pub(crate) fn descs(&self) -> impl Iterator<Item = LayerDesc> + '_ {
        let delta = |delta: &Delta| LayerDesc { superseded: delta.superseded, ..delta.layer.desc.clone() };
        self.deltas.iter().map(delta).chain(self.images.iter().map(|image| image.desc.clone()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.deltas.iter().map(|delta| &delta.layer).chain(&self.images)
    }

    /// The end of the oldest interval that was flushed and not compacted.
    pub(crate) fn oldest_flushed(&self) -> Option<Lsn> {
        self.deltas.iter().filter(|delta| delta.is_flushed()).map(|delta| delta.layer.desc.upto).min()
    }

    /// See [`crate::VersionSource::collect`].
    pub(crate) fn collect(&self, window: Window, key: Key, chain: &mut Chain) -> Result<(), ReadError> {
        let image = self.image_at(key, window.after, window.upto);
        let after = image.map_or(window.after, |image| image.desc.upto);
        for delta in &self.deltas {
            if chain.is_complete() {
                return Ok(());
            }
            if delta.layer.desc.covers(key) && delta.is_visible(after, window.upto) {
                delta.layer.collect(Window { after, ..window }, key, chain)?;
            }
        }
        match image {
            Some(image) if !chain.is_complete() => image.collect(window, key, chain),
            _ => Ok(()),
        }
    }

    /// The newest image of the key's range at an LSN in `(after, upto]`.
    fn image_at(&self, key: Key, after: Lsn, upto: Lsn) -> Option<&Arc<Layer>> {
        let usable = |layer: &&Arc<Layer>| {
            layer.desc.covers(key) && layer.desc.upto > after && layer.desc.upto <= upto
        };
        self.images.iter().filter(usable).max_by_key(|layer| layer.desc.upto)
    }

    /// See [`crate::VersionSource::keys`]; every layer that overlaps the window and the range is asked.
    pub(crate) fn keys(
        &self,
        window: Window,
        (from, to): (Key, Key),
        limit: usize,
    ) -> Result<(Vec<Key>, Key), ReadError> {
        let (mut keys, mut known_to) = (Vec::new(), to);
        let deltas = self.deltas.iter().filter(|delta| delta.is_visible(window.after, window.upto));
        let deltas = deltas.map(|delta| &delta.layer);
        let images = self.images.iter().filter(|image| image.desc.upto <= window.upto);
        for layer in deltas.chain(images).filter(|layer| layer.desc.overlaps(from, to)) {
            let (mut iter, mut count, mut last) = (layer.iter_from(from)?, 0, None);
            while let Some((key, _, _)) = iter.next()? {
                if key >= known_to {
                    break;
                }
                if last == Some(key) {
                    continue;
                }
                if count == limit {
                    known_to = key;
                    break;
                }
                keys.push(key);
                (count, last) = (count + 1, Some(key));
            }
        }
        Ok((keys, known_to))
    }

    /// The delta layers that a reader at `lsn` uses.
    pub(crate) fn deltas_at(&self, lsn: Lsn) -> impl Iterator<Item = &Arc<Layer>> {
        self.deltas.iter().filter(move |delta| delta.is_visible(Lsn::ZERO, lsn)).map(|delta| &delta.layer)
    }

    /// The ranges of images that a reader at `lsn` uses, by key. They join without gaps, except that there are none
    /// before the first compaction.
    pub(crate) fn images_at(&self, lsn: Lsn) -> Vec<Arc<Layer>> {
        let older = || self.images.iter().filter(|image| image.desc.upto <= lsn);
        let is_newest = |image: &&Arc<Layer>| {
            !older().any(|other| {
                other.desc.upto > image.desc.upto && other.desc.overlaps(image.desc.from, image.desc.to)
            })
        };
        let mut newest: Vec<_> = older().filter(is_newest).cloned().collect();
        newest.sort_by_key(|image| image.desc.from);
        newest
    }

    /// The layers that no reader at or above `gc` uses.
    pub(crate) fn unused(&self, gc: Lsn) -> Vec<Arc<Layer>> {
        let images = self.images_at(gc);
        let is_unused = |layer: &Layer, superseded: Option<Lsn>| {
            let desc = &layer.desc;
            let newer = match desc.kind {
                LayerKind::Delta => desc.upto,
                LayerKind::Image => desc.upto.plus(1),
            };
            superseded.is_some_and(|since| since <= gc) || is_imaged(&images, desc.from, desc.to, newer)
        };
        let deltas = self.deltas.iter().map(|delta| (&delta.layer, delta.superseded));
        let images = self.images.iter().map(|image| (image, None));
        deltas
            .chain(images)
            .filter(|(layer, since)| is_unused(layer, *since))
            .map(|(layer, _)| layer.clone())
            .collect()
    }
}

/// Whether every key of `from..to` has an image at or above `lsn` among `images`, which are in key order and do not
/// overlap.
fn is_imaged(images: &[Arc<Layer>], from: Key, to: Key, lsn: Lsn) -> bool {
    let mut covered = from;
    for image in images.iter().filter(|image| image.desc.overlaps(from, to)) {
        if image.desc.from > covered || image.desc.upto < lsn {
            return false;
        }
        covered = image.desc.to;
    }
    covered >= to
}

impl Delta {
    fn is_flushed(&self) -> bool {
        self.layer.desc.level == 0 && self.superseded.is_none()
    }

    /// Whether a reader at `upto` that needs versions above `after` uses it. A merged layer takes the place of the
    /// flushed ones for readers at or above its end.
    fn is_visible(&self, after: Lsn, upto: Lsn) -> bool {
        let desc = &self.layer.desc;
        let in_time = match desc.level {
            0 => self.superseded.is_none_or(|since| upto < since),
            _ => upto >= desc.upto,
        };
        in_time && desc.upto > after && desc.after < upto
    }
}

#[cfg(test)]
mod tests {
    use zorya_types::{GroupId, LogId, VolumeId};

    use super::*;
    use crate::config::NodeMemory;

    /// Layers are only looked at from outside here: there are no files.
    fn layer(
        kind: LayerKind,
        level: u8,
        (after, upto): (u64, u64),
        (from, to): (u64, u64),
        file: u64,
    ) -> Arc<Layer> {
        let key = |lo| Key { hi: 0, lo };
        let desc = LayerDesc {
            file,
            kind,
            level,
            group: GroupId(0),
            after: Lsn(after),
            upto: Lsn(upto),
            from: key(from),
            to: key(to),
            superseded: None,
            entries: 0,
            bytes: 0,
            hash: [0; 32],
        };
        Arc::new(Layer::new(std::path::Path::new(""), VolumeId(1), LogId(1), desc, NodeMemory::new(0, 0)))
    }

    /// Three intervals of ten; the first two were compacted at 20 into an image of keys 0..50 and merged deltas of the rest.
    fn compacted() -> LayerSet {
        let flushed =
            |number: u64| layer(LayerKind::Delta, 0, (number * 10 - 10, number * 10), (0, 99), number);
        let mut set = LayerSet::new([flushed(1), flushed(2), flushed(3)]);
        set.supersede_upto(Lsn(20));
        set.with([
            layer(LayerKind::Image, 1, (20, 20), (0, 50), 4),
            layer(LayerKind::Delta, 1, (0, 20), (50, 99), 5),
        ])
    }

    fn files<'a>(layers: impl IntoIterator<Item = &'a Arc<Layer>>) -> Vec<u64> {
        layers.into_iter().map(|layer| layer.desc.file).collect()
    }

    #[test]
    fn a_reader_uses_every_interval_exactly_once() {
        let set = compacted();
        for (lsn, expected) in
            [(10, vec![1]), (15, vec![2, 1]), (19, vec![2, 1]), (20, vec![5]), (25, vec![3, 5])]
        {
            assert_eq!(files(set.deltas_at(Lsn(lsn))), expected, "at {lsn}");
        }
        assert_eq!(files(&set.images_at(Lsn(19))), []);
        assert_eq!(files(&set.images_at(Lsn(20))), [4]);
        assert_eq!(set.oldest_flushed(), Some(Lsn(30)));
    }

    #[test]
    fn a_layer_is_unused_once_the_horizon_has_passed_what_replaces_it() {
        let set = compacted();
        assert_eq!(files(&set.unused(Lsn(19))), []);
        assert_eq!(files(&set.unused(Lsn(20))), [2, 1]);
        let newer = |from, to, file| layer(LayerKind::Image, 1, (30, 30), (from, to), file);
        let half = set.with([newer(0, 60, 6)]);
        assert_eq!(files(&half.unused(Lsn(30))), [2, 1, 4]);
        let gap = half.with([newer(70, 99, 7)]);
        assert_eq!(files(&gap.unused(Lsn(30))), [2, 1, 4]);
        let whole = gap.with([newer(60, 70, 8)]);
        let mut unused = files(&whole.unused(Lsn(30)));
        unused.sort_unstable();
        assert_eq!(unused, [1, 2, 3, 4, 5]);
        assert_eq!(files(&whole.unused(Lsn(29))), [2, 1]);
        assert_eq!(files(whole.without(&unused).iter()), [6, 7, 8]);
    }
}

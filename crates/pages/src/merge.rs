//! Streaming several layers as one, and folding a key's versions into its value.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zorya_types::{Key, Lsn};

use crate::chain::{At, Change};
use crate::error::ReadError;
use crate::layer::{Layer, LayerIndex, LayerIter, LayerKind};

/// The entries of several layers in `from..to`, in order of key, then time. An image's entries come at the end of its
/// LSN. Holds one block of each layer.
pub(crate) struct Merge {
    iters: Vec<LayerIter>,
    /// For an image: the place that its entries get.
    places: Vec<Option<At>>,
    heads: Vec<Option<Change>>,
    order: BinaryHeap<Reverse<(Key, At, usize)>>,
    to: Key,
}

impl Merge {
    pub(crate) fn new(layers: &[Arc<Layer>], from: Key, to: Key) -> Result<Merge, ReadError> {
        let place =
            |layer: &Arc<Layer>| (layer.desc.kind == LayerKind::Image).then(|| At::last(layer.desc.upto));
        let mut merge = Merge {
            iters: layers.iter().map(|layer| layer.iter_from(from)).collect::<Result<_, _>>()?,
            places: layers.iter().map(place).collect(),
            heads: layers.iter().map(|_| None).collect(),
            order: BinaryHeap::new(),
            to,
        };
        for source in 0..merge.iters.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    pub(crate) fn next(&mut self) -> Result<Option<(Key, At, Change)>, ReadError> {
        let Some(Reverse((key, at, source))) = self.order.pop() else { return Ok(None) };
        let change = self.heads[source].take();
        self.advance(source)?;
        Ok(change.map(|change| (key, at, change)))
    }

    fn advance(&mut self, source: usize) -> Result<(), ReadError> {
        if let Some((key, at, change)) = self.iters[source].next()?.filter(|(key, _, _)| *key < self.to) {
            self.heads[source] = Some(change);
            self.order.push(Reverse((key, self.places[source].unwrap_or(at), source)));
        }
        Ok(())
    }
}

/// The values of the keys of a range at `upto`, folded out of delta layers and the range's image before.
pub(crate) struct Fold {
    merge: Merge,
    ahead: Option<(Key, At, Change)>,
    clears: Vec<Arc<LayerIndex>>,
    /// The image's LSN: versions up to here are in it.
    after: Lsn,
    upto: Lsn,
}

impl Fold {
    /// `layers` are all that a reader at `upto` may need of `from..to`.
    pub(crate) fn new(
        mut layers: Vec<Arc<Layer>>,
        image: Option<Arc<Layer>>,
        (from, to): (Key, Key),
        upto: Lsn,
    ) -> Result<Fold, ReadError> {
        let after = image.as_ref().map_or(Lsn::ZERO, |image| image.desc.upto);
        layers.retain(|layer| layer.desc.upto > after && layer.desc.overlaps(from, to));
        let mut clears = Vec::new();
        for layer in &layers {
            clears.push(layer.index()?);
        }
        clears.retain(|index| !index.clears.is_empty());
        layers.extend(image);
        let mut merge = Merge::new(&layers, from, to)?;
        let ahead = merge.next()?;
        Ok(Fold { merge, ahead, clears, after, upto })
    }

    /// The next key that is not absent, and its value.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Bytes)>, ReadError> {
        while let Some((key, _, _)) = self.ahead {
            if let Some(value) = self.value_of(key)? {
                return Ok(Some((key, value.freeze())));
            }
        }
        Ok(None)
    }

    /// Folds the versions of `key`, the first of which is ahead.
    fn value_of(&mut self, key: Key) -> Result<Option<BytesMut>, ReadError> {
        let newest = |index: &Arc<LayerIndex>| index.clears.newest(key, self.after, self.upto);
        let cleared = self.clears.iter().filter_map(newest).max();
        let mut value = None;
        while let Some((_, at, change)) = self.ahead.take_if(|ahead| ahead.0 == key) {
            let is_base = at == At::last(self.after);
            let counts = is_base || (at.lsn > self.after && at.lsn <= self.upto);
            if counts && Some(at) > cleared {
                value = match change {
                    Change::Image(bytes) => Some(BytesMut::from(&bytes[..])),
                    Change::Delta { codec, delta } => {
                        Some(zorya_redo::apply_extract(codec, &delta, key, value)?)
                    }
                    Change::Delete => None,
                };
            }
            self.ahead = self.merge.next()?;
        }
        Ok(value)
    }
}

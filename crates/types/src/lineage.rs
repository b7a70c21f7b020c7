//! A lineage: the only notion of history.
//!
//! A volume view is an ordered list of spans `(log id, from, to]` and a read LSN. Crash truncation, backtrack,
//! clone and restore are edits of that list. Versions are named (log id, LSN); LSNs compare only within one lineage.

use serde::{Deserialize, Serialize};

use crate::{Epoch, LogId, Lsn};

/// A stretch `(from, to]` of one log that belongs to a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which log.
    pub log: LogId,
    /// Exclusive lower end.
    pub from: Lsn,
    /// Inclusive upper end; [`Lsn::MAX`] for the log that is still written.
    pub to: Lsn,
}

/// The spans of a history, oldest first. `spans[i].to == spans[i + 1].from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    spans: Vec<Span>,
}

/// A stretch of the log that an opening annulled for ever: nothing in `(cut, first)` exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annulled {
    /// The epoch whose opening annulled it.
    pub epoch: Epoch,
    /// The last LSN that stands.
    pub cut: Lsn,
    /// Where the epoch's first record starts.
    pub first: Lsn,
}

impl Annulled {
    /// Whether a record that ends at `lsn` was annulled.
    #[must_use]
    pub fn covers(&self, lsn: Lsn) -> bool {
        self.cut < lsn && lsn <= self.first
    }
}

/// What an opening makes the segments accept: where the log ends and where the new epoch starts.
///
/// It carries the whole history of annulled stretches that the opening honoured, newest last and its own the last, so
/// that a segment which accepted an opening that was never chosen forgets it when it accepts a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Annulled stretches, oldest first, never empty; the last is this truncation's own.
    annulled: Vec<Annulled>,
}

impl Truncation {
    /// The truncation that adds `own` to the `honoured` history.
    #[must_use]
    pub fn new(honoured: &[Annulled], own: Annulled) -> Truncation {
        let mut annulled = honoured.to_vec();
        annulled.push(own);
        Truncation { annulled }
    }

    /// Rebuilds one from its history; `None` if that is empty or its epochs do not rise.
    #[must_use]
    pub fn from_history(annulled: Vec<Annulled>) -> Option<Truncation> {
        let rising =
            annulled.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].first <= pair[1].cut);
        let sane = annulled.iter().all(|stretch| stretch.cut <= stretch.first);
        (!annulled.is_empty() && rising && sane).then_some(Truncation { annulled })
    }

    /// This truncation's own stretch: (epoch, cut, first).
    #[must_use]
    pub fn own(&self) -> Annulled {
        self.annulled[self.annulled.len() - 1]
    }

    /// Every stretch, oldest first.
    #[must_use]
    pub fn history(&self) -> &[Annulled] {
        &self.annulled
    }

    /// Whether a record that ends at `lsn` and was written in `epoch` stands under this truncation.
    #[must_use]
    pub fn keeps(&self, epoch: Epoch, lsn: Lsn) -> bool {
        !self.annulled.iter().any(|stretch| epoch < stretch.epoch && lsn > stretch.cut)
    }

    /// Drops stretches that end at or below `horizon`, except the newest.
    pub fn forget_below(&mut self, horizon: Lsn) {
        let own = self.own().epoch;
        self.annulled.retain(|stretch| stretch.first > horizon || stretch.epoch == own);
    }
}

/// A branch point that the lineage does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot branch at {at}: this history spans {from} to {to}")]
pub struct OutsideLineage {
    /// Where the branch was asked for.
    pub at: Lsn,
    /// The lowest position of the history.
    pub from: Lsn,
    /// The highest one.
    pub to: Lsn,
}

impl Lineage {
    /// A history of one log from its beginning.
    #[must_use]
    pub fn root(log: LogId) -> Lineage {
        Lineage { spans: vec![Span { log, from: Lsn::ZERO, to: Lsn::MAX }] }
    }

    /// The history that follows this one up to `at` and then goes on in `log` (a clone, a rewind, a restore).
    pub fn branch(&self, at: Lsn, log: LogId) -> Result<Lineage, OutsideLineage> {
        let (from, to) = (self.spans[0].from, self.head().to);
        if at < from || at > to || at == Lsn::MAX {
            return Err(OutsideLineage { at, from, to });
        }
        let mut spans: Vec<Span> = self.spans.iter().copied().filter(|span| span.from < at).collect();
        if let Some(last) = spans.last_mut() {
            last.to = last.to.min(at);
        }
        spans.push(Span { log, from: at, to: Lsn::MAX });
        Ok(Lineage { spans })
    }

    /// The span that is still written.
    #[must_use]
    pub fn head(&self) -> Span {
        self.spans[self.spans.len() - 1]
    }

    /// The spans that a read at `lsn` looks through, newest first, each cut to what the read may see.
    pub fn visible_at(&self, lsn: Lsn) -> impl Iterator<Item = Span> + '_ {
        self.spans
            .iter()
            .rev()
            .filter(move |span| span.from < lsn)
            .map(move |span| Span { to: span.to.min(lsn), ..*span })
    }

    /// The spans, oldest first.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Rebuilds a lineage from its spans; `None` unless they are non-empty and join.
    #[must_use]
    pub fn from_spans(spans: Vec<Span>) -> Option<Lineage> {
        let joined = spans.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to);
        (!spans.is_empty() && joined).then_some(Lineage { spans })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_sees_its_parent_up_to_the_branch_point_and_itself_after() {
        let root = Lineage::root(LogId(1));
        let clone = root.branch(Lsn(100), LogId(2)).unwrap();
        let rewound = clone.branch(Lsn(40), LogId(3)).unwrap();
        let seen: Vec<_> = clone.visible_at(Lsn(150)).map(|s| (s.log.0, s.from.0, s.to.0)).collect();
        assert_eq!(seen, [(2, 100, 150), (1, 0, 100)]);
        let seen: Vec<_> = rewound.visible_at(Lsn(150)).map(|s| (s.log.0, s.to.0)).collect();
        assert_eq!(seen, [(3, 150), (1, 40)]);
        assert!(root.branch(Lsn::MAX, LogId(4)).is_err());
    }
}

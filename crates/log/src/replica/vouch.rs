//! How far a replica vouches for the end of its log, and when a doubtful end is sound again.

use zorya_wire::message::log::Tail;

use super::{Effect, Entry, Replica};

impl Replica {
    /// The writer of the accepted epoch was heard. What a torn tail had was placed before the start, so at most one
    /// allocation limit above VDL of that time, or above the epoch's beginning; VDL now is not lower. The limit itself
    /// is not known here, but a truncation annuls at least that much. (A connection does not survive a start, so
    /// nothing that was sent before it is heard after it.)
    pub(super) fn bound_torn_tail(&mut self) {
        let Some(own) = self.hard.truncation.as_ref().map(zorya_types::Truncation::own) else { return };
        if self.hard.tail == Tail::Torn && self.torn_below.is_none() {
            let limit = own.first.since(own.cut);
            self.torn_below = Some(self.hard.told.vdl.max(own.first).plus(limit));
        }
    }

    /// An end in doubt is sound again when everything that it could have had is here: up to the cut of a truncation
    /// accepted since the start; for a torn one also up to a VDL beyond anything placed before the start.
    pub(super) fn vouch_if_repaired(&mut self, out: &mut Vec<Effect>) {
        if self.hard.tail == Tail::Clean || self.disk.stopped.is_some() {
            return;
        }
        let scl = self.reached.scl;
        let cut = self.hard.truncation.as_ref().map(|truncation| truncation.own().cut);
        let reopened = self.accepted_since_start && cut.is_some_and(|cut| scl >= cut);
        let outgrown = self.hard.tail == Tail::Torn
            && self.torn_below.is_some_and(|bound| self.hard.told.vdl >= bound && scl >= self.hard.told.vdl);
        if reopened || outgrown {
            self.hard.tail = Tail::Clean;
            self.persist(Entry::Vouch { tail: Tail::Clean }, false, out);
        }
    }

    /// At a start: an end in doubt stays in doubt over further starts, so it is put on disk.
    pub(super) fn remember_doubt(&mut self, out: &mut Vec<Effect>) {
        if std::mem::take(&mut self.doubt_is_new) {
            self.persist(Entry::Vouch { tail: self.hard.tail }, true, out);
        }
    }
}

//! Where the log ends: the arithmetic of an opening, from the promises alone.
//!
//! Let V replicas, W a write quorum. A record that was acknowledged is on W disks, so among n replies at least
//! n - (V - W) show it.
//!
//! - A *clean* reply shows everything that it acknowledged. V - W + 1 clean replies always include a holder.
//! - A *torn* reply most likely does, but a frame at its end is missing and nothing shows what that was. With n of
//!   them, n - (V - W) must have held an acknowledged record and lost it without a trace for it to be missed; with
//!   n = W + 1 that is at least two at once (three with six replicas), which unsynced frames cannot be. So torn
//!   replies alone suffice once W + 1 replicas (or all, if there are not more) have answered.
//! - A *damaged* reply lost something that it acknowledged. Its data count, its silence does not.

use zorya_types::{Annulled, Epoch, Lsn, Membership, Profile, Slot, Truncation};
use zorya_wire::message::log::{Promised, Tail, Told};

/// More annulled stretches than this are kept only above trim.
const LONG_HISTORY: usize = 256;

/// What an opening decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// (epoch, cut, first), with the history that it honours.
    pub truncation: Truncation,
    /// The highest stamp below the cut, or higher.
    pub stamp_us: u64,
    /// The highest positions that anybody was told.
    pub told: Told,
    /// The newest membership that anybody knows.
    pub membership: Membership,
}

/// Whether the replies are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Decided(Decision),
    /// Not yet: what for.
    Waiting(String),
}

/// Decides from the promises that are there. More replies are always welcome, fewer never decide anything wrong.
pub(super) fn decide(
    replies: &[(Slot, &Promised)],
    profile: &Profile,
    epoch: Epoch,
    allocation_limit: u64,
) -> Verdict {
    let (have, need) = (replies.len(), usize::from(profile.write_quorum));
    if have < need {
        return Verdict::Waiting(format!("a write quorum: {have} of {need} replicas promised epoch {epoch}"));
    }
    let told = highest_told(replies);
    let honoured = replies
        .iter()
        .filter_map(|(_, reply)| reply.truncation.as_ref())
        .max_by_key(|truncation| truncation.own().epoch);
    let standing: Vec<Standing<'_>> =
        replies.iter().map(|(slot, reply)| Standing::new(*slot, reply, honoured, told.trim)).collect();
    if let Some(what) = not_enough(&standing, profile) {
        return Verdict::Waiting(what);
    }
    let Some(newest) = replies.iter().map(|(_, reply)| &reply.membership).max_by_key(|one| one.generation)
    else {
        return Verdict::Waiting("a reply".to_owned());
    };
    let cut = standing.iter().map(|one| one.point).max().unwrap_or_default();
    Verdict::Decided(Decision {
        truncation: truncate(honoured, cut, epoch, allocation_limit, told.trim),
        stamp_us: replies.iter().map(|(_, reply)| reply.stamp_us).max().unwrap_or_default(),
        told,
        membership: newest.clone(),
    })
}

fn highest_told(replies: &[(Slot, &Promised)]) -> Told {
    let highest =
        |of: fn(&Told) -> Lsn| replies.iter().map(|(_, reply)| of(&reply.told)).max().unwrap_or_default();
    Told { vdl: highest(|told| told.vdl), gc: highest(|told| told.gc), trim: highest(|told| told.trim) }
}

/// A reply as it stands under the truncation that is honoured.
struct Standing<'a> {
    slot: Slot,
    reply: &'a Promised,
    /// Its SCL, less what is annulled.
    scl: Lsn,
    /// Its highest consistency point at or below that.
    point: Lsn,
    honoured: Option<&'a Truncation>,
    trim: Lsn,
}

impl<'a> Standing<'a> {
    fn new(slot: Slot, reply: &'a Promised, honoured: Option<&'a Truncation>, trim: Lsn) -> Standing<'a> {
        let mut standing = Standing { slot, reply, scl: reply.scl, point: Lsn::ZERO, honoured, trim };
        standing.scl = standing.clip(reply.scl);
        // A cut is a consistency point, so what was clipped ends on one.
        standing.point = if standing.scl < reply.scl { standing.scl } else { reply.consistency_point };
        standing
    }

    /// What of a position that was reached under this reply's truncation stands under the honoured one. A stretch that
    /// the reply's own history knows is behind it already; in any other, what it has above the cut is annulled. A
    /// stretch below trim is too far back to matter: somebody shows more.
    fn clip(&self, at: Lsn) -> Lsn {
        let own: &[Annulled] = self.reply.truncation.as_ref().map_or(&[], Truncation::history);
        let stretches = self.honoured.map_or(&[] as &[Annulled], Truncation::history).iter();
        let unknown = stretches.filter(|stretch| {
            stretch.first > self.trim && !own.iter().any(|known| known.epoch == stretch.epoch)
        });
        unknown.map(|stretch| stretch.cut).chain([at]).min().unwrap_or(at)
    }

    fn epoch(&self) -> Epoch {
        self.reply.truncation.as_ref().map_or(Epoch(0), |truncation| truncation.own().epoch)
    }

    /// Whether a peer saw it acknowledge more than it has. A truncation that was never chosen may have cut it since
    /// the peer looked: then the comparison says nothing.
    fn lost_what_was_seen(&self, all: &[Standing<'_>]) -> bool {
        let honoured = self.honoured.map_or(&[] as &[Annulled], Truncation::history);
        let cut_honourably = honoured.iter().any(|stretch| stretch.epoch == self.epoch());
        all.iter().filter(|peer| self.epoch() <= peer.epoch() || cut_honourably).any(|peer| {
            let seen = peer.reply.seen.iter().find(|(slot, _)| *slot == self.slot);
            seen.is_some_and(|(_, scl)| self.scl < peer.clip(*scl))
        })
    }
}

/// What is missing before the end of the log can be told; `None` if nothing is.
fn not_enough(standing: &[Standing<'_>], profile: &Profile) -> Option<String> {
    let (replicas, write) = (usize::from(profile.replicas), usize::from(profile.write_quorum));
    let damaged = |one: &&Standing<'_>| one.reply.tail == Tail::Damaged || one.lost_what_was_seen(standing);
    let vouching = standing.iter().filter(|one| !damaged(one));
    let (clean, all) = vouching
        .fold((0, 0), |(clean, all), one| (clean + usize::from(one.reply.tail == Tail::Clean), all + 1));
    let (need_clean, need_all) = (replicas - write + 1, replicas.min(write + 1));
    if clean >= need_clean || all >= need_all {
        return None;
    }
    let lost = standing.len() - all;
    Some(format!(
        "replicas that vouch for the end of the log: {clean} do without doubt (of {need_clean}), \
         {all} at all (of {need_all}), {lost} are damaged"
    ))
}

/// The truncation that ends the log at `cut` and annuls everything that an earlier epoch may have placed above it.
fn truncate(
    honoured: Option<&Truncation>,
    cut: Lsn,
    epoch: Epoch,
    allocation_limit: u64,
    trim: Lsn,
) -> Truncation {
    let before = honoured.map_or(&[] as &[Annulled], Truncation::history);
    // Nothing was ever placed above the limit, counted from where the last epoch started or from what is durable.
    let highest = before.last().map_or(Lsn::ZERO, |stretch| stretch.first).max(cut);
    let own = Annulled { epoch, cut, first: highest.plus(allocation_limit) };
    // A stretch that nothing follows is part of the new one.
    let kept: Vec<Annulled> = before.iter().copied().filter(|stretch| stretch.first <= cut).collect();
    let mut truncation = Truncation::new(&kept, own);
    if truncation.history().len() > LONG_HISTORY {
        truncation.forget_below(trim);
    }
    truncation
}

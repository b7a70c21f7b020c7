//! A replica gets from its peers what it is missing: truncations, positions, records.
//!
//! Every tick it asks one peer what it has, and all of them while it lags: a replica that the writer sends to a little later
//! than to others is behind all the time, and has what is missing by the next tick. It fetches from the one with the
//! most, one fetch at a time. Questions and answers may be lost: a later tick asks again.

use zorya_types::{Epoch, Lsn, Slot, Truncation};
use zorya_wire::message::log::{Digest, DigestReply, Fetch, LogRequest, LogResponse, Records, ResponseBody};

use super::{Effect, Entry, Origin, Replica, raise};

/// A fetch without an answer is given up after so many ticks.
const FETCH_TICKS: u64 = 10;
/// Positions that were told are put on disk for their own sake after so many ticks without a batch.
const TOLD_TICKS: u64 = 20;

/// What a peer last said.
#[derive(Clone, Copy, Debug, Default)]
struct PeerView {
    /// Its accepted truncation's epoch.
    truncation: Epoch,
    /// Its SCL under that truncation.
    scl: Lsn,
    /// It has trimmed the log after this position.
    trimmed_after: Option<Lsn>,
    /// The highest SCL that it ever showed, cut where later truncations cut.
    seen: Lsn,
}

/// What a replica knows of its peers.
#[derive(Debug)]
pub(super) struct Gossip {
    peers: Vec<PeerView>,
    ticks: u64,
    /// Whom the next tick asks.
    turn: usize,
    /// The running fetch: of whom, since which tick.
    fetching: Option<(Slot, u64)>,
    /// The tick in which everybody was asked last.
    asked_everyone: Option<u64>,
    /// The highest epoch that a writer was heard in.
    heard_epoch: Epoch,
    /// How far peers were at the last tick: whoever is not there by the next one lags.
    lag_mark: Lsn,
    /// The VDL that the writer told, or peers by the last tick: the same.
    told_mark: Lsn,
    /// The tick of the last change of what the disk knows as told.
    told_tick: u64,
}

impl Gossip {
    pub fn new(peers: usize) -> Gossip {
        Gossip {
            peers: vec![PeerView::default(); peers],
            ticks: 0,
            turn: 0,
            fetching: None,
            asked_everyone: None,
            heard_epoch: Epoch(0),
            lag_mark: Lsn::ZERO,
            told_mark: Lsn::ZERO,
            told_tick: 0,
        }
    }

    /// A writer was heard in an epoch whose truncation is not known here.
    pub fn miss_opening(&mut self, epoch: Epoch) {
        self.heard_epoch = self.heard_epoch.max(epoch);
    }

    /// The writer told a VDL; it has sent everything below, so what is not here was lost.
    pub fn told_by_writer(&mut self, vdl: Lsn) {
        self.told_mark = self.told_mark.max(vdl);
    }

    /// A new truncation holds: what was known of peers beyond its cut is void.
    pub fn start_epoch(&mut self, cut: Lsn) {
        for peer in &mut self.peers {
            peer.seen = peer.seen.min(cut);
            peer.trimmed_after = None;
        }
        self.fetching = None;
        self.lag_mark = Lsn::ZERO;
    }

    /// The highest SCL that each peer showed.
    pub fn seen(&self) -> Vec<(Slot, Lsn)> {
        let shown = self.peers.iter().enumerate().filter(|(_, peer)| peer.seen > Lsn::ZERO);
        shown.map(|(slot, peer)| (Slot(slot as u8), peer.seen)).collect()
    }

    fn note(&mut self, digest: &Digest, own_truncation: Epoch) {
        let Some(peer) = self.peers.get_mut(usize::from(digest.slot.0)) else { return };
        peer.truncation = digest.truncation;
        peer.scl = digest.scl;
        if digest.truncation == own_truncation {
            peer.seen = peer.seen.max(digest.scl);
        }
    }

    /// The peers that are ahead of `received` under the truncation.
    fn ahead(&self, received: Lsn, truncation: Epoch) -> impl Iterator<Item = (Slot, &PeerView)> {
        let peers = self.peers.iter().enumerate().map(|(slot, peer)| (Slot(slot as u8), peer));
        peers.filter(move |(_, peer)| peer.truncation == truncation && peer.scl > received)
    }

    /// The peer to fetch from.
    fn source(&self, received: Lsn, truncation: Epoch) -> Option<Slot> {
        let able = self.ahead(received, truncation).filter(|(_, peer)| peer.trimmed_after != Some(received));
        able.max_by_key(|(_, peer)| peer.scl).map(|(slot, _)| slot)
    }

    pub fn needs_layers(&self, received: Lsn, truncation: Epoch) -> bool {
        self.ahead(received, truncation).next().is_some() && self.source(received, truncation).is_none()
    }
}

impl Replica {
    fn digest(&self) -> Digest {
        Digest {
            slot: self.config.slot,
            promised: self.hard.promised,
            truncation: self.accepted_epoch(),
            scl: self.reached.scl,
            highest: self.highest(),
            told: self.hard.told,
        }
    }

    fn ask_digest(&self, peer: Slot, out: &mut Vec<Effect>) {
        out.push(Effect::Ask { peer, request: LogRequest::from(self.digest()) });
    }

    /// Whether something is known to exist that is not here.
    pub(super) fn is_behind(&self) -> bool {
        let received = self.reached.received;
        self.hard.told.vdl > received || self.lags()
    }

    /// Whether it is behind and nothing that is on its way changes that.
    fn lags(&self) -> bool {
        let received = self.reached.received;
        self.gossip.heard_epoch > self.accepted_epoch()
            || self.highest() > received
            || self.gossip.told_mark.min(self.hard.told.vdl) > received
            || self.waiting.catch_ups.iter().any(|(_, upto)| *upto > received)
    }

    /// Asks every peer what it has, at most once a tick.
    pub(super) fn ask_everyone(&mut self, out: &mut Vec<Effect>) {
        if self.gossip.asked_everyone == Some(self.gossip.ticks) {
            return;
        }
        self.gossip.asked_everyone = Some(self.gossip.ticks);
        for peer in self.peers() {
            self.ask_digest(peer, out);
        }
    }

    pub(super) fn tick(&mut self, out: &mut Vec<Effect>) {
        self.gossip.ticks += 1;
        let ticks = self.gossip.ticks;
        if let Some((peer, _)) = self.gossip.fetching.take_if(|(_, since)| *since + FETCH_TICKS <= ticks) {
            self.gossip.peers[usize::from(peer.0)].scl = Lsn::ZERO;
        }
        if self.lags() {
            self.ask_everyone(out);
        } else {
            self.ask_in_turn(out);
        }
        if self.reached.received < self.gossip.lag_mark {
            self.fetch(out);
        }
        let (received, accepted) = (self.reached.received, self.accepted_epoch());
        self.gossip.lag_mark =
            self.gossip.ahead(received, accepted).map(|(_, peer)| peer.scl).max().unwrap_or_default();
        self.gossip.told_mark = self.hard.told.vdl;
        self.remember_told(out);
    }

    fn ask_in_turn(&mut self, out: &mut Vec<Effect>) {
        let count = self.gossip.peers.len();
        self.gossip.turn = (self.gossip.turn + 1) % count;
        if self.gossip.turn == usize::from(self.config.slot.0) {
            self.gossip.turn = (self.gossip.turn + 1) % count;
        }
        let peer = Slot(self.gossip.turn as u8);
        if peer != self.config.slot {
            self.ask_digest(peer, out);
        }
    }

    fn remember_told(&mut self, out: &mut Vec<Effect>) {
        let ticks = self.gossip.ticks;
        if self.told_on_disk.vdl == self.hard.told.vdl || self.disk.stopped.is_some() {
            self.gossip.told_tick = ticks;
        } else if ticks >= self.gossip.told_tick + TOLD_TICKS {
            self.gossip.told_tick = ticks;
            self.persist(Entry::Told { told: self.hard.told }, false, out);
        }
    }

    /// A peer asks what is here, and says what it has.
    pub(super) fn digest_asked(&mut self, digest: &Digest, out: &mut Vec<Effect>) -> DigestReply {
        self.gossip.note(digest, self.accepted_epoch());
        if digest.truncation > self.accepted_epoch() && self.peers().any(|peer| peer == digest.slot) {
            self.ask_digest(digest.slot, out);
        }
        let truncation = self.hard.truncation.clone();
        DigestReply {
            own: self.digest(),
            truncation: truncation.filter(|own| own.own().epoch > digest.truncation),
        }
    }

    pub(super) fn peer_response(&mut self, peer: Slot, response: LogResponse, out: &mut Vec<Effect>) {
        if usize::from(peer.0) >= self.gossip.peers.len() {
            return;
        }
        match &response.body {
            ResponseBody::Digest(reply) if reply.own.slot == peer => self.digest_answered(reply, out),
            ResponseBody::Records(body) => {
                let body = body.clone();
                self.fetch_answered(peer, &body, &response, out);
            }
            ResponseBody::Refused(_) => self.gossip.fetching = None,
            _ => tracing::warn!(volume = %self.config.volume, ?peer, "a peer gave an answer to no question"),
        }
    }

    fn digest_answered(&mut self, reply: &DigestReply, out: &mut Vec<Effect>) {
        let known = self.accepted_epoch();
        if let Some(truncation) = &reply.truncation {
            self.learn(truncation, out);
        }
        let accepted = self.accepted_epoch();
        self.gossip.note(&reply.own, accepted);
        if reply.own.truncation == accepted {
            raise(&mut self.hard.told, &reply.own.told);
        }
        if self.lags() || accepted > known {
            self.fetch(out);
        }
    }

    /// Accepts a truncation that a peer accepted. That is the opener's own request arriving late, by another way: it
    /// is allowed under the same condition, and it says nothing about whether the truncation was chosen.
    fn learn(&mut self, truncation: &Truncation, out: &mut Vec<Effect>) {
        let epoch = truncation.own().epoch;
        let may = epoch > self.accepted_epoch() && epoch >= self.hard.promised && self.disk.stopped.is_none();
        if may && let Err(error) = self.take_truncation(truncation.clone(), out) {
            tracing::error!(volume = %self.config.volume, %error, "a peer's truncation was not accepted");
        }
    }

    fn fetch(&mut self, out: &mut Vec<Effect>) {
        let have = self.reached.received;
        if self.gossip.fetching.is_some() || self.disk.stopped.is_some() {
            return;
        }
        let Some(peer) = self.gossip.source(have, self.accepted_epoch()) else { return };
        self.gossip.fetching = Some((peer, self.gossip.ticks));
        let fetch = Fetch {
            slot: self.config.slot,
            truncation: self.accepted_epoch(),
            have,
            max_bytes: self.config.fetch_max_bytes,
        };
        out.push(Effect::Ask { peer, request: LogRequest::from(fetch) });
    }

    fn fetch_answered(&mut self, peer: Slot, body: &Records, response: &LogResponse, out: &mut Vec<Effect>) {
        if self.gossip.fetching.take_if(|(asked, _)| *asked == peer).is_none() {
            return;
        }
        let accepted = self.accepted_epoch();
        let Some(truncation) = self.hard.truncation.clone().filter(|_| body.truncation == accepted) else {
            return;
        };
        let have = self.reached.received;
        let view = &mut self.gossip.peers[usize::from(peer.0)];
        view.trimmed_after = body.trimmed.then_some(have);
        if response.records.is_empty() && !body.trimmed {
            // It has less than it said: a later digest corrects that.
            view.scl = view.scl.min(have);
        } else if let Err(error) = self.store_fetched(&response.records, &truncation, out) {
            tracing::error!(volume = %self.config.volume, ?peer, %error, "a peer sent bad records");
            self.gossip.peers[usize::from(peer.0)].scl = Lsn::ZERO;
            return;
        }
        self.advance();
        self.fetch(out);
    }

    /// Answers a fetch. Only what is on disk is served: anything else may never have existed.
    pub(super) fn serve(&self, to: Origin, id: u64, fetch: &Fetch) -> Effect {
        let accepted = self.accepted_epoch();
        let mut body = Records { truncation: accepted, trimmed: false };
        if fetch.truncation != accepted || fetch.have >= self.reached.scl {
            return Effect::reply(to, id, body);
        }
        let truncation = self.hard.truncation.as_ref();
        let max_bytes = u64::from(fetch.max_bytes);
        let (pieces, _) = self.log.pieces(fetch.have, self.reached.scl, max_bytes, truncation);
        if pieces.is_empty() {
            body.trimmed = !self.log.reaches_back_to(fetch.have, truncation);
            return Effect::reply(to, id, body);
        }
        Effect::Serve { to, id, body, pieces }
    }
}

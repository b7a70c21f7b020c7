//! Reading: the best replica first, a second one if it is slow, and again until there is an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use zorya_types::{Epoch, GroupId, Key, Lineage, Lsn, VolumeId};
use zorya_wire::message::pages::{
    Entries, PagesRequest, PagesResponse, Read, ReadAt, ReadRefused, Scan, Values,
};
use zorya_wire::message::{Request, Response};

use super::writer::WriterShared;
use crate::net::{Peer, PeerGone};
use crate::store::{ReadFailed, VolumeLost};

/// A second replica is asked when the first takes so much longer than it usually does.
const HEDGE_FACTOR: u32 = 4;
/// A second replica is asked no sooner than this.
const EARLIEST_HEDGE: Duration = Duration::from_millis(3);
/// What a replica that did not answer in time counts as, until it answers again, in microseconds.
const SLOW_US: u64 = 1_000_000;
/// How long to wait before asking all replicas again.
const AGAIN: Duration = Duration::from_millis(20);
/// How many rounds of "cannot be read" from every replica make it an error.
const HOPELESS: u32 = 25;
/// At most so many keys go into one request.
pub(super) const KEYS: usize = 64;
/// At most so many bytes come back from one scan.
const SCAN_BYTES: u32 = 1 << 20;

/// One replica's pages, as a reader sees them.
#[derive(Debug)]
pub struct Source {
    peer: Arc<Peer>,
    /// How long answers take, smoothed, in microseconds.
    typical_us: AtomicU64,
}

/// Reads an open volume.
pub struct Reader {
    volume: VolumeId,
    epoch: Epoch,
    lineage: Lineage,
    sources: Vec<Arc<Source>>,
    writer: Arc<WriterShared>,
}

enum Attempt {
    Answer(PagesResponse),
    Unreadable(String),
    Later,
}

impl Reader {
    /// A reader that asks `peers`.
    pub fn new(
        volume: VolumeId,
        lineage: Lineage,
        peers: Vec<Arc<Peer>>,
        writer: Arc<WriterShared>,
    ) -> Reader {
        let source = |peer| Arc::new(Source { peer, typical_us: AtomicU64::new(1000) });
        let sources = peers.into_iter().map(source).collect();
        Reader { volume, epoch: writer.epoch(), lineage, sources, writer }
    }

    /// Reads keys as of VDL-now.
    pub async fn read(&self, keys: Vec<(GroupId, Key)>) -> Result<Vec<Option<Bytes>>, ReadFailed> {
        let point = self.writer.read_point()?;
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS) {
            let request = Read { at: self.at(point.lsn), keys: keys.to_vec() };
            match self.ask(request.into(), point.lsn, keys[0].1).await? {
                PagesResponse::Values(Values { values: some }) if some.len() == keys.len() => {
                    values.extend(some)
                }
                other => return Err(unexpected(keys[0].1, &other)),
            }
        }
        Ok(values)
    }

    /// Reads every entry of a range as of VDL-now.
    pub async fn scan(&self, group: GroupId, from: Key, to: Key) -> Result<Vec<(Key, Bytes)>, ReadFailed> {
        let point = self.writer.read_point()?;
        let (mut entries, mut next) = (Vec::new(), Some(from));
        while let Some(from) = next {
            let request = Scan { at: self.at(point.lsn), group, from, to, max_bytes: SCAN_BYTES };
            match self.ask(request.into(), point.lsn, from).await? {
                PagesResponse::Entries(Entries { entries: some, next: rest }) => {
                    entries.extend(some);
                    next = rest;
                }
                other => return Err(unexpected(from, &other)),
            }
        }
        Ok(entries)
    }

    fn at(&self, lsn: Lsn) -> ReadAt {
        ReadAt { epoch: self.epoch, lsn, lineage: self.lineage.clone() }
    }

    /// Asks until there is an answer.
    async fn ask(&self, request: PagesRequest, lsn: Lsn, key: Key) -> Result<PagesResponse, ReadFailed> {
        let request = Arc::new(Request::Pages(self.volume, request));
        let mut hopeless = 0;
        loop {
            match self.ask_everyone(&request, lsn).await? {
                Attempt::Answer(response) => return Ok(response),
                Attempt::Unreadable(reason) => {
                    hopeless += 1;
                    if hopeless >= HOPELESS {
                        return Err(ReadFailed::Unreadable { key, reason });
                    }
                }
                Attempt::Later => hopeless = 0,
            }
            if self.writer.is_lost() {
                return Err(ReadFailed::Lost(VolumeLost::ShutDown));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One round: the best replica, then the next whenever one is slow or cannot answer.
    async fn ask_everyone(&self, request: &Arc<Request>, lsn: Lsn) -> Result<Attempt, ReadFailed> {
        let mut order: Vec<_> =
            self.sources.iter().filter(|source| source.peer.is_connected()).cloned().collect();
        order.sort_by_key(|source| source.typical_us.load(Ordering::Relaxed));
        let mut candidates = order.into_iter();
        let mut asked = JoinSet::new();
        let mut unreadable = None;
        let mut others = false;
        loop {
            let Some(candidate) = candidates.next() else { break };
            let patience = candidate.patience();
            let request = request.clone();
            asked.spawn(async move { candidate.ask(&request).await });
            let deadline = tokio::time::Instant::now() + patience;
            while let Ok(Some(outcome)) = tokio::time::timeout_at(deadline, asked.join_next()).await {
                match self.judge(outcome.unwrap_or(Err(PeerGone)), lsn)? {
                    Attempt::Answer(response) => return Ok(Attempt::Answer(response)),
                    Attempt::Unreadable(reason) => unreadable = Some(reason),
                    Attempt::Later => others = true,
                }
            }
        }
        while let Some(outcome) = asked.join_next().await {
            match self.judge(outcome.unwrap_or(Err(PeerGone)), lsn)? {
                Attempt::Answer(response) => return Ok(Attempt::Answer(response)),
                Attempt::Unreadable(reason) => unreadable = Some(reason),
                Attempt::Later => others = true,
            }
        }
        Ok(match unreadable {
            Some(reason) if !others => Attempt::Unreadable(reason),
            _ => Attempt::Later,
        })
    }

    fn judge(&self, outcome: Result<Response, PeerGone>, lsn: Lsn) -> Result<Attempt, ReadFailed> {
        let refused = match outcome {
            Ok(Response::Pages(PagesResponse::Refused(refused))) => refused,
            Ok(Response::Pages(answer)) => return Ok(Attempt::Answer(answer)),
            Ok(_) | Err(PeerGone) => return Ok(Attempt::Later),
        };
        match refused {
            ReadRefused::StaleEpoch(stale) => {
                let lost = VolumeLost::Fenced { by: stale.promised, own: self.epoch };
                self.writer.lose(lost.clone());
                Err(lost.into())
            }
            ReadRefused::BelowHorizon(below) => Err(ReadFailed::BelowHorizon { at: lsn, gc: below.gc }),
            ReadRefused::Unreadable(reason) => Ok(Attempt::Unreadable(reason.text)),
            ReadRefused::NotApplied(_) | ReadRefused::NoVolume(_) => Ok(Attempt::Later),
        }
    }
}

impl Source {
    fn patience(&self) -> Duration {
        let typical = Duration::from_micros(self.typical_us.load(Ordering::Relaxed));
        (typical * HEDGE_FACTOR).clamp(EARLIEST_HEDGE, Duration::from_millis(100))
    }

    /// Asks, and remembers how long the answer took; without an answer the source counts as slow.
    async fn ask(&self, request: &Request) -> Result<Response, PeerGone> {
        let asked = Instant::now();
        let slow = MarkSlow { source: self, late: self.patience(), asked };
        let answer = self.peer.ask(request).await;
        std::mem::forget(slow);
        let took = if answer.is_ok() { asked.elapsed().as_micros() as u64 } else { SLOW_US };
        let typical = self.typical_us.load(Ordering::Relaxed);
        self.typical_us.store((typical * 7 + took) / 8, Ordering::Relaxed);
        answer
    }
}

/// Runs when an ask is cancelled because another replica was faster.
struct MarkSlow<'a> {
    source: &'a Source,
    late: Duration,
    asked: Instant,
}

impl Drop for MarkSlow<'_> {
    fn drop(&mut self) {
        if self.asked.elapsed() >= self.late {
            self.source.typical_us.store(SLOW_US, Ordering::Relaxed);
        }
    }
}

fn unexpected(key: Key, response: &PagesResponse) -> ReadFailed {
    ReadFailed::Unreadable { key, reason: format!("a replica answered something else: {response:?}") }
}

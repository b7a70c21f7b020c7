//! Opening a volume: the pure `zorya_log::opening::Opening` with sockets and a clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zorya_log::opening::{OpenEffect, OpenFailed, OpenInput, Opened, Opening};
use zorya_types::{Epoch, GroupId, Lineage, Lsn, Slot, VolumeId};
use zorya_wire::message::log::LogRequest;
use zorya_wire::message::node::{DescribeVolume, NodeResponse, VolumeDescription};
use zorya_wire::message::pages::{GroupTails, PagesResponse, ReadAt};
use zorya_wire::message::{Request, Response};

use super::reader::Reader;
use super::room::Room;
use super::sender::Sender;
use super::writer::WriterShared;
use super::{ALLOCATION_LIMIT, ClientOptions};
use crate::clock::Clock;
use crate::net::Peer;

/// How often the opening is told that time has passed.
const TICK: Duration = Duration::from_millis(20);
/// How long one request of an opening may take before it counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to listen for further descriptions of the volume once there is one.
const LISTEN: Duration = Duration::from_millis(50);

/// Why a volume was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nodes answered, and none keeps the volume.
    #[error("no storage node keeps volume {0}: check its id and the nodes' addresses")]
    NoSuchVolume(VolumeId),
    /// The opening was told to stop.
    #[error("opening volume {0} was given up")]
    Stopped(VolumeId),
}

/// An opened volume's parts.
pub struct OpenVolume {
    /// Appends.
    pub writer: Arc<WriterShared>,
    /// Reads.
    pub reader: Arc<Reader>,
    /// Its history.
    pub lineage: Lineage,
    /// What its nodes have room for.
    pub room: Arc<Room>,
}

/// Opens a volume and starts its tasks on the current runtime.
pub async fn open_volume(options: &ClientOptions, stop: &CancellationToken) -> Result<OpenVolume, OpenError> {
    let start = |address: &String| Peer::start(address.clone(), options.key.clone(), stop.clone());
    let first: Vec<_> = options.addresses.iter().map(start).collect();
    let description = describe(options, &first, stop).await?;
    let peers: Vec<_> = description
        .membership
        .members
        .iter()
        .map(|member| {
            first
                .iter()
                .find(|peer| peer.address() == member.address)
                .cloned()
                .unwrap_or_else(|| start(&member.address))
        })
        .collect();
    let clock = Clock::start();
    let opened = negotiate(options, &description, &peers, clock, stop).await?;
    let tails = group_tails(options, &description.lineage, &opened, &peers, stop).await?;
    let writer = WriterShared::new(&opened, tails, clock);
    for slot in opened.membership.slots() {
        if let Some(sender) = Sender::new(writer.clone(), options.volume, slot, options.key.clone()) {
            tokio::spawn(sender.run(stop.clone()));
        }
    }
    tokio::spawn(writer.clone().run_waker(stop.clone()));
    tokio::spawn(writer.clone().run_sealer(stop.clone()));
    let lineage = description.lineage;
    let room = Arc::new(Room::default());
    let write_quorum = usize::from(opened.membership.profile.write_quorum);
    tokio::spawn(room.clone().watch(peers.clone(), write_quorum, stop.clone()));
    let reader = Arc::new(Reader::new(options.volume, lineage.clone(), peers, writer.clone()));
    tracing::info!(volume = %options.volume, epoch = %opened.epoch, cut = %opened.cut, "the volume is open");
    Ok(OpenVolume { writer, reader, lineage, room })
}

/// The newest description of the volume that any node has.
async fn describe(
    options: &ClientOptions,
    peers: &[Arc<Peer>],
    stop: &CancellationToken,
) -> Result<VolumeDescription, OpenError> {
    let request = Request::Node(DescribeVolume { volume: options.volume }.into());
    let (mut best, mut refused): (Option<VolumeDescription>, usize) = (None, 0);
    (options.progress)("looking for the volume's storage nodes");
    while best.is_none() {
        if stop.is_cancelled() {
            return Err(OpenError::Stopped(options.volume));
        }
        refused = 0;
        let ask = |peer: &Arc<Peer>| {
            let (peer, request) = (peer.clone(), request.clone());
            async move { tokio::time::timeout(LISTEN, peer.ask(&request)).await }
        };
        let mut asked: tokio::task::JoinSet<_> = peers.iter().map(ask).collect();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Ok(Response::Node(NodeResponse::Volume(found))))) => {
                    let promised = best.as_ref().map_or(Epoch(0), |best| best.promised).max(found.promised);
                    let newer =
                        best.as_ref().is_none_or(|b| b.membership.generation < found.membership.generation);
                    let kept = if newer { found } else { best.take().unwrap_or(found) };
                    best = Some(VolumeDescription { promised, ..kept });
                }
                Ok(Ok(Ok(Response::Node(NodeResponse::Refused(_))))) => refused += 1,
                _ => {}
            }
        }
        if best.is_none() && refused == peers.len() {
            return Err(OpenError::NoSuchVolume(options.volume));
        }
        if best.is_none() {
            tokio::time::sleep(TICK).await;
        }
    }
    tracing::debug!(refused, "described");
    best.ok_or(OpenError::NoSuchVolume(options.volume))
}

/// Runs openings with rising ballots until one succeeds.
async fn negotiate(
    options: &ClientOptions,
    description: &VolumeDescription,
    peers: &[Arc<Peer>],
    clock: Clock,
    stop: &CancellationToken,
) -> Result<Opened, OpenError> {
    let mut epoch = description.promised.next();
    loop {
        match attempt(options, description, peers, epoch, clock, stop).await? {
            Ok(opened) => return Ok(opened),
            Err(OpenFailed::StaleEpoch { promised }) => {
                tracing::info!(%epoch, %promised, "another opening has a higher epoch; trying above it");
                epoch = promised.max(epoch).next();
                tokio::time::sleep(Duration::from_millis(rand::random_range(5..60))).await;
            }
            Err(stalled @ OpenFailed::Stalled { .. }) => {
                tracing::warn!(%epoch, reason = %stalled, "the opening stalled; trying again");
                epoch = epoch.next();
            }
        }
    }
}

async fn attempt(
    options: &ClientOptions,
    description: &VolumeDescription,
    peers: &[Arc<Peer>],
    epoch: Epoch,
    clock: Clock,
    stop: &CancellationToken,
) -> Result<Result<Opened, OpenFailed>, OpenError> {
    let (answers, mut inbox) = mpsc::unbounded_channel();
    let membership = description.membership.clone();
    let (mut opening, mut effects) =
        Opening::new(options.volume, membership, epoch, options.reaped, ALLOCATION_LIMIT, clock.now());
    let mut waiting = String::new();
    loop {
        for effect in effects.drain(..) {
            match effect {
                OpenEffect::Send { slot, request } => {
                    send(options.volume, peers, slot, request, answers.clone())
                }
                OpenEffect::Opened(opened) => return Ok(Ok(opened)),
                OpenEffect::Failed(failed) => return Ok(Err(failed)),
                OpenEffect::Waiting(reason) if reason != waiting => {
                    tracing::info!(volume = %options.volume, %epoch, waiting_for = %reason, "opening");
                    (options.progress)(&reason);
                    waiting = reason;
                }
                OpenEffect::Waiting(_) => {}
            }
        }
        let input = tokio::select! {
            () = stop.cancelled() => return Err(OpenError::Stopped(options.volume)),
            Some(input) = inbox.recv() => input,
            () = tokio::time::sleep(TICK) => OpenInput::Tick,
        };
        effects = opening.step(clock.now(), input);
    }
}

fn send(
    volume: VolumeId,
    peers: &[Arc<Peer>],
    slot: Slot,
    request: LogRequest,
    answers: mpsc::UnboundedSender<OpenInput>,
) {
    let Some(peer) = peers.get(usize::from(slot.0)).cloned() else { return };
    tokio::spawn(async move {
        let request = Request::Log(volume, request);
        let input = match tokio::time::timeout(PATIENCE, peer.ask(&request)).await {
            Ok(Ok(Response::Log(response))) => OpenInput::Response { slot, response },
            _ => OpenInput::Unreachable { slot },
        };
        let _ = answers.send(input);
    });
}

/// Where the links within each group go on: asked of the replicas that have the log up to the cut.
async fn group_tails(
    options: &ClientOptions,
    lineage: &Lineage,
    opened: &Opened,
    peers: &[Arc<Peer>],
    stop: &CancellationToken,
) -> Result<Vec<(GroupId, Lsn)>, OpenError> {
    if opened.cut == Lsn::ZERO {
        return Ok(Vec::new());
    }
    let at = ReadAt { epoch: opened.epoch, lsn: opened.cut, lineage: lineage.clone() };
    let request = Request::Pages(options.volume, GroupTails { at }.into());
    (options.progress)("reading the ends of the protection groups");
    loop {
        let ask = |peer: &Arc<Peer>| {
            let (peer, request) = (peer.clone(), request.clone());
            async move { tokio::time::timeout(PATIENCE, peer.ask(&request)).await }
        };
        let mut asked: tokio::task::JoinSet<_> = peers.iter().map(ask).collect();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Ok(Response::Pages(PagesResponse::Tails(tails))))) => return Ok(tails.tails),
                Ok(Ok(Ok(Response::Pages(PagesResponse::Refused(refused))))) => {
                    tracing::debug!(?refused, "no ends of groups from this replica");
                }
                _ => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Err(OpenError::Stopped(options.volume)),
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

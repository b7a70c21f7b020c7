//! Versioned reads: past the core, straight to the page segments.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use zorya_pages::{ReadError, VolumePages};
use zorya_types::{Epoch, Lsn, VolumeId};
use zorya_wire::message::Response;
use zorya_wire::message::log::{NoVolume, Reason, StaleEpoch};
use zorya_wire::message::pages::{
    BelowHorizon, Entries, NotApplied, PagesRequest, PagesResponse, Read, ReadAt, ReadRefused, Scan, Tails,
    Values,
};

use super::core::{Event, Events};

/// How long a read waits for its position to be applied before another replica should be asked.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most keys of one read.
const MAX_KEYS: usize = 256;

/// What reads need of a volume.
pub struct SharedVolume {
    /// The page segments.
    pub pages: Arc<VolumePages>,
    /// The epoch that the log replica promised.
    pub promised: AtomicU64,
    /// How far the pages are applied; changed by the core.
    pub applied: watch::Sender<Lsn>,
}

/// The volumes of a node as reads see them.
pub type SharedVolumes = Arc<RwLock<HashMap<VolumeId, Arc<SharedVolume>>>>;

/// Answers one request.
pub async fn answer(
    shared: &SharedVolumes,
    events: &Events,
    volume: VolumeId,
    request: PagesRequest,
) -> Response {
    let found = shared.read().get(&volume).cloned();
    let outcome = match found {
        None => Err(NoVolume {}.into()),
        Some(target) => answer_volume(target, events, volume, request).await,
    };
    Response::Pages(outcome.unwrap_or_else(PagesResponse::Refused))
}

async fn answer_volume(
    target: Arc<SharedVolume>,
    events: &Events,
    volume: VolumeId,
    request: PagesRequest,
) -> Result<PagesResponse, ReadRefused> {
    let at = match &request {
        PagesRequest::Read(read) => &read.at,
        PagesRequest::Scan(scan) => &scan.at,
        PagesRequest::GroupTails(tails) => &tails.at,
    };
    admit(&target, at)?;
    wait_until_applied(&target, events, volume, at.epoch, at.lsn).await?;
    let read = tokio::task::spawn_blocking(move || perform(&target.pages, request));
    read.await.unwrap_or_else(|error| Err(Reason { text: format!("the read failed: {error}") }.into()))
}

fn admit(target: &SharedVolume, at: &ReadAt) -> Result<(), ReadRefused> {
    let promised = Epoch(target.promised.load(Ordering::Acquire));
    if at.epoch < promised { Err(StaleEpoch { promised }.into()) } else { Ok(()) }
}

async fn wait_until_applied(
    target: &SharedVolume,
    events: &Events,
    volume: VolumeId,
    epoch: Epoch,
    lsn: Lsn,
) -> Result<(), ReadRefused> {
    if target.pages.applied() >= lsn {
        return Ok(());
    }
    // A reader names only durable positions, so its request tells how far VDL is.
    events.send(Event::ToldByRead { volume, epoch, vdl: lsn });
    let mut applied = target.applied.subscribe();
    let waited = tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= lsn)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        _ => Err(NotApplied { applied: target.pages.applied() }.into()),
    }
}

fn perform(pages: &VolumePages, request: PagesRequest) -> Result<PagesResponse, ReadRefused> {
    match request {
        PagesRequest::Read(read) => perform_read(pages, read),
        PagesRequest::Scan(scan) => perform_scan(pages, scan),
        PagesRequest::GroupTails(tails) => Ok(Tails { tails: pages.tails(tails.at.lsn) }.into()),
    }
}

fn perform_read(pages: &VolumePages, read: Read) -> Result<PagesResponse, ReadRefused> {
    if read.keys.len() > MAX_KEYS {
        return Err(
            Reason { text: format!("{} keys in one read, at most {MAX_KEYS}", read.keys.len()) }.into()
        );
    }
    let value = |(group, key)| pages.read(&read.at.lineage, read.at.lsn, group, key).map_err(refusal);
    let values = read.keys.iter().copied().map(value).collect::<Result<_, _>>()?;
    Ok(Values { values }.into())
}

fn perform_scan(pages: &VolumePages, scan: Scan) -> Result<PagesResponse, ReadRefused> {
    let max_bytes = (scan.max_bytes as usize).min(4 << 20);
    let (entries, next) = pages
        .scan(&scan.at.lineage, scan.at.lsn, scan.group, scan.from, scan.to, max_bytes)
        .map_err(refusal)?;
    Ok(Entries { entries, next }.into())
}

fn refusal(error: ReadError) -> ReadRefused {
    match error {
        ReadError::BelowHorizon { gc } => BelowHorizon { gc }.into(),
        ReadError::NotApplied { applied } => NotApplied { applied }.into(),
        other => {
            tracing::warn!(error = %other, "a read failed");
            Reason { text: other.to_string() }.into()
        }
    }
}

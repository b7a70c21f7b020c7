//! Accepted connections: frames in, answers out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zorya_wire::handshake::RegionKey;
use zorya_wire::message::{Outgoing, Request};

use super::core::{Event, Events};
use super::reads::{self, SharedVolumes};
use crate::net::{FrameReader, Listener, Stream, accept, send_all, split};

/// How many answers may wait for a peer that does not read them; then the connection is closed.
pub const ANSWERS: usize = 4096;

/// Accepts connections until `stop`.
pub async fn accept_all(
    listener: Listener,
    key: Arc<RegionKey>,
    events: Events,
    shared: SharedVolumes,
    stop: CancellationToken,
) {
    let origins = AtomicU64::new(1);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let origin = origins.fetch_add(1, Ordering::Relaxed);
        let (key, events, shared, stop) = (key.clone(), events.clone(), shared.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(stream, origin, &key, &events, shared) => {}
            }
            events.send(Event::Disconnected { origin });
        });
    }
}

async fn converse(stream: Stream, origin: u64, key: &RegionKey, events: &Events, shared: SharedVolumes) {
    let stream = match accept(stream, key).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(error = %error, reason = ?std::error::Error::source(&error).map(ToString::to_string), "a peer was turned away");
            return;
        }
    };
    let (read, mut write) = split(stream);
    let (replies, mut answers) = mpsc::channel(ANSWERS);
    events.send(Event::Connected { origin, replies: replies.clone() });
    let ended = tokio::select! {
        ended = receive(FrameReader::new(read), origin, events, &shared, &replies) => ended,
        ended = send_all(&mut write, &mut answers) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(origin, %error, "a connection ended");
    }
}

async fn receive<R: tokio::io::AsyncRead + Unpin>(
    mut frames: FrameReader<R>,
    origin: u64,
    events: &Events,
    shared: &SharedVolumes,
    replies: &mpsc::Sender<Outgoing>,
) -> std::io::Result<()> {
    while let Some((header, body)) = frames.next().await? {
        match Request::decode(&header, body).map_err(std::io::Error::other)? {
            Request::Log(volume, request) => {
                events.request(Event::Log { origin, id: header.id, volume, request }).await;
            }
            Request::Node(request) => {
                events.request(Event::Node { origin, id: header.id, request }).await;
            }
            Request::Pages(volume, request) => {
                let (shared, replies, events) = (shared.clone(), replies.clone(), events.clone());
                tokio::spawn(async move {
                    let response = reads::answer(&shared, &events, volume, request).await;
                    let _ = replies.send(response.encode(header.id)).await;
                });
            }
        }
    }
    Ok(())
}

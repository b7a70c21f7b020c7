//! A connection to one storage node that is kept up: requests go out, each answer goes to whoever asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use zorya_wire::handshake::RegionKey;
use zorya_wire::message::{Outgoing, Request, Response};

use super::framed::{FrameReader, write_outgoing};
use super::meet::connect;
use super::stream::{Stream, split};

/// How many requests may wait to be written; a further one is refused as if the peer were gone.
const QUEUE: usize = 1024;
/// How long to wait before connecting again, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The request was not answered: the node is not connected, or the connection broke before the answer. Whether the
/// request was carried out is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the storage node is not connected")]
pub struct PeerGone;

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Response>>>>;

/// A node that can be asked. Connecting goes on in the background until the token is cancelled.
#[derive(Debug)]
pub struct Peer {
    address: String,
    queue: mpsc::Sender<Outgoing>,
    pending: Pending,
    next_id: AtomicU64,
    connected: Arc<AtomicBool>,
}

impl Peer {
    /// Starts connecting to `address`.
    #[must_use]
    pub fn start(address: String, key: RegionKey, stop: CancellationToken) -> Arc<Peer> {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let pending = Pending::default();
        let connected = Arc::new(AtomicBool::new(false));
        let peer = Arc::new(Peer {
            address: address.clone(),
            queue,
            pending: pending.clone(),
            next_id: AtomicU64::new(1),
            connected: connected.clone(),
        });
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep_up(address, key, outgoing, pending, connected) => {}
            }
        });
        peer
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether there is a connection at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Asks, and waits for the answer as long as the connection lasts. Cancelling forgets the answer.
    pub async fn ask(&self, request: &Request) -> Result<Response, PeerGone> {
        if !self.is_connected() {
            return Err(PeerGone);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let forget = Forget { pending: self.pending.clone(), id };
        self.pending.lock().insert(id, answer);
        self.queue.try_send(request.encode(id)).map_err(|_| PeerGone)?;
        let response = answered.await.map_err(|_| PeerGone);
        drop(forget);
        response
    }
}

struct Forget {
    pending: Pending,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.id);
    }
}

async fn keep_up(
    address: String,
    key: RegionKey,
    mut outgoing: mpsc::Receiver<Outgoing>,
    pending: Pending,
    connected: Arc<AtomicBool>,
) {
    let mut pause = Duration::from_millis(10);
    loop {
        match connect(&address, &key).await {
            Ok(stream) => {
                pause = Duration::from_millis(10);
                connected.store(true, Ordering::Relaxed);
                let ended = converse(stream, &mut outgoing, &pending).await;
                connected.store(false, Ordering::Relaxed);
                tracing::debug!(%address, error = ?ended.err(), "connection to a storage node ended");
            }
            Err(error) => tracing::debug!(%address, error = ?error, "no connection to a storage node"),
        }
        while outgoing.try_recv().is_ok() {}
        pending.lock().clear();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn converse(
    stream: Stream,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    pending: &Pending,
) -> std::io::Result<()> {
    let (read, mut write) = split(stream);
    let mut frames = FrameReader::new(read);
    let answers = async {
        while let Some((header, body)) = frames.next().await? {
            let response = Response::decode(&header, body).map_err(std::io::Error::other)?;
            if let Some(answer) = pending.lock().remove(&header.id) {
                let _ = answer.send(response);
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = answers => ended,
        ended = send_all(&mut write, outgoing) => ended,
    }
}

/// Writes whatever is queued, as long as the stream takes it.
pub(crate) async fn send_all<W: AsyncWrite + Unpin>(
    write: &mut W,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> std::io::Result<()> {
    let mut messages = Vec::with_capacity(32);
    while outgoing.recv_many(&mut messages, 32).await > 0 {
        write_outgoing(write, &messages).await?;
        messages.clear();
    }
    Ok(())
}

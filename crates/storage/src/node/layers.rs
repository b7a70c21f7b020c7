//! The thread that turns the newest log into layers, and layers into fewer layers.

use std::collections::HashMap;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use zorya_types::VolumeId;

use super::core::{Event, Events};
use super::reads::SharedVolumes;

/// How often the thread looks for work when nobody says that there is some.
const IDLE: Duration = Duration::from_millis(50);
/// How long it leaves a volume alone whose work failed (a full disk, a broken layer).
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A third of the weight of other threads.
const NICE: i32 = 5;

/// The running thread.
pub struct Layers {
    thread: Option<JoinHandle<()>>,
}

impl Layers {
    /// Waits for the thread to end, after the stop token was cancelled.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the layers thread panicked");
        }
    }
}

/// Starts the thread; it works for every volume of the node and ends at `stop`.
pub fn start(volumes: SharedVolumes, events: Events, stop: CancellationToken) -> Layers {
    let (ended, wait) = std::sync::mpsc::channel::<()>();
    let token = stop.clone();
    tokio::spawn(async move {
        token.cancelled().await;
        drop(ended);
    });
    let pause = move |how_long| matches!(wait.recv_timeout(how_long), Err(RecvTimeoutError::Disconnected));
    let spawned = std::thread::Builder::new().name("layers".to_owned()).spawn(move || {
        give_way();
        let mut resting = HashMap::new();
        while !stop.is_cancelled() {
            let nothing_to_do_for = round(&volumes, &events, &mut resting);
            if !nothing_to_do_for.is_zero() && pause(nothing_to_do_for) {
                return;
            }
        }
    });
    if let Err(error) = &spawned {
        tracing::error!(%error, "cannot start the layers thread: the log will not be trimmed");
    }
    Layers { thread: spawned.ok() }
}

/// Lets commits and reads go first where processors are short: layers are behind the log anyway, and whoever runs out
/// of memory for the log's index waits for them.
fn give_way() {
    let own = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(own), NICE) {
        tracing::debug!(%error, "the layers thread runs like any other");
    }
}

/// One step of work for every volume that has some and does not rest; returns how long there is nothing to do.
fn round(volumes: &SharedVolumes, events: &Events, resting: &mut HashMap<VolumeId, Instant>) -> Duration {
    let targets: Vec<_> = volumes.read().iter().map(|(id, volume)| (*id, volume.clone())).collect();
    let mut pause = IDLE;
    let mut failed = false;
    let now = Instant::now();
    resting.retain(|_, until| *until > now);
    for (volume, shared) in targets {
        if let Some(until) = resting.get(&volume) {
            // What is urgent does not rest.
            let rest = shared.pages.may_rest().min(*until - now);
            if !rest.is_zero() {
                pause = pause.min(rest);
                continue;
            }
        }
        let before = shared.pages.persisted();
        match shared.pages.work() {
            Ok(true) => {
                let rest = shared.pages.may_rest();
                resting.insert(volume, Instant::now() + rest);
                pause = pause.min(rest);
            }
            Ok(false) => {}
            Err(error) => {
                failed = true;
                report(volume, &error);
            }
        }
        let persisted = shared.pages.persisted();
        if persisted != before {
            events.send(Event::PagesPersisted { volume, lsn: persisted });
        }
    }
    if failed { AFTER_FAILURE } else { pause }
}

fn report(volume: VolumeId, error: &zorya_pages::WorkError) {
    tracing::error!(%volume, %error, "layers cannot be written; reads and the log go on, the log grows meanwhile");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use bytes::BytesMut;
    use parking_lot::RwLock;
    use tokio::sync::watch;
    use zorya_pages::{PagesConfig, VolumePages};
    use zorya_redo::byte_range::Encoder;
    use zorya_types::{BLOCK_SIZE, Epoch, FileKey, GroupId, LogId, Lsn};
    use zorya_wire::record::{CODEC_BYTE_RANGE, FLAG_CONSISTENCY_POINT};
    use zorya_wire::{GroupLink, Record, RecordBuilder};

    use super::super::core;
    use super::super::reads::SharedVolume;
    use super::*;

    const FLUSH_BYTES: u64 = 1 << 20;

    /// Applies whole blocks until the log has reached `upto`.
    fn write_upto(pages: &VolumePages, upto: u64) {
        while pages.applied().0 < upto {
            let (prev, mut encoder, mut out) = (pages.applied(), Encoder::new(), BytesMut::new());
            encoder.write(FileKey::inode(3), prev.0 / 8192 * 8192, &[7; BLOCK_SIZE]);
            let builder = RecordBuilder {
                flags: FLAG_CONSISTENCY_POINT,
                codec: CODEC_BYTE_RANGE,
                epoch: Epoch(1),
                start: prev,
                prev,
                stamp_us: prev.0,
                groups: &[GroupLink { group: GroupId(0), prev }],
                payload: &[encoder.payload()],
            };
            builder.encode(&mut out);
            pages.apply(&Record::decode(&mut out.freeze()).unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_compaction_rests_between_its_pieces_and_a_flush_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = PagesConfig { flush_bytes: FLUSH_BYTES, max_deltas: 4, ..PagesConfig::default() };
        let pages = Arc::new(VolumePages::open(dir.path(), VolumeId(1), LogId(1), config).unwrap());
        let shared = SharedVolume {
            pages: pages.clone(),
            promised: AtomicU64::new(1),
            applied: watch::Sender::new(Lsn::ZERO),
        };
        let volumes: SharedVolumes = Arc::new(RwLock::new(HashMap::from([(VolumeId(1), Arc::new(shared))])));
        let (events, _inbox) = core::channel();
        let mut resting = HashMap::new();
        let is_compacted = || pages.layers().iter().any(|layer| layer.level > 0);

        write_upto(&pages, 4 * FLUSH_BYTES + 20_000);
        let mut pause = Duration::ZERO;
        while pause.is_zero() {
            pause = round(&volumes, &events, &mut resting);
        }
        assert_eq!(pages.persisted(), Lsn(4 * FLUSH_BYTES));
        assert!(pause < Duration::from_secs(1) && !is_compacted(), "{pause:?}");

        let much_later = Instant::now() + Duration::from_secs(3600);
        resting.insert(VolumeId(1), much_later);
        for _ in 0..100 {
            assert!(!round(&volumes, &events, &mut resting).is_zero());
        }
        assert!(!is_compacted(), "a hundred pieces would be all of it");

        write_upto(&pages, 5 * FLUSH_BYTES + 20_000);
        round(&volumes, &events, &mut resting);
        assert_eq!(pages.persisted(), Lsn(5 * FLUSH_BYTES));
        while !is_compacted() {
            resting.clear();
            round(&volumes, &events, &mut resting);
        }
    }
}

//! The thread that turns the newest log into layers, and layers into fewer layers.

use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

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
        while !stop.is_cancelled() {
            let (more, failed) = round(&volumes, &events);
            let rest = if failed { AFTER_FAILURE } else { IDLE };
            if (failed || !more) && pause(rest) {
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

/// One piece of work for every volume; says whether there is more, and whether something failed.
fn round(volumes: &SharedVolumes, events: &Events) -> (bool, bool) {
    let targets: Vec<_> = volumes.read().iter().map(|(id, volume)| (*id, volume.clone())).collect();
    let (mut more, mut failed) = (false, false);
    for (volume, shared) in targets {
        let before = shared.pages.persisted();
        match shared.pages.work() {
            Ok(again) => more |= again,
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
    (more, failed)
}

fn report(volume: VolumeId, error: &zorya_pages::WorkError) {
    tracing::error!(%volume, %error, "layers cannot be written; reads and the log go on, the log grows meanwhile");
}

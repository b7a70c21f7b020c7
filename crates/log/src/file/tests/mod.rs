//! Tests of the whole log, on a real directory and on a disk in memory that loses, tears and fails.

mod damage;
mod direct;
mod directory;
mod failing_disk;
mod power_cut;
mod sim_disk;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use zorya_types::VolumeId;

use super::disk::Disk;
use super::*;

use sim_disk::SimDisk;

/// Long enough for any condition that a test waits for.
const LONG: Duration = Duration::from_secs(30);

/// An open log with what its open found and what it tells.
struct Opened {
    log: NodeLog,
    tail: Tail,
    found: Vec<Found>,
    events: Receiver<LogEvent>,
}

fn small_files() -> FileConfig {
    FileConfig {
        file_bytes: 64 << 10,
        spare_files: 1,
        linger: Duration::from_millis(1),
        max_pending_bytes: 1 << 20,
    }
}

/// Opens the log on a disk in memory, which notes what is reported durable.
fn open_sim(disk: &SimDisk, config: FileConfig) -> Result<Opened, OpenError> {
    let (sender, events) = channel();
    let mut found = Vec::new();
    let notes = disk.clone();
    let (log, tail) = NodeLog::open_on(
        Arc::new(disk.clone()),
        config,
        |entry| found.push(entry),
        move |event| {
            if let LogEvent::Durable(position) = event {
                notes.note_durable(position);
            }
            // The test may be over and not listen any more.
            let _ = sender.send(event);
        },
    )?;
    Ok(Opened { log, tail, found, events })
}

fn open_on(disk: Arc<dyn Disk>, config: FileConfig) -> Result<Opened, OpenError> {
    let (sender, events) = channel();
    let mut found = Vec::new();
    let (log, tail) = NodeLog::open_on(
        disk,
        config,
        |entry| found.push(entry),
        move |event| {
            // The test may be over and not listen any more.
            let _ = sender.send(event);
        },
    )?;
    Ok(Opened { log, tail, found, events })
}

impl Opened {
    fn append(&self, payload: &[u8], urgent: bool) -> Found {
        let pieces = [Bytes::copy_from_slice(payload)];
        let position = self.log.append(VolumeId(9), 4, &pieces, urgent).unwrap();
        self.log.hurry();
        Found { position, volume: VolumeId(9), kind: 4, payload: pieces[0].clone() }
    }

    /// Waits for an event that is not about durability.
    fn notable(&self) -> LogEvent {
        loop {
            match self.events.recv_timeout(LONG).unwrap() {
                LogEvent::Durable(_) => {}
                other => return other,
            }
        }
    }

    /// Waits until everything that was appended is durable.
    fn settle(&self) {
        let next = self.log.usage().next;
        while self.log.usage().durable < next {
            match self.events.recv_timeout(LONG).unwrap() {
                LogEvent::Durable(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

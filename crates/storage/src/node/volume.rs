//! One volume on a node: its log replica, where the replica's entries are in the node log, and its pages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use zorya_log::file::{NodeLog, Position};
use zorya_log::replica::{Entry, Piece, Replica, Seq};
use zorya_pages::ApplyError;
use zorya_types::{Lsn, Slot};
use zorya_wire::Record;

use super::disk::VolumeFile;
use super::reads::SharedVolume;

/// Where an entry of a replica is in the node log.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The replica's number for it.
    pub seq: Seq,
    /// Where it is.
    pub position: Position,
}

/// Pieces of the log that the pages are to apply, and up to where they reach.
#[derive(Debug)]
pub struct Delivery {
    /// In order, contiguous.
    pub pieces: VecDeque<Piece>,
    /// The position after the last of them.
    pub upto: Lsn,
}

/// Entries on their way to the log's head.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    /// Where the first of them was: it stays until the last one is on disk again.
    pub from: Position,
    /// Where the last one is now.
    pub last: Position,
}

/// A volume on this node.
pub struct VolumeHost {
    /// What is written down about it.
    pub file: VolumeFile,
    /// Which replica this is.
    pub slot: Slot,
    /// The pure core.
    pub replica: Replica,
    /// Entries in the node log, by rising seq; the front is dropped when the log releases it.
    pub stored: VecDeque<Stored>,
    /// Everything up to this seq is on disk, as the replica was told.
    pub durable_seq: Seq,
    /// A snapshot of the hard state that is not on disk yet.
    pub coming_snapshot: Option<Stored>,
    /// The newest snapshot of the hard state that is on disk: entries below it other than batches are not needed.
    pub snapshot: Option<Stored>,
    /// Batch entries below this seq are not needed any more.
    pub released: Seq,
    /// Entries that are being moved to the log's head; `None` once they are on disk there.
    pub moving: Option<Moving>,
    /// The replica knows something from beyond damage in the log: it is to be written down where it will be found.
    pub write_down_again: bool,
    /// Delivered by the replica, not yet applied to the pages.
    pub deliveries: VecDeque<Delivery>,
    /// What reads see.
    pub shared: Arc<SharedVolume>,
}

/// A stored batch could not be handed on.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// The entry is not in the node log.
    #[error("entry {0} is not in the node log any more")]
    Gone(Seq),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] zorya_log::file::ReadError),
    /// It is not records.
    #[error(transparent)]
    Record(#[from] zorya_wire::RecordError),
    /// The pages do not take it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl VolumeHost {
    /// Where an entry is.
    pub fn position(&self, seq: Seq) -> Option<Position> {
        let index = self.stored.binary_search_by_key(&seq, |stored| stored.seq).ok()?;
        Some(self.stored[index].position)
    }

    /// The lowest position of the node log that this volume needs; `None` if it needs nothing. Entries that were moved
    /// to the log's head come first and lie behind others, so all are looked at.
    pub fn lowest_needed(&self) -> Option<Position> {
        let stored = self.stored.iter().map(|stored| stored.position);
        let snapshot = self.snapshot.map(|stored| stored.position);
        stored.chain(snapshot).chain(self.moving.map(|moving| moving.from)).min()
    }

    /// Forgets entries that neither the log nor a restart needs: batches below `released`, and everything else below
    /// the newest snapshot. Only a prefix can go, since positions are released in order.
    pub fn forget_unneeded(&mut self) {
        let snapshot = self.snapshot.map_or(0, |stored| stored.seq);
        let needless = |stored: &Stored| stored.seq < self.released.min(snapshot);
        while self.stored.front().is_some_and(needless) {
            self.stored.pop_front();
        }
    }

    /// Reads stored records.
    pub fn read(&self, log: &NodeLog, (seq, skip, take): Piece) -> Result<Bytes, PieceError> {
        let position = self.position(seq).ok_or(PieceError::Gone(seq))?;
        Ok(log.read_range(position, Entry::BATCH_HEADER_LEN + skip, take)?)
    }

    /// Joins stored records into one run of bytes.
    pub fn read_all(&self, log: &NodeLog, pieces: &[Piece]) -> Result<Bytes, PieceError> {
        if let [piece] = pieces {
            return self.read(log, *piece);
        }
        let mut joined = BytesMut::new();
        for piece in pieces {
            joined.extend_from_slice(&self.read(log, *piece)?);
        }
        Ok(joined.freeze())
    }

    /// Applies delivered records to the pages, until their index is full; then [`VolumeHost::apply_deliveries`] goes on
    /// where it stopped, once layers were written.
    pub fn apply_deliveries(&mut self, log: &NodeLog) -> Result<(), PieceError> {
        while let Some(mut delivery) = self.deliveries.pop_front() {
            while let Some(piece) = delivery.pieces.pop_front() {
                let Err(error) = self.apply(log, piece) else { continue };
                delivery.pieces.push_front(piece);
                self.deliveries.push_front(delivery);
                return match error {
                    PieceError::Apply(ApplyError::Backlog) => Ok(()),
                    error => Err(error),
                };
            }
            self.shared.pages.advance(delivery.upto);
            self.shared.applied.send_replace(self.shared.pages.applied());
        }
        Ok(())
    }

    fn apply(&self, log: &NodeLog, piece: Piece) -> Result<(), PieceError> {
        let mut bytes = self.read(log, piece)?;
        while !bytes.is_empty() {
            let record = Record::decode(&mut bytes)?;
            if record.header.lsn > self.shared.pages.applied() {
                self.shared.pages.apply(&record)?;
            }
        }
        Ok(())
    }

    /// Shows the replica's promise to reads.
    pub fn publish(&self) {
        self.shared.promised.store(self.replica.promised().0, Ordering::Release);
        self.shared.pages.set_gc(self.replica.told().gc);
    }
}

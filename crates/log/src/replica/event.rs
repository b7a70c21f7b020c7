//! What happens to a replica and what it asks its driver to do.

use bytes::Bytes;
use zorya_types::{Lsn, Slot};
use zorya_wire::message::log::{LogRequest, LogResponse, Records};

use super::{Entry, Origin, Piece, Seq};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A writer, an opener or a peer asks something.
    Request {
        /// The connection that it came on.
        from: Origin,
        /// The request's id on that connection.
        id: u64,
        /// The request.
        request: LogRequest,
    },
    /// The answer to an [`Effect::Ask`].
    PeerResponse {
        /// Who was asked.
        peer: Slot,
        /// The answer.
        response: LogResponse,
    },
    /// Every entry up to `seq` is on disk.
    Durable {
        /// The newest one.
        seq: Seq,
    },
    /// The disk takes nothing any more. Final, unless it is only full: then the driver keeps the entries that it was
    /// handed, in order, and writes them once there is room.
    DiskFailed {
        /// What happened and what to do.
        reason: String,
        /// The disk is full and sound.
        full: bool,
    },
    /// There is room again.
    DiskRecovered,
    /// This node's pages of the volume are in layers up to here.
    Persisted {
        /// The position, over all of the volume's groups.
        lsn: Lsn,
    },
    /// A connection ended: nobody waits for its answers.
    Disconnected {
        /// The connection.
        from: Origin,
    },
    /// Write a snapshot, so that older entries can go.
    Checkpoint,
    /// Time passed: every 50 to 100 ms.
    Tick,
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put the entry on disk and say [`Input::Durable`].
    Persist {
        /// Its number, one higher than the last.
        seq: Seq,
        /// The entry.
        entry: Entry,
        /// Somebody waits: sync now.
        urgent: bool,
    },
    /// Answer a request.
    Reply {
        /// The connection.
        to: Origin,
        /// The request's id.
        id: u64,
        /// The answer.
        response: LogResponse,
    },
    /// Answer a fetch with bytes from the disk.
    Serve {
        /// The connection.
        to: Origin,
        /// The request's id.
        id: u64,
        /// The answer's body.
        body: Records,
        /// Where its records are.
        pieces: Vec<Piece>,
    },
    /// Ask a peer; the answer is an [`Input::PeerResponse`]. May be lost.
    Ask {
        /// Whom.
        peer: Slot,
        /// What.
        request: LogRequest,
    },
    /// Give these records to the pages, in order: durable everywhere they must be, each delivered once.
    Deliver {
        /// Where they are.
        pieces: Vec<Piece>,
        /// The last one's LSN.
        upto: Lsn,
    },
    /// Batches below this entry are not needed by the log any more.
    Release {
        /// The lowest one that is.
        below: Seq,
    },
}

impl Effect {
    /// An answer.
    pub(super) fn reply(to: Origin, id: u64, response: impl Into<LogResponse>) -> Effect {
        Effect::Reply { to, id, response: response.into() }
    }

    /// The bytes of a piece, of the entry's records that it is in; `None` if they are shorter.
    #[must_use]
    pub fn slice(records: &Bytes, piece: Piece) -> Option<Bytes> {
        let (from, to) = (piece.1 as usize, piece.1 as usize + piece.2 as usize);
        (to <= records.len()).then(|| records.slice(from..to))
    }
}

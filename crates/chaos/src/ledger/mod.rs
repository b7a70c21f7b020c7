//! What clients did and what they were told.
//!
//! Every transaction inserts a *mark* (client, sequence) that is never changed, besides its rows; so whether it
//! committed can be read off the database. A client's transactions touch only its own rows, one after the other, so
//! replaying the marked ones in order gives exactly the rows that must be there ([`judge`]).

mod content;
mod judge;

pub use content::{Content, payload};
pub use judge::{Observed, Verdict, judge};

/// A row's identity: client, the sequence of the transaction that inserted it, number within that transaction.
pub type RowId = (u32, u32, u32);

/// What a transaction does to one row of its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new row, version 0.
    Insert {
        /// The row.
        row: RowId,
        /// Bytes of its payload.
        bytes: u32,
    },
    /// Another content, whatever the row held.
    Update {
        /// The row; nothing happens if it is not there.
        row: RowId,
        /// The new version.
        version: u32,
        /// Bytes of its payload.
        bytes: u32,
    },
    /// The row's end.
    Delete {
        /// The row; nothing happens if it is not there.
        row: RowId,
    },
}

impl Change {
    /// The row.
    #[must_use]
    pub fn row(&self) -> RowId {
        match self {
            Change::Insert { row, .. } | Change::Update { row, .. } | Change::Delete { row } => *row,
        }
    }
}

/// What a client knows about the end of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// COMMIT was answered: it must be there for ever.
    Acknowledged,
    /// It was rolled back, or COMMIT was never sent: it must never be there.
    Aborted,
    /// COMMIT was sent and no answer came: either, but wholly.
    Unknown,
}

/// One transaction of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its client.
    pub client: u32,
    /// Its number; a client's numbers ascend.
    pub sequence: u32,
    /// What it does, in order.
    pub changes: Vec<Change>,
    /// How it ended, as far as the client knows.
    pub outcome: Outcome,
}

/// Everything that the clients of one round did.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// In the order of each client's sequence.
    pub transactions: Vec<Transaction>,
}

impl Ledger {
    /// How many ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.transactions.iter().filter(|transaction| transaction.outcome == outcome).count() as u64
    }

    /// Takes over what a verification has seen: an unknown transaction that is there must stay, one that is not must
    /// never come. Only right once no session of the clients is left that could still commit.
    pub fn settle(&mut self, observed: &Observed) {
        for transaction in self.transactions.iter_mut().filter(|t| t.outcome == Outcome::Unknown) {
            let there = observed.marks.contains(&(transaction.client, transaction.sequence));
            transaction.outcome = if there { Outcome::Acknowledged } else { Outcome::Aborted };
        }
    }
}

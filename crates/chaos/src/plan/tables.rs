//! The tables of one round's load.

/// What an engine makes wholly or not at all in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A transaction of several statements.
    Transaction,
    /// Each statement for itself; there is no rollback.
    Statement,
}

/// The tables of one ledger of a round: rows, and marks of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The round's number.
    pub number: u64,
    /// What is whole in them.
    pub unit: Unit,
}

impl Tables {
    /// The table of marks, of transactions: a statement's mark is a row that it inserts.
    #[must_use]
    pub fn marks(self) -> String {
        format!("chaos_marks_{}", self.number)
    }

    /// The table of rows.
    #[must_use]
    pub fn rows(self) -> String {
        match self.unit {
            Unit::Transaction => format!("chaos_rows_{}", self.number),
            Unit::Statement => format!("chaos_statements_{}", self.number),
        }
    }
}

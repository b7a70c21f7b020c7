//! What must hold, one file each, named as a sentence. All judge the run from outside, by the [`crate::ledger`].

mod a_writer_is_opened_only_after_the_lease_of_the_one_before;
mod acknowledged_records_are_on_a_write_quorum;
mod acknowledged_records_survive;
mod positions_stay_in_order;
mod replicas_deliver_one_history;

use std::fmt;

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What must hold.
    pub invariant: &'static str,
    /// What was seen instead.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

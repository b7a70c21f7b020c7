//! What clients write: pure, from their numbers and from what they wrote before.
//!
//! * [`planner`]: a client's choices.
//! * [`tables`]: a round's tables, and what is whole in them.
//! * [`sql`]: the parts of a plan's statements that every engine understands. How they make a transaction with its mark,
//!   each engine says itself ([`crate::engine`]).

mod planner;
pub mod sql;
mod tables;

pub use planner::{Ending, Plan, Planner};
pub use tables::{Tables, Unit};

//! The benchmark behind `zorya bench`: a region and stock servers on the same disk, measured in turns.
//!
//! Absolute rates drift with the machine, so the two sides take short *slices* of the same work alternately, each after a
//! checkpoint and once both servers of the engine are quiet, and what is reported are ratios of medians ([`statistics`]). A slice
//! carries, beside its rate and latencies ([`clients`]), what each process of its side spent ([`process`]).
//!
//! All servers are made for the run, in a directory of their own, and are gone after it, whether it succeeds, fails or is
//! interrupted; only a kill -9 of the benchmark itself leaves them running.

pub mod clients;
pub mod disk;
pub mod figures;
pub mod machine;
mod options;
pub mod process;
pub mod region;
mod report;
mod run;
pub mod slice;
pub mod startup;
pub mod statistics;
pub mod stock;
pub mod stop;
pub mod target;

pub use options::BenchArgs;
pub use report::{Figure, Report};
pub use run::{BenchError, run};

//! The names of the log's files.

const SUFFIX: &str = ".log";
const SPARE: &str = "spare-";
const UNFINISHED: &str = "new-";

/// The name of a file of the log.
pub(super) fn log_name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

/// The number of a file of the log, by its name.
pub(super) fn log_number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// The name of a file that is ready to be used: of its final length and written once.
pub(super) fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:016}")
}

/// The name of a file that is being written for the first time.
pub(super) fn unfinished_name(number: u64) -> String {
    format!("{UNFINISHED}{number:016}")
}

/// Whether its making was interrupted.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

/// The number of a spare, by its name.
pub(super) fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix(SPARE)?.parse().ok()
}

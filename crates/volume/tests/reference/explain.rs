//! Which states a crash may leave.
//!
//! A record is wholly there or not at all, and what is there is a prefix of the log. So the state is the one before or
//! after some operation, or, within an operation that is several records, a state on the way:
//!
//! - bytes that were written with one system call arrive in order: the file is new up to some byte and old from there.
//!   A file written in pages is cut at a boundary of 8 KiB only;
//! - memory pages that were changed through a mapping arrive one by one, in any order.

use super::content::Content;
use super::operation::{Operation, Writing};
use super::tree::{Entry, Times, Tree};

const PAGE: u64 = 8192;

/// How the bytes of a file may be found between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Never.
    Atomic,
    /// New up to some byte.
    Cut,
    /// New up to some boundary of 8 KiB.
    CutAtPage,
    /// Some memory pages old, some new.
    Mixed,
}

impl Between {
    /// What an operation allows. `paged`: the file can only have been written in pages.
    pub fn of(operation: &Operation, paged: bool) -> Between {
        match operation {
            Operation::Write { writing: Writing::Mapped | Writing::MappedAndSynced, .. } => Between::Mixed,
            Operation::Write { .. } if paged => Between::CutAtPage,
            Operation::Write { .. } | Operation::CopyRange { .. } | Operation::SendFile { .. } => {
                Between::Cut
            }
            _ => Between::Atomic,
        }
    }

    fn admits(self, found: &Content, before: &Content, after: &Content) -> bool {
        if found == before || found == after {
            return true;
        }
        match self {
            Between::Atomic => false,
            // What is written through a mapping makes no file longer.
            Between::Mixed => found.len() == before.len() && found.is_mixed_of(before, after),
            Between::Cut | Between::CutAtPage => {
                // New up to the cut, old from there: what differs from the old lies before it, what differs from the
                // new behind it.
                let least = found.end_of_difference(before);
                let most = found.first_difference(after).unwrap_or(u64::MAX);
                let (least, most) = if found.len() == before.len() {
                    (least, most)
                } else {
                    // Longer than before: the cut is its end.
                    (least.max(found.len()), most.min(found.len()))
                };
                let boundary = least.div_ceil(PAGE) * PAGE;
                least <= most && (self == Between::Cut || boundary <= most)
            }
        }
    }
}

/// Why `found` is not a state that a crash between `before` and `after` may leave; empty if it is one.
pub fn unexplained(found: &Tree, before: &Tree, after: &Tree, between: Between) -> Vec<String> {
    let as_after = found.differences(after, Times::MayBeOld);
    if as_after.is_empty() || found.differences(before, Times::MayBeOld).is_empty() {
        return Vec::new();
    }
    if between == Between::Atomic || found.entries.keys().ne(after.entries.keys()) {
        return as_after;
    }
    let mut reasons = Vec::new();
    for (path, entry) in &found.entries {
        let (Some(old), Some(new)) = (before.entries.get(path), after.entries.get(path)) else {
            return as_after;
        };
        if !same_but_content(entry, old, new) || !between.admits(&entry.content, &old.content, &new.content) {
            reasons
                .push(format!("{path}: neither as before nor as after nor on the way: {:?}", entry.content));
        }
    }
    reasons
}

fn same_but_content(entry: &Entry, old: &Entry, new: &Entry) -> bool {
    [old, new].iter().any(|state| entry.differences_but_content(state, Times::MayBeOld).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pieces: &[(u8, usize)]) -> Content {
        let bytes: Vec<u8> = pieces.iter().flat_map(|&(byte, len)| std::iter::repeat_n(byte, len)).collect();
        Content::read(bytes.len() as u64, |buffer, at| {
            buffer.copy_from_slice(&bytes[at as usize..at as usize + buffer.len()]);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn what_a_crash_may_leave_of_a_write() {
        let before = content(&[(1, 20_000)]);
        let after = content(&[(1, 100), (2, 29_900)]);
        for (found, cut, at_page, mixed) in [
            (content(&[(1, 100), (2, 900), (1, 19_000)]), true, false, false),
            (content(&[(1, 100), (2, 8092), (1, 11_808)]), true, true, true),
            (content(&[(1, 100), (2, 24_476)]), true, true, false),
            (content(&[(1, 100), (2, 24_000)]), true, false, false),
            (content(&[(1, 4096), (2, 15_904)]), false, false, false),
            (content(&[(1, 100), (3, 900), (1, 19_000)]), false, false, false),
            (content(&[(1, 20_000), (0, 10_000)]), false, false, false),
            (before.clone(), true, true, true),
            (after.clone(), true, true, true),
        ] {
            for (between, expected) in
                [(Between::Cut, cut), (Between::CutAtPage, at_page), (Between::Mixed, mixed)]
            {
                assert_eq!(between.admits(&found, &before, &after), expected, "{between:?} {found:?}");
            }
        }
    }
}

//! The last record of every protection group: what the next one in it links to.

use std::collections::HashMap;

use zorya_types::{GroupId, Lsn};
use zorya_wire::GroupLink;

/// The groups' last records.
#[derive(Debug, Default)]
pub(super) struct GroupTails {
    last: HashMap<GroupId, Lsn>,
}

impl GroupTails {
    pub fn set(&mut self, tails: Vec<(GroupId, Lsn)>) {
        self.last = tails.into_iter().collect();
    }

    pub fn link(&mut self, groups: &[GroupId], lsn: Lsn, out: &mut Vec<GroupLink>) {
        for group in groups {
            let prev = self.last.insert(*group, lsn).unwrap_or(Lsn::ZERO);
            out.push(GroupLink { group: *group, prev });
        }
    }
}

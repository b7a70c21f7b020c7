//! What a client does next: pure, from its numbers and from what it wrote before.

use crate::ledger::{Change, Content, RowId};
use crate::load::Tables;
use crate::seed::Numbers;

/// How a transaction is meant to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// BEGIN, statements, COMMIT.
    Commit,
    /// One statement without BEGIN, that commits itself.
    Alone,
    /// BEGIN, statements, ROLLBACK: must never be there.
    Rollback,
}

/// A transaction to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub sequence: u32,
    /// Its changes.
    pub changes: Vec<Change>,
    /// How it is meant to end.
    pub ending: Ending,
}

/// One client's choices.
#[derive(Debug)]
pub struct Planner {
    client: u32,
    sequence: u32,
    version: u32,
    numbers: Numbers,
    /// Rows that it inserted for certain and did not delete.
    rows: Vec<RowId>,
    large: bool,
}

/// Rows that a client remembers for updates and deletes.
const REMEMBERED: usize = 400;

impl Planner {
    /// The choices of a client.
    #[must_use]
    pub fn new(client: u32, seed: u64, large: bool) -> Planner {
        let numbers = Numbers::from_seed(crate::seed::mix(seed) ^ u64::from(client));
        Planner { client, sequence: 0, version: 0, numbers, rows: Vec::new(), large }
    }

    /// The next transaction.
    pub fn next(&mut self) -> Plan {
        self.sequence += 1;
        let ending = match self.numbers.below(20) {
            0 => Ending::Rollback,
            1..=4 => Ending::Alone,
            _ => Ending::Commit,
        };
        let mut changes: Vec<Change> =
            (0..self.numbers.between(1, 3)).map(|part| self.insert(part as u32)).collect();
        if ending != Ending::Alone {
            changes.extend(self.change_old());
        }
        Plan { sequence: self.sequence, changes, ending }
    }

    /// Remembers the rows of a plan that was acknowledged, to change them later. Never those of one of unknown outcome:
    /// it may still be on its way and come after the change, and then replaying the ledger in order would be wrong.
    pub fn remember(&mut self, plan: &Plan) {
        let inserted = plan.changes.iter().filter_map(|change| match change {
            Change::Insert { row, .. } => Some(*row),
            _ => None,
        });
        self.rows.extend(inserted);
        if self.rows.len() > REMEMBERED {
            self.rows.drain(..REMEMBERED / 2);
        }
    }

    fn insert(&mut self, part: u32) -> Change {
        Change::Insert { row: (self.client, self.sequence, part), bytes: self.bytes() }
    }

    fn bytes(&mut self) -> u32 {
        let (first, last) = match self.numbers.below(100) {
            _ if self.large => (60_000, 120_000),
            0..=89 => (20, 300),
            90..=97 => (1000, 2000),
            // Beyond a page: stored out of line.
            _ => (9000, 20_000),
        };
        self.numbers.between(first, last) as u32
    }

    /// Sometimes an update, a delete, or both, of different rows.
    fn change_old(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.rows.is_empty() && self.numbers.chance(40) {
            let row = *self.numbers.pick(&self.rows);
            self.version += 1;
            changes.push(Change::Update { row, version: self.version, bytes: self.bytes() });
        }
        if self.rows.len() > 1 && self.numbers.chance(10) {
            let at = self.numbers.below(self.rows.len() as u64) as usize;
            changes.push(Change::Delete { row: self.rows.swap_remove(at) });
        }
        changes
    }
}

impl Plan {
    /// Everything before COMMIT or ROLLBACK; or, for [`Ending::Alone`], the one statement.
    #[must_use]
    pub fn statements(&self, client: u32, tables: Tables) -> String {
        let mark = format!("INSERT INTO {} VALUES ({client}, {})", tables.marks(), self.sequence);
        let inserts: Vec<_> = self.changes.iter().filter_map(values).collect();
        let inserts = format!("INSERT INTO {} VALUES {}", tables.rows(), inserts.join(", "));
        if self.ending == Ending::Alone {
            return format!("WITH mark AS ({mark}) {inserts}");
        }
        let others: String = self.changes.iter().filter_map(|change| other(change, tables)).collect();
        format!("BEGIN; {mark}; {inserts}; {others}")
    }
}

fn values(change: &Change) -> Option<String> {
    let Change::Insert { row, bytes } = change else { return None };
    let content = Content::of(*row, 0, *bytes);
    let (client, sequence, part) = row;
    Some(format!("({client}, {sequence}, {part}, 0, '{}', {})", content.payload, content.checksum))
}

fn other(change: &Change, tables: Tables) -> Option<String> {
    let place = |(client, sequence, part): &RowId| {
        format!("WHERE client = {client} AND sequence = {sequence} AND part = {part}")
    };
    match change {
        Change::Insert { .. } => None,
        Change::Update { row, version, bytes } => {
            let content = Content::of(*row, *version, *bytes);
            let set = format!(
                "version = {version}, payload = '{}', checksum = {}",
                content.payload, content.checksum
            );
            Some(format!("UPDATE {} SET {set} {}; ", tables.rows(), place(row)))
        }
        Change::Delete { row } => Some(format!("DELETE FROM {} {}; ", tables.rows(), place(row))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_transactions_and_all_kinds_of_them() {
        let (mut one, mut two) = (Planner::new(3, 9, false), Planner::new(3, 9, false));
        let acknowledged = |planner: &mut Planner| {
            let plan = planner.next();
            planner.remember(&plan);
            plan
        };
        let plans: Vec<_> = (0..500).map(|_| acknowledged(&mut one)).collect();
        assert!(plans.iter().all(|plan| *plan == acknowledged(&mut two)));
        for ending in [Ending::Commit, Ending::Alone, Ending::Rollback] {
            assert!(plans.iter().any(|plan| plan.ending == ending), "{ending:?}");
        }
        let changes: Vec<_> = plans.iter().flat_map(|plan| &plan.changes).collect();
        assert!(changes.iter().any(|change| matches!(change, Change::Update { .. })));
        assert!(changes.iter().any(|change| matches!(change, Change::Delete { .. })));
        let alone = plans.iter().filter(|plan| plan.ending == Ending::Alone);
        assert!(alone.flat_map(|plan| &plan.changes).all(|change| matches!(change, Change::Insert { .. })));
    }

    #[test]
    fn statements_leave_the_end_to_the_client() {
        let tables = Tables { number: 4 };
        let mut planner = Planner::new(0, 1, false);
        for _ in 0..50 {
            let plan = planner.next();
            let text = plan.statements(0, tables);
            assert!(!text.contains("COMMIT") && !text.contains("ROLLBACK"));
            assert_eq!(text.starts_with("BEGIN; "), plan.ending != Ending::Alone);
            assert!(text.contains("chaos_marks_4") && text.contains("chaos_rows_4"));
        }
    }
}

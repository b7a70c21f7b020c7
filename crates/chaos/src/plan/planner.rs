//! What a client does next.

use super::Unit;
use crate::ledger::{Change, RowId};
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
    unit: Unit,
    large: bool,
}

/// Rows that a client remembers for updates and deletes.
const REMEMBERED: usize = 400;

impl Planner {
    /// The choices of a client.
    #[must_use]
    pub fn new(client: u32, seed: u64, unit: Unit, large: bool) -> Planner {
        let numbers = Numbers::from_seed(crate::seed::mix(seed) ^ u64::from(client));
        Planner { client, sequence: 0, version: 0, numbers, rows: Vec::new(), unit, large }
    }

    /// The next transaction, or with [`Unit::Statement`] the next statement. It inserts at least the row of part 0.
    pub fn next_plan(&mut self) -> Plan {
        self.sequence += 1;
        let ending = match (self.unit, self.numbers.below(20)) {
            (Unit::Statement, _) | (_, 1..=4) => Ending::Alone,
            (_, 0) => Ending::Rollback,
            _ => Ending::Commit,
        };
        let mut changes: Vec<Change> =
            (0..self.numbers.between(1, 3)).map(|part| self.insert(part as u32)).collect();
        match self.unit {
            Unit::Transaction if ending == Ending::Alone => {}
            Unit::Transaction => {
                changes.extend(self.update_old());
                changes.extend(self.delete_old());
            }
            // What it inserted is its mark and must stay.
            Unit::Statement => changes.extend(self.update_old()),
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

    /// Never again touches the rows of a plan of unknown outcome: a statement that changes them may still be on its way.
    pub fn forget(&mut self, plan: &Plan) {
        let touched = |row: &RowId| plan.changes.iter().any(|change| change.row() == *row);
        self.rows.retain(|row| !touched(row));
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

    /// Sometimes another content for an old row.
    fn update_old(&mut self) -> Option<Change> {
        if self.rows.is_empty() || !self.numbers.chance(40) {
            return None;
        }
        let row = *self.numbers.pick(&self.rows);
        self.version += 1;
        Some(Change::Update { row, version: self.version, bytes: self.bytes() })
    }

    /// Sometimes the end of an old row.
    fn delete_old(&mut self) -> Option<Change> {
        if self.rows.len() <= 1 || !self.numbers.chance(10) {
            return None;
        }
        let at = self.numbers.below(self.rows.len() as u64) as usize;
        Some(Change::Delete { row: self.rows.swap_remove(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner() -> Planner {
        Planner::new(3, 9, Unit::Transaction, false)
    }

    #[test]
    fn a_seed_makes_the_same_transactions_and_all_kinds_of_them() {
        let (mut one, mut two) = (planner(), planner());
        let acknowledged = |planner: &mut Planner| {
            let plan = planner.next_plan();
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
    fn rows_of_unknown_outcome_are_not_touched_again() {
        let mut planner = planner();
        let mut unknown = Vec::new();
        for _ in 0..500 {
            let plan = planner.next_plan();
            let touched: Vec<_> = plan.changes.iter().map(Change::row).collect();
            assert!(touched.iter().all(|row| !unknown.contains(row)));
            if plan.sequence.is_multiple_of(7) {
                planner.forget(&plan);
                unknown.extend(touched);
            } else {
                planner.remember(&plan);
            }
        }
    }

    #[test]
    fn single_statements_always_insert_and_never_delete() {
        let mut planner = Planner::new(8, 5, Unit::Statement, false);
        let mut updates = 0;
        for _ in 0..500 {
            let plan = planner.next_plan();
            planner.remember(&plan);
            assert_eq!(plan.ending, Ending::Alone);
            assert!(matches!(plan.changes[0], Change::Insert { row: (8, _, 0), .. }));
            assert!(!plan.changes.iter().any(|change| matches!(change, Change::Delete { .. })));
            updates += plan.changes.iter().filter(|c| matches!(c, Change::Update { .. })).count();
        }
        assert!(updates > 100);
    }
}

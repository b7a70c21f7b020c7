//! MariaDB's tables and statements.
//!
//! No statement of MariaDB writes to two tables; so a trigger inserts a transaction's mark with the row of part 0. The Aria
//! table has neither transactions nor marks: each of its statements inserts rows and by the same statement updates an old
//! one. The column `born` holds the number of the statement that made the row.

use super::DATABASE;
use crate::ledger::Change;
use crate::plan::{Ending, Plan, Tables, Unit, sql};

/// A table's full name.
pub(super) fn place(table: &str) -> String {
    format!("{DATABASE}.{table}")
}

/// The script that makes the tables.
pub(super) fn creation(tables: Tables) -> String {
    let rows = place(&tables.rows());
    let columns = "client INT NOT NULL, sequence INT NOT NULL, part INT NOT NULL, version INT NOT NULL, \
                   payload LONGTEXT CHARACTER SET ascii NOT NULL, checksum BIGINT NOT NULL";
    let keys = "PRIMARY KEY (client, sequence, part), KEY checksum (checksum)";
    let database = format!("CREATE DATABASE IF NOT EXISTS {DATABASE}");
    match tables.unit {
        Unit::Statement => format!(
            "{database};
             CREATE TABLE {rows} ({columns}, born INT NOT NULL, {keys}) ENGINE=Aria TRANSACTIONAL=1"
        ),
        Unit::Transaction => {
            let (marks, trigger) = (place(&tables.marks()), place(&format!("chaos_mark_{}", tables.number)));
            format!(
                "{database};
                 CREATE TABLE {marks} (client INT NOT NULL, sequence INT NOT NULL, PRIMARY KEY (client, sequence))
                     ENGINE=InnoDB;
                 CREATE TABLE {rows} ({columns}, {keys}) ENGINE=InnoDB;
                 CREATE TRIGGER {trigger} AFTER INSERT ON {rows} FOR EACH ROW
                     IF NEW.part = 0 THEN INSERT INTO {marks} VALUES (NEW.client, NEW.sequence); END IF"
            )
        }
    }
}

/// The script that removes them.
pub(super) fn removal(tables: Tables) -> String {
    match tables.unit {
        Unit::Transaction => format!("DROP TABLE {}, {}", place(&tables.marks()), place(&tables.rows())),
        Unit::Statement => format!("DROP TABLE {}", place(&tables.rows())),
    }
}

/// A plan's statements but its end.
pub(super) fn of(plan: &Plan, client: u32, tables: Tables) -> String {
    debug_assert!(plan.changes.iter().all(|change| change.row().0 == client));
    let rows = place(&tables.rows());
    match (tables.unit, plan.ending) {
        (Unit::Statement, _) => insert_or_update(&rows, plan),
        (Unit::Transaction, Ending::Alone) => sql::insert_rows(&rows, &plan.changes),
        (Unit::Transaction, _) => {
            let inserts = sql::insert_rows(&rows, &plan.changes);
            format!("BEGIN; {inserts}; {}", sql::change_rows(&rows, &plan.changes))
        }
    }
}

/// One statement for inserts and updates. Should a row to be updated be gone, it would be made anew, and tell it by when
/// it was born.
fn insert_or_update(rows: &str, plan: &Plan) -> String {
    let tuple = |change: &Change| sql::values(change).map(|values| format!("({values}, {})", plan.sequence));
    let tuples: Vec<_> = plan.changes.iter().filter_map(tuple).collect();
    format!(
        "INSERT INTO {rows} VALUES {} ON DUPLICATE KEY UPDATE \
         version = VALUES(version), payload = VALUES(payload), checksum = VALUES(checksum)",
        tuples.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Planner;

    fn statements(unit: Unit) -> Vec<(Plan, String)> {
        let tables = Tables { number: 4, unit };
        let mut planner = Planner::new(3, 1, unit, false);
        let mut next = || {
            let plan = planner.next_plan();
            planner.remember(&plan);
            let text = of(&plan, 3, tables);
            (plan, text)
        };
        (0..50).map(|_| next()).collect()
    }

    #[test]
    fn transactions_leave_the_end_to_the_client() {
        for (plan, text) in statements(Unit::Transaction) {
            assert!(!text.contains("COMMIT") && !text.contains("ROLLBACK"));
            assert_eq!(text.starts_with("BEGIN; "), plan.ending != Ending::Alone);
            assert!(text.contains("chaos.chaos_rows_4"), "{text}");
        }
    }

    #[test]
    fn a_statement_in_aria_is_one_statement() {
        let all = statements(Unit::Statement);
        for (plan, text) in &all {
            assert!(!text.contains(';') && text.contains("chaos.chaos_statements_4"), "{text}");
            assert!(text.contains(&format!(", {})", plan.sequence)), "{text}");
        }
        assert!(all.iter().any(|(plan, _)| plan.changes.iter().any(|c| matches!(c, Change::Update { .. }))));
    }
}

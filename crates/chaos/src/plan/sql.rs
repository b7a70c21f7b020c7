//! Statements in the SQL that every engine understands.

use crate::ledger::{Change, Content, RowId};

/// Inserts a transaction's mark.
#[must_use]
pub fn insert_mark(marks: &str, client: u32, sequence: u32) -> String {
    format!("INSERT INTO {marks} VALUES ({client}, {sequence})")
}

/// Inserts all new rows of a plan.
#[must_use]
pub fn insert_rows(rows: &str, changes: &[Change]) -> String {
    let inserts = changes.iter().filter(|change| matches!(change, Change::Insert { .. }));
    let tuples: Vec<_> = inserts.filter_map(values).map(|values| format!("({values})")).collect();
    format!("INSERT INTO {rows} VALUES {}", tuples.join(", "))
}

/// Updates and deletes, each ended by a semicolon.
#[must_use]
pub fn change_rows(rows: &str, changes: &[Change]) -> String {
    changes.iter().filter_map(|change| change_row(rows, change)).collect()
}

/// What a row holds after an insert or update, in the order of the columns: client, sequence, part, version, payload,
/// checksum. `None` for a delete.
#[must_use]
pub fn values(change: &Change) -> Option<String> {
    let (row, version, bytes) = match change {
        Change::Insert { row, bytes } => (row, 0, bytes),
        Change::Update { row, version, bytes } => (row, *version, bytes),
        Change::Delete { .. } => return None,
    };
    let content = Content::of(*row, version, *bytes);
    let (client, sequence, part) = row;
    Some(format!("{client}, {sequence}, {part}, {version}, '{}', {}", content.payload, content.checksum))
}

fn change_row(rows: &str, change: &Change) -> Option<String> {
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
            Some(format!("UPDATE {rows} SET {set} {}; ", place(row)))
        }
        Change::Delete { row } => Some(format!("DELETE FROM {rows} {}; ", place(row))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_the_statement_of_its_kind_and_only_there() {
        let changes = [
            Change::Insert { row: (1, 2, 0), bytes: 3 },
            Change::Insert { row: (1, 2, 1), bytes: 3 },
            Change::Update { row: (1, 1, 0), version: 4, bytes: 5 },
            Change::Delete { row: (1, 1, 1) },
        ];
        let inserts = insert_rows("t", &changes);
        assert!(inserts.starts_with("INSERT INTO t VALUES (1, 2, 0, 0, '"), "{inserts}");
        assert_eq!(inserts.matches('(').count(), 2);
        let others = change_rows("t", &changes);
        assert!(others.starts_with("UPDATE t SET version = 4, payload = '"), "{others}");
        let delete = "DELETE FROM t WHERE client = 1 AND sequence = 1 AND part = 1; ";
        assert!(others.ends_with(delete), "{others}");
        assert_eq!(insert_mark("m", 1, 2), "INSERT INTO m VALUES (1, 2)");
    }
}

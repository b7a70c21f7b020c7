//! The judgement: what a ledger says must be there, against what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Content, Ledger, Outcome, RowId, Transaction};

/// What one snapshot of the database holds.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The marks: (client, sequence).
    pub marks: BTreeSet<(u32, u32)>,
    /// The rows.
    pub rows: BTreeMap<RowId, Content>,
    /// Marks or rows that were there more than once.
    pub twice: Vec<String>,
}

impl Observed {
    /// Adds a mark.
    pub fn add_mark(&mut self, id: (u32, u32)) {
        if !self.marks.insert(id) {
            self.twice.push(format!("mark {id:?}"));
        }
    }

    /// Adds a row.
    pub fn add_row(&mut self, id: RowId, content: Content) {
        if self.rows.insert(id, content).is_some() {
            self.twice.push(format!("row {id:?}"));
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged transactions, and rows or contents that must be there and are not.
    pub lost: Vec<String>,
    /// What must not be there and is.
    pub extra: Vec<String>,
    /// Transactions of unknown outcome that turned out to be committed.
    pub unknown_committed: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.extra.is_empty()
    }
}

/// Judges a snapshot by the ledger.
#[must_use]
pub fn judge(ledger: &Ledger, observed: &Observed) -> Verdict {
    let mut verdict = Verdict::default();
    let mut expected = BTreeMap::new();
    let mut known = BTreeSet::new();
    for transaction in &ledger.transactions {
        let id = (transaction.client, transaction.sequence);
        known.insert(id);
        if judge_mark(transaction, observed.marks.contains(&id), &mut verdict) {
            transaction.changes.iter().for_each(|change| apply(*change, &mut expected));
        }
    }
    let strangers = observed.marks.difference(&known);
    verdict.extra.extend(strangers.map(|id| format!("transaction {id:?} is there and nobody began it")));
    verdict.extra.extend(observed.twice.iter().map(|what| format!("{what} is there more than once")));
    judge_rows(&expected, &observed.rows, &mut verdict);
    verdict
}

/// Whether the transaction is there, and whether that is right.
fn judge_mark(transaction: &Transaction, there: bool, verdict: &mut Verdict) -> bool {
    let id = (transaction.client, transaction.sequence);
    match (transaction.outcome, there) {
        (Outcome::Acknowledged, false) => verdict.lost.push(format!("transaction {id:?} was acknowledged")),
        (Outcome::Aborted, true) => {
            verdict.extra.push(format!("transaction {id:?} was aborted and is there"))
        }
        (Outcome::Unknown, true) => verdict.unknown_committed += 1,
        _ => {}
    }
    there
}

/// A version and the length of its payload: enough to make its content.
type Version = (u32, u32);

fn apply(change: Change, rows: &mut BTreeMap<RowId, Version>) {
    match change {
        Change::Insert { row, bytes } => {
            rows.insert(row, (0, bytes));
        }
        Change::Update { row, version, bytes } => {
            if let Some(content) = rows.get_mut(&row) {
                *content = (version, bytes);
            }
        }
        Change::Delete { row } => {
            rows.remove(&row);
        }
    }
}

fn judge_rows(expected: &BTreeMap<RowId, Version>, rows: &BTreeMap<RowId, Content>, verdict: &mut Verdict) {
    for (row, (version, bytes)) in expected {
        let wanted = Content::of(*row, *version, *bytes);
        match rows.get(row) {
            None => verdict.lost.push(format!("row {row:?} is not there")),
            Some(found) if found.version != *version => {
                verdict.lost.push(format!("row {row:?} has version {}, not {version}", found.version));
            }
            Some(found) if *found != wanted => {
                verdict.lost.push(format!("row {row:?} has another content than was written"));
            }
            Some(_) => {}
        }
    }
    let unexpected = rows.keys().filter(|row| !expected.contains_key(row));
    verdict.extra.extend(unexpected.map(|row| format!("row {row:?} is there and must not be")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: u32) -> RowId {
        (0, sequence, 0)
    }

    fn transaction(sequence: u32, outcome: Outcome, changes: Vec<Change>) -> Transaction {
        Transaction { client: 0, sequence, changes, outcome }
    }

    /// Client 0: inserts row 1 and 2, updates 1, deletes 2, rolls 5 back, and does not know about 6.
    fn ledger() -> Ledger {
        let insert = |sequence| Change::Insert { row: row(sequence), bytes: 40 };
        Ledger {
            transactions: vec![
                transaction(1, Outcome::Acknowledged, vec![insert(1)]),
                transaction(2, Outcome::Acknowledged, vec![insert(2)]),
                transaction(
                    3,
                    Outcome::Acknowledged,
                    vec![Change::Update { row: row(1), version: 1, bytes: 50 }],
                ),
                transaction(4, Outcome::Acknowledged, vec![Change::Delete { row: row(2) }]),
                transaction(5, Outcome::Aborted, vec![insert(5)]),
                transaction(
                    6,
                    Outcome::Unknown,
                    vec![insert(6), Change::Update { row: row(1), version: 2, bytes: 9 }],
                ),
            ],
        }
    }

    /// What must be there if transaction 6 did not commit.
    fn faithful() -> Observed {
        Observed {
            marks: (1..=4).map(|sequence| (0, sequence)).collect(),
            rows: BTreeMap::from([(row(1), Content::of(row(1), 1, 50))]),
            twice: Vec::new(),
        }
    }

    fn lost<T>(change: impl FnOnce(&mut Observed) -> T) -> String {
        let mut observed = faithful();
        change(&mut observed);
        judge(&ledger(), &observed).lost.join("; ")
    }

    fn extra<T>(change: impl FnOnce(&mut Observed) -> T) -> String {
        let mut observed = faithful();
        change(&mut observed);
        judge(&ledger(), &observed).extra.join("; ")
    }

    #[test]
    fn an_unknown_transaction_may_be_there_wholly_or_not_at_all() {
        assert!(judge(&ledger(), &faithful()).is_clean());
        let mut committed = faithful();
        committed.marks.insert((0, 6));
        committed.rows.insert(row(6), Content::of(row(6), 0, 40));
        committed.rows.insert(row(1), Content::of(row(1), 2, 9));
        let verdict = judge(&ledger(), &committed);
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!(verdict.unknown_committed, 1);

        let mut half = committed.clone();
        half.rows.remove(&row(6));
        assert!(judge(&ledger(), &half).lost[0].contains("(0, 6, 0) is not there"));
        let mut other_half = committed;
        other_half.marks.remove(&(0, 6));
        assert!(!judge(&ledger(), &other_half).is_clean());
    }

    #[test]
    fn what_is_lost_is_found() {
        assert!(lost(|o| o.marks.remove(&(0, 2))).contains("(0, 2) was acknowledged"));
        assert!(lost(|o| o.rows.remove(&row(1))).contains("(0, 1, 0) is not there"));
        assert!(lost(|o| o.rows.insert(row(1), Content::of(row(1), 0, 40))).contains("version 0, not 1"));
        let flip = |o: &mut Observed| {
            let content = o.rows.get_mut(&row(1)).unwrap();
            content.payload.replace_range(3..4, "!");
        };
        assert!(lost(flip).contains("another content"));
    }

    #[test]
    fn what_is_extra_is_found() {
        assert!(extra(|o| o.marks.insert((0, 5))).contains("(0, 5) was aborted"));
        assert!(extra(|o| o.marks.insert((7, 1))).contains("nobody began it"));
        assert!(extra(|o| o.rows.insert(row(2), Content::of(row(2), 0, 40))).contains("(0, 2, 0)"));
        assert!(extra(|o| o.rows.insert(row(5), Content::of(row(5), 0, 40))).contains("(0, 5, 0)"));
        assert!(extra(|o| o.twice.push("mark (0, 1)".to_owned())).contains("more than once"));
    }

    #[test]
    fn once_seen_it_must_stay() {
        let mut ledger = ledger();
        let mut committed = faithful();
        committed.marks.insert((0, 6));
        ledger.settle(&committed);
        assert!(judge(&ledger, &faithful()).lost.join(" ").contains("(0, 6) was acknowledged"));
        let mut ledger = self::ledger();
        ledger.settle(&faithful());
        assert!(judge(&ledger, &committed).extra.join(" ").contains("(0, 6) was aborted"));
    }
}

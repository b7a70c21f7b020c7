//! What the binary log must say, given the tables and the ledger. Pure.
//!
//! InnoDB and the log commit together: what is in one is in the other, exactly once, with the same content. Aria cannot take
//! part in that (it has no prepare), so of its statements only the acknowledged ones must be in the log, each exactly once;
//! one that was cut off by a crash may be in the table, in the log, in both, or in neither.

use std::collections::{BTreeMap, BTreeSet};

use super::Positions;
use super::reading::{Gtid, Kind, Logged, RowChange, Value, gtid};
use crate::engine::Audit;
use crate::ledger::{Outcome, RowId};
use crate::plan::{Tables, Unit};

/// Of each kind of contradiction, how many are told.
const TOLD: usize = 10;

/// Everything that is wrong, in words.
pub fn judge(logged: &Logged, positions: &Positions, audits: &[Audit<'_>]) -> Vec<String> {
    let mut broken = judge_positions(logged, positions);
    for audit in audits {
        broken.extend(match audit.tables.unit {
            Unit::Transaction => judge_transactions(logged, audit),
            Unit::Statement => judge_statements(logged, audit),
        });
    }
    broken
}

/// Numbers follow one another without a gap, over restarts too, up to what the server says.
fn judge_positions(logged: &Logged, positions: &Positions) -> Vec<String> {
    let mut broken = Vec::new();
    if logged.before.is_none() {
        broken.push("the binary log does not say where it begins".to_owned());
    }
    let mut last: BTreeMap<u32, Gtid> = logged.before.iter().flatten().map(|gtid| (gtid.0, *gtid)).collect();
    for gtid in &logged.gtids {
        let (domain, server, sequence) = *gtid;
        let before = last.insert(domain, *gtid).map_or(0, |(_, _, sequence)| sequence);
        if sequence != before + 1 && broken.len() < TOLD {
            broken.push(format!("in the binary log {domain}-{server}-{sequence} follows number {before}"));
        }
    }
    let last: BTreeSet<Gtid> = last.into_values().collect();
    for (what, said) in [("gtid_binlog_pos", &positions.binlog), ("gtid_current_pos", &positions.current)] {
        let said_set: BTreeSet<Gtid> = said.split(',').filter_map(gtid).collect();
        if said_set != last {
            broken.push(format!("{what} is {said:?}, the binary log ends with {last:?}"));
        }
    }
    broken
}

/// What a row holds: version, length and CRC-32C of its payload, the checksum that is stored with it.
type Image = (i64, usize, u32, i64);

/// The log carried out.
#[derive(Debug, Default)]
struct Replayed {
    /// In how many of the log's transactions each mark is.
    marks: BTreeMap<(u32, u32), u64>,
    rows: BTreeMap<RowId, Image>,
    /// Changes that do not fit what was logged before.
    broken: Vec<String>,
}

fn judge_transactions(logged: &Logged, audit: &Audit<'_>) -> Vec<String> {
    let replayed = replay(logged, audit.tables);
    let Audit { ledger, observed, .. } = audit;
    let mut wrong = Told { broken: replayed.broken };
    for (id, times) in &replayed.marks {
        wrong.tell(*times != 1, || format!("transaction {id:?} is {times} times in the binary log"));
        wrong.tell(!observed.marks.contains(id), || format!("transaction {id:?} is logged and not there"));
    }
    let unlogged = observed.marks.iter().filter(|id| !replayed.marks.contains_key(id));
    unlogged.for_each(|id| wrong.tell(true, || format!("transaction {id:?} is there and not logged")));
    for transaction in &ledger.transactions {
        let id = (transaction.client, transaction.sequence);
        let times = replayed.marks.get(&id).copied().unwrap_or(0);
        let right = match transaction.outcome {
            Outcome::Acknowledged => times == 1,
            Outcome::Aborted => times == 0,
            Outcome::Unknown => true,
        };
        let outcome = transaction.outcome;
        wrong.tell(!right, || format!("transaction {id:?}, {outcome:?}, is {times} times in the binary log"));
    }
    for (id, content) in &observed.rows {
        let bytes = content.payload.as_bytes();
        let there = (content.version.into(), bytes.len(), crc32c::crc32c(bytes), content.checksum.into());
        let logged = replayed.rows.get(id);
        wrong.tell(logged != Some(&there), || {
            format!("row {id:?} is {there:?}, the binary log made it {logged:?}")
        });
    }
    let missing = replayed.rows.keys().filter(|id| !observed.rows.contains_key(id));
    missing.for_each(|id| wrong.tell(true, || format!("row {id:?} is logged and not there")));
    wrong.broken
}

fn judge_statements(logged: &Logged, audit: &Audit<'_>) -> Vec<String> {
    let rows = audit.tables.rows();
    let mut statements: BTreeMap<(u32, u32), BTreeSet<usize>> = BTreeMap::new();
    let inserts = logged.changes.iter().filter(|change| change.table == rows && change.kind == Kind::Insert);
    for change in inserts {
        if let Some((client, sequence, _)) = row_id(&change.after) {
            statements.entry((client, sequence)).or_default().insert(change.transaction);
        }
    }
    let mut wrong = Told::default();
    for transaction in &audit.ledger.transactions {
        let id = (transaction.client, transaction.sequence);
        let times = statements.get(&id).map_or(0, BTreeSet::len);
        let right = times == 1 || (transaction.outcome != Outcome::Acknowledged && times == 0);
        let outcome = transaction.outcome;
        wrong.tell(!right, || format!("statement {id:?}, {outcome:?}, is {times} times in the binary log"));
    }
    wrong.broken
}

#[derive(Debug, Default)]
struct Told {
    broken: Vec<String>,
}

impl Told {
    fn tell(&mut self, is_wrong: bool, what: impl FnOnce() -> String) {
        if is_wrong && self.broken.len() < TOLD {
            self.broken.push(what());
        }
    }
}

fn replay(logged: &Logged, tables: Tables) -> Replayed {
    let (marks, rows) = (tables.marks(), tables.rows());
    let mut replayed = Replayed::default();
    for change in &logged.changes {
        if change.table == marks {
            replayed.mark(change);
        } else if change.table == rows {
            replayed.row(change);
        }
    }
    replayed
}

impl Replayed {
    fn mark(&mut self, change: &RowChange) {
        match (change.kind, &change.after[..]) {
            (Kind::Insert, [Value::Number(client), Value::Number(sequence)]) => {
                *self.marks.entry((*client as u32, *sequence as u32)).or_default() += 1;
            }
            _ => self.broken.push(format!("a mark is changed in the binary log: {change:?}")),
        }
    }

    fn row(&mut self, change: &RowChange) {
        let before = row_id(&change.before).map(|id| (id, self.rows.remove(&id)));
        let fits = match change.kind {
            Kind::Insert => before.is_none(),
            Kind::Update | Kind::Delete => {
                before.is_some_and(|(_, known)| known.is_some() && known == image(&change.before))
            }
        };
        if !fits {
            self.broken.push(format!("the binary log changes a row that it did not make so: {change:?}"));
        }
        if let (Some(id), Some(image)) = (row_id(&change.after), image(&change.after))
            && self.rows.insert(id, image).is_some()
        {
            self.broken.push(format!("row {id:?} is inserted twice in the binary log"));
        }
    }
}

fn row_id(row: &[Value]) -> Option<RowId> {
    match row {
        [Value::Number(client), Value::Number(sequence), Value::Number(part), ..] => {
            Some((*client as u32, *sequence as u32, *part as u32))
        }
        _ => None,
    }
}

fn image(row: &[Value]) -> Option<Image> {
    match row {
        [_, _, _, Value::Number(version), Value::Text(bytes, crc), Value::Number(checksum)] => {
            Some((*version, *bytes, *crc, *checksum))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mariadb::binlog::reading::Reader;
    use crate::ledger::{Change, Content, Ledger, Observed, Transaction};

    const INNODB: Tables = Tables { number: 4, unit: Unit::Transaction };
    const ARIA: Tables = Tables { number: 4, unit: Unit::Statement };

    fn positions(binlog: &str) -> Positions {
        Positions {
            files: vec![("bin.000001".to_owned(), 400)],
            binlog: binlog.to_owned(),
            current: binlog.to_owned(),
        }
    }

    fn begin(sequence: u64) -> String {
        format!("#261126 17:10:00 server id 1  end_log_pos 1 CRC32 0x00000000 \tGTID 0-1-{sequence} trans\n")
    }

    fn columns(head: &str, columns: &[String]) -> String {
        let columns = columns.iter().enumerate().map(|(at, text)| format!("###   @{}={text}\n", at + 1));
        format!("### {head}\n{}", columns.collect::<String>())
    }

    fn mark(client: u32, sequence: u32) -> String {
        let set = columns("SET", &[client.to_string(), sequence.to_string()]);
        format!("### INSERT INTO `chaos`.`chaos_marks_4`\n{set}")
    }

    fn values(id: RowId, content: &Content) -> Vec<String> {
        let numbers = [id.0, id.1, id.2, content.version].map(|number| number.to_string());
        let payload = format!("'{}'", content.payload);
        numbers.into_iter().chain([payload, content.checksum.to_string()]).collect()
    }

    fn content(id: RowId, version: u32) -> Content {
        Content::of(id, version, 40)
    }

    fn insert(id: RowId) -> String {
        format!("### INSERT INTO `chaos`.`chaos_rows_4`\n{}", columns("SET", &values(id, &content(id, 0))))
    }

    /// Client 0: transaction 1 inserts a row, transaction 2 inserts one and updates the first, 3 deletes it.
    fn printed() -> Vec<String> {
        let (one, two) = ((0, 1, 0), (0, 2, 0));
        let update = format!(
            "### UPDATE `chaos`.`chaos_rows_4`\n{}{}",
            columns("WHERE", &values(one, &content(one, 0))),
            columns("SET", &values(one, &content(one, 1)))
        );
        let delete = format!(
            "### DELETE FROM `chaos`.`chaos_rows_4`\n{}",
            columns("WHERE", &values(one, &content(one, 1)))
        );
        vec![
            "#261126 17:10:00 server id 1  end_log_pos 1 CRC32 0x00000000 \tGtid list [0-1-6]\n".to_owned(),
            begin(7) + &insert(one) + &mark(0, 1) + "# at 99\n",
            begin(8) + &insert(two) + &mark(0, 2) + &update + "COMMIT/*!*/;\n",
            begin(9) + &delete + &mark(0, 3),
        ]
    }

    fn read(printed: &[String]) -> Logged {
        let mut reader = Reader::default();
        printed.iter().flat_map(|text| text.lines()).for_each(|line| reader.line(line));
        reader.end()
    }

    fn ledger(outcomes: &[Outcome]) -> Ledger {
        let transaction = |(at, outcome): (usize, &Outcome)| {
            let sequence = at as u32 + 1;
            let changes = vec![Change::Insert { row: (0, sequence, 0), bytes: 40 }];
            Transaction { client: 0, sequence, changes, outcome: *outcome }
        };
        Ledger { transactions: outcomes.iter().enumerate().map(transaction).collect() }
    }

    fn faithful() -> Observed {
        let two = (0, 2, 0);
        Observed {
            marks: (1..=3).map(|sequence| (0, sequence)).collect(),
            rows: BTreeMap::from([(two, content(two, 0))]),
            twice: Vec::new(),
        }
    }

    fn judged(printed: &[String], observed: &Observed, outcomes: &[Outcome], position: &str) -> String {
        let ledger = ledger(outcomes);
        let audit = Audit { tables: INNODB, ledger: &ledger, observed };
        judge(&read(printed), &positions(position), &[audit]).join("; ")
    }

    const DONE: [Outcome; 3] = [Outcome::Acknowledged, Outcome::Unknown, Outcome::Acknowledged];

    #[test]
    fn a_log_that_made_the_tables_is_right() {
        assert_eq!(judged(&printed(), &faithful(), &DONE, "0-1-9"), "");
    }

    #[test]
    fn transactions_in_only_one_of_the_two_are_found() {
        let mut observed = faithful();
        observed.marks.remove(&(0, 2));
        assert!(judged(&printed(), &observed, &DONE, "0-1-9").contains("(0, 2) is logged and not there"));
        let mut unlogged = printed();
        unlogged[2] = begin(8);
        let said = judged(&unlogged, &faithful(), &DONE, "0-1-9");
        assert!(said.contains("(0, 2) is there and not logged"), "{said}");
        let aborted = [Outcome::Acknowledged, Outcome::Aborted, Outcome::Acknowledged];
        assert!(judged(&printed(), &faithful(), &aborted, "0-1-9").contains("Aborted, is 1 times"));
        let mut twice = printed();
        twice.push(begin(10) + &mark(0, 3));
        assert!(judged(&twice, &faithful(), &DONE, "0-1-10").contains("(0, 3) is 2 times"));
    }

    #[test]
    fn rows_that_the_log_did_not_make_are_found() {
        let mut observed = faithful();
        observed.rows.insert((0, 2, 0), content((0, 2, 0), 5));
        assert!(judged(&printed(), &observed, &DONE, "0-1-9").contains("row (0, 2, 0) is"));
        observed.rows.clear();
        assert!(judged(&printed(), &observed, &DONE, "0-1-9").contains("(0, 2, 0) is logged and not there"));
        let mut without = printed();
        without[1] = begin(7) + &mark(0, 1);
        assert!(judged(&without, &faithful(), &DONE, "0-1-9").contains("did not make so"));
    }

    #[test]
    fn gaps_and_other_positions_are_found() {
        let mut gap = printed();
        gap[3] = gap[3].replace("0-1-9", "0-1-10");
        assert!(judged(&gap, &faithful(), &DONE, "0-1-10").contains("0-1-10 follows number 8"));
        assert!(judged(&printed(), &faithful(), &DONE, "0-1-8").contains("gtid_binlog_pos is \"0-1-8\""));
        let headless = &printed()[1..];
        assert!(judged(headless, &faithful(), &DONE, "0-1-9").contains("where it begins"));
    }

    #[test]
    fn an_acknowledged_statement_in_aria_is_logged_once_and_a_cut_off_one_at_most_once() {
        let statement = |sequence: u64| {
            let id = (0, sequence as u32, 0);
            begin(sequence) + &insert(id).replace("chaos_rows", "chaos_statements")
        };
        let list = printed()[0].replace("0-1-6", "");
        let judged = |printed: &[String], outcomes: &[Outcome], position: &str| {
            let (ledger, observed) = (ledger(outcomes), Observed::default());
            let audit = Audit { tables: ARIA, ledger: &ledger, observed: &observed };
            judge(&read(printed), &positions(position), &[audit]).join("; ")
        };
        let logged = [list, statement(1), statement(2)];
        assert_eq!(
            judged(&logged, &[Outcome::Acknowledged, Outcome::Unknown, Outcome::Unknown], "0-1-2"),
            ""
        );
        assert!(judged(&logged, &[Outcome::Acknowledged; 3], "0-1-2").contains("(0, 3), Acknowledged, is 0"));
        let mut twice = logged.to_vec();
        twice.push(statement(2).replace("GTID 0-1-2", "GTID 0-1-3"));
        assert!(judged(&twice, &[Outcome::Unknown; 2], "0-1-3").contains("(0, 2), Unknown, is 2"));
    }
}

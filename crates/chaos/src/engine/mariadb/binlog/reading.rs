//! What `mariadb-binlog --verbose` prints of a log in row format: which transactions, and which rows they changed.

/// A column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// A text, by its length in bytes and its CRC-32C.
    Text(usize, u32),
    /// Something else.
    Other,
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was inserted.
    Insert,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// Which of the log's transactions did it, from 1 on; 0 if none had begun.
    pub transaction: usize,
    /// The table's name without its database.
    pub table: String,
    /// What was done.
    pub kind: Kind,
    /// The row before; empty for an insert.
    pub before: Vec<Value>,
    /// The row after; empty for a delete.
    pub after: Vec<Value>,
}

/// Domain, server, sequence number.
pub type Gtid = (u32, u32, u64);

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Where each domain was before the first transaction, as the log's first file says; `None` if it does not say.
    pub before: Option<Vec<Gtid>>,
    /// Every transaction.
    pub gtids: Vec<Gtid>,
    /// Every change.
    pub changes: Vec<RowChange>,
}

/// Reads what is printed, line by line.
#[derive(Debug, Default)]
pub struct Reader {
    logged: Logged,
    /// The change whose columns are being read, and whether they are those before it.
    open: Option<(RowChange, bool)>,
    transaction: Progress,
}

/// How far the newest transaction was read.
#[derive(Clone, Copy, Debug, Default)]
enum Progress {
    /// All of it, or there is none.
    #[default]
    Whole,
    /// Its GTID; a single statement's event may follow.
    Named,
    /// It began; `COMMIT` is to come.
    Begun,
}

impl Reader {
    /// Takes a line without its end.
    pub fn line(&mut self, line: &str) {
        if let Some(row) = line.strip_prefix("### ") {
            self.row_line(row);
            return;
        }
        self.close();
        self.transaction = match self.transaction {
            Progress::Named if line == "START TRANSACTION" => Progress::Begun,
            Progress::Named if line.starts_with("# at ") => Progress::Whole,
            Progress::Begun if line.starts_with("COMMIT") => Progress::Whole,
            progress => progress,
        };
        if let Some(gtid) = after(line, "\tGTID ").and_then(|rest| gtid(rest.split_whitespace().next()?)) {
            self.logged.gtids.push(gtid);
            self.transaction = Progress::Named;
        } else if self.logged.before.is_none()
            && let Some(list) = after(line, "Gtid list [")
        {
            let list = list.split(']').next().unwrap_or_default();
            self.logged.before = Some(list.split([',', ' ']).filter_map(gtid).collect());
        }
    }

    /// The file ends here. A transaction that does not was cut off by a crash: it is none.
    pub fn file_ends(&mut self) {
        self.close();
        if !matches!(std::mem::take(&mut self.transaction), Progress::Whole) {
            let number = self.logged.gtids.len();
            self.logged.changes.retain(|change| change.transaction != number);
            self.logged.gtids.pop();
        }
    }

    /// Everything that was read.
    #[must_use]
    pub fn end(mut self) -> Logged {
        self.close();
        self.logged
    }

    fn row_line(&mut self, line: &str) {
        let begins =
            [("INSERT INTO ", Kind::Insert), ("UPDATE ", Kind::Update), ("DELETE FROM ", Kind::Delete)];
        let begun = begins.iter().find_map(|(words, kind)| Some((line.strip_prefix(words)?, *kind)));
        if let Some((name, kind)) = begun {
            self.close();
            let table = name.rsplit('.').next().unwrap_or_default().trim_matches('`').to_owned();
            let transaction = self.logged.gtids.len();
            let change = RowChange { transaction, table, kind, before: Vec::new(), after: Vec::new() };
            self.open = Some((change, false));
        } else if let Some((change, is_before)) = &mut self.open {
            match line.trim_start().split_once('=') {
                Some((column, text)) if column.starts_with('@') => {
                    let row = if *is_before { &mut change.before } else { &mut change.after };
                    row.push(value(text));
                }
                _ => *is_before = line == "WHERE",
            }
        }
    }

    fn close(&mut self) {
        if let Some((change, _)) = self.open.take() {
            self.logged.changes.push(change);
        }
    }
}

fn after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    line.starts_with('#').then(|| line.split_once(words)).flatten().map(|(_, rest)| rest)
}

/// `0-1-17`.
pub fn gtid(text: &str) -> Option<Gtid> {
    let mut parts = text.split('-');
    let gtid = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(gtid)
}

/// `'text'`, or a number, a negative one followed by what it were without a sign.
fn value(text: &str) -> Value {
    if let Some(text) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Value::Text(text.len(), crc32c::crc32c(text.as_bytes()));
    }
    let number = text.split_whitespace().next().and_then(|number| number.parse().ok());
    number.map_or(Value::Other, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "#261127  7:08:48 server id 1  end_log_pos 1366 CRC32 0x285856da \t";

    /// An insertion of one row, as it is printed, in so many lines.
    fn transaction(number: u64) -> Vec<String> {
        let lines = format!(
            "# at 1276\n{HEADER}GTID 0-1-{number} trans\n/*M!100001 SET @@session.gtid_seq_no={number}*//*!*/;\nSTART \
             TRANSACTION\n/*!*/;\n# at 1318\n{HEADER}Table_map: `d`.`t` mapped to number 22\n# at 1361\n{HEADER}Write_rows: \
             table id 22 flags: STMT_END_F\n### INSERT INTO `d`.`t`\n### SET\n###   @1={number}\n# Number of rows: 1\n# at \
             1406\n{HEADER}Xid = 8\nCOMMIT/*!*/;"
        );
        lines.lines().map(str::to_owned).collect()
    }

    fn statement(number: u64) -> Vec<String> {
        let lines = format!(
            "# at 747\n{HEADER}GTID 0-1-{number} ddl\n/*M!100001 SET @@session.gtid_seq_no={number}*//*!*/;\n# at 789\n{HEADER}\
             Query\tthread_id=5\nSET TIMESTAMP=1795763328/*!*/;\ncreate table d.t(a int)\n/*!*/;"
        );
        lines.lines().map(str::to_owned).collect()
    }

    /// Reads files and says which transactions there were, and which rows they inserted.
    fn read(files: &[Vec<String>]) -> (Vec<u64>, Vec<i64>) {
        let mut reader = Reader::default();
        for file in files {
            file.iter().for_each(|line| reader.line(line));
            reader.file_ends();
        }
        let logged = reader.end();
        let row = |change: &RowChange| match change.after[..] {
            [Value::Number(number)] => number,
            _ => panic!("{change:?}"),
        };
        (logged.gtids.iter().map(|gtid| gtid.2).collect(), logged.changes.iter().map(row).collect())
    }

    #[test]
    fn a_transaction_that_its_file_cuts_off_anywhere_is_none_and_its_number_comes_again() {
        let cut = transaction(3);
        for lines in 2..cut.len() {
            let first = [statement(1), transaction(2), cut[..lines].to_vec()].concat();
            let found = read(&[first, transaction(3)]);
            assert_eq!(found, (vec![1, 2, 3], vec![2, 3]), "cut after line {lines}");
        }
    }

    #[test]
    fn whole_transactions_and_single_statements_stay() {
        let files = [[statement(1), transaction(2), statement(3)].concat(), transaction(4)];
        assert_eq!(read(&files), (vec![1, 2, 3, 4], vec![2, 4]));
    }
}

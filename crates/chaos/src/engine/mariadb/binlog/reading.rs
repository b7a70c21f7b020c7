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
}

impl Reader {
    /// Takes a line without its end.
    pub fn line(&mut self, line: &str) {
        if let Some(row) = line.strip_prefix("### ") {
            self.row_line(row);
            return;
        }
        self.close();
        if let Some(gtid) = after(line, "\tGTID ").and_then(|rest| gtid(rest.split_whitespace().next()?)) {
            self.logged.gtids.push(gtid);
        } else if self.logged.before.is_none()
            && let Some(list) = after(line, "Gtid list [")
        {
            let list = list.split(']').next().unwrap_or_default();
            self.logged.before = Some(list.split([',', ' ']).filter_map(gtid).collect());
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

//! What MariaDB can check itself: `CHECK TABLE … EXTENDED`; and the binary log against the tables.

use mysql_async::prelude::Queryable;

use super::{Mariadb, binlog};
use crate::engine::{self, AskError, Audit, Checked};

/// Every table of InnoDB and Aria, and all of the server's own.
const TABLES: &str = "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables \
                      WHERE table_type IN ('BASE TABLE', 'SEQUENCE') \
                      AND (engine IN ('InnoDB', 'Aria') OR table_schema = 'mysql')";

/// A line of the answer to `CHECK TABLE`: table, operation, kind of message, message.
type Line = (String, String, String, String);

/// Checks everything.
pub(super) fn all(database: &Mariadb, audits: &[Audit<'_>], deep: bool) -> Result<Checked, AskError> {
    let mut checked = Checked::default();
    if deep {
        checked.broken.extend(unclean(&tables(database)?));
    }
    if let Some(positions) = binlog::positions(database)? {
        let logged = binlog::read(database, &positions)?;
        checked.logged = Some(logged.gtids.len() as u64);
        checked.broken.extend(binlog::judge(&logged, &positions, audits));
    }
    Ok(checked)
}

fn tables(database: &Mariadb) -> Result<Vec<Line>, AskError> {
    engine::answer(Box::pin(async move {
        let mut conn = database.conn().await?;
        let tables: Vec<String> = conn.query(TABLES).await?;
        let lines = conn.query(format!("CHECK TABLE {} EXTENDED", tables.join(", "))).await?;
        conn.disconnect().await?;
        Ok(lines)
    }))
}

/// What the lines say that is not good. A table is clean if its status is, and nothing else is said.
fn unclean(lines: &[Line]) -> Vec<String> {
    let good = |(_, _, kind, text): &Line| kind == "status" && text == "OK";
    let bad = lines.iter().filter(|line| !good(line));
    let mut found: Vec<_> = bad.map(|(table, _, kind, text)| format!("{table}: {kind}: {text}")).collect();
    if lines.is_empty() {
        found.push("CHECK TABLE found no table".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, text: &str) -> Line {
        ("chaos.t".to_owned(), "check".to_owned(), kind.to_owned(), text.to_owned())
    }

    #[test]
    fn only_ok_is_clean() {
        assert!(unclean(&[line("status", "OK")]).is_empty());
        for (kind, text) in [
            ("warning", "1 client is using or hasn't closed the table properly"),
            ("error", "Corrupt"),
            ("status", "Operation failed"),
        ] {
            let found = unclean(&[line("status", "OK"), line(kind, text)]);
            assert!(found[0].contains("chaos.t") && found[0].contains(text), "{found:?}");
        }
        assert!(!unclean(&[]).is_empty());
    }
}

//! MariaDB: one cluster without and one with the binary log.
//!
//! Two ledgers. Transactions of several statements go to InnoDB tables; single statements go to a transactional Aria table,
//! where a statement is whole and nothing larger is. Aria syncs its log at the end of every statement
//! (`aria_group_commit=none`, the default: `ma_commit` flushes and syncs up to the commit record before the statement's
//! answer is sent), so that what was acknowledged must be there in both.
//!
//! A cluster repairs no table by itself (`aria_recover_options`): what a crash damages must stay damaged to be seen.

mod binlog;
mod check;
mod sessions;
mod statements;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, TxOpts};

use super::{AskError, Audit, Checked, Cluster, Database, Engine, Pending, Refusal, Session};
use crate::ledger::{Content, Observed};
use crate::plan::{Plan, Tables, Unit};

/// Without the binary log a commit is InnoDB's alone; with it InnoDB prepares, the log decides, and recovery asks it.
pub const CLUSTERS: &[Cluster] = &[
    Cluster {
        name: "plain",
        engine: Engine::Mariadb,
        parameters: &["aria_recover_options=OFF", "myisam_recover_options=OFF"],
    },
    Cluster {
        name: "binlog",
        engine: Engine::Mariadb,
        parameters: &[
            "aria_recover_options=OFF",
            "myisam_recover_options=OFF",
            "log_bin=bin",
            // Rows and not statements, so that what was logged can be compared with what is there.
            "binlog_format=ROW",
        ],
    },
];

/// The clients' database. It is also how their sessions are found: nobody else selects it.
const DATABASE: &str = "chaos";

/// A MariaDB server.
#[derive(Clone, Debug)]
pub struct Mariadb {
    opts: Opts,
}

impl From<mysql_async::Error> for Refusal {
    fn from(error: mysql_async::Error) -> Refusal {
        let said = match &error {
            mysql_async::Error::Server(error) => format!("{} ({})", error.message, error.code),
            other => other.to_string(),
        };
        Refusal { said, source: Box::new(error) }
    }
}

impl Mariadb {
    /// The server at an endpoint.
    pub fn at(endpoint: &str) -> Result<Mariadb, Box<dyn std::error::Error + Send + Sync>> {
        let opts = OptsBuilder::from_opts(Opts::from_url(endpoint)?).prefer_socket(false);
        Ok(Mariadb { opts: opts.into() })
    }

    async fn conn(&self) -> Result<Conn, Refusal> {
        Ok(Conn::new(self.opts.clone()).await?)
    }
}

impl Session for Conn {
    fn execute<'a>(&'a mut self, script: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { Ok(self.query_drop(script).await?) })
    }
}

impl Database for Mariadb {
    fn connect_client(&self) -> Pending<'_, Box<dyn Session>> {
        let opts = OptsBuilder::from_opts(self.opts.clone()).db_name(Some(DATABASE));
        Box::pin(async move { Ok(Box::new(Conn::new(opts).await?) as Box<dyn Session>) })
    }

    fn connect(&self) -> Pending<'_, Box<dyn Session>> {
        Box::pin(async move { Ok(Box::new(self.conn().await?) as Box<dyn Session>) })
    }

    fn tables(&self, number: u64) -> Vec<Tables> {
        [Unit::Transaction, Unit::Statement].map(|unit| Tables { number, unit }).into()
    }

    fn creation(&self, tables: Tables) -> String {
        statements::creation(tables)
    }

    fn removal(&self, tables: Tables) -> String {
        statements::removal(tables)
    }

    fn statements(&self, plan: &Plan, client: u32, tables: Tables) -> String {
        statements::of(plan, client, tables)
    }

    fn end_clients(&self) -> Pending<'_, ()> {
        Box::pin(async move { Ok(sessions::end(&mut self.conn().await?).await?) })
    }

    fn observe(&self, tables: Tables) -> Pending<'_, Observed> {
        Box::pin(async move {
            let mut conn = self.conn().await?;
            let observed = match tables.unit {
                Unit::Transaction => observe_transactions(&mut conn, tables).await?,
                Unit::Statement => observe_statements(&mut conn, tables).await?,
            };
            conn.disconnect().await?;
            Ok(observed)
        })
    }

    fn check(&self, audits: &[Audit<'_>], deep: bool) -> Result<Checked, AskError> {
        check::all(self, audits, deep)
    }

    fn forget_logs(&self) -> Pending<'_, ()> {
        Box::pin(async move { Ok(binlog::forget(&mut self.conn().await?).await?) })
    }
}

/// A row as it is selected: client, sequence, part, version, payload, checksum.
type RowValues = (u32, u32, u32, u32, String, u32);

fn row((client, sequence, part, version, payload, checksum): RowValues) -> ((u32, u32, u32), Content) {
    ((client, sequence, part), Content { version, payload, checksum })
}

async fn observe_transactions(conn: &mut Conn, tables: Tables) -> Result<Observed, mysql_async::Error> {
    let mut options = TxOpts::new();
    options.with_consistent_snapshot(true).with_readonly(true);
    let mut snapshot = conn.start_transaction(options).await?;
    // In InnoDB the primary key is the table.
    let (marks, rows) = (statements::place(&tables.marks()), statements::place(&tables.rows()));
    let marks = format!("SELECT client, sequence FROM {marks} FORCE INDEX (PRIMARY)");
    let marks: Vec<(u32, u32)> = snapshot.query(marks).await?;
    let rows = format!(
        "SELECT client, sequence, part, version, payload, checksum FROM {rows} FORCE INDEX (PRIMARY)"
    );
    let rows: Vec<RowValues> = snapshot.query(rows).await?;
    snapshot.commit().await?;
    let mut observed = Observed::default();
    marks.into_iter().for_each(|mark| observed.add_mark(mark));
    rows.into_iter().map(row).for_each(|(id, content)| observed.add_row(id, content));
    Ok(observed)
}

async fn observe_statements(conn: &mut Conn, tables: Tables) -> Result<Observed, mysql_async::Error> {
    // A row that an update had to make anew, because it was lost, is not what the statement of its number inserted.
    let rows = format!(
        "SELECT client, sequence, part, version, payload, checksum FROM {} IGNORE INDEX (PRIMARY, checksum) \
         WHERE born = sequence",
        statements::place(&tables.rows())
    );
    let rows: Vec<RowValues> = conn.query(rows).await?;
    let mut observed = Observed::default();
    for (id, content) in rows.into_iter().map(row) {
        observed.marks.insert((id.0, id.1));
        observed.add_row(id, content);
    }
    Ok(observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_alternate_between_without_and_with_the_binary_log() {
        let names: Vec<_> = (6..10).map(|seed| Engine::Mariadb.cluster(seed).name).collect();
        assert_eq!(names, ["plain", "binlog", "plain", "binlog"]);
    }

    #[test]
    fn an_endpoint_is_a_url() {
        let database = Mariadb::at("mysql://root:secret@127.0.0.1:3307/").unwrap();
        assert_eq!((database.opts.tcp_port(), database.opts.pass()), (3307, Some("secret")));
        assert!(!database.opts.prefer_socket());
        assert!(Mariadb::at("postgresql://x").is_err());
    }
}

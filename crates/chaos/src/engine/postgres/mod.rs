//! PostgreSQL: the cluster that a region comes with.

mod check;

use std::time::Duration;

use tokio_postgres::{Client, Config, IsolationLevel, NoTls, Row};

use super::{AskError, Audit, Checked, Cluster, Database, Engine, Pending, Refusal, Session};
use crate::ledger::{Content, Observed};
use crate::plan::{Ending, Plan, Tables, Unit, sql};

/// The cluster that `zorya up` makes.
pub const CLUSTERS: &[Cluster] = &[Cluster { name: "main", engine: Engine::Postgres, parameters: &[] }];

/// How the clients' sessions are named, so that they can be found in the engine.
const APPLICATION: &str = "zorya chaos client";

/// A PostgreSQL database.
#[derive(Clone, Debug)]
pub struct Postgres {
    endpoint: String,
    config: Config,
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Refusal {
        let said = match error.as_db_error() {
            Some(error) => format!("{} ({})", error.message(), error.code().code()),
            None => error.to_string(),
        };
        Refusal { said, source: Box::new(error) }
    }
}

impl Postgres {
    /// The database at an endpoint.
    pub fn at(endpoint: &str) -> Result<Postgres, Box<dyn std::error::Error + Send + Sync>> {
        let mut config: Config = endpoint.parse()?;
        config.connect_timeout(Duration::from_secs(5));
        Ok(Postgres { endpoint: endpoint.to_owned(), config })
    }

    async fn client(&self) -> Result<Client, Refusal> {
        open(&self.config).await
    }
}

async fn open(config: &Config) -> Result<Client, Refusal> {
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with its client or with the engine; its error is the next statement's.
    tokio::spawn(connection);
    Ok(client)
}

impl Session for Client {
    fn execute<'a>(&'a mut self, script: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { Ok(self.batch_execute(script).await?) })
    }
}

impl Database for Postgres {
    fn connect_client(&self) -> Pending<'_, Box<dyn Session>> {
        let mut config = self.config.clone();
        config.application_name(APPLICATION);
        Box::pin(async move { Ok(Box::new(open(&config).await?) as Box<dyn Session>) })
    }

    fn connect(&self) -> Pending<'_, Box<dyn Session>> {
        Box::pin(async move { Ok(Box::new(self.client().await?) as Box<dyn Session>) })
    }

    fn tables(&self, number: u64) -> Vec<Tables> {
        vec![Tables { number, unit: Unit::Transaction }]
    }

    fn creation(&self, tables: Tables) -> String {
        let (marks, rows) = (tables.marks(), tables.rows());
        format!(
            "CREATE TABLE {marks} (client int NOT NULL, sequence int NOT NULL, PRIMARY KEY (client, sequence));
             CREATE TABLE {rows} (client int NOT NULL, sequence int NOT NULL, part int NOT NULL, version int NOT NULL,
                 payload text NOT NULL, checksum bigint NOT NULL, PRIMARY KEY (client, sequence, part));
             CREATE INDEX ON {rows} (checksum);"
        )
    }

    fn removal(&self, tables: Tables) -> String {
        format!("DROP TABLE {}, {}", tables.marks(), tables.rows())
    }

    fn statements(&self, plan: &Plan, client: u32, tables: Tables) -> String {
        let mark = sql::insert_mark(&tables.marks(), client, plan.sequence);
        let inserts = sql::insert_rows(&tables.rows(), &plan.changes);
        if plan.ending == Ending::Alone {
            return format!("WITH mark AS ({mark}) {inserts}");
        }
        format!("BEGIN; {mark}; {inserts}; {}", sql::change_rows(&tables.rows(), &plan.changes))
    }

    fn end_clients(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            let end = format!(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
            );
            Ok(self.client().await?.batch_execute(&end).await?)
        })
    }

    fn observe(&self, tables: Tables) -> Pending<'_, Observed> {
        Box::pin(async move { Ok(observe(&mut self.client().await?, tables).await?) })
    }

    fn check(&self, _audits: &[Audit<'_>], deep: bool) -> Result<Checked, AskError> {
        check::all(self, deep)
    }

    fn forget_logs(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

async fn observe(client: &mut Client, tables: Tables) -> Result<Observed, tokio_postgres::Error> {
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let snapshot = snapshot.start().await?;
    snapshot.batch_execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off").await?;
    let marks = snapshot.query(&format!("SELECT client, sequence FROM {}", tables.marks()), &[]).await?;
    let rows = format!("SELECT client, sequence, part, version, payload, checksum FROM {}", tables.rows());
    let rows = snapshot.query(&rows, &[]).await?;
    snapshot.commit().await?;
    let mut observed = Observed::default();
    for row in &marks {
        observed.add_mark((number(row, 0), number(row, 1)));
    }
    for row in &rows {
        let id = (number(row, 0), number(row, 1), number(row, 2));
        let checksum: i64 = row.get(5);
        let content = Content { version: number(row, 3), payload: row.get(4), checksum: checksum as u32 };
        observed.add_row(id, content);
    }
    Ok(observed)
}

fn number(row: &Row, column: usize) -> u32 {
    row.get::<_, i32>(column) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Planner;

    #[test]
    fn statements_leave_the_end_to_the_client() {
        let database = Postgres::at("postgresql://postgres:x@127.0.0.1:1/postgres").unwrap();
        let tables = database.tables(4)[0];
        let mut planner = Planner::new(0, 1, tables.unit, false);
        for _ in 0..50 {
            let plan = planner.next_plan();
            let text = database.statements(&plan, 0, tables);
            assert!(!text.contains("COMMIT") && !text.contains("ROLLBACK"));
            assert_eq!(text.starts_with("BEGIN; "), plan.ending != Ending::Alone);
            assert!(text.contains("chaos_marks_4") && text.contains("chaos_rows_4"));
        }
    }
}

//! Reading back what the database holds and judging it.

use std::process::Command;
use std::time::Duration;

use tokio_postgres::{Client, Config, Error, IsolationLevel, NoTls, Row};

use crate::ledger::{Content, Ledger, Observed, Verdict, judge};
use crate::load::{APPLICATION, Tables};
use crate::shell::{self, ShellError};

/// How long a verification may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A verification that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No threads.
    #[error("cannot start the verifier's thread")]
    Runtime(#[source] std::io::Error),
    /// The engine's answer.
    #[error("the engine refused to be verified")]
    Engine(#[from] Error),
    /// No answer.
    #[error("the engine did not answer the verification within {} s", LIMIT.as_secs())]
    Silent,
}

/// What was found besides the ledger's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// Whether pages have checksums.
    pub checksums_on: bool,
    /// Pages whose checksum was wrong, by the engine's own count.
    pub checksum_failures: i64,
}

/// Ends the clients' sessions that are left, so that nothing of unknown outcome can commit any more.
pub fn end_sessions(config: &Config) -> Result<(), VerifyError> {
    ask(config, async |client| {
        let end = format!(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
        );
        client.batch_execute(&end).await
    })
}

/// Reads one snapshot and judges it; afterwards what was unknown is settled.
pub fn verify_ledger(config: &Config, tables: Tables, ledger: &mut Ledger) -> Result<Verdict, VerifyError> {
    let observed = ask(config, async |client| observe(client, tables).await)?;
    let verdict = judge(ledger, &observed);
    ledger.settle(&observed);
    Ok(verdict)
}

/// What the engine says about its pages.
pub fn engine_state(config: &Config) -> Result<EngineState, VerifyError> {
    ask(config, async |client| {
        let query = "SELECT current_setting('data_checksums') = 'on', \
                     coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database";
        let row = client.query_one(query, &[]).await?;
        Ok(EngineState { checksums_on: row.get(0), checksum_failures: row.get(1) })
    })
}

/// Drops a round's tables.
pub fn drop_tables(config: &Config, tables: Tables) -> Result<(), VerifyError> {
    ask(config, async |client| {
        client.batch_execute(&format!("DROP TABLE {}, {}", tables.marks(), tables.rows())).await
    })
}

/// Runs SQL that returns nothing of interest.
pub fn execute(config: &Config, script: &str) -> Result<(), VerifyError> {
    ask(config, async |client| client.batch_execute(script).await)
}

/// Every table and index of the database against each other, by `pg_amcheck`.
pub fn amcheck(endpoint: &str) -> Result<(), ShellError> {
    let mut command = Command::new(shell::postgres_program("pg_amcheck"));
    command.args(["--heapallindexed", "--install-missing", "--jobs=2", endpoint]);
    shell::output(&mut command).map(drop)
}

/// One answer from the engine, on a runtime and a session of its own.
fn ask<T>(
    config: &Config,
    question: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
) -> Result<T, VerifyError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(VerifyError::Runtime)?;
    runtime.block_on(async {
        let answer = async {
            let (mut client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            question(&mut client).await
        };
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(VerifyError::Silent),
        }
    })
}

async fn observe(client: &mut Client, tables: Tables) -> Result<Observed, Error> {
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let snapshot = snapshot.start().await?;
    // By the table, not by an index: an index that forgot a row must not hide it.
    snapshot.batch_execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off").await?;
    let marks = snapshot.query(&format!("SELECT client, sequence FROM {}", tables.marks()), &[]).await?;
    let rows = format!("SELECT client, sequence, part, version, payload, checksum FROM {}", tables.rows());
    let rows = snapshot.query(&rows, &[]).await?;
    snapshot.commit().await?;
    let mut observed = Observed::default();
    for row in &marks {
        let id = (number(row, 0), number(row, 1));
        if !observed.marks.insert(id) {
            observed.twice.push(format!("mark {id:?}"));
        }
    }
    for row in &rows {
        let id = (number(row, 0), number(row, 1), number(row, 2));
        let checksum: i64 = row.get(5);
        let content = Content { version: number(row, 3), payload: row.get(4), checksum: checksum as u32 };
        if observed.rows.insert(id, content).is_some() {
            observed.twice.push(format!("row {id:?}"));
        }
    }
    Ok(observed)
}

fn number(row: &Row, column: usize) -> u32 {
    row.get::<_, i32>(column) as u32
}

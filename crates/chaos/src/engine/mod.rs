//! The engines that the harness tests, one folder each.
//!
//! The rest speaks to an engine through [`Database`] and [`Session`]: how to connect, the tables of a round, the statements
//! of a plan, what is in a table, and the checks that only this engine has. What must be there is the ledger's judgement
//! and the same for all ([`crate::ledger`]).

pub mod mariadb;
pub mod postgres;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::ledger::{Ledger, Observed};
use crate::plan::{Plan, Tables};
use crate::shell::ShellError;

/// How long an engine may take to answer a question of the harness.
const LIMIT: Duration = Duration::from_secs(120);

/// An engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL.
    #[default]
    Postgres,
    /// MariaDB.
    Mariadb,
}

/// A cluster to play rounds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: &'static str,
    /// Its engine.
    pub engine: Engine,
    /// The engine's parameters, as `NAME=VALUE`.
    pub parameters: &'static [&'static str],
}

/// An endpoint that is not one.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint {endpoint:?} is not a connection string")]
pub struct BadEndpoint {
    endpoint: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What an engine, or the way to it, answered instead of what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct Refusal {
    said: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A question to which there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No threads.
    #[error("cannot start the thread that asks the engine")]
    Runtime(#[source] std::io::Error),
    /// The engine's answer.
    #[error("the engine refused to be asked")]
    Refused(#[from] Refusal),
    /// No answer.
    #[error("the engine did not answer within {} s", LIMIT.as_secs())]
    Silent,
    /// A program of the engine's.
    #[error(transparent)]
    Shell(#[from] ShellError),
}

/// An answer that is awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// A connection.
pub trait Session: Send {
    /// Runs one or more statements that return nothing of interest.
    fn execute<'a>(&'a mut self, script: &'a str) -> Pending<'a, ()>;
}

/// What one verification found in the tables of one ledger, before anything unknown is settled.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// The tables.
    pub tables: Tables,
    /// What the clients were told.
    pub ledger: &'a Ledger,
    /// What is there.
    pub observed: &'a Observed,
}

/// What an engine's own checks found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Every broken promise, in words.
    pub broken: Vec<String>,
    /// How many transactions of the engine's own log of changes were held against the tables; `None` without such a log.
    pub logged: Option<u64>,
}

/// A database that is reached by one endpoint.
pub trait Database: Debug + Send + Sync {
    /// A session of a client, which [`Database::end_clients`] finds.
    fn connect_client(&self) -> Pending<'_, Box<dyn Session>>;

    /// Any other session.
    fn connect(&self) -> Pending<'_, Box<dyn Session>>;

    /// The tables of a round, each with a ledger of its own. The first ones are those whose commits count.
    fn tables(&self, number: u64) -> Vec<Tables>;

    /// The script that makes them. Keys and indexes are there to be checked against the tables.
    fn creation(&self, tables: Tables) -> String;

    /// The script that removes them.
    fn removal(&self, tables: Tables) -> String;

    /// Everything of a plan before COMMIT or ROLLBACK; or, of one that stands alone, the one statement.
    fn statements(&self, plan: &Plan, client: u32, tables: Tables) -> String;

    /// Ends the clients' sessions that are left, so that nothing of unknown outcome can happen any more.
    fn end_clients(&self) -> Pending<'_, ()>;

    /// One snapshot of the tables, read by the tables themselves: an index that forgot a row must not hide it.
    fn observe(&self, tables: Tables) -> Pending<'_, Observed>;

    /// Checks what only this engine has. `deep`: also every table and index.
    fn check(&self, audits: &[Audit<'_>], deep: bool) -> Result<Checked, AskError>;

    /// Drops logs of changes that were checked.
    fn forget_logs(&self) -> Pending<'_, ()>;
}

impl Engine {
    /// The clusters that rounds are played on.
    #[must_use]
    pub fn clusters(self) -> &'static [Cluster] {
        match self {
            Engine::Postgres => postgres::CLUSTERS,
            Engine::Mariadb => mariadb::CLUSTERS,
        }
    }

    /// The one that a seed plays on: one after the other.
    #[must_use]
    pub fn cluster(self, seed: u64) -> &'static Cluster {
        let all = self.clusters();
        &all[(seed % all.len() as u64) as usize]
    }

    /// The database at an endpoint.
    pub fn database(self, endpoint: &str) -> Result<Arc<dyn Database>, BadEndpoint> {
        let bad = |source| BadEndpoint { endpoint: endpoint.to_owned(), source };
        Ok(match self {
            Engine::Postgres => Arc::new(postgres::Postgres::at(endpoint).map_err(bad)?),
            Engine::Mariadb => Arc::new(mariadb::Mariadb::at(endpoint).map_err(bad)?),
        })
    }

    /// Whether each client is served by a process of its own.
    #[must_use]
    pub fn has_backends(self) -> bool {
        self == Engine::Postgres
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Postgres => "postgres",
            Engine::Mariadb => "mariadb",
        }
    }
}

/// Waits for an answer, on a runtime of its own.
pub fn answer<T>(pending: Pending<'_, T>) -> Result<T, AskError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskError::Runtime)?;
    match runtime.block_on(async { tokio::time::timeout(LIMIT, pending).await }) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::Silent),
    }
}

/// Runs a script that returns nothing of interest.
pub fn execute(database: &dyn Database, script: &str) -> Result<(), AskError> {
    answer(Box::pin(async move { database.connect().await?.execute(script).await }))
}

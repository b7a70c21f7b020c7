//! What PostgreSQL can check itself: page checksums, and tables and indexes against each other.

use std::process::Command;

use super::Postgres;
use crate::engine::{self, AskError, Checked};
use crate::shell::{self, ShellError};

/// What the engine says about its pages.
struct Pages {
    checksums_on: bool,
    checksum_failures: i64,
}

/// Checks everything.
pub(super) fn all(database: &Postgres, deep: bool) -> Result<Checked, AskError> {
    let mut checked = Checked::default();
    let pages = pages(database)?;
    if !pages.checksums_on {
        checked.broken.push("the engine runs without page checksums".to_owned());
    }
    if pages.checksum_failures > 0 {
        checked.broken.push(format!("{} pages had a wrong checksum", pages.checksum_failures));
    }
    if deep && let Err(error) = amcheck(&database.endpoint) {
        checked.broken.push(error.to_string());
    }
    Ok(checked)
}

fn pages(database: &Postgres) -> Result<Pages, AskError> {
    engine::answer(Box::pin(async move {
        let query = "SELECT current_setting('data_checksums') = 'on', \
                     coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database";
        let row = database.client().await?.query_one(query, &[]).await?;
        Ok(Pages { checksums_on: row.get(0), checksum_failures: row.get(1) })
    }))
}

/// Every table and index of the database against each other, by `pg_amcheck`.
fn amcheck(endpoint: &str) -> Result<(), ShellError> {
    let mut command = Command::new(shell::postgres_program("pg_amcheck"));
    command.args(["--heapallindexed", "--install-missing", "--jobs=2", endpoint]);
    shell::output(&mut command).map(drop)
}

//! `zorya sql`: becomes psql.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use zorya_compute::postgres::SUPERUSER;

use super::Invocation;
use super::cluster::known;
use crate::cli::Sql;

/// Replaces this process by psql. The password goes by a file, so that no list of processes shows it.
pub fn run(invocation: &Invocation, options: Sql) -> anyhow::Result<ExitCode> {
    let region = invocation.region()?;
    known(&region, &options.cluster)?;
    let port = region.cluster(&options.cluster).map_or(0, |cluster| cluster.port);
    let error = Command::new("psql")
        .env("PGHOST", region.engine_host())
        .env("PGPORT", port.to_string())
        .env("PGPASSFILE", invocation.home.pgpass(&options.cluster))
        .env("PGUSER", SUPERUSER)
        .env("PGDATABASE", SUPERUSER)
        .args(&options.arguments)
        .exec();
    Err(error).context("cannot run psql: install it (apt-get install postgresql-client-15)")
}

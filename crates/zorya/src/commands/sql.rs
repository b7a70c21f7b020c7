//! `zorya sql`: becomes the engine's own client.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use zorya_compute::region::{ClusterSpec, Engine, Region};

use super::Invocation;
use super::cluster::known;
use crate::cli::Sql;

/// Replaces this process by psql or mariadb. The password goes by a file, so that no list of processes shows it.
pub fn run(invocation: &Invocation, options: Sql) -> anyhow::Result<ExitCode> {
    let region = invocation.region()?;
    known(&region, &options.cluster)?;
    let cluster = region.cluster(&options.cluster).context("the cluster is gone: see `zorya status`")?;
    let (mut client, install) = match cluster.engine {
        Engine::Postgres => {
            (psql(invocation, &region, cluster), "psql: install it (apt-get install postgresql-client-15)")
        }
        Engine::Mariadb => {
            (mariadb(invocation, &region, cluster), "mariadb: install it (apt-get install mariadb-client)")
        }
    };
    let error = client.args(&options.arguments).exec();
    Err(error).with_context(|| format!("cannot run {install}"))
}

fn psql(invocation: &Invocation, region: &Region, cluster: &ClusterSpec) -> Command {
    let mut psql = Command::new("psql");
    psql.env("PGHOST", region.engine_host())
        .env("PGPORT", cluster.port.to_string())
        .env("PGPASSFILE", invocation.home.pgpass(&cluster.name))
        .env("PGUSER", cluster.engine.superuser())
        .env("PGDATABASE", cluster.engine.superuser());
    psql
}

fn mariadb(invocation: &Invocation, region: &Region, cluster: &ClusterSpec) -> Command {
    let mut mariadb = Command::new("mariadb");
    mariadb
        .arg(format!("--defaults-extra-file={}", invocation.home.client_options(&cluster.name).display()))
        .arg(format!("--host={}", region.engine_host()))
        .arg(format!("--port={}", cluster.port));
    mariadb
}

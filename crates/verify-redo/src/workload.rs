//! What the server is made to do.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::server::{Server, as_engine, run_quietly};

/// The coverage scripts, in the order in which they run. Each makes records that other workloads seldom or never do.
const SCRIPTS: &[(&str, &str)] = &[
    ("heap", include_str!("../sql/heap.sql")),
    ("btree", include_str!("../sql/btree.sql")),
    ("hash", include_str!("../sql/hash.sql")),
    ("gin", include_str!("../sql/gin.sql")),
    ("gist", include_str!("../sql/gist.sql")),
    ("spgist", include_str!("../sql/spgist.sql")),
    ("brin", include_str!("../sql/brin.sql")),
    ("xids", include_str!("../sql/xids.sql")),
];

/// Runs the coverage scripts, pgbench, and PostgreSQL's own suites where there are sources.
pub fn run(server: &Server, sources: Option<&Path>, quick: bool, pgbench_seconds: u32) -> Result<()> {
    for (name, script) in SCRIPTS {
        script_on(server, name, script)?;
    }
    run_quietly(server.program("vacuumdb").args(["--all", "--freeze", "--quiet"]))?;
    with_page_images(server)?;
    pgbench(server, if quick { 5 } else { pgbench_seconds })?;
    if let Some(sources) = sources {
        regress(server, sources)?;
    }
    Ok(())
}

fn script_on(server: &Server, name: &str, script: &str) -> Result<()> {
    eprintln!("coverage script {name}");
    server.psql("postgres", &format!("create database {name}"))?;
    let path = server.dir().join(format!("{name}.sql"));
    fs::write(&path, script)?;
    let mut psql = server.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", name, "-f"]).arg(&path);
    run_quietly(&mut psql).with_context(|| format!("coverage script {name}"))
}

/// The same for a while with images that redo is to apply, as they are after every checkpoint by default.
fn with_page_images(server: &Server) -> Result<()> {
    eprintln!("with full-page writes");
    set_page_images(server, "on")?;
    server.psql("postgres", "create database images")?;
    run_quietly(server.program("pgbench").args(["-i", "-q", "-s", "1", "images"]))?;
    for compression in ["pglz", "lz4", "zstd"] {
        server.psql("postgres", &format!("alter database images set wal_compression = {compression}"))?;
        server.psql("postgres", "checkpoint")?;
        run_quietly(server.program("pgbench").args(["-n", "-c", "2", "-t", "200", "images"]))?;
    }
    set_page_images(server, "off")
}

fn set_page_images(server: &Server, on_or_off: &str) -> Result<()> {
    server.psql("postgres", &format!("alter system set full_page_writes = {on_or_off}"))?;
    server.psql("postgres", "select pg_reload_conf()")?;
    // The checkpointer takes the setting over; a checkpoint waits for it.
    server.psql("postgres", "checkpoint")?;
    Ok(())
}

fn pgbench(server: &Server, seconds: u32) -> Result<()> {
    eprintln!("pgbench");
    server.psql("postgres", "create database bench")?;
    run_quietly(server.program("pgbench").args(["-i", "-q", "-s", "2", "bench"]))?;
    let seconds = seconds.to_string();
    run_quietly(server.program("pgbench").args(["-n", "-c", "4", "-j", "1", "-T", &seconds, "bench"]))
}

/// The core regression suite. Its verdict does not matter here: settings that it does not expect change some plans.
fn regress(server: &Server, sources: &Path) -> Result<()> {
    eprintln!("regression suite");
    let suite = sources.join("src/test/regress");
    let out = server.dir().join("regress");
    run_quietly(as_engine("mkdir").arg(&out))?;
    let program = "/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress";
    let mut command = as_engine(program);
    command
        .arg(format!("--inputdir={}", suite.display()))
        .arg(format!("--dlpath={}", suite.display()))
        .arg(format!("--outputdir={}", out.display()))
        .arg(format!("--host={}", server.dir().display()))
        .args(["--user=postgres", "--bindir=/usr/lib/postgresql/15/bin", "--max-concurrent-tests=20"])
        .arg(format!("--schedule={}", suite.join("parallel_schedule").display()))
        .current_dir(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status().context("running pg_regress")?;
    eprintln!("pg_regress ended with {status}");
    Ok(())
}

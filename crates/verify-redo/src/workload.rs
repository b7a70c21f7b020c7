//! What the server is made to do.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::installation;
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
    ("map", include_str!("../sql/map.sql")),
    ("xids", include_str!("../sql/xids.sql")),
];

/// What the server is stopped with.
const LAST: &str = include_str!("../sql/last.sql");

/// Runs the coverage scripts, pgbench, and PostgreSQL's own suites where there are sources.
pub fn run(server: &Server, sources: Option<&Path>, quick: bool, pgbench_seconds: u32) -> Result<()> {
    for (name, script) in SCRIPTS {
        script_on(server, name, script)?;
    }
    run_quietly(server.program("vacuumdb").args(["--all", "--freeze", "--quiet"]))?;
    with_page_images(server)?;
    // Until here a worker's snapshot could have kept items alive that a script needs dead.
    server.psql("postgres", "alter system set autovacuum = on")?;
    server.psql("postgres", "select pg_reload_conf()")?;
    pgbench(server, if quick { 5 } else { pgbench_seconds })?;
    if let Some(sources) = sources {
        suites(server, sources)?;
    }
    // What is prepared would keep slots from being made.
    script_on(server, "last", LAST)
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

/// Modules of contrib whose suites make records.
const CONTRIB: &[&str] = &[
    "amcheck",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "pg_trgm",
    "pg_visibility",
    "pgstattuple",
    "seg",
    "tablefunc",
    "tcn",
    "test_decoding",
    "unaccent",
];

/// PostgreSQL's own suites. Their verdicts do not matter here: settings that they do not expect change some plans.
fn suites(server: &Server, sources: &Path) -> Result<()> {
    let core = sources.join("src/test/regress");
    let schedule = format!("--schedule={}", core.join("parallel_schedule").display());
    suite(
        server,
        "regress",
        "regress/pg_regress",
        &core,
        &["--max-concurrent-tests=20".to_owned(), schedule],
    )?;
    let isolation = sources.join("src/test/isolation");
    let schedule = format!("--schedule={}", isolation.join("isolation_schedule").display());
    suite(server, "isolation", "isolation/pg_isolation_regress", &isolation, &[schedule])?;
    for module in CONTRIB {
        let directory = sources.join("contrib").join(module);
        let makefile = fs::read_to_string(directory.join("Makefile"))?.replace("\\\n", " ");
        let tests = makefile.lines().find_map(|line| line.strip_prefix("REGRESS ="));
        let tests = tests.unwrap_or_default().split_whitespace().map(str::to_owned);
        let database = std::iter::once(format!("--dbname=contrib_{module}"));
        suite(server, module, "regress/pg_regress", &directory, &database.chain(tests).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn suite(server: &Server, name: &str, program: &str, input: &Path, arguments: &[String]) -> Result<()> {
    let out = server.dir().join(format!("suite-{name}"));
    run_quietly(as_engine("mkdir").arg(&out))?;
    let status = as_engine(installation::suite_programs(server.major()).join(program))
        .arg(format!("--inputdir={}", input.display()))
        .arg(format!("--dlpath={}", input.display()))
        .arg(format!("--outputdir={}", out.display()))
        .arg(format!("--host={}", server.dir().display()))
        .arg("--user=postgres")
        .arg(format!("--bindir={}", installation::programs(server.major()).display()))
        .args(arguments)
        .current_dir(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("running {program}"))?;
    eprintln!("suite {name}: {status}");
    Ok(())
}

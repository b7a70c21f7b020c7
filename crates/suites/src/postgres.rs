//! PostgreSQL's regression and isolation suites, against a server that runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use zorya_bench::region::Region;
use zorya_bench::stock::StockServer;
use zorya_bench::stop::{self, Ended, Interrupt};
use zorya_bench::target::{Endpoint, Server};
use zorya_compute::engine::Installed;
use zorya_compute::region::Engine;

use crate::outcome::{Outcome, Side, Store, Verdict};
use crate::scratch;

/// Runs PostgreSQL's suites.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The binary that makes the region
    #[arg(long)]
    zorya: PathBuf,
    /// PostgreSQL's sources, with built suites, readable to the engine's user
    #[arg(long)]
    sources: PathBuf,
    /// Where the servers' directories are made
    #[arg(long, default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Where the files are
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Side::Mount, Side::Disk])]
    sides: Vec<Side>,
}

/// Where the distribution keeps the programs that run suites.
const PGXS: &str = "/usr/lib/postgresql/15/lib/pgxs/src/test";
/// The longest that one suite may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// What both servers are given beside their defaults.
const PARAMETERS: &[(&str, &str)] = &[
    // As `make check` gives its own server: without room for them prepared transactions are tested only for being refused.
    ("max_prepared_transactions", "2"),
    // PostgreSQL's default, which the regression suite's `tablespace` sets on by itself after it saw it refuse. A cluster
    // has it on, since tablespaces have to lie in the volume.
    ("allow_in_place_tablespaces", "off"),
];

struct Suite {
    name: &'static str,
    program: &'static str,
    /// Below the sources.
    directory: &'static str,
    schedule: &'static str,
    arguments: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "regression",
        program: "regress/pg_regress",
        directory: "src/test/regress",
        schedule: "parallel_schedule",
        arguments: &["--max-concurrent-tests=20"],
    },
    Suite {
        name: "isolation",
        program: "isolation/pg_isolation_regress",
        directory: "src/test/isolation",
        schedule: "isolation_schedule",
        arguments: &[],
    },
];

/// Runs both suites on the sides that are wanted. Whether all passed.
pub fn run(options: &Options, store: &Store) -> Result<bool> {
    let interrupt = Interrupt::listen()?;
    let installed = Installed::find(Engine::Postgres, None)?;
    let parameters: Vec<(String, String)> =
        PARAMETERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut well = true;
    for side in &options.sides {
        let scratch = scratch::directory(&options.scratch)?;
        let root = scratch.path();
        let run = Run { installed: &installed, options, store, root, side: *side, interrupt: &interrupt };
        well &= match side {
            Side::Mount => {
                let mut region = Region::start(&options.zorya, &root.join("region"), &interrupt)?;
                region.create(Engine::Postgres, &parameters, &interrupt)?;
                let server = region.server(Engine::Postgres).context("the region has no such cluster")?;
                run.suites(server.endpoint())?
            }
            Side::Disk => {
                let directory = root.join("stock");
                let server = StockServer::start(&installed, &directory, &parameters, &interrupt)?;
                run.suites(server.endpoint())?
            }
        };
    }
    Ok(well)
}

struct Run<'a> {
    installed: &'a Installed,
    options: &'a Options,
    store: &'a Store,
    root: &'a Path,
    side: Side,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    fn suites(&self, endpoint: &Endpoint) -> Result<bool> {
        let mut well = true;
        for suite in SUITES {
            let outcome = self.suite(suite, endpoint)?;
            println!("{}", outcome.summary());
            well &= outcome.failed().is_empty();
        }
        Ok(well)
    }

    fn suite(&self, suite: &Suite, endpoint: &Endpoint) -> Result<Outcome> {
        let name = format!("postgres-{}-{}", suite.name, self.side.word());
        let output = self.root.join(suite.name);
        scratch::owned_directory(&output, self.installed)?;
        let log = self.store.log(&name);
        let started = Instant::now();
        self.regress(suite, endpoint, &output, &log)?;
        let differences = output.join("regression.diffs");
        if differences.exists() {
            fs::copy(&differences, log.with_extension("diffs"))?;
        }
        let outcome = Outcome {
            engine: "postgres".to_owned(),
            server: scratch::version(&self.installed.server)?,
            suite: suite.name.to_owned(),
            part: "whole".to_owned(),
            side: self.side,
            seconds: started.elapsed().as_secs_f64(),
            tests: parse(&fs::read_to_string(&log)?),
        };
        ensure!(!outcome.tests.is_empty(), "no test ran: see {}", log.display());
        self.store.keep(&name, &outcome)?;
        Ok(outcome)
    }

    fn regress(&self, suite: &Suite, endpoint: &Endpoint, output: &Path, log: &Path) -> Result<()> {
        let input = self.options.sources.join(suite.directory);
        let file = File::create(log)?;
        let mut command = scratch::as_engine(self.installed, None, &format!("{PGXS}/{}", suite.program));
        command
            .arg(format!("--inputdir={}", input.display()))
            .arg(format!("--dlpath={}", input.display()))
            .arg(format!("--outputdir={}", output.display()))
            .arg(format!("--schedule={}", input.join(suite.schedule).display()))
            .arg(format!("--host={}", endpoint.host))
            .arg(format!("--port={}", endpoint.port))
            .arg(format!("--user={}", endpoint.user))
            .arg("--bindir=/usr/lib/postgresql/15/bin")
            .args(suite.arguments)
            .current_dir(output)
            .env("HOME", output)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        if let Some(password) = &endpoint.password {
            command.env("PGPASSWORD", password);
        }
        let mut child = command.spawn().with_context(|| format!("cannot run {}", suite.program))?;
        match stop::wait(&mut child, LIMIT, self.interrupt) {
            // Whether tests failed is in the log.
            Ended::Exited(_) => Ok(()),
            Ended::TimedOut => bail!("{} was not done after {} s", suite.name, LIMIT.as_secs()),
            Ended::Interrupted => bail!("interrupted"),
            Ended::Lost(source) => Err(source).context("cannot wait for the suite"),
        }
    }
}

/// Reads what `pg_regress` says of each test, as in `test boolean  ... ok  40 ms` or, in a group, `boolean ... FAILED  5 ms`.
fn parse(log: &str) -> BTreeMap<String, Verdict> {
    let test = |line: &str| {
        let (name, rest) = line.split_once(" ... ")?;
        let name = name.trim().trim_start_matches("test ").trim();
        let rest = rest.trim_start();
        let verdict = if rest.starts_with("ok") {
            Verdict::Passed
        } else if rest.starts_with("FAILED") || rest.starts_with("failed") {
            Verdict::Failed
        } else {
            return None;
        };
        let is_name = !name.is_empty() && !name.contains(' ');
        is_name.then(|| (name.to_owned(), verdict))
    };
    log.lines().filter_map(test).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_alone_and_in_groups_are_read() {
        let log = "\
============== running regression test queries        ==============
test tablespace                   ... ok          345 ms
parallel group (2 tests):  char boolean
     boolean                      ... ok           62 ms
     char                         ... FAILED       40 ms
     random                       ... failed (ignored)       40 ms

=======================
 1 of 4 tests failed.
";
        let tests = parse(log);
        let named = |name: &str| tests.get(name).cloned();
        assert_eq!(named("tablespace"), Some(Verdict::Passed));
        assert_eq!(named("boolean"), Some(Verdict::Passed));
        assert_eq!(named("char"), Some(Verdict::Failed));
        assert_eq!(named("random"), Some(Verdict::Failed));
        assert_eq!(tests.len(), 4);
    }
}

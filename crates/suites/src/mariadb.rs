//! MariaDB's suites by its own `mtr`, which starts servers of its own in a directory of a mount, or of the disk.
//!
//! On the mount that directory is not the cluster's data directory: no name in it means anything to the volume, which is
//! a plain file system there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use zorya_bench::region::Region;
use zorya_bench::stop::{self, Ended, Interrupt};
use zorya_compute::engine::Installed;
use zorya_compute::region::Engine;

use crate::outcome::{Outcome, Side, Store, Verdict};
use crate::scratch;
use crate::tests_of_suite::{self, Part};

/// Runs MariaDB's suites.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The binary that makes the region
    #[arg(long)]
    zorya: PathBuf,
    /// Where MariaDB's packages, tests included, are unpacked, readable to the engine's user
    #[arg(long)]
    packages: PathBuf,
    /// Where the servers' directories are made
    #[arg(long, default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Where the files are
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Side::Mount, Side::Disk])]
    sides: Vec<Side>,
    /// The suites
    #[arg(long, value_delimiter = ',', default_values_t = ["innodb".to_owned(), "main".to_owned()])]
    suites: Vec<String>,
    /// Only this part of each suite, as 1/8
    #[arg(long, value_name = "N/OF", value_parser = Part::parse)]
    part: Option<Part>,
    /// Run again what has an outcome already
    #[arg(long)]
    again: bool,
    /// Only these tests, as innodb.truncate; nothing is kept but the log
    #[arg(value_name = "TEST")]
    tests: Vec<String>,
}

/// The region's directory within the scratch directory.
const REGION: &str = "region";
/// The longest that `mtr` may take for one part.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// `mtr`'s directory within the packages.
const MTR: &str = "usr/share/mysql/mysql-test";
/// Two servers at once; a test that fails is tried once more; no number of failures ends the run. Calls of fsync are made,
/// which `mtr` leaves out otherwise.
const ARGUMENTS: &[&str] = &[
    "--parallel=2",
    "--force",
    "--retry=1",
    "--max-test-fail=0",
    "--testcase-timeout=10",
    "--mysqld=--skip-debug-no-sync",
];

/// Runs what is wanted and not kept yet. Whether all of it passed.
pub fn run(options: &Options, store: &Store) -> Result<bool> {
    let interrupt = Interrupt::listen()?;
    let installed = Installed::find(Engine::Mariadb, None)?;
    let mtr = options.packages.join(MTR);
    let batches = batches(options, &mtr)?;
    let mut well = true;
    for side in &options.sides {
        let is_open = |batch: &&Batch| options.again || !batch.kept || !store.has(&batch.file(*side));
        let open: Vec<&Batch> = batches.iter().filter(is_open).collect();
        if open.is_empty() {
            continue;
        }
        let place = Place::make(options, &installed, *side, &interrupt)?;
        for batch in open {
            let run = Run { options, installed: &installed, mtr: &mtr, place: &place, interrupt: &interrupt };
            let outcome = run.batch(batch, store)?;
            println!("{}", outcome.summary());
            well &= outcome.failed().is_empty();
        }
    }
    Ok(well)
}

/// Tests that one call of `mtr` runs.
struct Batch {
    suite: String,
    /// For people.
    part: String,
    tests: Vec<String>,
    /// Whether the outcome is kept.
    kept: bool,
}

impl Batch {
    /// The name of what is kept of it.
    fn file(&self, side: Side) -> String {
        format!("mariadb-{}-{}-{}", self.suite, self.part.replace('/', "-of-"), side.word())
    }
}

fn batches(options: &Options, mtr: &Path) -> Result<Vec<Batch>> {
    if !options.tests.is_empty() {
        let tests = options.tests.clone();
        return Ok(vec![Batch { suite: "chosen".to_owned(), part: "tests".to_owned(), tests, kept: false }]);
    }
    let batch = |suite: &String| {
        let all = tests_of_suite::tests(mtr, suite)?;
        let (part, tests) = match options.part {
            Some(part) => (format!("{}/{}", part.number, part.of), part.of(&all).to_vec()),
            None => ("whole".to_owned(), all),
        };
        Ok(Batch { suite: suite.clone(), part, tests, kept: true })
    };
    options.suites.iter().map(batch).collect()
}

/// Where `mtr` has its servers' files.
struct Place {
    side: Side,
    /// Its directory, as the mount daemon sees it on that side.
    directory: PathBuf,
    /// The mount daemon of that side.
    mount: Option<u32>,
    /// Taken down when dropped, before the directory goes.
    _region: Option<Region>,
    scratch: tempfile::TempDir,
}

impl Place {
    fn make(options: &Options, installed: &Installed, side: Side, interrupt: &Interrupt) -> Result<Place> {
        let scratch = scratch::directory(&options.scratch)?;
        if side == Side::Disk {
            let directory = scratch.path().join("mtr");
            scratch::owned_directory(&directory, installed)?;
            return Ok(Place { side, directory, mount: None, _region: None, scratch });
        }
        let mut region = Region::start(&options.zorya, &scratch.path().join(REGION), interrupt)?;
        region.create(Engine::Mariadb, &[], interrupt)?;
        let server = region.server(Engine::Mariadb).context("the region has no such cluster")?;
        let mount = server.mount().context("the cluster has no mount")?;
        let report = server.mount_report().context("the mount says nothing")?;
        let root = report.facts.get("mountpoint").and_then(|path| path.as_str());
        let directory = PathBuf::from(root.context("the mount does not say where it is")?).join("mtr");
        let made = scratch::as_engine(installed, Some(mount), "mkdir").arg(&directory).status()?;
        ensure!(made.success(), "cannot make {} in the mount", directory.display());
        Ok(Place { side, directory, mount: Some(mount), _region: Some(region), scratch })
    }
}

impl Place {
    /// Keeps the region's logs beside that of `mtr`.
    fn keep_logs(&self, log: &Path) -> Result<()> {
        let region = self.scratch.path().join(REGION);
        let cluster = region.join("clusters/mariadb");
        for path in [region.join("agent.log"), cluster.join("mount.log"), cluster.join("engine.log")] {
            if let (true, Some(name)) = (path.exists(), path.file_stem().and_then(|stem| stem.to_str())) {
                fs::copy(&path, log.with_extension(format!("{name}.log")))?;
            }
        }
        Ok(())
    }
}

struct Run<'a> {
    options: &'a Options,
    installed: &'a Installed,
    mtr: &'a Path,
    place: &'a Place,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    fn batch(&self, batch: &Batch, store: &Store) -> Result<Outcome> {
        let name = batch.file(self.place.side);
        let log = store.log(&name);
        let started = Instant::now();
        self.mtr(batch, &log)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if !is_complete(&text) {
            self.place.keep_logs(&log)?;
            bail!("mtr did not come to its end: see {}", log.display());
        }
        let outcome = Outcome {
            engine: "mariadb".to_owned(),
            server: scratch::version(&self.options.packages.join("usr/sbin/mariadbd"))?,
            suite: batch.suite.clone(),
            part: batch.part.clone(),
            side: self.place.side,
            seconds: started.elapsed().as_secs_f64(),
            tests: parse(&text),
        };
        if batch.kept {
            store.keep(&name, &outcome)?;
        }
        Ok(outcome)
    }

    fn mtr(&self, batch: &Batch, log: &Path) -> Result<()> {
        let file = File::create(log)?;
        let mut command = self.command(batch);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("cannot run mtr")?;
        match stop::wait(&mut child, LIMIT, self.interrupt) {
            // Whether tests failed is in the log.
            Ended::Exited(_) => Ok(()),
            Ended::TimedOut => bail!("mtr was not done after {} s", LIMIT.as_secs()),
            Ended::Interrupted => bail!("interrupted"),
            Ended::Lost(source) => Err(source).context("cannot wait for mtr"),
        }
    }

    fn command(&self, batch: &Batch) -> Command {
        let mut command = scratch::as_engine(self.installed, self.place.mount, "env");
        // Entering a mount namespace changes the working directory, hence this late.
        command.arg(format!("--chdir={}", self.mtr.display()));
        command.arg(format!("HOME={}", self.place.scratch.path().display()));
        command.args(["LC_ALL=C.UTF-8", "perl", "mariadb-test-run.pl"]);
        command.arg(format!("--vardir={}", self.place.directory.join("var").display()));
        command.args(ARGUMENTS).args(&batch.tests);
        command
    }
}

/// Whether `mtr` printed what it prints last.
fn is_complete(log: &str) -> bool {
    log.lines().any(|line| line.starts_with("Completed: "))
}

/// Reads what `mtr` says of each test, as in `innodb.truncate '16k'   w1 [ pass ]    123`. Of a test that was tried again
/// the last counts.
fn parse(log: &str) -> BTreeMap<String, Verdict> {
    let mut tests: BTreeMap<String, Verdict> = BTreeMap::new();
    for (name, verdict) in log.lines().filter_map(parse_line) {
        tests.insert(name, verdict);
    }
    tests
}

fn parse_line(line: &str) -> Option<(String, Verdict)> {
    let (name, rest) = line.split_once(" [ ")?;
    let (word, reason) = rest.split_once(" ]")?;
    let verdict = match word {
        "pass" => Verdict::Passed,
        "retry-pass" => Verdict::Retried,
        "fail" | "retry-fail" => Verdict::Failed,
        "skipped" | "disabled" => Verdict::Skipped(reason.trim().to_owned()),
        _ => return None,
    };
    let words: Vec<&str> = name.split_whitespace().collect();
    let is_worker = |word: &str| word.strip_prefix('w').is_some_and(|number| number.parse::<u32>().is_ok());
    let words = match words.split_last() {
        Some((last, before)) if is_worker(last) => before,
        _ => &words[..],
    };
    // Output of tests may have brackets too.
    let (first, combinations) = words.split_first()?;
    let is_test = line.starts_with(first) && (first.contains('.') || *first == "shutdown_report");
    let quoted = combinations.iter().all(|word| word.starts_with('\'') || word.ends_with('\''));
    (is_test && quoted).then(|| (words.join(" "), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
TEST                                  WORKER RESULT   TIME (ms) or COMMENT
worker[1] Using MTR_BUILD_THREAD 300, with reserved ports 16000..16029
innodb.101_compatibility '16k'           w1 [ pass ]    225
innodb.import '16k,full'                 w2 [ fail ]
        Test ended at 2026-11-26 17:00:00
 a line [ pass ] of its output
innodb.import '16k,full'                 w2 [ retry-pass ]    225
innodb.truncate                          w2 [ fail ]  timeout after 60 seconds
innodb.truncate                          w2 [ retry-fail ]
innodb.alloc_fail                        w1 [ skipped ]  Test requires: 'have_debug'
innodb.read_many                         [ disabled ]  Bug#11748886
worker[1] Trying to dump core for [mysqltest - pid: 1, winpid: 2]
Completed: Failed 1/4 tests, 75.00% were successful.
";

    #[test]
    fn the_last_word_on_every_test_counts() {
        let skipped = |reason: &str| Verdict::Skipped(reason.to_owned());
        let expected = [
            ("innodb.101_compatibility '16k'", Verdict::Passed),
            ("innodb.import '16k,full'", Verdict::Retried),
            ("innodb.truncate", Verdict::Failed),
            ("innodb.alloc_fail", skipped("Test requires: 'have_debug'")),
            ("innodb.read_many", skipped("Bug#11748886")),
        ];
        let expected = expected.map(|(name, verdict)| (name.to_owned(), verdict));
        assert_eq!(parse(LOG), BTreeMap::from(expected));
        assert!(is_complete(LOG) && !is_complete("mysql-test-run: *** ERROR: no disk"));
    }
}

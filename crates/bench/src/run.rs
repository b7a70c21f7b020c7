//! A whole run: both servers up, rounds of slices in turns, both gone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::disk::{self, Disk};
use crate::figures::figures;
use crate::machine::Machine;
use crate::options::BenchArgs;
use crate::region::{Region, RegionError};
use crate::report::Report;
use crate::slice::{Bench, Slice, SliceError, Work};
use crate::startup::{self, Startup, StartupError};
use crate::stock::{StockError, StockServer};
use crate::stop::{ChildError, Interrupt};
use crate::target::Server;

/// A run without figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The temporary directory could not be made.
    #[error("cannot make a directory in {path}: choose another with --scratch")]
    Scratch {
        /// Where it was to be.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The data would lie in memory.
    #[error("{path} is on {kind}, where a sync costs nothing: choose a directory on a disk with --scratch")]
    NotADisk {
        /// The directory.
        path: PathBuf,
        /// Its file system.
        kind: String,
    },
    /// The own binary is not known.
    #[error("cannot find this program's own file: name it with --zorya")]
    NoBinary(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// The stock server failed.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// The region failed.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A slice failed.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The region did not serve, or not again.
    #[error(transparent)]
    Startup(#[from] StartupError),
}

impl BenchError {
    /// Whether it was the operator who ended the run.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        if let BenchError::Startup(error) = self {
            return error.is_interrupt();
        }
        matches!(
            self,
            BenchError::Stock(StockError::Program(ChildError::Interrupted))
                | BenchError::Region(RegionError::Command { source: ChildError::Interrupted, .. })
                | BenchError::Slice(SliceError::Client { source: ChildError::Interrupted, .. })
        )
    }
}

/// Measures. Progress goes to the standard error.
pub fn run(options: &BenchArgs) -> Result<Report, BenchError> {
    let started = Instant::now();
    let interrupt = Interrupt::listen().map_err(BenchError::Signals)?;
    let zorya = match &options.zorya {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(BenchError::NoBinary)?,
    };
    let scratch = scratch_directory(&options.scratch)?;
    let root = scratch.path();
    let works = Work::all(&options.clients);
    let progress = progress(works.len(), options);

    let disk = Disk::below(root);
    let machine = Machine::observe(root, disk.as_ref(), &options.bin_dir.join("postgres"), &zorya);
    let (scale, length) = (options.scale(), options.slice_length());
    let bench = Bench { bin_dir: &options.bin_dir, scratch: root, scale, length, disk, interrupt };
    let interrupt = &bench.interrupt;

    progress.set_message("starting a region from nothing");
    let first_select = startup::from_nothing(&bench, &zorya, &root.join("first"))?;
    // Declared after the directory, hence stopped before it is removed.
    progress.set_message("starting stock PostgreSQL");
    let parameters = parameters(options);
    let stock = StockServer::start(&root.join("stock"), &options.bin_dir, &parameters, interrupt)?;
    progress.set_message("starting the region");
    let mut region = Region::start(&zorya, &root.join("region"), &parameters, interrupt)?;
    let runs = measure(&bench, &works, &stock, &region, options, started, &progress)?;
    drop(stock);
    let startup = restarts(&bench, &mut region, options, first_select, &progress)?;
    progress.finish_and_clear();
    let mut figures = figures(&works, &runs);
    let ratios = figures.iter().take_while(|figure| figure.unit == "ratio").count();
    figures.splice(ratios..ratios, startup.figures());
    Ok(Report {
        figures,
        rounds: runs.iter().map(|slice| slice.round).max().unwrap_or_default(),
        runs,
        machine,
        scale: options.scale(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Fills both databases, then rounds: each figure on one side and at once on the other, so that whatever drifts in the
/// machine drifts for both.
fn measure(
    bench: &Bench<'_>,
    works: &[Work],
    stock: &dyn Server,
    region: &dyn Server,
    options: &BenchArgs,
    started: Instant,
    progress: &ProgressBar,
) -> Result<Vec<Slice>, BenchError> {
    for server in [stock, region] {
        progress.set_message(format!("filling {}", server.side().word()));
        bench.prepare(server)?;
    }
    let mut slices = Vec::new();
    let mut longest_round = Duration::ZERO;
    for round in 1..=options.slice_count() {
        let fits = options.limit().is_none_or(|limit| started.elapsed() + longest_round <= limit);
        if round > 1 && !fits {
            break;
        }
        let round_started = Instant::now();
        for work in works {
            for (server, idle) in [(stock, region), (region, stock)] {
                progress.set_message(format!("{} {}", work.name(), server.side().word()));
                slices.push(bench.slice(*work, server, idle, round)?);
                progress.inc(1);
            }
        }
        longest_round = longest_round.max(round_started.elapsed());
    }
    Ok(slices)
}

/// Takes the filled region down and up again, then kills its writer under load.
fn restarts(
    bench: &Bench<'_>,
    region: &mut Region,
    options: &BenchArgs,
    first_select: Duration,
    progress: &ProgressBar,
) -> Result<Startup, BenchError> {
    progress.set_message("restarting the region");
    let mut startup = Startup { first_select, restart: startup::restart(bench, region)?, kills: Vec::new() };
    for load in options.loads_before_kills() {
        progress.set_message(format!("killing the writer after {} s of TPC-B", load.as_secs()));
        startup.kills.push(startup::kill_writer(bench, region, load)?);
    }
    Ok(startup)
}

/// The parameters of both servers: the stock ones, of which the cache's size is named since it matters most.
fn parameters(options: &BenchArgs) -> Vec<(String, String)> {
    let mut parameters = vec![("shared_buffers".to_owned(), "128MB".to_owned())];
    parameters.extend(options.parameter.iter().cloned());
    parameters
}

fn scratch_directory(parent: &Path) -> Result<tempfile::TempDir, BenchError> {
    let failed = |source| BenchError::Scratch { path: parent.to_owned(), source };
    std::fs::create_dir_all(parent).map_err(failed)?;
    if let Some(kind) = disk::file_system(parent).filter(|kind| matches!(kind.as_str(), "tmpfs" | "ramfs")) {
        return Err(BenchError::NotADisk { path: parent.to_owned(), kind });
    }
    let directory = tempfile::Builder::new().prefix("zorya-bench-").tempdir_in(parent).map_err(failed)?;
    // The engines' user has to get through to its own directory.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(directory)
}

fn progress(works: usize, options: &BenchArgs) -> ProgressBar {
    let slices = works as u64 * 2 * u64::from(options.slice_count());
    let progress = ProgressBar::new(slices);
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(500));
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_in_memory_is_refused() {
        let error = scratch_directory(Path::new("/dev/shm")).unwrap_err();
        assert!(matches!(&error, BenchError::NotADisk { kind, .. } if kind == "tmpfs"), "{error}");
    }

    #[test]
    fn a_scratch_directory_is_open_to_the_engines_user_and_goes_away() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = scratch_directory(parent.path());
        let Ok(scratch) = scratch else {
            return assert_eq!(disk::file_system(parent.path()).as_deref(), Some("tmpfs"));
        };
        let mode = std::fs::metadata(scratch.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        drop(scratch);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}

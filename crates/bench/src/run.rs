//! A whole run: all servers up, rounds of slices in turns, all gone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use zorya_compute::engine::{BinariesError, Installed};
use zorya_compute::region::Engine;

use crate::clients::ClientError;
use crate::clients::mariadb::{self, MariadbClients};
use crate::clients::postgres::PostgresClients;
use crate::disk::{self, Disk};
use crate::figures::figures;
use crate::machine::{Machine, Programs};
use crate::options::BenchArgs;
use crate::region::{Region, RegionError, RegionServer};
use crate::report::{Figure, Report};
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
    /// An engine is not there.
    #[error(transparent)]
    Engine(#[from] BinariesError),
    /// A stock server failed.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// The region failed.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A client failed.
    #[error(transparent)]
    Client(#[from] ClientError),
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
        match self {
            BenchError::Startup(error) => error.is_interrupt(),
            BenchError::Slice(error) => error.is_interrupt(),
            BenchError::Client(error) => error.is_interrupt(),
            BenchError::Stock(StockError::Program(error))
            | BenchError::Region(RegionError::Command { source: error, .. }) => {
                matches!(error, ChildError::Interrupted)
            }
            _ => false,
        }
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
    let engines = engines(options)?;
    let scratch = scratch_directory(&options.scratch)?;
    let root = scratch.path();
    let kinds: Vec<Engine> = engines.iter().map(|installed| installed.engine).collect();
    let works = Work::all(&kinds, &options.clients);
    let progress = progress(works.len(), options);
    let bench = bench(options, &engines, root, interrupt);
    let interrupt = &bench.interrupt;
    let machine = machine(options, &engines, &bench, root, &zorya);

    let with_postgres = kinds.contains(&Engine::Postgres);
    progress.set_message("starting a region from nothing");
    let first_select =
        with_postgres.then(|| startup::from_nothing(&bench, &zorya, &root.join("first"))).transpose()?;
    // Declared after the directory, hence stopped before it is removed.
    progress.set_message("starting the servers");
    let mut stocks = Vec::new();
    let mut region = Region::start(&zorya, &root.join("region"), interrupt)?;
    for installed in &engines {
        let parameters = parameters(options, installed.engine);
        let directory = root.join(format!("stock-{}", installed.engine.product().server));
        stocks.push(StockServer::start(installed, &directory, &parameters, interrupt)?);
        region.create(installed.engine, &parameters, interrupt)?;
    }
    let runs = measure(&bench, &works, &stocks, &region, options, started, &progress)?;
    drop(stocks);
    let mut figures = figures(&works, &runs);
    if let Some(first_select) = first_select {
        // What is measured from here on was measured without other clusters from the beginning.
        region.stop(Engine::Mariadb, interrupt)?;
        let startup = restarts(&bench, &mut region, options, first_select, &progress)?;
        insert_after_ratios(&mut figures, startup.figures());
    }
    progress.finish_and_clear();
    Ok(Report {
        figures,
        rounds: runs.iter().map(|slice| slice.round).max().unwrap_or_default(),
        runs,
        machine,
        scale: options.scale(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn insert_after_ratios(figures: &mut Vec<Figure>, more: Vec<Figure>) {
    let ratios = figures.iter().take_while(|figure| figure.unit == "ratio").count();
    figures.splice(ratios..ratios, more);
}

/// The engines to measure. Without MariaDB or sysbench the rest still has its figures.
fn engines(options: &BenchArgs) -> Result<Vec<Installed>, BenchError> {
    let mut engines = Vec::new();
    for engine in options.engines.iter().map(|engine| Engine::from(*engine)) {
        match engine {
            Engine::Postgres => engines.push(Installed::find(engine, Some(&options.bin_dir))?),
            Engine::Mariadb if !mariadb::has_sysbench() => {
                eprintln!("without MariaDB's figures: install sysbench (apt-get install sysbench)");
            }
            Engine::Mariadb => match Installed::find(engine, None) {
                Ok(installed) => engines.push(installed),
                Err(error) => eprintln!("without MariaDB's figures: {error}"),
            },
        }
    }
    Ok(engines)
}

fn bench(options: &BenchArgs, engines: &[Installed], scratch: &Path, interrupt: Interrupt) -> Bench {
    let mariadb = engines.iter().find(|installed| installed.engine == Engine::Mariadb);
    let (scale, length) = (options.scale(), options.slice_length());
    Bench {
        postgres: PostgresClients {
            bin_dir: options.bin_dir.clone(),
            scratch: scratch.to_owned(),
            scale,
            length,
            interrupt: interrupt.clone(),
        },
        mariadb: MariadbClients {
            mariadb: mariadb.map(|installed| installed.program("mariadb")).unwrap_or_default(),
            scratch: scratch.to_owned(),
            length,
            interrupt: interrupt.clone(),
        },
        disk: Disk::below(scratch),
        interrupt,
    }
}

fn machine(options: &BenchArgs, engines: &[Installed], bench: &Bench, root: &Path, zorya: &Path) -> Machine {
    let mariadb = engines.iter().find(|installed| installed.engine == Engine::Mariadb);
    let programs = Programs {
        postgres: &options.bin_dir.join("postgres"),
        mariadb: mariadb.map(|installed| installed.server.as_path()),
        zorya,
    };
    Machine::observe(root, bench.disk.as_ref(), &programs)
}

/// Fills all databases, then rounds: each figure on one side and at once on the other, so that whatever drifts in the
/// machine drifts for both.
fn measure(
    bench: &Bench,
    works: &[Work],
    stocks: &[StockServer],
    region: &Region,
    options: &BenchArgs,
    started: Instant,
    progress: &ProgressBar,
) -> Result<Vec<Slice>, BenchError> {
    let pairs: Vec<(&StockServer, RegionServer<'_>)> =
        stocks.iter().filter_map(|stock| Some((stock, region.server(stock.endpoint().engine)?))).collect();
    for (stock, region) in &pairs {
        for server in [*stock as &dyn Server, region] {
            progress.set_message(format!("filling {}", server.side().word()));
            bench.prepare(server)?;
        }
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
            let pair = pairs.iter().find(|(stock, _)| stock.endpoint().engine == work.engine());
            let Some((stock, region)) = pair else { continue };
            let (stock, region): (&dyn Server, &dyn Server) = (*stock, region);
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
    bench: &Bench,
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

/// The parameters of both of an engine's servers: the stock ones, of which the cache's size is named since it matters
/// most.
fn parameters(options: &BenchArgs, engine: Engine) -> Vec<(String, String)> {
    let (cache, size) = match engine {
        Engine::Postgres => ("shared_buffers", "128MB"),
        Engine::Mariadb => ("innodb_buffer_pool_size", "128M"),
    };
    let mut parameters = vec![(cache.to_owned(), size.to_owned())];
    if engine == Engine::Postgres {
        parameters.extend(options.parameter.iter().cloned());
    }
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

//! What the operator may choose.

use std::path::PathBuf;
use std::time::Duration;

use zorya_compute::region::Engine;

/// Measures a region against stock servers on the same disk.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Five minutes or less: scale 10, three slices of 8 s per figure and side
    #[arg(long)]
    pub quick: bool,

    /// Where the temporary directory of all servers is made; must be on a disk, and every user must be able to reach it
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub scratch: PathBuf,

    /// The engines that are measured. MariaDB is left out where it or sysbench is not installed
    #[arg(long, value_name = "ENGINE,…", value_delimiter = ',', value_enum,
          default_values_t = [MeasuredEngine::Postgres, MeasuredEngine::Mariadb])]
    pub engines: Vec<MeasuredEngine>,

    /// Slices per figure and side [default: 5, quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub slices: Option<u32>,

    /// Client counts of the TPC-B figures
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 8],
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub clients: Vec<u32>,

    /// pgbench's scale for TPC-B and selects [default: 50, quick 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub scale: Option<u32>,

    /// Length of a slice in seconds [default: 20, quick 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds_per_slice: Option<u32>,

    /// Kills of engine and mount together under TPC-B, the first after three minutes (quick: 12 s), the others after half
    /// a minute each [default: 3, quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub kills: Option<u32>,

    /// The binary that makes the region [default: this one]
    #[arg(long, value_name = "PATH")]
    pub zorya: Option<PathBuf>,

    /// Where PostgreSQL's programs are
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/postgresql/15/bin")]
    pub bin_dir: PathBuf,

    /// A parameter for both PostgreSQL servers, NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    pub parameter: Vec<(String, String)>,
}

/// The scale of the load figure, whatever the other scale.
pub const LOAD_SCALE: u32 = 10;

/// Clients of the select figure.
pub const SELECT_CLIENTS: u32 = 8;

/// Clients of MariaDB's read-write figure.
pub const READ_WRITE_CLIENTS: u32 = 8;

/// An engine that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MeasuredEngine {
    /// By pgbench.
    Postgres,
    /// By sysbench.
    Mariadb,
}

impl From<MeasuredEngine> for Engine {
    fn from(engine: MeasuredEngine) -> Engine {
        match engine {
            MeasuredEngine::Postgres => Engine::Postgres,
            MeasuredEngine::Mariadb => Engine::Mariadb,
        }
    }
}

impl BenchArgs {
    /// Slices per figure and side.
    #[must_use]
    pub fn slice_count(&self) -> u32 {
        self.slices.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// pgbench's scale for TPC-B and selects.
    #[must_use]
    pub fn scale(&self) -> u32 {
        self.scale.unwrap_or(if self.quick { 10 } else { 50 })
    }

    /// Length of a slice.
    #[must_use]
    pub fn slice_length(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds_per_slice.unwrap_or(if self.quick { 8 } else { 20 })))
    }

    /// How long TPC-B runs before each kill of the writer.
    #[must_use]
    pub fn loads_before_kills(&self) -> Vec<Duration> {
        let (kills, first) = if self.quick { (1, 12) } else { (3, 180) };
        let seconds = |kill| if kill == 0 { first } else { 30 };
        (0..self.kills.unwrap_or(kills)).map(|kill| Duration::from_secs(seconds(kill))).collect()
    }

    /// How long everything up to the last slice may take; slices that would not fit are left out, but never the first of a
    /// figure. What comes after them takes half a minute.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.quick.then_some(Duration::from_secs(258))
    }
}

fn parse_parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(arguments: &[&str]) -> BenchArgs {
        Cli::try_parse_from([&["bench"], arguments].concat()).map(|cli| cli.bench).unwrap()
    }

    #[test]
    fn quick_is_shorter_and_smaller_and_limited() {
        let (full, quick) = (parse(&[]), parse(&["--quick"]));
        assert_eq!((full.slice_count(), full.scale(), full.limit()), (5, 50, None));
        assert_eq!((quick.slice_count(), quick.scale()), (3, 10));
        assert_eq!((full.loads_before_kills().len(), quick.loads_before_kills().len()), (3, 1));
        assert!(quick.limit().is_some_and(|limit| limit < Duration::from_secs(300)));
        assert_eq!(full.clients, [1, 8]);
        assert_eq!(full.engines, [MeasuredEngine::Postgres, MeasuredEngine::Mariadb]);
        assert_eq!(parse(&["--engines", "mariadb"]).engines, [MeasuredEngine::Mariadb]);
    }

    #[test]
    fn what_is_named_counts_more_than_quick() {
        let args = parse(&[
            "--quick",
            "--scale",
            "3",
            "--slices",
            "1",
            "--seconds-per-slice",
            "2",
            "--clients",
            "4",
        ]);
        assert_eq!((args.scale(), args.slice_count(), args.slice_length().as_secs()), (3, 1, 2));
        assert_eq!(args.clients, [4]);
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            ["--slices", "0"],
            ["--scale", "-1"],
            ["--parameter", "x"],
            ["--clients", "a"],
            ["--engines", "oracle"],
        ] {
            assert!(Cli::try_parse_from([&["bench"], &arguments[..]].concat()).is_err(), "{arguments:?}");
        }
    }
}

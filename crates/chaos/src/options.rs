//! The command line.

use std::path::PathBuf;

use crate::engine::Engine;

/// Faults under load on a region of real processes, with a ledger of what it acknowledged.
///
/// Exit codes: 0 everything held, 1 a promise was broken, 2 wrong usage, 3 the run could not be carried out.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "zorya-chaos", version)]
pub struct Options {
    /// The binary under test.
    #[arg(long, default_value = "target/release/zorya")]
    pub zorya: PathBuf,
    /// The engine whose clusters are under test.
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
    /// How many rounds to play; round i has the seed SEED + i.
    #[arg(long, default_value_t = 3)]
    pub rounds: u64,
    /// What decides every choice; by default another one each time.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The directory of the whole run, made and removed by it.
    #[arg(long, default_value = "/var/tmp/zorya-chaos")]
    pub work: PathBuf,
    /// How to print the summary.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub output: Format,
    /// Plays only this fault instead of what the seed chooses (`--list` names them).
    #[arg(long)]
    pub fault: Option<String>,
    /// How many commits must be acknowledged in a round for it to count.
    #[arg(long, default_value_t = 500)]
    pub min_commits: u64,
    /// How many clients write.
    #[arg(long, default_value_t = 8)]
    pub clients: u32,
    /// The size of each storage node's disk, in MiB (a sparse file).
    #[arg(long, default_value_t = 2048)]
    pub disk_mib: u64,
    /// Lets the engine check every table and index every so many rounds.
    #[arg(long, default_value_t = 1)]
    pub check_every: u64,
    /// Plays a scripted scenario instead of rounds (`--list` names them).
    #[arg(long)]
    pub scenario: Option<String>,
    /// How long the scenario's load or state lasts, in seconds, where it has one.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Plants a bug into the processes of the region; the binary must be built with `--features planted-bugs`.
    #[arg(long)]
    pub plant: Option<String>,
    /// Ends the run with the first round that breaks a promise.
    #[arg(long)]
    pub until_broken: bool,
    /// Names the faults and the scenarios.
    #[arg(long)]
    pub list: bool,
}

/// How to print the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object.
    Json,
    /// A table.
    Table,
}

impl Options {
    /// The seed of a run.
    #[must_use]
    pub fn first_seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            // Short enough to be typed.
            crate::seed::mix(u64::from(now.subsec_nanos()) ^ now.as_secs()) % 1_000_000_000
        })
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An Aurora that you run yourself: stock PostgreSQL on a six-way replicated, log-structured volume.
#[derive(Debug, Parser)]
#[command(name = "zorya", version, propagate_version = true)]
pub struct Arguments {
    /// Where the region keeps its state [default: $HOME/.zorya]
    #[arg(long, global = true, env = "ZORYA_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the region: storage nodes, clusters, and their supervisor. Makes what is missing
    Up(Up),
    /// Stop everything and unmount everything
    Down,
    /// Show every process, node, cluster and volume
    Status,
    /// Create, list, start, stop and delete clusters
    #[command(subcommand)]
    Cluster(Cluster),
    /// List, start, stop and kill storage nodes
    #[command(subcommand)]
    Node(Node),
    /// Open psql on a cluster
    Sql(Sql),
    /// Measure a region against stock PostgreSQL and MariaDB on the same disk, in turns
    Bench(zorya_bench::BenchArgs),
    /// Run the region's supervisor (`zorya up` starts it)
    Agent,
    /// Run one storage node (the supervisor starts it)
    StorageNode(StorageNode),
    /// Run one volume's mount daemon (the supervisor starts it)
    Mount(Mount),
}

/// `zorya up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Return when everything serves, and leave it running
    #[arg(long)]
    pub detach: bool,
    /// Zones of a new region
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=26), conflicts_with = "layout")]
    pub zones: u8,
    /// Storage nodes in each zone of a new region
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "layout")]
    pub nodes_per_zone: u8,
    /// Protection profile of a new region's volumes: 6/3az, 3/3az or 1
    #[arg(long, default_value = "6/3az")]
    pub profile: String,
    /// Place a new region's nodes as this file says
    #[arg(long, value_name = "FILE")]
    pub layout: Option<PathBuf>,
    /// Do not create the cluster `main` in a new region
    #[arg(long)]
    pub no_cluster: bool,
    #[command(flatten)]
    pub wait: Wait,
}

/// How long to wait.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait at most so many seconds until it serves
    #[arg(long = "wait", default_value_t = 120, value_name = "SECONDS")]
    pub seconds: u64,
}

/// `zorya cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Create a cluster and wait until it serves
    Create(ClusterCreate),
    /// List clusters
    List,
    /// Start a cluster and wait until it serves
    Start {
        /// The cluster
        name: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop a cluster
    Stop {
        /// The cluster
        name: String,
    },
    /// Delete a cluster and all its data
    Delete {
        /// The cluster
        name: String,
        /// Really
        #[arg(long)]
        yes: bool,
    },
    /// Print the engine's log
    Logs {
        /// The cluster
        name: String,
        /// Go on printing what is added
        #[arg(short, long)]
        follow: bool,
        /// How many lines to begin with
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
        /// The mount daemon's log instead of the engine's
        #[arg(long)]
        mount: bool,
    },
}

/// `zorya cluster create`.
#[derive(Debug, Args)]
pub struct ClusterCreate {
    /// Its name
    pub name: String,
    /// Its engine
    #[arg(long, value_enum, default_value_t = EngineName::Postgres)]
    pub engine: EngineName,
    /// Protection profile of its volume: 6/3az, 3/3az or 1 [default: the region's]
    #[arg(long)]
    pub profile: Option<String>,
    /// The port that it listens on [default: a free one from the engine's own on]
    #[arg(long)]
    pub port: Option<u16>,
    /// An engine parameter; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// The mount daemon's block cache in MiB [default: an eighth of the host's memory]
    #[arg(long, value_name = "MIB")]
    pub cache_mib: Option<u64>,
    /// Where the engine's binaries are [default: the distribution's place]
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    #[command(flatten)]
    pub wait: Wait,
}

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// PostgreSQL 15.
    Postgres,
    /// MariaDB 10.11.
    Mariadb,
}

/// `zorya node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List storage nodes
    List,
    /// Start a storage node and wait until it listens
    Start {
        /// The node
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop a storage node in order; it stays stopped
    Stop {
        /// The node
        id: String,
    },
    /// Kill a storage node with SIGKILL; it stays stopped until `zorya node start`
    Kill {
        /// The node
        id: String,
    },
}

/// `zorya sql`.
#[derive(Debug, Args)]
pub struct Sql {
    /// The cluster
    pub cluster: String,
    /// What the client, psql or mariadb, is given
    #[arg(last = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `zorya storage-node`.
#[derive(Debug, Args)]
pub struct StorageNode {
    /// Its name, unique in the region
    #[arg(long)]
    pub id: String,
    /// Its availability zone
    #[arg(long)]
    pub zone: String,
    /// Its data directory
    #[arg(long)]
    pub data: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: String,
    /// The region's key
    #[arg(long)]
    pub key_file: PathBuf,
    /// Where it says that it listens
    #[arg(long)]
    pub status_file: Option<PathBuf>,
}

/// `zorya mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// The volume
    #[arg(long)]
    pub volume: zorya_types::VolumeId,
    /// The storage nodes with its replicas
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOST:PORT,…")]
    pub nodes: Vec<String>,
    /// The region's key
    #[arg(long)]
    pub key_file: PathBuf,
    /// Where it is mounted, in a mount namespace of its own
    #[arg(long)]
    pub mountpoint: PathBuf,
    /// Which engine's names it knows
    #[arg(long, value_enum, default_value_t = Class::None)]
    pub class: Class,
    /// Where the content of names that are never shipped is kept
    #[arg(long)]
    pub local_dir: PathBuf,
    /// The block cache's size in bytes
    #[arg(long, default_value_t = zorya_compute::region::default_cache_bytes())]
    pub cache_bytes: u64,
    /// Where it says how it is
    #[arg(long)]
    pub status_file: Option<PathBuf>,
    /// The last process that had the volume open is known to be dead
    #[arg(long)]
    pub reaped: bool,
    /// Who owns the root of a new volume
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    pub owner: Option<(u32, u32)>,
}

/// Which engine's names a mount knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Class {
    /// None: every file is shipped.
    None,
    /// PostgreSQL's.
    Postgres,
    /// MariaDB's.
    Mariadb,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let parse = |text: &str| text.parse().map_err(|_| "expected UID:GID, both numbers".to_owned());
    let (uid, gid) = text.split_once(':').ok_or("expected UID:GID")?;
    Ok((parse(uid)?, parse(gid)?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_the_documentation_shows_parses() {
        for line in [
            "zorya up",
            "zorya up --home /tmp/h --detach --zones 3 --nodes-per-zone 2 --profile 3/3az --no-cluster",
            "zorya up --layout region.toml --wait 10",
            "zorya down",
            "zorya status --output json",
            "zorya --output json status",
            "zorya cluster create main --engine postgres --parameter work_mem=8MB --parameter a.b=c=d",
            "zorya cluster list",
            "zorya cluster start main",
            "zorya cluster stop main",
            "zorya cluster delete main --yes",
            "zorya cluster logs main -f",
            "zorya node list",
            "zorya node stop az1-a",
            "zorya node start az1-a",
            "zorya node kill az1-a",
            "zorya sql main",
            "zorya sql main -- -c select",
            "zorya agent --home /tmp/h",
            "zorya storage-node --id a --zone z --data d --listen h:1 --key-file k --status-file s",
            "zorya mount --volume 00000000000000000000000000000001 --nodes a:1,b:2 --key-file k --mountpoint m \
             --class postgres --local-dir l --cache-bytes 9 --status-file s --reaped --owner 1:2",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_is_unknown_or_wrong_is_refused() {
        for line in [
            "zorya",
            "zorya dance",
            "zorya up --colour red",
            "zorya up --zones 0",
            "zorya up --zones 2 --layout f",
            "zorya status --output xml",
            "zorya cluster create main --engine oracle",
            "zorya cluster create main --parameter work_mem",
            "zorya node kill",
            "zorya sql main -c select",
            "zorya mount --volume 1 --nodes a:1 --key-file k --mountpoint m --local-dir l",
            "zorya mount --volume 00000000000000000000000000000001 --nodes a:1 --key-file k --mountpoint m --local-dir l --owner x",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}

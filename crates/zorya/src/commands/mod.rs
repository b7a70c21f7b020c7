//! The commands. Each is one file with one `run`.

mod agent;
mod cluster;
mod down;
mod node;
mod processes;
mod sql;
mod status;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;
use zorya_compute::agent::protocol::Request;
use zorya_compute::home::Home;
use zorya_compute::region::{Region, RegionStore};

use crate::agent_client;
use crate::cli::{Arguments, Command, Output};
use crate::output::Watcher;

/// Where a command works and how it prints.
pub struct Invocation {
    /// The region's home.
    pub home: Home,
    /// How results are printed.
    pub output: Output,
}

/// Runs a command.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let command = match arguments.command {
        Command::StorageNode(options) => return processes::storage_node(options),
        Command::Mount(options) => return processes::mount(options),
        // It makes regions of its own and needs none.
        Command::Bench(options) => return bench(&options, arguments.output),
        command => command,
    };
    let invocation = Invocation { home: home(arguments.home)?, output: arguments.output };
    match command {
        Command::Up(options) => up::run(&invocation, options),
        Command::Down => down::run(&invocation),
        Command::Status => status::run(&invocation),
        Command::Cluster(command) => cluster::run(&invocation, command),
        Command::Node(command) => node::run(&invocation, command),
        Command::Sql(options) => sql::run(&invocation, options),
        Command::Agent => agent::run(&invocation),
        Command::StorageNode(_) | Command::Mount(_) | Command::Bench(_) => unreachable!("handled above"),
    }
}

fn bench(options: &zorya_bench::BenchArgs, output: Output) -> anyhow::Result<ExitCode> {
    let report = zorya_bench::run(options)?;
    match output {
        Output::Json => crate::output::json(&serde_json::to_value(&report)?)?,
        Output::Table => crate::output::text(&report.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn home(given: Option<PathBuf>) -> anyhow::Result<Home> {
    let path = match given {
        Some(path) => path,
        None => {
            let user =
                std::env::var_os("HOME").context("HOME is not set: say where with --home or $ZORYA_HOME")?;
            PathBuf::from(user).join(".zorya")
        }
    };
    let path =
        std::path::absolute(&path).with_context(|| format!("cannot make {} absolute", path.display()))?;
    Ok(Home::at(path)?)
}

impl Invocation {
    /// The region's desired state.
    pub fn region(&self) -> anyhow::Result<Region> {
        Ok(RegionStore::open(self.home.region_file())?.get())
    }

    /// Asks the agent and shows how far it is.
    pub fn ask(&self, request: Request) -> anyhow::Result<Value> {
        let mut watcher = Watcher::new();
        let outcome = agent_client::ask(&self.home, request, |progress| watcher.tell(progress));
        watcher.finish();
        outcome
    }

    /// Prints an outcome: as JSON, or a sentence.
    pub fn say(&self, value: &Value, sentence: &str) -> anyhow::Result<ExitCode> {
        match self.output {
            Output::Json => crate::output::json(value)?,
            Output::Table => crate::output::text(&format!("{sentence}\n"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

//! `zorya cluster …`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use zorya_compute::agent::protocol::{Failure, FailureKind, NewCluster, Request};
use zorya_compute::logs;
use zorya_compute::region::{Engine, Region};

use super::{Invocation, status};
use crate::cli::{Cluster, ClusterCreate, EngineName, Output};
use crate::exit::Usage;

/// Does what is asked of clusters.
pub fn run(invocation: &Invocation, command: Cluster) -> anyhow::Result<ExitCode> {
    match command {
        Cluster::Create(options) => create(invocation, options),
        Cluster::List => list(invocation),
        Cluster::Start { name, wait } => {
            invocation.ask(Request::StartCluster { name: name.clone(), wait_seconds: wait.seconds })?;
            serving(invocation, &name)
        }
        Cluster::Stop { name } => {
            let value = invocation.ask(Request::StopCluster { name: name.clone() })?;
            invocation.say(&value, &format!("cluster {name} is stopped"))
        }
        Cluster::Delete { name, yes } => delete(invocation, &name, yes),
        Cluster::Logs { name, follow, lines, mount } => print_logs(invocation, &name, follow, lines, mount),
    }
}

fn create(invocation: &Invocation, options: ClusterCreate) -> anyhow::Result<ExitCode> {
    let cluster = NewCluster {
        name: options.name.clone(),
        engine: match options.engine {
            EngineName::Postgres => Engine::Postgres,
            EngineName::Mariadb => Engine::Mariadb,
        },
        profile: options.profile,
        port: options.port,
        parameters: options.parameters.into_iter().collect(),
        cache_bytes: options.cache_mib.map(|mib| mib << 20),
        bin_dir: options.bin_dir,
    };
    invocation.ask(Request::CreateCluster { cluster, wait_seconds: options.wait.seconds })?;
    serving(invocation, &options.name)
}

/// Says that a cluster serves, and where.
fn serving(invocation: &Invocation, name: &str) -> anyhow::Result<ExitCode> {
    let document = status::document(invocation)?;
    let cluster = document.clusters.iter().find(|cluster| cluster.id == name);
    let cluster = cluster.with_context(|| format!("cluster {name} is gone: see `zorya status`"))?;
    let endpoint = cluster.endpoint.clone().unwrap_or_default();
    invocation.say(
        &serde_json::to_value(cluster)?,
        &format!("cluster {name} is {}\n{endpoint}", crate::output::word(cluster.state)),
    )
}

fn list(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let document = status::document(invocation)?;
    match invocation.output {
        Output::Json => crate::output::json(&document.clusters)?,
        Output::Table => crate::output::text(&crate::output::clusters(&document))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn delete(invocation: &Invocation, name: &str, yes: bool) -> anyhow::Result<ExitCode> {
    known(&invocation.region()?, name)?;
    if !yes {
        return Err(Usage(format!(
            "this deletes cluster {name} and all its data for good, and there is no backup: if you mean it, add --yes"
        ))
        .into());
    }
    invocation.ask(Request::DeleteCluster { name: name.to_owned() })?;
    invocation.say(&json!({ "id": name, "state": "deleted" }), &format!("cluster {name} is deleted"))
}

/// Fails if there is no such cluster.
pub fn known(region: &Region, name: &str) -> anyhow::Result<()> {
    if region.cluster(name).is_some() {
        return Ok(());
    }
    let names: Vec<_> = region.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let there_are = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let message = format!("there is no cluster {name:?}; there are: {there_are}");
    Err(Failure::new(FailureKind::NotFound, message).into())
}

fn print_logs(
    invocation: &Invocation,
    name: &str,
    follow: bool,
    lines: usize,
    mount: bool,
) -> anyhow::Result<ExitCode> {
    known(&invocation.region()?, name)?;
    let path = if mount { invocation.home.mount_log(name) } else { invocation.home.engine_log(name) };
    for line in logs::tail(&path, lines) {
        crate::output::text(&format!("{line}\n"))?;
    }
    if follow {
        follow_log(&path)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is added to a log, until interrupted. A rotated log starts again at its beginning.
fn follow_log(path: &Path) -> anyhow::Result<()> {
    let mut at = std::fs::metadata(path).map_or(0, |found| found.len());
    loop {
        let length = std::fs::metadata(path).map_or(0, |found| found.len());
        if length < at {
            at = 0;
        }
        if length > at {
            at += copy_from(path, at).with_context(|| format!("cannot read {}", path.display()))?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn copy_from(path: &Path, at: u64) -> io::Result<u64> {
    let mut file = File::open(PathBuf::from(path))?;
    file.seek(SeekFrom::Start(at))?;
    let mut added = Vec::new();
    file.take(1 << 20).read_to_end(&mut added)?;
    let mut out = io::stdout().lock();
    out.write_all(&added)?;
    out.flush()?;
    Ok(added.len() as u64)
}

//! A stock standby as oracle: it recovers up to a position of the log from the same base, with PostgreSQL's own redo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use zorya_redo::postgres::WalPosition;

use crate::check::{Checker, Oracle};
use crate::server::{Server, as_engine, run_quietly};
use crate::start;

/// A standby that follows the log from one position to the next. At each it shuts down; a copy of it goes on alone
/// from there, so that it writes all its blocks to files and can be asked.
pub struct Standby {
    original: PathBuf,
    rolling: Server,
}

impl Standby {
    /// A standby that begins where redo does, next to a server that is stopped.
    pub fn new(original: &Server) -> Result<Self> {
        let rolling = Server::copy_of(original.major(), &original.base(), original.dir(), "rolling")?;
        start::copy_settings(original.dir(), &rolling)?;
        Ok(Self { original: original.dir().to_owned(), rolling })
    }

    /// Compares what was derived, up to the first record that begins at `point` or later, with a standby that was told
    /// to stop there: blocks and files first, then what servers on both answer.
    pub fn compare(&mut self, checker: &mut Checker, point: WalPosition) -> Result<()> {
        let (compared, identical) = (checker.tally.compared_with_files, checker.tally.identical);
        let mut stopped = self.stopped_at(point)?;
        checker.compare_files(&stopped.data(), Oracle::Standby)?;
        let compared = checker.tally.compared_with_files - compared;
        let identical = checker.tally.identical - identical;
        eprintln!("{compared} blocks compared with the standby's, {identical} equal without masking");

        let mut derived = start::prepare(&self.original, "derived-at", checker)?;
        for finding in compare_names(&derived.data(), &stopped.data())? {
            checker.report(format_args!("at {point}: {finding}"));
        }
        start::run(&mut derived, checker)?;
        start::dump(&derived, "dump.sql")?;
        // After the dump: this installs an extension.
        start::check(&derived, checker)?;
        derived.stop()?;
        stopped.start()?;
        start::dump(&stopped, "dump.sql")?;
        stopped.stop()?;
        let dumps = (derived.dir().join("dump.sql"), stopped.dir().join("dump.sql"));
        if let Some(finding) = start::compare_dumps(&dumps.0, &dumps.1, Oracle::Standby)? {
            checker.report(format_args!("at {point}: {finding}"));
        }
        fs::remove_dir_all(derived.dir())?;
        fs::remove_dir_all(stopped.dir())?;
        Ok(())
    }

    /// A server that has recovered up to the position and is stopped, all of its blocks in its files.
    fn stopped_at(&mut self, point: WalPosition) -> Result<Server> {
        run_quietly(as_engine("touch").arg(self.rolling.data().join("recovery.signal")))?;
        let settings = self.recover(point, "shutdown");
        self.rolling.spawn(&arguments(&settings))?;
        self.rolling.wait_for_end()?;
        let log = self.rolling.log()?;
        ensure!(log.contains("recovery stopping after WAL location"), "the standby did not stop: {log}");
        let mut alone =
            Server::copy_of(self.rolling.major(), &self.rolling.data(), &self.original, "stopped-at")?;
        // It answers once it has recovered and begun a timeline of its own, with a checkpoint.
        alone.start_with(&arguments(&self.recover(point, "promote"))).context("the standby, alone")?;
        alone.stop()?;
        Ok(alone)
    }

    fn recover(&self, point: WalPosition, action: &str) -> [String; 5] {
        let archive = self.original.join("data/pg_wal");
        [
            format!("restore_command=cp {}/%f %p", archive.display()),
            format!("recovery_target_lsn={point}"),
            format!("recovery_target_action={action}"),
            // Sessions could set hint bits.
            "hot_standby=off".to_owned(),
            "recovery_prefetch=off".to_owned(),
        ]
    }
}

fn arguments(settings: &[String]) -> Vec<&str> {
    settings.iter().flat_map(|setting| ["-c", setting]).collect()
}

/// Files of relations that only one of two data directories has. Those of unlogged relations come and go with a start,
/// free-space maps are not derived.
fn compare_names(derived: &Path, server: &Path) -> Result<Vec<String>> {
    let (ours, theirs) = (relation_files(derived)?, relation_files(server)?);
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, whose: &str| {
        let names: Vec<_> = one.difference(other).cloned().collect();
        (!names.is_empty()).then(|| format!("files that only {whose} has: {names:?}"))
    };
    Ok(only(&ours, &theirs, "the derived directory")
        .into_iter()
        .chain(only(&theirs, &ours, "the standby"))
        .collect())
}

/// The files of permanent relations below a data directory, without free-space maps.
fn relation_files(data: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut unvisited: Vec<PathBuf> = ["base", "global", "pg_tblspc"].map(|name| data.join(name)).into();
    while let Some(directory) = unvisited.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                unvisited.push(path);
                continue;
            }
            let name = path.strip_prefix(data)?.to_string_lossy().into_owned();
            let is_relation =
                path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
            if is_relation && !name.contains("_fsm") {
                files.insert(name);
            }
        }
    }
    let unlogged: Vec<_> =
        files.iter().filter_map(|name| name.strip_suffix("_init")).map(str::to_owned).collect();
    unlogged.iter().for_each(|name| {
        files.remove(name);
    });
    Ok(files)
}

//! What a server has written between two moments at which it was stopped, verified from the files of its log.

use anyhow::{Context, Result, ensure};
use zorya_redo::postgres::Settings;
use zorya_redo::postgres::decode::stream::LogFormat;

use crate::check::{Checker, Oracle};
use crate::metadata::Metadata;
use crate::segments::Segments;
use crate::server::Server;
use crate::store::Store;
use crate::totals::Totals;
use crate::{Arguments, SEGMENT_LEN, installation, start};

/// Keeps all of the log in the server's files.
pub fn keep_log(server: &Server) -> Result<()> {
    server.psql("postgres", "alter system set wal_keep_size = '64GB'")?;
    server.psql("postgres", "select pg_reload_conf()")?;
    Ok(())
}

/// A checker over the server's base.
pub fn checker(server: &Server, arguments: &Arguments, totals: &mut Totals) -> Result<Checker> {
    let release = installation::release(server.major())?;
    let settings = Settings {
        hints_logged: !arguments.no_checksums,
        marks_gist_deletions: release.marks_gist_deletions(),
    };
    let base = server.base();
    let metadata = Metadata::over(&base, release)?;
    let store = Store::over(&base, metadata.version_directory());
    let format = LogFormat { major: release.major, segment_len: SEGMENT_LEN };
    let mut checker = Checker::new(store, metadata, format, server.redo_position()?, settings);
    checker.plants = totals.plants.take();
    if let Some(plants) = &mut checker.plants {
        plants.begin_cluster();
    }
    Ok(checker)
}

/// Verifies what the server, which is stopped, has written since its base was kept, and compares with its files.
pub fn verify(server: &Server, arguments: &Arguments, totals: &mut Totals) -> Result<Checker> {
    let mut checker = checker(server, arguments, totals)?;
    let mut log = Segments::open(&server.data(), server.redo_position()?);
    while let Some(bytes) = log.next()? {
        checker.feed(bytes).with_context(|| format!("at {}", checker.position()))?;
    }
    ends_with_checkpoint(server, &checker)?;
    checker.compare_files(&server.data(), Oracle::Primary)?;
    Ok(checker)
}

/// The same; then a server that starts on what was derived must answer as the original does.
pub fn verify_and_start(server: &mut Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    let mut checker = verify(server, arguments, totals)?;
    start::compare(server, &mut checker)?;
    totals.add(checker);
    Ok(())
}

/// The files' last record must be the one that the control file names, else something was not read.
pub fn ends_with_checkpoint(server: &Server, checker: &Checker) -> Result<()> {
    let (last, _) = checker.last().context("there is no record")?;
    let checkpoint = server.checkpoint_position()?;
    ensure!(last == checkpoint, "the log was read up to the record at {last}, not to {checkpoint}");
    Ok(())
}

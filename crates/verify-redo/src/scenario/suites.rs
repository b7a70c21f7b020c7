//! Scripts for every family of records, pgbench, and PostgreSQL's own suites. The log is taken as the server writes it.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::leg;
use crate::check::{Checker, Oracle};
use crate::receive::Receiver;
use crate::server::Server;
use crate::totals::Totals;
use crate::{Arguments, start, workload};

/// Bytes of the log after which a server is started on what was derived.
const START_INTERVAL: u64 = 4 << 30;
const QUICK_START_INTERVAL: u64 = 5 << 30;

/// Runs it.
pub fn run(mut server: Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    server.keep_base()?;
    let redo_position = server.redo_position()?;
    server.start()?;
    let receiver = Receiver::start(&server.socket(), redo_position)?;
    let checker = leg::checker(&server, arguments, totals)?;
    let directory = server.dir().to_owned();
    let interval = match (arguments.plant, arguments.quick) {
        (true, _) => u64::MAX,
        (false, true) => QUICK_START_INTERVAL,
        (false, false) => START_INTERVAL,
    };
    let checking = thread::spawn(move || take_all(receiver, checker, &directory, interval));

    workload::run(&server, arguments.sources.as_deref(), arguments.quick, arguments.pgbench_seconds)?;
    server.stop()?;
    let mut checker = checking.join().map_err(|_| anyhow!("the checker panicked"))??;
    leg::ends_with_checkpoint(&server, &checker)?;
    checker.compare_files(&server.data(), Oracle::Primary)?;
    if !arguments.plant {
        start::compare(&mut server, &mut checker)?;
    }
    totals.add(checker);
    Ok(())
}

/// Takes the log to its end. Every `interval` bytes or so a server is started on what was derived up to there; the log
/// waits meanwhile.
fn take_all(mut receiver: Receiver, mut checker: Checker, original: &Path, interval: u64) -> Result<Checker> {
    let mut next_start = interval / 2;
    while let Some(bytes) = receiver.next()? {
        checker.feed(bytes).with_context(|| format!("at {}", checker.position()))?;
        if checker.tally.bytes >= next_start && checker.can_start() {
            next_start += interval;
            start::on_the_way(original, &mut checker)?;
        }
    }
    Ok(checker)
}

//! Counters that go around their ends: transactions (into the next epoch), multixacts, and offsets of their members.
//!
//! `pg_resetwal` moves the counters while the server is stopped, in steps of less than half their range, after each of
//! which everything is frozen, so that nothing old seems to lie in the future. What the server writes from one step to
//! the next is verified over the files as they were after it; that also gives up the files of what was frozen.

use std::fs;

use anyhow::{Result, ensure};

use super::leg;
use crate::server::{Server, as_engine, run_quietly};
use crate::totals::Totals;
use crate::{Arguments, start};

/// How many fit a page of `pg_xact`, `pg_multixact/offsets` and `pg_multixact/members`.
const XIDS_PER_PAGE: u64 = 32_768;
const MULTIXACTS_PER_PAGE: u64 = 2048;
const MEMBERS_PER_PAGE: u64 = 1636;
const END: u64 = 1 << 32;
const PAGES_PER_SEGMENT: u64 = 32;
const BLOCK_LEN: u64 = 8192;

/// Where the counters are put, in order.
const STEPS: &[Step] = &[
    Step::at(1_500_000_000),
    Step::at(3_000_000_000),
    Step::new(END - 2 * XIDS_PER_PAGE + 100, END - MULTIXACTS_PER_PAGE, END - 2000),
    // The files of the first transactions and multixacts exist again.
    Step::at(700_000_000),
];

/// What a server does after each step.
const WORK: &str = include_str!("../../sql/wraparound.sql");

#[derive(Debug)]
struct Step {
    xid: u64,
    multixact: u64,
    offset: u64,
}

impl Step {
    const fn at(count: u64) -> Self {
        Self::new(count, count, count)
    }

    /// Multixacts and offsets begin with a page.
    const fn new(xid: u64, multixact: u64, offset: u64) -> Self {
        Self {
            xid,
            multixact: multixact - multixact % MULTIXACTS_PER_PAGE,
            offset: offset - offset % MEMBERS_PER_PAGE,
        }
    }
}

/// Runs it.
pub fn run(mut server: Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    server.start()?;
    leg::keep_log(&server)?;
    server.psql("postgres", "create table x (id int primary key, v int)")?;
    server.psql("postgres", "insert into x select i, 0 from generate_series(1, 1200) i")?;
    server.psql("postgres", "update pg_database set datallowconn = true where datname = 'template0'")?;
    freeze(&server)?;
    server.stop()?;
    for step in STEPS {
        move_counters(&server, step)?;
        server.keep_base()?;
        server.start()?;
        work(&server)?;
        server.stop()?;
        has_gone_on(&server, step)?;
        let mut checker = leg::verify(&server, arguments, totals)?;
        start::compare(&mut server, &mut checker)?;
        totals.add(checker);
    }
    Ok(())
}

fn work(server: &Server) -> Result<()> {
    let path = server.dir().join("work.sql");
    fs::write(&path, WORK)?;
    run_quietly(server.program("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(path))?;
    freeze(server)
}

fn freeze(server: &Server) -> Result<()> {
    run_quietly(server.program("vacuumdb").args(["--all", "--freeze", "--quiet"]))
}

/// The counters must have come as far as the step is for: at the last but one, around.
fn has_gone_on(server: &Server, step: &Step) -> Result<()> {
    let counters = server.counters()?;
    let is_after = |now: u32, begin: u64, least: u64| {
        let distance = u64::from(now.wrapping_sub(begin as u32));
        (least..1 << 20).contains(&distance)
    };
    let Step { xid, multixact, offset } = *step;
    let gone_on = is_after(counters.next_xid as u32, xid, 2 * XIDS_PER_PAGE)
        && is_after(counters.next_multi, multixact, MULTIXACTS_PER_PAGE)
        && is_after(counters.next_offset, offset, 2 * MEMBERS_PER_PAGE);
    ensure!(gone_on, "the counters have not gone on from {step:?}: {counters:?}");
    Ok(())
}

/// Moves the counters, and makes the file that the server expects to find.
fn move_counters(server: &Server, step: &Step) -> Result<()> {
    let Step { multixact, offset, .. } = step;
    let epoch = server.counters()?.next_xid >> 32;
    eprintln!("counters move to {}, {multixact} and {offset}", step.xid);
    let mut reset = server.program("pg_resetwal");
    reset.arg("-D").arg(server.data());
    reset.args(["-x", &step.xid.to_string(), "-e", &epoch.to_string()]);
    reset.args(["-m", &format!("{multixact},{multixact}"), "-O", &offset.to_string()]);
    run_quietly(&mut reset)?;
    let segment = step.xid / XIDS_PER_PAGE / PAGES_PER_SEGMENT;
    let path = server.data().join(format!("pg_xact/{segment:04X}"));
    if !path.exists() {
        let mut zeroes = as_engine("truncate");
        zeroes.arg("-s").arg((PAGES_PER_SEGMENT * BLOCK_LEN).to_string()).arg(path);
        run_quietly(&mut zeroes)?;
    }
    Ok(())
}

//! Everything that a server does, side by side, from `initdb` on, with a log as production has it. At random positions
//! of the log, and at its end, a server is started on what was derived and compared with a stock one.

use std::collections::VecDeque;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use zorya_redo::postgres::WalPosition;

use super::leg;
use crate::check::Oracle;
use crate::segments::Segments;
use crate::server::{Server, run_quietly};
use crate::standby::Standby;
use crate::totals::Totals;
use crate::{Arguments, start};

const SETUP: &str = include_str!("../../sql/mixed_setup.sql");
const ROUND: &str = include_str!("../../sql/mixed_round.sql");

/// Runs it.
pub fn run(mut server: Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    server.keep_base()?;
    server.start()?;
    load(&mut server, arguments)?;
    server.stop()?;

    let mut checker = leg::checker(&server, arguments, totals)?;
    let redo_position = server.redo_position()?;
    let end = server.checkpoint_position()?;
    let mut points = random_positions(redo_position, end, arguments);
    let mut standby = Standby::new(&server)?;
    let mut log = Segments::open(&server.data(), redo_position);
    while let Some(mut bytes) = log.next()? {
        while checker.feed_until(&mut bytes, points.front().copied())? {
            let point = points.pop_front().context("stopped nowhere")?;
            eprintln!("{} more positions after {point}", points.len());
            standby.compare(&mut checker, point)?;
        }
    }
    leg::ends_with_checkpoint(&server, &checker)?;
    ensure!(points.is_empty(), "positions behind the log's end: {points:?}");
    checker.compare_files(&server.data(), Oracle::Primary)?;
    start::compare(&mut server, &mut checker)?;
    totals.add(checker);
    Ok(())
}

/// pgbench, and rounds of everything else until it ends.
fn load(server: &mut Server, arguments: &Arguments) -> Result<()> {
    leg::keep_log(server)?;
    for sql in [
        "alter system set wal_consistency_checking = ''",
        "alter system set autovacuum = on",
        "select pg_reload_conf()",
        "create database bench",
    ] {
        server.psql("postgres", sql)?;
    }
    let scale = arguments.mixed_scale.to_string();
    run_quietly(server.program("pgbench").args(["-i", "-q", "-s", &scale, "bench"]))?;
    script(server, "setup", SETUP, 0)?;
    let seconds = arguments.mixed_seconds.to_string();
    eprintln!("pgbench at scale {scale} for {seconds} s, beside rounds of everything else");
    let mut bench = server.program("pgbench");
    bench.args(["-n", "-c", "4", "-j", "1", "-T", &seconds, "bench"]).stdout(Stdio::null());
    let mut bench = bench.spawn()?;
    let mut round = 0;
    let status = loop {
        round += 1;
        if let Err(error) = script(server, "round", ROUND, round) {
            bench.kill()?;
            bench.wait()?;
            return Err(error);
        }
        if let Some(status) = bench.try_wait()? {
            break status;
        }
    };
    ensure!(status.success(), "pgbench ended with {status}");
    ensure!(round >= 2, "only {round} rounds");
    eprintln!("{round} rounds");
    Ok(())
}

/// Runs a script in pgbench's database.
fn script(server: &Server, name: &str, text: &str, round: u32) -> Result<()> {
    let path = server.dir().join(format!("mixed_{name}.sql"));
    fs::write(&path, text)?;
    let mut psql = server.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "bench"]);
    // What a round leaves behind, later ones take away.
    let last = format!("last={}", round.saturating_sub(1));
    psql.args(["-v", &format!("round={round}"), "-v", &last, "-f"]).arg(path);
    run_quietly(&mut psql).with_context(|| format!("{name} {round}"))
}

/// Positions in the log, in order; the same ones for the same seed and log.
fn random_positions(start: WalPosition, end: WalPosition, arguments: &Arguments) -> VecDeque<WalPosition> {
    println!("positions by seed {}", arguments.seed);
    let mut state = arguments.seed;
    let mut positions: Vec<_> = (0..arguments.positions)
        .map(|_| {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            WalPosition(start.0 + (mixed ^ (mixed >> 31)) % (end.0 - start.0))
        })
        .collect();
    positions.sort();
    positions.into()
}

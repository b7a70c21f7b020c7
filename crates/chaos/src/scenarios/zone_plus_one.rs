//! A zone and one more node are lost: writes block and the status says why, reads of uncached data go on, and when the
//! node that died last returns, writes resume.

use std::time::{Duration, Instant};

use super::{ScenarioError, Set};
use crate::engine::{self, Database};
use crate::region::RegionError;
use crate::round;
use crate::summary::ScenarioSummary;
use crate::wait;

/// Rows of the table that is scanned; about 100 MB.
const ROWS: u32 = 12_500 * PER_PAGE;
const PER_PAGE: u32 = 7;
/// Pages of one read.
const STEP: u32 = 40;
/// What one read may take.
const SLOW: Duration = Duration::from_secs(5);
/// What resuming may take.
const RESUME: Duration = Duration::from_secs(2);

pub(super) fn play(set: &Set<'_>, summary: &mut ScenarioSummary) -> Result<(), ScenarioError> {
    prepare(set)?;
    let database = set.region.database()?;
    let load = set.load(1, Duration::from_secs(600))?;
    wait::until_true("the first commits", Duration::from_secs(60), || load.acknowledged() >= 100)?;
    let mut lost = set.stage.zone("az1");
    lost.extend(set.stage.zone("az2").into_iter().take(1));
    for id in &lost {
        set.region.zorya(&["node", "kill", id]).map_err(RegionError::from)?;
    }
    let blocked = load.acknowledged();
    let read = scan(set, &*database, summary)?;
    let during = load.acknowledged() - blocked;
    summary.figure("commits_acknowledged_without_a_quorum", during);
    summary.promise(during == 0, || format!("{during} commits were acknowledged by three of six copies"));
    note_reason(set, summary, &lost)?;
    summary.figure("pages_read_without_a_quorum", read);

    let before = load.acknowledged();
    let started = Instant::now();
    let last = &lost[2];
    set.region.start_node(last)?;
    let returned = started.elapsed();
    wait::until_true("writes after the return of a node", Duration::from_secs(60), || {
        load.acknowledged() > before
    })?;
    let resumed = started.elapsed();
    summary.figure("node_started_ms", returned.as_millis() as u64);
    summary.figure("writes_resumed_ms", resumed.as_millis() as u64);
    summary.promise(resumed <= RESUME, || format!("writes resumed only after {} ms", resumed.as_millis()));
    for id in &lost[..2] {
        set.region.start_node(id)?;
    }
    set.region.wait_healthy(Duration::from_secs(60))?;
    set.region.wait_caught_up(Duration::from_secs(120))?;
    summary.verify(set, load)
}

/// A table whose pages nothing has to write to when they are read, in no cache: the engine and the mount are started anew.
fn prepare(set: &Set<'_>) -> Result<(), ScenarioError> {
    let database = set.region.database()?;
    let fill = format!(
        "CREATE TABLE chaos_scan AS SELECT n, repeat(md5(n::text), 34) AS payload FROM generate_series(1, {ROWS}) n"
    );
    engine::execute(&*database, "ALTER SYSTEM SET autovacuum = off")?;
    engine::execute(&*database, &fill)?;
    engine::execute(&*database, "VACUUM (FREEZE, ANALYZE) chaos_scan")?;
    engine::execute(&*database, "CHECKPOINT")?;
    Ok(set.region.restart_cluster(Duration::from_secs(60))?)
}

/// Reads pages that were never read before, again and again; returns how many.
fn scan(set: &Set<'_>, database: &dyn Database, summary: &mut ScenarioSummary) -> Result<u32, ScenarioError> {
    let time = set.seconds(60);
    let pages = ROWS / PER_PAGE;
    let pause = time / (pages / STEP);
    let begun = Instant::now();
    let (mut page, mut slowest) = (0, Duration::ZERO);
    while begun.elapsed() < time && page + STEP <= pages {
        let query = format!(
            "SET default_transaction_read_only = on; SELECT count(*), sum(length(payload)) FROM chaos_scan \
             WHERE ctid >= '({page},0)' AND ctid < '({},0)'",
            page + STEP
        );
        let asked = Instant::now();
        if let Err(error) = engine::execute(database, &query) {
            summary.broken.push(format!("a read without a quorum failed: {}", round::describe(&error)));
            return Ok(page);
        }
        slowest = slowest.max(asked.elapsed());
        page += STEP;
        wait::last(pause.saturating_sub(asked.elapsed()))?;
    }
    summary.figure("read_for_s", begun.elapsed().as_secs());
    summary.figure("slowest_read_ms", slowest.as_millis() as u64);
    summary.promise(slowest < SLOW, || format!("a read without a quorum took {} ms", slowest.as_millis()));
    Ok(page)
}

fn note_reason(set: &Set<'_>, summary: &mut ScenarioSummary, lost: &[String]) -> Result<(), ScenarioError> {
    let volume = set.region.cluster()?.volume;
    let reason = volume["reason"].as_str().unwrap_or_default().to_owned();
    let named = lost.iter().all(|id| reason.contains(id.as_str()));
    summary.promise(reason.contains("quorum") && named, || {
        format!("the status does not say why writes wait: {volume}")
    });
    summary.figure("status_says", reason);
    Ok(())
}

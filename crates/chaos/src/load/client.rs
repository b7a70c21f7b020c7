//! One client: connects, carries out its plans, writes down how each ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{LoadOptions, Sheet, Tally};
use crate::engine::{Refusal, Session};
use crate::ledger::{Outcome, Transaction};
use crate::plan::{Ending, Plan, Planner, Unit};

/// The pause after a connection that was refused.
const RECONNECT: Duration = Duration::from_millis(50);

/// Why a step did not succeed.
enum Failure {
    Refused(Refusal),
    Silent,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused(refusal) => write!(f, "{refusal}"),
            Failure::Silent => f.write_str("no answer"),
        }
    }
}

/// Works until the load is stopped.
pub(super) async fn run(number: u32, options: Arc<LoadOptions>, sheet: Arc<Sheet>, tally: Arc<Tally>) {
    let mut planner = Planner::new(number, options.seed, sheet.tables.unit, options.large);
    let mut session = None;
    while !tally.stop.load(Ordering::SeqCst) {
        let Some(open) = &mut session else {
            session = connect(&options, &tally).await;
            continue;
        };
        let plan = planner.next_plan();
        let statements = options.database.statements(&plan, number, sheet.tables);
        let (outcome, failure) = carry_out(open.as_mut(), &plan, &statements, options.patience).await;
        if let Some(failure) = failure {
            tally.errors.lock().push((Instant::now(), format!("client {number}: {failure}")));
            session = None;
        }
        match outcome {
            Outcome::Acknowledged => planner.remember(&plan),
            Outcome::Unknown => planner.forget(&plan),
            Outcome::Aborted => {}
        }
        write_down(number, plan, outcome, &sheet, &tally);
    }
}

async fn connect(options: &LoadOptions, tally: &Tally) -> Option<Box<dyn Session>> {
    match timeout(options.patience, options.database.connect_client()).await {
        Ok(Ok(session)) => return Some(session),
        Ok(Err(error)) => tally.errors.lock().push((Instant::now(), Failure::Refused(error).to_string())),
        Err(_) => tally.errors.lock().push((Instant::now(), Failure::Silent.to_string())),
    }
    tokio::time::sleep(RECONNECT).await;
    None
}

async fn step(session: &mut dyn Session, script: &str, patience: Duration) -> Result<(), Failure> {
    match timeout(patience, session.execute(script)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::Refused(error)),
        Err(_) => Err(Failure::Silent),
    }
}

/// How the transaction ended, and what went wrong.
async fn carry_out(
    session: &mut dyn Session,
    plan: &Plan,
    statements: &str,
    patience: Duration,
) -> (Outcome, Option<Failure>) {
    let begun = step(session, statements, patience).await;
    match (plan.ending, begun) {
        (Ending::Alone, Ok(())) => (Outcome::Acknowledged, None),
        // It may have committed before the answer was lost.
        (Ending::Alone, Err(failure)) => (Outcome::Unknown, Some(failure)),
        // COMMIT was never sent, and never will be.
        (Ending::Commit | Ending::Rollback, Err(failure)) => (Outcome::Aborted, Some(failure)),
        (Ending::Rollback, Ok(())) => (Outcome::Aborted, step(session, "ROLLBACK", patience).await.err()),
        (Ending::Commit, Ok(())) => match step(session, "COMMIT", patience).await {
            Ok(()) => (Outcome::Acknowledged, None),
            Err(failure) => (Outcome::Unknown, Some(failure)),
        },
    }
}

fn write_down(client: u32, plan: Plan, outcome: Outcome, sheet: &Sheet, tally: &Tally) {
    let Plan { sequence, changes, .. } = plan;
    sheet.entries.lock().push(Transaction { client, sequence, changes, outcome });
    if outcome == Outcome::Acknowledged && sheet.tables.unit == Unit::Transaction {
        tally.acknowledged.fetch_add(1, Ordering::SeqCst);
        tally.timeline.count();
    }
}

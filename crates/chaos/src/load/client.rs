//! One client: connects, carries out its plans, writes down how each ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::plan::{Ending, Plan, Planner};
use super::{LoadOptions, Tally};
use crate::ledger::{Outcome, Transaction};

/// How the clients' sessions are named, so that they can be found in the engine.
pub const APPLICATION: &str = "zorya chaos client";
/// The pause after a connection that was refused.
const RECONNECT: Duration = Duration::from_millis(50);

/// Why a step did not succeed.
enum Failure {
    Refused(tokio_postgres::Error),
    Silent,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused(error) => match error.as_db_error() {
                Some(error) => write!(f, "{} ({})", error.message(), error.code().code()),
                None => write!(f, "{error}"),
            },
            Failure::Silent => f.write_str("no answer"),
        }
    }
}

/// Works until the load is stopped.
pub(super) async fn run(number: u32, options: Arc<LoadOptions>, tally: Arc<Tally>) {
    let mut planner = Planner::new(number, options.seed, options.large);
    let mut session = None;
    while !tally.stop.load(Ordering::SeqCst) {
        let Some(client) = &session else {
            session = connect(&options, &tally).await;
            continue;
        };
        let plan = planner.next();
        let (outcome, failure) = carry_out(client, number, &plan, &options).await;
        if let Some(failure) = failure {
            tally.errors.lock().push((Instant::now(), format!("client {number}: {failure}")));
            session = None;
        }
        if outcome == Outcome::Acknowledged {
            planner.remember(&plan);
        }
        write_down(number, plan, outcome, &tally);
    }
}

async fn connect(options: &LoadOptions, tally: &Tally) -> Option<Client> {
    let mut config = options.config.clone();
    config.application_name(APPLICATION);
    match timeout(options.patience, config.connect(NoTls)).await {
        Ok(Ok((client, connection))) => {
            // Ends with its client or with the engine; its error is the next statement's.
            tokio::spawn(connection);
            return Some(client);
        }
        Ok(Err(error)) => tally.errors.lock().push((Instant::now(), Failure::Refused(error).to_string())),
        Err(_) => tally.errors.lock().push((Instant::now(), Failure::Silent.to_string())),
    }
    tokio::time::sleep(RECONNECT).await;
    None
}

async fn step(client: &Client, statement: &str, patience: Duration) -> Result<(), Failure> {
    match timeout(patience, client.batch_execute(statement)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::Refused(error)),
        Err(_) => Err(Failure::Silent),
    }
}

/// How the transaction ended, and what went wrong.
async fn carry_out(
    client: &Client,
    number: u32,
    plan: &Plan,
    options: &LoadOptions,
) -> (Outcome, Option<Failure>) {
    let statements = plan.statements(number, options.tables);
    let begun = step(client, &statements, options.patience).await;
    match (plan.ending, begun) {
        (Ending::Alone, Ok(())) => (Outcome::Acknowledged, None),
        // It may have committed before the answer was lost.
        (Ending::Alone, Err(failure)) => (Outcome::Unknown, Some(failure)),
        // COMMIT was never sent, and never will be.
        (Ending::Commit | Ending::Rollback, Err(failure)) => (Outcome::Aborted, Some(failure)),
        (Ending::Rollback, Ok(())) => {
            (Outcome::Aborted, step(client, "ROLLBACK", options.patience).await.err())
        }
        (Ending::Commit, Ok(())) => match step(client, "COMMIT", options.patience).await {
            Ok(()) => (Outcome::Acknowledged, None),
            Err(failure) => (Outcome::Unknown, Some(failure)),
        },
    }
}

fn write_down(client: u32, plan: Plan, outcome: Outcome, tally: &Tally) {
    let Plan { sequence, changes, .. } = plan;
    tally.ledger.lock().push(Transaction { client, sequence, changes, outcome });
    match outcome {
        Outcome::Acknowledged => {
            tally.acknowledged.fetch_add(1, Ordering::SeqCst);
            tally.timeline.count();
        }
        Outcome::Unknown => drop(tally.unknown.fetch_add(1, Ordering::SeqCst)),
        Outcome::Aborted => drop(tally.aborted.fetch_add(1, Ordering::SeqCst)),
    }
}

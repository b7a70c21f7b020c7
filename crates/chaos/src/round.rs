//! One round: load, fault, healing, verification.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::{self, AskError, Database};
use crate::faults::{self, Fault, FaultError, Kind, Scene};
use crate::ledger::{Outcome, Verdict};
use crate::load::{Book, Load, LoadError, LoadOptions};
use crate::options::Options;
use crate::plan::Unit;
use crate::region::{Region, RegionError};
use crate::seed::Numbers;
use crate::stage::Stage;
use crate::summary::RoundSummary;
use crate::verify;
use crate::wait::{self, WaitError};

/// How long the first commits may take.
const WARM: Duration = Duration::from_secs(60);
/// How long a fault may take to be seen.
const SEEN: Duration = Duration::from_secs(90);
/// How long commits may take to come again after healing: beyond that the service did not return.
const RETURN: Duration = Duration::from_secs(90);
/// How long the load may go on to reach its number of commits.
const ENOUGH: Duration = Duration::from_secs(180);
/// How long replicas may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds whose tables stay, to be verified again later.
const KEPT: usize = 6;
/// How many rounds in a hundred are verified with cold caches.
const COLD_PERCENT: u64 = 40;
/// Of what is lost or extra, how many are told in words.
const TOLD: usize = 10;

/// A round that could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The clients.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A condition.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The verification.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// The books of earlier rounds, oldest first, by cluster.
pub type History = BTreeMap<&'static str, Vec<Vec<Book>>>;

/// What rounds are played on.
#[derive(Debug)]
pub struct Field<'a> {
    /// The command line.
    pub options: &'a Options,
    /// The stage.
    pub stage: &'a Stage,
    /// The region on it.
    pub region: &'a mut Region,
    /// What earlier rounds on this stage left.
    pub history: &'a mut History,
}

/// The fault of a round.
#[must_use]
pub fn fault_of(options: &Options, number: u64, seed: u64) -> Option<&'static Kind> {
    match &options.fault {
        Some(name) => faults::named(name),
        None => Some(faults::choose(options.engine, number, seed)),
    }
}

/// Plays one round. What went wrong is in the summary.
pub fn play(field: &mut Field<'_>, kind: &Kind, number: u64, seed: u64) -> RoundSummary {
    let begun = Instant::now();
    let mut summary = RoundSummary {
        seed,
        fault: kind.name.to_owned(),
        power_cut: kind.cuts_power,
        cluster: field.options.engine.cluster(seed).name.to_owned(),
        ..RoundSummary::default()
    };
    if let Err(error) = try_play(field, kind, number, &mut summary) {
        judge_error(&error, &mut summary);
    }
    if summary.not_counted.is_none() && summary.acknowledged < field.options.min_commits {
        summary.not_counted = Some(format!("only {} commits were acknowledged", summary.acknowledged));
    }
    summary.took_ms = begun.elapsed().as_millis() as u64;
    summary
}

/// A fault that could not be carried out says nothing about the region; everything else does.
fn judge_error(error: &RoundError, summary: &mut RoundSummary) {
    let text = describe(error);
    match error {
        RoundError::Wait(WaitError::Interrupted) => summary.not_counted = Some(text),
        RoundError::Fault(FaultError::Region(_)) => summary.broken.push(text),
        RoundError::Fault(_) => summary.not_counted = Some(text),
        _ => summary.broken.push(text),
    }
}

/// An error with its causes.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn try_play(
    field: &mut Field<'_>,
    kind: &Kind,
    number: u64,
    summary: &mut RoundSummary,
) -> Result<(), RoundError> {
    let mut numbers = Numbers::from_seed(crate::seed::mix(summary.seed));
    field.region.switch_to(field.options.engine.cluster(summary.seed))?;
    let database = field.region.database()?;
    let load = Load::start(LoadOptions {
        database: database.clone(),
        clients: field.options.clients,
        seed: numbers.draw(),
        number,
        patience: PATIENCE,
        large: kind.large_rows,
    })?;
    let played = play_fault(field, kind, &mut numbers, &load, summary);
    summary.client_errors = load.errors().len() as u64;
    let mut books = load.stop();
    count(&books, summary);
    if played.is_ok() && (kind.scars || numbers.chance(COLD_PERCENT)) {
        summary.cold = true;
        // An engine and a mount that were just started have nothing in their caches: what is verified comes from storage.
        field.region.restart_cluster(CATCH_UP)?;
    }
    // Even a round that went wrong is verified, if the engine answers: the more there is to see, the better.
    let verified = verify_all(field, &*database, &mut books, number, summary);
    played?;
    verified?;
    remember(field, &*database, books)?;
    if !kind.scars {
        field.region.wait_healthy(CATCH_UP)?;
        field.region.wait_caught_up(CATCH_UP)?;
    }
    Ok(())
}

fn count(books: &[Book], summary: &mut RoundSummary) {
    for Book { tables, ledger } in books {
        let count = |outcome| ledger.count(outcome);
        match tables.unit {
            Unit::Transaction => {
                summary.acknowledged += count(Outcome::Acknowledged);
                summary.unknown += count(Outcome::Unknown);
                summary.aborted += count(Outcome::Aborted);
            }
            Unit::Statement => {
                summary.statements += count(Outcome::Acknowledged);
                summary.statements_unknown += count(Outcome::Unknown);
            }
        }
    }
}

fn play_fault(
    field: &Field<'_>,
    kind: &Kind,
    numbers: &mut Numbers,
    load: &Load,
    summary: &mut RoundSummary,
) -> Result<(), RoundError> {
    let scene = Scene { region: field.region, stage: field.stage, load };
    let mut fault = kind.make(numbers);
    let first = numbers.between(field.options.min_commits / 10, field.options.min_commits / 2);
    wait::until_true("the first commits", WARM, || load.acknowledged() >= first)?;
    let injected = Instant::now();
    let played = inject_and_see(fault.as_mut(), kind, numbers, scene, summary);
    // Healed in any case, or the verification would meet the fault.
    let healed = fault.heal(scene);
    let healed_at = Instant::now();
    played?;
    healed?;
    let at_heal = load.acknowledged();
    let again = u64::from(field.options.clients) * 2;
    wait::until_true("the return of commits", RETURN, || load.acknowledged() >= at_heal + again)?;
    summary.recovered_ms = Some(healed_at.elapsed().as_millis() as u64);
    summary.stalled_ms = load.timeline().longest_stall(injected, Instant::now()).as_millis() as u64;
    wait::until_true("enough commits", ENOUGH, || load.acknowledged() >= field.options.min_commits)?;
    Ok(())
}

fn inject_and_see(
    fault: &mut dyn Fault,
    kind: &Kind,
    numbers: &mut Numbers,
    scene: Scene<'_>,
    summary: &mut RoundSummary,
) -> Result<(), RoundError> {
    fault.inject(scene)?;
    match wait::until("the fault in effect", SEEN, || fault.seen(scene)) {
        Ok(seen) => summary.seen = Some(seen),
        Err(WaitError::Interrupted) => return Err(WaitError::Interrupted.into()),
        Err(error) => summary.not_counted = Some(error.to_string()),
    }
    let (from, to) = kind.lasts_ms;
    Ok(wait::last(Duration::from_millis(numbers.between(from, to)))?)
}

fn verify_all(
    field: &mut Field<'_>,
    database: &dyn Database,
    books: &mut [Book],
    number: u64,
    summary: &mut RoundSummary,
) -> Result<(), RoundError> {
    engine::answer(database.end_clients())?;
    let deep = number.is_multiple_of(field.options.check_every.max(1));
    let findings = verify::verify_round(database, books, deep)?;
    for (book, verdict) in books.iter().zip(&findings.verdicts) {
        summary.unknown_committed += verdict.unknown_committed;
        take_over(verdict, &format!("in {}: ", book.tables.rows()), summary);
    }
    let earlier = field.history.get_mut(field.region.under_test().name).filter(|rounds| !rounds.is_empty());
    if let Some(rounds) = earlier {
        let at = summary.seed as usize % rounds.len();
        for book in &mut rounds[at] {
            let verdict = verify::verify(database, book)?;
            take_over(&verdict, &format!("in the earlier {}: ", book.tables.rows()), summary);
        }
    }
    let checked = findings.checked?;
    summary.logged = checked.logged;
    summary.broken.extend(checked.broken);
    Ok(())
}

fn take_over(verdict: &Verdict, whose: &str, summary: &mut RoundSummary) {
    summary.lost += verdict.lost.len() as u64;
    summary.extra += verdict.extra.len() as u64;
    for (what, items) in [("lost", &verdict.lost), ("extra", &verdict.extra)] {
        summary.broken.extend(items.iter().take(TOLD).map(|item| format!("{what}: {whose}{item}")));
    }
}

/// Keeps a round's books to verify them again later, and drops the tables of the oldest.
fn remember(field: &mut Field<'_>, database: &dyn Database, books: Vec<Book>) -> Result<(), RoundError> {
    let rounds = field.history.entry(field.region.under_test().name).or_default();
    rounds.push(books);
    if rounds.len() > KEPT {
        for book in rounds.remove(0) {
            engine::execute(database, &database.removal(book.tables))?;
        }
    }
    Ok(engine::answer(database.forget_logs())?)
}

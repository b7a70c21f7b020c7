//! Reading back what the tables hold, and judging it by the ledgers.

use crate::engine::{self, AskError, Audit, Checked, Database};
use crate::ledger::{Ledger, Observed, Verdict, judge};
use crate::load::Book;
use crate::plan::Tables;

/// Reads one snapshot and judges it; afterwards what was unknown is settled.
pub fn verify(database: &dyn Database, book: &mut Book) -> Result<Verdict, AskError> {
    let observed = engine::answer(database.observe(book.tables))?;
    let verdict = judge(&book.ledger, &observed);
    book.ledger.settle(&observed);
    Ok(verdict)
}

/// The books of a round with what was found in their tables.
#[derive(Debug)]
pub struct Findings {
    /// Of each book.
    pub verdicts: Vec<Verdict>,
    /// By the engine's own checks.
    pub checked: Result<Checked, AskError>,
}

/// Judges all books of a round, lets the engine check what only it can, and settles what was unknown.
pub fn verify_round(database: &dyn Database, books: &mut [Book], deep: bool) -> Result<Findings, AskError> {
    let observed: Result<Vec<Observed>, AskError> =
        books.iter().map(|book| engine::answer(database.observe(book.tables))).collect();
    let observed = observed?;
    let both = || books.iter().zip(&observed);
    let verdicts = both().map(|(book, observed)| judge(&book.ledger, observed)).collect();
    let audits: Vec<_> = both().map(|(book, observed)| audit(book.tables, &book.ledger, observed)).collect();
    let checked = database.check(&audits, deep);
    for (book, observed) in books.iter_mut().zip(&observed) {
        book.ledger.settle(observed);
    }
    Ok(Findings { verdicts, checked })
}

fn audit<'a>(tables: Tables, ledger: &'a Ledger, observed: &'a Observed) -> Audit<'a> {
    Audit { tables, ledger, observed }
}

//! The load: clients that write transactions of their own rows and keep the ledger of what they were told.
//!
//! Runs on a runtime of its own threads, so that whoever injects faults may wait as it likes. Clients reconnect for ever;
//! what they see of a fault is counted. After [`Load::stop`] the ledger is complete: no statement of a client is on its
//! way, though a session whose client gave up may still live in the engine ([`Database::end_clients`] ends those).
//!
//! An engine with several kinds of tables has a *book* for each: tables and a ledger of their own.

mod client;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shelf::Shelf;
use tokio::runtime::Runtime;

pub use timeline::Timeline;

use crate::engine::{Database, Refusal};
use crate::ledger::{Ledger, Transaction};
use crate::plan::{Tables, Unit};

mod shelf {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// A mutex whose content stays usable after a holder panicked: it only collects.
    #[derive(Debug, Default)]
    pub struct Shelf<T>(Mutex<T>);

    impl<T> Shelf<T> {
        /// Access to the content.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// A load that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No threads.
    #[error("cannot start the clients' threads")]
    Runtime(#[source] std::io::Error),
    /// The tables could not be made.
    #[error("cannot make the tables of the load")]
    Tables(#[source] Refusal),
    /// The engine did not answer in time.
    #[error("the engine did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// Clients of single statements, besides the others: enough to overlap.
const STATEMENT_CLIENTS: u32 = 2;

/// What decides a load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to write.
    pub database: Arc<dyn Database>,
    /// Number of clients that write transactions.
    pub clients: u32,
    /// What the clients' choices follow from.
    pub seed: u64,
    /// The tables' number.
    pub number: u64,
    /// How long a client waits for an answer before it gives its session up.
    pub patience: Duration,
    /// Whether the clients write large rows, to fill disks.
    pub large: bool,
}

/// Some tables and what the clients who write to them were told.
#[derive(Clone, Debug)]
pub struct Book {
    /// The tables.
    pub tables: Tables,
    /// The ledger.
    pub ledger: Ledger,
}

/// What the clients of one book write down while they work.
#[derive(Debug)]
pub(crate) struct Sheet {
    tables: Tables,
    entries: Shelf<Vec<Transaction>>,
}

/// What all clients count while they work. Acknowledged are transactions, not single statements.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    acknowledged: AtomicU64,
    stop: AtomicBool,
    errors: Shelf<Vec<(Instant, String)>>,
    timeline: Timeline,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    clients: Vec<tokio::task::JoinHandle<()>>,
    sheets: Vec<Arc<Sheet>>,
    tally: Arc<Tally>,
}

impl Load {
    /// Makes the tables and starts the clients.
    pub fn start(options: LoadOptions) -> Result<Load, LoadError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(LoadError::Runtime)?;
        let sheet = |tables| Arc::new(Sheet { tables, entries: Shelf::default() });
        let sheets: Vec<_> = options.database.tables(options.number).into_iter().map(sheet).collect();
        let limit = Duration::from_secs(60);
        let made = runtime
            .block_on(async { tokio::time::timeout(limit, make_tables(&*options.database, &sheets)).await });
        made.map_err(|_| LoadError::Silent(limit))?.map_err(LoadError::Tables)?;
        let tally = Arc::new(Tally::default());
        let options = Arc::new(options);
        let writers = writers(options.clients, &sheets).into_iter();
        let start = |(client, sheet): (u32, &Arc<Sheet>)| {
            runtime.spawn(client::run(client, options.clone(), sheet.clone(), tally.clone()))
        };
        let clients = writers.map(start).collect();
        Ok(Load { runtime, clients, sheets, tally })
    }

    /// Commits that were answered so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.tally.acknowledged.load(Ordering::SeqCst)
    }

    /// Errors that clients saw so far, oldest first.
    #[must_use]
    pub fn errors(&self) -> Vec<(Instant, String)> {
        self.tally.errors.lock().clone()
    }

    /// When commits were answered.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.tally.timeline
    }

    /// Lets every client finish its transaction, and returns the books. A client that waits for an answer gets it, or
    /// loses its patience.
    pub fn stop(self) -> Vec<Book> {
        self.tally.stop.store(true, Ordering::SeqCst);
        self.runtime.block_on(async {
            for client in self.clients {
                if let Err(error) = client.await {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        });
        let book = |sheet: &Arc<Sheet>| {
            let mut transactions = std::mem::take(&mut *sheet.entries.lock());
            transactions.sort_by_key(|transaction| (transaction.client, transaction.sequence));
            Book { tables: sheet.tables, ledger: Ledger { transactions } }
        };
        self.sheets.iter().map(book).collect()
    }
}

async fn make_tables(database: &dyn Database, sheets: &[Arc<Sheet>]) -> Result<(), Refusal> {
    let mut session = database.connect().await?;
    for sheet in sheets {
        session.execute(&database.creation(sheet.tables)).await?;
    }
    Ok(())
}

/// The clients with their numbers, each on one sheet.
fn writers(clients: u32, sheets: &[Arc<Sheet>]) -> Vec<(u32, &Arc<Sheet>)> {
    let of_unit = |sheet: &Arc<Sheet>| match sheet.tables.unit {
        Unit::Transaction => clients,
        Unit::Statement => STATEMENT_CLIENTS,
    };
    let places = sheets.iter().flat_map(|sheet| std::iter::repeat_n(sheet, of_unit(sheet) as usize));
    (0..).zip(places).collect()
}

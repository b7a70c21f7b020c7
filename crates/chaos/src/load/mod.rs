//! The load: clients that write transactions of their own rows and keep the ledger of what they were told.
//!
//! Runs on a runtime of its own threads, so that whoever injects faults may wait as it likes. Clients reconnect for ever;
//! what they see of a fault is counted. After [`Load::stop`] the ledger is complete: no statement of a client is on its
//! way, though a session whose client gave up may still live in the engine ([`crate::verify`] ends those first).

mod client;
mod plan;
mod tables;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shelf::Shelf;
use tokio::runtime::Runtime;
use tokio_postgres::Config;

pub use client::APPLICATION;
pub use tables::Tables;
pub use timeline::Timeline;

use crate::ledger::{Ledger, Transaction};

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
    Tables(#[source] tokio_postgres::Error),
    /// The engine did not answer in time.
    #[error("the engine did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// What decides a load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How to connect.
    pub config: Config,
    /// Number of clients.
    pub clients: u32,
    /// What the clients' choices follow from.
    pub seed: u64,
    /// The tables' number.
    pub tables: Tables,
    /// How long a client waits for an answer before it gives its session up.
    pub patience: Duration,
    /// Whether the clients write large rows, to fill disks.
    pub large: bool,
}

/// What the clients count while they work.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    aborted: AtomicU64,
    stop: AtomicBool,
    errors: Shelf<Vec<(Instant, String)>>,
    ledger: Shelf<Vec<Transaction>>,
    timeline: Timeline,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    clients: Vec<tokio::task::JoinHandle<()>>,
    tally: Arc<Tally>,
}

impl Load {
    /// Makes the tables and starts the clients.
    pub fn start(options: LoadOptions) -> Result<Load, LoadError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(LoadError::Runtime)?;
        let limit = Duration::from_secs(60);
        let made = runtime
            .block_on(async { tokio::time::timeout(limit, options.tables.make(&options.config)).await });
        made.map_err(|_| LoadError::Silent(limit))?.map_err(LoadError::Tables)?;
        let tally = Arc::new(Tally::default());
        let options = Arc::new(options);
        let start = |client| runtime.spawn(client::run(client, options.clone(), tally.clone()));
        let clients = (0..options.clients).map(start).collect();
        Ok(Load { runtime, clients, tally })
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

    /// Lets every client finish its transaction, and returns the ledger. A client that waits for an answer gets it, or
    /// loses its patience.
    pub fn stop(self) -> Ledger {
        self.tally.stop.store(true, Ordering::SeqCst);
        self.runtime.block_on(async {
            for client in self.clients {
                if let Err(error) = client.await {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        });
        let mut transactions = std::mem::take(&mut *self.tally.ledger.lock());
        transactions.sort_by_key(|transaction| (transaction.client, transaction.sequence));
        Ledger { transactions }
    }
}

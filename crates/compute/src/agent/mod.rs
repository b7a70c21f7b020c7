//! The agent: one per host and region, long-lived. It makes what runs equal to what `region.json` says.
//!
//! * [`node`]: supervises one storage node.
//! * [`cluster`]: supervises one cluster: its volume, its database, its instance.
//! * [`instance`]: the pair of mount daemon and engine, started, adopted and torn down together.
//! * [`verdict`]: whether a pair is well, blocked or hung (pure).
//! * [`protocol`], [`server`], [`operations`]: the control socket and what it does.
//! * [`status`]: what an operator is told, also when no agent runs.
//!
//! The agent holds nothing that cannot be found again: killed at any moment, it leaves everything running, and the next
//! one adopts it. What was half done is done again. Asked to shut down, it stops everything that it supervises.

pub mod cluster;
pub mod instance;
pub mod lock;
pub mod node;
mod operations;
pub mod protocol;
mod server;
pub mod status;
pub mod verdict;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::home::{Home, HomeError};
use crate::logs;
use crate::region::{ClusterSpec, Desired, NodeSpec, Region, RegionError, RegionStore};
use crate::volumes::Volumes;
use cluster::ClusterHandle;
use node::NodeHandle;

/// How often logs are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// What an agent needs.
pub struct AgentOptions {
    /// The region's home.
    pub home: Home,
    /// The program that is run as `PROGRAM storage-node …` and `PROGRAM mount …`.
    pub program: PathBuf,
    /// Storage.
    pub volumes: Arc<dyn Volumes>,
}

/// An agent that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The region cannot be read.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// There is an agent already, or something else goes wrong with the lock.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The control socket cannot be opened.
    #[error("cannot listen on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// What every part of the agent shares.
pub struct Shared {
    /// The home.
    pub home: Home,
    /// The desired state.
    pub store: RegionStore,
    /// See [`AgentOptions::program`].
    pub program: PathBuf,
    /// Storage.
    pub volumes: Arc<dyn Volumes>,
    /// Rises whenever anything that status shows has changed.
    pub changed: watch::Sender<u64>,
}

impl Shared {
    /// Tells whoever waits for a state to look again.
    pub fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The desired state now.
    #[must_use]
    pub fn region(&self) -> Region {
        self.store.get()
    }
}

/// What an operator wants of a process, and how badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whether it should run.
    pub want: Want,
    /// Rises when an operator asks anew, so that what has failed is tried again.
    pub attempt: u64,
}

/// See [`Wish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It should run.
    Running,
    /// It should be stopped in order.
    Stopped,
    /// It should be stopped at once, as by a crash.
    Killed,
    /// It should be forgotten with everything that it owns.
    Deleted,
}

impl Wish {
    /// What a region's file wishes.
    #[must_use]
    pub fn of(desired: Desired) -> Wish {
        let want = match desired {
            Desired::Running => Want::Running,
            Desired::Stopped => Want::Stopped,
        };
        Wish { want, attempt: 0 }
    }
}

/// Wishes something of a supervisor.
pub fn wish(sender: &watch::Sender<Wish>, want: Want) {
    sender.send_modify(|wish| *wish = Wish { want, attempt: wish.attempt + 1 });
}

/// A running agent.
pub struct Agent {
    shared: Arc<Shared>,
    nodes: Mutex<BTreeMap<String, NodeHandle>>,
    clusters: Mutex<BTreeMap<String, ClusterHandle>>,
    /// Notified when the agent has been asked to end.
    ending: Notify,
    _lock: lock::Lock,
}

impl Agent {
    /// Takes the home's lock, reads the region and starts its supervisors. Needs a tokio runtime.
    pub fn start(options: AgentOptions) -> Result<Arc<Agent>, AgentError> {
        let agent = Agent::start_idle(options)?;
        let region = agent.shared.region();
        for spec in region.nodes {
            let wish = Wish::of(spec.desired);
            agent.supervise_node(spec, wish);
        }
        for spec in region.clusters {
            let wish = Wish::of(spec.desired);
            agent.supervise_cluster(spec, wish);
        }
        Ok(agent)
    }

    fn start_idle(options: AgentOptions) -> Result<Arc<Agent>, AgentError> {
        options.home.make()?;
        let lock = lock::Lock::take(&options.home.lock_file())?;
        let store = RegionStore::open(options.home.region_file())?;
        let shared = Arc::new(Shared {
            home: options.home,
            store,
            program: options.program,
            volumes: options.volumes,
            changed: watch::Sender::new(0),
        });
        Ok(Arc::new(Agent {
            shared,
            nodes: Mutex::default(),
            clusters: Mutex::default(),
            ending: Notify::new(),
            _lock: lock,
        }))
    }

    fn supervise_node(&self, spec: NodeSpec, wish: Wish) {
        let handle = node::supervise(self.shared.clone(), spec, wish);
        self.nodes().insert(handle.spec.id.0.clone(), handle);
    }

    fn supervise_cluster(&self, spec: ClusterSpec, wish: Wish) {
        let handle = cluster::supervise(self.shared.clone(), &spec, wish);
        self.clusters().insert(spec.name, handle);
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, NodeHandle>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clusters(&self) -> MutexGuard<'_, BTreeMap<String, ClusterHandle>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops everything in order: clusters, then nodes. What should run in the next life of the region is unchanged.
    pub async fn stop_everything(&self) {
        let clusters: Vec<_> = self.clusters().values().map(ClusterHandle::stop).collect();
        for stopped in clusters {
            stopped.await;
        }
        let nodes: Vec<_> = self.nodes().values().map(NodeHandle::stop).collect();
        for stopped in nodes {
            stopped.await;
        }
    }

    /// Rotates logs, for ever.
    async fn keep_house(&self) {
        loop {
            let home = &self.shared.home;
            let region = self.shared.region();
            let mut files = vec![home.agent_log()];
            files.extend(region.nodes.iter().map(|node| home.node_log(&node.id.0)));
            for cluster in &region.clusters {
                files.push(home.engine_log(&cluster.name));
                files.push(home.mount_log(&cluster.name));
            }
            for file in files {
                if let Err(error) = logs::rotate(&file, logs::ROTATE_BYTES) {
                    tracing::warn!(file = %file.display(), %error, "cannot rotate a log");
                }
            }
            tokio::time::sleep(HOUSEKEEPING).await;
        }
    }
}

/// Runs an agent until it is asked to shut down, by its socket, SIGTERM or SIGINT; then stops everything.
pub async fn run(options: AgentOptions) -> Result<(), AgentError> {
    let agent = Agent::start(options)?;
    let socket = agent.shared.home.socket();
    let listener =
        server::listen(&socket).map_err(|source| AgentError::Socket { path: socket.clone(), source })?;
    tracing::info!(home = %agent.shared.home.root().display(), pid = std::process::id(), "agent started");
    tokio::select! {
        () = server::serve(agent.clone(), listener) => {}
        () = agent.keep_house() => {}
        () = agent.ending.notified() => {}
        () = asked_by_signal() => {
            tracing::info!("asked to end by a signal");
            agent.stop_everything().await;
        }
    }
    // The socket goes last: who cannot connect any more may rely on nothing running.
    let _ = std::fs::remove_file(&socket);
    tracing::info!("agent ends");
    Ok(())
}

async fn asked_by_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        // Without handlers the signals end the process by themselves, and the next agent adopts what runs.
        _ => std::future::pending().await,
    }
}

/// Stops everything of a region whose agent is dead: adopts what runs, and stops it. Needs a tokio runtime.
pub async fn take_down(options: AgentOptions) -> Result<(), AgentError> {
    let agent = Agent::start_idle(options)?;
    let region = agent.shared.region();
    let stopped = Wish { want: Want::Stopped, attempt: 0 };
    for spec in region.nodes {
        agent.supervise_node(spec, stopped);
    }
    for spec in region.clusters {
        agent.supervise_cluster(spec, stopped);
    }
    agent.stop_everything().await;
    Ok(())
}

//! Supervises one cluster: its volume, its database, its instance.
//!
//! ```text
//!  creating ──▶ starting ──▶ available ◀──▶ blocked (writes wait for storage)
//!                  ▲            │ mount or engine dies or hangs
//!                  └─ recovering ◀┘ ── crash loop ──▶ failed
//!  stopped ◀── stop          deleting ──▶ gone
//! ```
//! Every step can be repeated: a supervisor that was killed anywhere leaves what its successor adopts or does again.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zorya_types::Profile;

use super::instance::{MountReport, Pair, StartError};
use super::node::{SupervisorGone, chain, changed, changed_away};
use super::verdict::{Observation, Verdict, judge};
use super::{Shared, Want, Wish};
use crate::disk;
use crate::engine::{Answer, BinariesError, Installed, Probe};
use crate::ports;
use crate::process::Exit;
use crate::region::{ClusterSpec, Phase, RegionError};
use crate::restart::{CANNOT_WORK, Decision, RestartPolicy};
use crate::volumes::VolumesError;

/// How often a pair is judged and an engine asked.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long one question may take.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// How often a full disk is looked at.
const ROOM_POLL: Duration = Duration::from_millis(500);
/// How long creating or deleting a volume pauses before it is tried again.
const VOLUME_RETRY: Duration = Duration::from_millis(300);

/// How a cluster is. The names are Amazon's where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterPhase {
    /// Its volume or its database is being made.
    Creating,
    /// Its volume is being opened or its engine started.
    Starting,
    /// It serves.
    Available,
    /// It serves reads; writes wait for storage.
    Blocked,
    /// Its mount or engine died or hung and is started again.
    Recovering,
    /// It is being stopped.
    Stopping,
    /// It was stopped by an operator, or the region is down.
    Stopped,
    /// It dies again and again, or cannot start.
    Failed,
    /// It is being deleted.
    Deleting,
    /// It is gone.
    Deleted,
}

/// What is known of a cluster's instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// How it is.
    pub phase: ClusterPhase,
    /// Its engine, while there is one.
    pub pid: Option<i32>,
    /// Its mount daemon, while there is one.
    pub mount_pid: Option<i32>,
    /// Why it is as it is, when that needs saying.
    pub reason: Option<String>,
    /// How often the pair was started again.
    pub restarts: u32,
}

/// A supervised cluster.
pub struct ClusterHandle {
    /// What is wished of it.
    pub wish: watch::Sender<Wish>,
    /// How it is.
    pub state: watch::Receiver<ClusterState>,
}

impl ClusterHandle {
    /// Stops the cluster and waits until it is.
    pub fn stop(&self) -> impl Future<Output = ()> + use<> {
        super::wish(&self.wish, Want::Stopped);
        let mut state = self.state.clone();
        async move {
            // An error means that the supervisor is gone, and with it the runtime or the cluster.
            let down =
                |state: &ClusterState| matches!(state.phase, ClusterPhase::Stopped | ClusterPhase::Deleted);
            let _ = state.wait_for(down).await;
        }
    }
}

/// Why a cluster is not available.
#[derive(Debug, thiserror::Error)]
enum ClusterError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Volumes(#[from] VolumesError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Profile(#[from] zorya_types::profile::UnknownProfile),
    #[error(transparent)]
    NoFreePort(#[from] ports::NoFreePort),
    #[error("the {who} {exit}")]
    Died { who: &'static str, exit: Exit },
    #[error("the {0} does not answer")]
    Hung(&'static str),
}

impl ClusterError {
    fn exit(&self) -> Exit {
        match self {
            ClusterError::Start(error) => error.exit(),
            ClusterError::Died { exit, .. } => *exit,
            ClusterError::Hung(_) => Exit::Unknown,
            ClusterError::Binaries(_) | ClusterError::Profile(_) => Exit::Code(CANNOT_WORK),
            _ => Exit::Code(1),
        }
    }
}

/// Starts supervising a cluster.
pub fn supervise(shared: Arc<Shared>, spec: &ClusterSpec, wish: Wish) -> ClusterHandle {
    let phase = match spec.phase {
        Phase::Creating => ClusterPhase::Creating,
        Phase::Ready => ClusterPhase::Starting,
        Phase::Deleting => ClusterPhase::Deleting,
    };
    let state = ClusterState { phase, pid: None, mount_pid: None, reason: None, restarts: 0 };
    let (state, seen) = watch::channel(state);
    let wish = if spec.phase == Phase::Deleting { Wish { want: Want::Deleted, ..wish } } else { wish };
    let (wish, wished) = watch::channel(wish);
    let pair = Pair::new(shared.home.clone(), shared.region().id, spec.name.clone(), spec.engine);
    let supervisor = Supervisor { shared, name: spec.name.clone(), state, policy: RestartPolicy::default() };
    tokio::spawn(supervisor.run(pair, wished));
    ClusterHandle { wish, state: seen }
}

struct Supervisor {
    shared: Arc<Shared>,
    name: String,
    state: watch::Sender<ClusterState>,
    policy: RestartPolicy,
}

impl Supervisor {
    fn spec(&self) -> Option<ClusterSpec> {
        self.shared.region().cluster(&self.name).cloned()
    }

    async fn run(mut self, mut pair: Pair, mut wished: watch::Receiver<Wish>) {
        if self.spec().is_none() {
            return;
        }
        let mut adopted = pair.adopt();
        loop {
            let wish = *wished.borrow_and_update();
            match wish.want {
                Want::Running => match self.keep_running(&mut pair, adopted, &mut wished).await {
                    Ok(()) => adopted = false,
                    Err(SupervisorGone) => return,
                },
                Want::Stopped => self.stop(&mut pair).await,
                Want::Killed => {
                    pair.abort().await;
                    self.publish(ClusterPhase::Stopped, &pair, Some("killed by an operator".to_owned()));
                }
                Want::Deleted => return self.delete(&mut pair).await,
            }
            if wish.want != Want::Running && wished.changed().await.is_err() {
                return;
            }
        }
    }

    async fn stop(&self, pair: &mut Pair) {
        self.publish(ClusterPhase::Stopping, pair, None);
        pair.stop().await;
        pair.clean_up();
        self.publish(ClusterPhase::Stopped, pair, None);
    }

    /// Starts the pair, or goes on with an adopted one, and keeps it until something else is wished or it ends.
    async fn keep_running(
        &mut self,
        pair: &mut Pair,
        adopted: bool,
        wished: &mut watch::Receiver<Wish>,
    ) -> Result<(), SupervisorGone> {
        let started = Instant::now();
        let ended = tokio::select! {
            ended = self.start_and_watch(pair, adopted) => ended,
            gone = changed_away(wished) => return gone,
        };
        let Err(error) = ended;
        tracing::warn!(cluster = self.name, error = chain(&error), "an instance ended");
        pair.abort().await;
        self.ended(pair, &error, started.elapsed(), wished).await
    }

    async fn ended(
        &mut self,
        pair: &Pair,
        error: &ClusterError,
        lived: Duration,
        wished: &mut watch::Receiver<Wish>,
    ) -> Result<(), SupervisorGone> {
        let name = &self.name;
        match self.policy.died(error.exit(), lived) {
            Decision::RestartAfter(delay) => {
                self.publish(ClusterPhase::Recovering, pair, Some(chain(error)));
                self.state.send_modify(|state| state.restarts += 1);
                tokio::select! {
                    () = tokio::time::sleep(delay) => Ok(()),
                    gone = changed_away(wished) => gone,
                }
            }
            Decision::GiveUp => {
                let reason =
                    format!("{}\nWhen the cause is mended: zorya cluster start {name}", chain(error));
                self.publish(ClusterPhase::Failed, pair, Some(reason));
                let gone = changed(wished).await;
                self.policy.reset();
                gone
            }
        }
    }

    async fn start_and_watch(
        &self,
        pair: &mut Pair,
        adopted: bool,
    ) -> Result<std::convert::Infallible, ClusterError> {
        let (region, mut spec) = (self.shared.region(), self.spec());
        let Some(spec) = &mut spec else { return Err(ClusterError::Hung("region")) };
        if !adopted {
            if pair.mount().is_some() || pair.engine().is_some() {
                tracing::warn!(cluster = self.name, "half an instance is left; aborting it");
                pair.abort().await;
            }
            let creating = spec.phase == Phase::Creating;
            let phase = match (creating, self.state.borrow().restarts) {
                (true, _) => ClusterPhase::Creating,
                (false, 0) => ClusterPhase::Starting,
                (false, _) => ClusterPhase::Recovering,
            };
            // An attempt shows that it has begun, so that nobody takes the last one's failure for its own.
            self.publish(phase, pair, None);
            let installed = Installed::find(spec.engine, spec.bin_dir.as_deref())?;
            self.wait_for_room(pair, phase).await;
            if creating {
                self.publish(phase, pair, Some("creating the volume".to_owned()));
                self.create_volume(spec).await?;
            }
            self.free_port(spec, region.engine_host())?;
            pair.start_mount(&self.shared, &region, spec, &installed)?;
            self.publish(phase, pair, Some("opening the volume".to_owned()));
            pair.wait_for_mount().await?;
            let mut watch = MountWatch::new(&self.shared, &self.name);
            tokio::select! {
                started = self.start_database(pair, &region, spec, &installed, phase) => started?,
                () = watch.hung() => return Err(ClusterError::Hung("mount daemon")),
            }
            if creating {
                self.set_phase(Phase::Ready)?;
            }
        }
        self.watch(pair, spec).await
    }

    /// Waits while the disk of the cluster's own files has no room for an instance.
    async fn wait_for_room(&self, pair: &Pair, phase: ClusterPhase) {
        while let Some(reason) = disk::too_full_to_start(self.shared.home.root()) {
            tracing::warn!(cluster = self.name, "{reason}");
            self.publish(phase, pair, Some(reason));
            tokio::time::sleep(ROOM_POLL).await;
        }
    }

    async fn start_database(
        &self,
        pair: &mut Pair,
        region: &crate::region::Region,
        spec: &ClusterSpec,
        installed: &Installed,
        phase: ClusterPhase,
    ) -> Result<(), ClusterError> {
        let doing = if spec.phase == Phase::Creating { "making the database" } else { "starting the engine" };
        self.publish(phase, pair, Some(doing.to_owned()));
        pair.ensure_database(installed).await?;
        self.publish(phase, pair, Some("waiting for the engine to answer".to_owned()));
        pair.start_engine(region, spec, installed).await?;
        Ok(())
    }

    async fn create_volume(&self, spec: &ClusterSpec) -> Result<(), ClusterError> {
        let profile = Profile::named(&spec.profile)?;
        loop {
            // Anew each time: a node whose port was taken before it ever listened gets another.
            let nodes = self.shared.region().addresses(spec);
            let (volumes, profile, nodes, volume) =
                (self.shared.volumes.clone(), profile.clone(), nodes, spec.volume);
            let created = blocking(move || volumes.create(volume, &profile, &nodes)).await;
            match created {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let reason = format!("waiting for storage nodes: {}", chain(&error));
                    self.state.send_modify(|state| state.reason = Some(reason));
                    self.shared.touch();
                }
            }
            tokio::time::sleep(VOLUME_RETRY).await;
        }
    }

    /// Picks and keeps another port if somebody else took the cluster's.
    fn free_port(&self, spec: &mut ClusterSpec, host: &str) -> Result<(), ClusterError> {
        // In another network namespace this process cannot tell.
        let region = self.shared.region();
        if region.compute.netns.is_some() || ports::is_free(host, spec.port) {
            return Ok(());
        }
        let reserved: BTreeSet<u16> = region.clusters.iter().map(|cluster| cluster.port).collect();
        let port = ports::pick(host, ports::first_engine_port(spec.engine), &reserved)?;
        tracing::warn!(cluster = self.name, taken = spec.port, port, "the port is taken; using another");
        spec.port = port;
        self.update(|cluster| cluster.port = port)
    }

    fn set_phase(&self, phase: Phase) -> Result<(), ClusterError> {
        self.update(|cluster| cluster.phase = phase)
    }

    fn update(&self, change: impl FnOnce(&mut ClusterSpec)) -> Result<(), ClusterError> {
        let name = &self.name;
        self.shared
            .store
            .update(|region| region.clusters.iter_mut().find(|cluster| &cluster.name == name).map(change))?;
        Ok(())
    }

    /// Watches a running pair until it dies or hangs.
    async fn watch(&self, pair: &Pair, spec: &ClusterSpec) -> Result<std::convert::Infallible, ClusterError> {
        let (Some(mount), Some(engine)) = (pair.mount(), pair.engine()) else {
            return Err(ClusterError::Hung("instance"));
        };
        self.publish(ClusterPhase::Available, pair, None);
        let probe = pair.probe(spec)?;
        let mounted = MountWatch::new(&self.shared, &self.name);
        tokio::select! {
            exit = mount.exited() => Err(ClusterError::Died { who: "mount daemon", exit }),
            exit = engine.exited() => Err(ClusterError::Died { who: "engine", exit }),
            hung = self.judge_for_ever(pair, mounted, probe) => Err(ClusterError::Hung(hung)),
        }
    }

    /// Judges the pair once a second; returns who hangs.
    async fn judge_for_ever(&self, pair: &Pair, mut mounted: MountWatch, probe: Probe) -> &'static str {
        let (tell, answered) = watch::channel(Instant::now());
        let asking = ask_for_ever(probe, tell);
        let judging = async {
            let mut unblocked = Instant::now();
            loop {
                tokio::time::sleep(PROBE_EVERY).await;
                let (mount_silent, blocked) = mounted.look();
                if blocked.is_some() {
                    unblocked = Instant::now();
                }
                let engine_silent = answered.borrow().max(unblocked).elapsed();
                match judge(&Observation { mount_silent, blocked, engine_silent }) {
                    Verdict::Well => self.publish(ClusterPhase::Available, pair, None),
                    Verdict::Blocked(reason) => self.publish(ClusterPhase::Blocked, pair, Some(reason)),
                    Verdict::MountHung => return "mount daemon",
                    Verdict::EngineHung => return "engine",
                }
            }
        };
        tokio::select! {
            never = asking => match never {},
            hung = judging => hung,
        }
    }

    async fn delete(&self, pair: &mut Pair) {
        self.publish(ClusterPhase::Deleting, pair, None);
        pair.abort().await;
        pair.clean_up();
        if let Some(spec) = self.spec() {
            self.delete_volume(&spec).await;
        }
        let directory = self.shared.home.cluster(&self.name);
        if let Err(error) = fs::remove_dir_all(&directory) {
            tracing::warn!(cluster = self.name, %error, "cannot remove the cluster's directory");
        }
        let name = &self.name;
        let removed =
            self.shared.store.update(|region| region.clusters.retain(|cluster| &cluster.name != name));
        if let Err(error) = removed {
            tracing::error!(cluster = self.name, error = chain(&error), "cannot forget the cluster");
        }
        self.publish(ClusterPhase::Deleted, pair, None);
    }

    async fn delete_volume(&self, spec: &ClusterSpec) {
        loop {
            let (volumes, nodes) = (self.shared.volumes.clone(), self.shared.region().addresses(spec));
            let volume = spec.volume;
            match blocking(move || volumes.delete(volume, &nodes)).await {
                Ok(()) => return,
                Err(error) => {
                    let reason = format!("waiting for storage nodes: {}", chain(&error));
                    self.state.send_modify(|state| state.reason = Some(reason));
                    self.shared.touch();
                    tokio::time::sleep(VOLUME_RETRY).await;
                }
            }
        }
    }

    fn publish(&self, phase: ClusterPhase, pair: &Pair, reason: Option<String>) {
        let changed = self.state.send_if_modified(|state| {
            let next = ClusterState {
                phase,
                pid: pair.engine().map(crate::process::Process::pid),
                mount_pid: pair.mount().map(crate::process::Process::pid),
                reason,
                restarts: state.restarts,
            };
            let differs = *state != next;
            *state = next;
            differs
        });
        if changed {
            self.shared.touch();
        }
    }
}

async fn ask_for_ever(mut probe: Probe, tell: watch::Sender<Instant>) -> std::convert::Infallible {
    loop {
        if probe.ask(PROBE_LIMIT).await != Answer::Silent {
            tell.send_replace(Instant::now());
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Whether a mount daemon rewrites its status.
struct MountWatch {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    since: Instant,
}

impl MountWatch {
    fn new(shared: &Shared, name: &str) -> MountWatch {
        MountWatch { path: shared.home.mount_status(name), seen: None, since: Instant::now() }
    }

    /// Since when the status has not changed, and why writes wait, if they do.
    fn look(&mut self) -> (Duration, Option<String>) {
        let version =
            fs::metadata(&self.path).ok().and_then(|found| Some((found.modified().ok()?, found.ino())));
        if version != self.seen {
            self.seen = version;
            self.since = Instant::now();
        }
        (self.since.elapsed(), MountReport::read(&self.path).and_then(|report| report.blocked()))
    }

    /// Waits until the daemon has not rewritten its status for too long.
    async fn hung(&mut self) {
        while self.look().0 < super::verdict::HUNG {
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}

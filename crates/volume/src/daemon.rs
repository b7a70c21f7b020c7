//! The mount daemon: opens a volume, mounts it, serves it until a signal, the kernel or a rival ends it.
//!
//! | thread | what it owns | born | dies |
//! |---|---|---|---|
//! | the caller of [`run`] | the mount, the status file | – | returns from `run` |
//! | `fuser-N` | one request at a time; never waits | at the mount | when the connection ends |
//! | `housekeeping` | invalidations of the kernel's cache, grace periods of heads | before the mount | with the volume |
//! | `signals` | SIGTERM and SIGINT | in `run` | with `run` |

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zorya_storage::store::{VolumeLost, VolumeStore};
use zorya_types::VolumeId;

use crate::fuse::VolumeFs;
use crate::mount::{FuseMount, MountFailed, enter_private_namespace, mount_fuse};
use crate::path_class::EngineClass;
use crate::status::{self, MountState, Progress, Status};
use crate::volume::{Chore, LoadError, Volume, VolumeOptions};

/// Fewer threads would let data requests queue behind each other's reply.
const MIN_THREADS: usize = 4;
/// How often the daemon looks whether the volume is still its own.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long a request waits for the end of a page write before the write is taken for a short one.
const HEAD_GRACE: Duration = Duration::from_millis(100);

/// How to mount a volume.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An existing directory.
    pub mountpoint: PathBuf,
    /// Whose list of path classes applies.
    pub class: EngineClass,
    /// The block cache's bound in bytes.
    pub cache_bytes: u64,
    /// Where local files' content goes; emptied at the start.
    pub local_dir: PathBuf,
    /// Where to say what the mount is doing.
    pub status_file: Option<PathBuf>,
    /// FUSE threads; at least four are started.
    pub threads: usize,
    /// Mount in a namespace of the process's own.
    pub private_namespace: bool,
    /// The volume, for the status file.
    pub volume: VolumeId,
    /// User and group of the root directory when the volume is formatted; this process's if `None`.
    pub owner: Option<(u32, u32)>,
}

/// Why a mount could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The volume cannot be opened.
    #[error("the volume cannot be opened")]
    Load(#[from] LoadError),
    /// The mount cannot be made.
    #[error("the volume cannot be mounted")]
    Mount(#[from] MountFailed),
    /// The FUSE session could not be started or broke.
    #[error("the FUSE session failed")]
    Session(#[source] io::Error),
    /// A thread or the signal handlers could not be started.
    #[error("the mount daemon could not start")]
    Start(#[source] io::Error),
    /// The status file cannot be written.
    #[error("the status file {path:?} cannot be written")]
    StatusFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The volume was lost while it was mounted; the mount was aborted.
    #[error("the mount was aborted: {0}")]
    Lost(VolumeLost),
}

impl MountError {
    /// Whether another process has the volume now: the engine on this mount must not be restarted on it.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        let lost = match self {
            MountError::Lost(lost) | MountError::Load(LoadError::Lost(lost)) => lost,
            _ => return false,
        };
        matches!(lost, VolumeLost::Fenced { .. })
    }
}

/// What wakes the daemon.
enum Event {
    SessionEnded(io::Result<()>),
    Lost(VolumeLost),
    Stop,
}

/// A volume that is mounted and served by background threads.
pub struct Mounted {
    options: MountOptions,
    volume: Arc<Volume>,
    mount: FuseMount,
    events: Receiver<Event>,
    sender: Sender<Event>,
    session: Option<JoinHandle<()>>,
    status: Status,
    progress: Progress,
    asked_for_loss: Arc<AtomicBool>,
}

/// Asks a [`Mounted`] to end.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// Ends the mount as SIGTERM does: what was written becomes durable, then it is unmounted.
    pub fn stop(&self) {
        if self.0.send(Event::Stop).is_err() {
            tracing::debug!("the mount has ended already");
        }
    }
}

/// Mounts a volume and serves it; returns when it is unmounted. SIGTERM and SIGINT end it cleanly.
pub fn run(options: MountOptions, store: Arc<dyn VolumeStore>) -> Result<(), MountError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(MountError::Start)?;
    let signals_handle = signals.handle();
    let mounted = Mounted::start(options, store)?;
    let stopper = mounted.stopper();
    let watch = thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            tracing::info!(signal, "the mount is asked to end");
            stopper.stop();
        }
    });
    watch.map_err(MountError::Start)?;
    let outcome = mounted.serve();
    signals_handle.close();
    outcome
}

impl Mounted {
    /// Opens the volume, mounts it and starts serving it.
    pub fn start(options: MountOptions, store: Arc<dyn VolumeStore>) -> Result<Mounted, MountError> {
        let (chores, chore_list) = mpsc::channel();
        let volume_options = VolumeOptions {
            class: options.class,
            cache_bytes: options.cache_bytes,
            local_dir: options.local_dir.clone(),
            owner: options.owner.unwrap_or((nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())),
        };
        let volume = Volume::open(&volume_options, store, chores)?;
        if options.private_namespace {
            enter_private_namespace()?;
        }
        let (device, mount) = mount_fuse(&options.mountpoint)?;
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(options.threads.max(MIN_THREADS));
        config.clone_fd = true;
        let session = Session::from_fd(VolumeFs::new(Arc::clone(&volume)), device, SessionACL::All, config)
            .map_err(|source| abandon(&mount, MountError::Session(source)))?;
        let started = start_threads(&volume, session, chore_list);
        let (session, sender, events) =
            started.map_err(|source| abandon(&mount, MountError::Start(source)))?;
        let status = first_status(&options, &volume, &mount);
        let progress = Progress::new(Instant::now());
        let session = Some(session);
        let asked_for_loss = Arc::default();
        let mut mounted =
            Mounted { options, volume, mount, events, sender, session, status, progress, asked_for_loss };
        mounted.write_status().map_err(|error| abandon(&mounted.mount, error))?;
        Ok(mounted)
    }

    /// The volume below.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// The mount.
    #[must_use]
    pub fn mount(&self) -> &FuseMount {
        &self.mount
    }

    /// Ends the mount from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.sender.clone())
    }

    /// Keeps the status file fresh until the mount ends, and says why it did. Call from the thread that mounted.
    pub fn serve(mut self) -> Result<(), MountError> {
        let mut next_status = Instant::now() + STATUS_EVERY;
        loop {
            self.look_for_loss();
            match self.events.recv_timeout(LOOK_EVERY) {
                Ok(Event::Stop) => return self.stop(),
                Ok(Event::Lost(lost)) => {
                    tracing::error!(%lost, "the mount is aborted");
                    self.mount.abort();
                    self.join();
                    return Err(MountError::Lost(lost));
                }
                Ok(Event::SessionEnded(outcome)) => {
                    self.mount.unmount();
                    self.join();
                    return outcome.map_err(MountError::Session);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() >= next_status {
                next_status = Instant::now() + STATUS_EVERY;
                self.refresh_status();
            }
        }
    }

    /// Waits until everything is durable, or the volume is lost, and unmounts.
    fn stop(mut self) -> Result<(), MountError> {
        self.status.state = MountState::Stopping;
        if let Err(error) = self.write_status() {
            tracing::warn!(%error, "the last status is not written");
        }
        let (done, durable) = mpsc::channel();
        self.volume.durable(move |outcome| {
            // The receiver waits below for as long as this callback exists.
            let _ = done.send(outcome);
        });
        let outcome = durable.recv();
        self.mount.unmount();
        self.join();
        if let Some(path) = &self.options.status_file
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, ?path, "the status file was gone already");
        }
        match outcome {
            Ok(Err(crate::errno::FsError::Lost(lost))) => Err(MountError::Lost(lost)),
            _ => Ok(()),
        }
    }

    fn join(&mut self) {
        if let Some(session) = self.session.take()
            && session.join().is_err()
        {
            tracing::error!("a FUSE thread panicked");
        }
    }

    /// A store that lost its volume says so to whoever waits for room. One question at a time: while writes block, the
    /// answer takes as long as that.
    fn look_for_loss(&self) {
        if self.asked_for_loss.swap(true, Ordering::AcqRel) {
            return;
        }
        let (events, asked) = (self.sender.clone(), Arc::clone(&self.asked_for_loss));
        self.volume.store().when_room(Box::new(move |room| {
            asked.store(false, Ordering::Release);
            if let Err(lost) = room {
                // If nobody listens any more, the mount has ended for another reason.
                let _ = events.send(Event::Lost(lost));
            }
        }));
    }

    fn refresh_status(&mut self) {
        let positions = self.volume.store().positions();
        let blocked = self.progress.observe(&positions, Instant::now());
        if let Some(reason) = blocked.as_ref().filter(|_| self.status.state == MountState::Serving) {
            tracing::warn!("{reason}");
        }
        self.status.refresh(&self.volume, positions, blocked);
        let Err(error) = self.write_status() else { return };
        tracing::warn!(error = &error as &dyn std::error::Error, "the status is not fresh");
        // A supervisor must not take a full disk for a hung mount.
        if let Some(path) = &self.options.status_file
            && let Err(error) = status::touch(path)
        {
            tracing::warn!(%error, "the status file cannot even be touched");
        }
    }

    fn write_status(&mut self) -> Result<(), MountError> {
        let Some(path) = &self.options.status_file else { return Ok(()) };
        self.status.write(path).map_err(|source| MountError::StatusFile { path: path.clone(), source })
    }
}

/// Unmounts what was mounted before `error`.
fn abandon(mount: &FuseMount, error: MountError) -> MountError {
    mount.abort();
    error
}

type Started = (JoinHandle<()>, Sender<Event>, Receiver<Event>);

fn start_threads(
    volume: &Arc<Volume>,
    session: Session<VolumeFs>,
    chores: Receiver<Chore>,
) -> io::Result<Started> {
    let notifier = session.notifier();
    let keeper = Arc::downgrade(volume);
    let housekeeping = move || {
        keep_house(&chores, |chore| {
            if let Some(volume) = keeper.upgrade() {
                do_chore(&volume, &notifier, chore);
            }
        });
    };
    thread::Builder::new().name("housekeeping".into()).spawn(housekeeping)?;
    let (sender, events) = mpsc::channel();
    let ended = sender.clone();
    let serve = move || {
        let outcome = session.run();
        // If nobody listens any more, the mount has ended for another reason.
        let _ = ended.send(Event::SessionEnded(outcome));
    };
    let session = thread::Builder::new().name("session".into()).spawn(serve)?;
    Ok((session, sender, events))
}

/// Does invalidations at once and settles heads after their grace period, until the volume is gone.
fn keep_house(chores: &Receiver<Chore>, act: impl Fn(Chore)) {
    let mut due: Vec<(Instant, Chore)> = Vec::new();
    loop {
        let chore = match due.first() {
            None => chores.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((at, _)) => chores.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match chore {
            Ok(chore @ Chore::SettleHead { .. }) => due.push((Instant::now() + HEAD_GRACE, chore)),
            Ok(chore) => act(chore),
            Err(RecvTimeoutError::Timeout) => act(due.remove(0).1),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn do_chore(volume: &Arc<Volume>, notifier: &Notifier, chore: Chore) {
    match chore {
        Chore::Invalidate { ino, offset, len } => {
            if let Err(error) = notifier.inval_inode(INodeNo(ino), offset as i64, len as i64) {
                tracing::warn!(ino, offset, %error, "the kernel did not drop a range of its cache");
            }
            volume.invalidated(ino);
        }
        Chore::SettleHead { ino } => volume.settle_waited_for(ino),
    }
}

fn first_status(options: &MountOptions, volume: &Arc<Volume>, mount: &FuseMount) -> Status {
    let positions = volume.store().positions();
    let pid = std::process::id();
    let mut status = Status {
        pid,
        mountpoint: options.mountpoint.to_string_lossy().into_owned(),
        mount_namespace: format!("/proc/{pid}/task/{}/ns/mnt", nix::unistd::gettid()),
        fuse_connection: mount.connection,
        volume: options.volume.to_string(),
        epoch: volume.store().epoch().0,
        vdl: positions.vdl.0,
        positions,
        cache: Default::default(),
        inodes: 0,
        used_bytes: 0,
        parked: 0,
        state: MountState::Serving,
        reason: None,
    };
    status.refresh(volume, positions, None);
    status
}

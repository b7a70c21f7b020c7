//! The pair of mount daemon and engine: started together, torn down together.
//!
//! The engine lives in the daemon's private mount namespace. If either dies or hangs, both go and the volume is opened
//! anew, since only a fresh mount has a kernel cache that agrees with the volume. A hung mount's connection is aborted
//! before its engine is killed: a process that waits in FUSE_FSYNC ignores SIGKILL.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;

use super::Shared;
use super::node::chain;
use crate::engine::database::generate_password;
use crate::engine::{Answer, BinariesError, DatabaseError, Installed, Invocation, Placement, Probe};
use crate::fusectl;
use crate::home::{Home, HomeError, make_dir, write_atomically};
use crate::logs;
use crate::process::{self, Entry, Exit, Process, Spawn, SpawnError};
use crate::region::{ClusterSpec, Engine, Region, RegionId};
use crate::restart::CANNOT_WORK;

/// How long an engine may take for a fast shutdown before its mount is aborted.
const ENGINE_GRACE: Duration = Duration::from_secs(60);
/// The same while writes wait for storage: its shutdown checkpoint cannot end.
const BLOCKED_GRACE: Duration = Duration::from_secs(2);
/// How long a mount may take to flush and unmount.
const MOUNT_GRACE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end a killed process whose mount was aborted.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How often the agent looks whether the mount is there.
const READY_POLL: Duration = Duration::from_millis(15);
/// How often it asks a starting engine. Every question is a process of PostgreSQL's, made and ended while it recovers: at
/// 15 ms they took a tenth of two cores.
const ANSWER_POLL: Duration = Duration::from_millis(50);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Why a pair did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A process ended.
    #[error("the {who} {exit}; its log ends with:\n{last}")]
    Ended {
        /// `mount daemon`, `engine` or `initialisation`.
        who: &'static str,
        /// How.
        exit: Exit,
        /// The end of its log.
        last: String,
    },
    /// A process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// There is no engine.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A directory cannot be made.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file of the cluster cannot be used.
    #[error("cannot {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The daemon did not make a namespace of its own.
    #[error("the mount daemon {pid} has no mount namespace of its own: run the agent as root")]
    NotPrivate {
        /// The daemon.
        pid: i32,
    },
}

impl StartError {
    /// How the process ended that this is about, for the restart policy. What is wrong without any process having ended
    /// is a failure of its own.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            StartError::Ended { exit, .. } => *exit,
            StartError::Database(DatabaseError::OtherVersion { .. }) | StartError::Binaries(_) => {
                Exit::Code(CANNOT_WORK)
            }
            _ => Exit::Code(1),
        }
    }
}

/// What a mount daemon says of itself in its status file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct MountReport {
    /// The daemon.
    pub pid: i32,
    /// The connection's number in fusectl.
    #[serde(default)]
    pub fuse_connection: Option<u64>,
    /// Everything else: epoch, vdl, state, cache.
    #[serde(flatten)]
    pub facts: serde_json::Map<String, serde_json::Value>,
}

impl MountReport {
    /// Reads a status file; `None` if there is none or it is not whole.
    #[must_use]
    pub fn read(path: &Path) -> Option<MountReport> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Why writes wait, if they do: `"state": "blocked: reason"`, or `"state": "blocked"` with a `"reason"`.
    #[must_use]
    pub fn blocked(&self) -> Option<String> {
        let state = self.facts.get("state")?;
        if let Some(reason) = state.get("blocked") {
            return Some(reason.as_str().unwrap_or("writes wait for storage").to_owned());
        }
        let rest = state.as_str()?.strip_prefix("blocked")?;
        let given = self.facts.get("reason").and_then(|reason| reason.as_str()).unwrap_or_default();
        let reason =
            [rest.trim_matches([' ', ':', '(', ')']), given].into_iter().find(|text| !text.is_empty());
        Some(reason.unwrap_or("writes wait for storage").to_owned())
    }
}

/// The daemon's namespace, held so that its number cannot come to mean another one.
#[derive(Debug)]
struct Namespace {
    link: PathBuf,
    _held: OwnedFd,
}

impl Namespace {
    fn of(process: &Process) -> Result<Namespace, StartError> {
        let path = PathBuf::from(format!("/proc/{}/ns/mnt", process.pid()));
        let file = |source| StartError::File { doing: "open", path: path.clone(), source };
        let held = fs::File::open(&path).map_err(file)?.into();
        let link = fs::read_link(&path).map_err(file)?;
        let own = fs::read_link("/proc/self/ns/mnt").map_err(file)?;
        // Init's may be hidden from an agent in a container, whose own namespace is another one then.
        let init = fs::read_link("/proc/1/ns/mnt").ok();
        if link == own || Some(&link) == init.as_ref() {
            return Err(StartError::NotPrivate { pid: process.pid() });
        }
        Ok(Namespace { link, _held: held })
    }
}

/// One cluster's pair.
pub struct Pair {
    home: Home,
    region: RegionId,
    name: String,
    kind: Engine,
    mount: Option<Process>,
    engine: Option<Process>,
    namespace: Option<Namespace>,
    connection: Option<u64>,
}

impl Pair {
    /// The pair of a cluster; nothing is started or looked for.
    #[must_use]
    pub fn new(home: Home, region: RegionId, name: String, kind: Engine) -> Pair {
        Pair { home, region, name, kind, mount: None, engine: None, namespace: None, connection: None }
    }

    /// The mount daemon, while it is supervised.
    #[must_use]
    pub fn mount(&self) -> Option<&Process> {
        self.mount.as_ref()
    }

    /// The engine, while it is supervised.
    #[must_use]
    pub fn engine(&self) -> Option<&Process> {
        self.engine.as_ref()
    }

    /// The mount point, as the engine sees it.
    #[must_use]
    pub fn mountpoint(&self) -> PathBuf {
        self.runtime().join("mnt")
    }

    fn data_directory(&self) -> PathBuf {
        self.mountpoint().join(self.kind.data())
    }

    fn runtime(&self) -> PathBuf {
        Home::cluster_runtime(self.region, &self.name)
    }

    /// Finds the processes that another life of the agent started. Whether both are there says whether the pair may go on.
    pub fn adopt(&mut self) -> bool {
        let status = self.home.mount_status(&self.name);
        let own = nix::unistd::geteuid().as_raw();
        self.mount = process::by_arguments(own, &[OsStr::new("--status-file"), status.as_os_str()]);
        self.engine = process::by_arguments(self.kind.runs_as(), &self.kind.known_by(&self.data_directory()));
        if let Some(mount) = &self.mount {
            self.namespace = Namespace::of(mount).ok();
            self.connection = MountReport::read(&status)
                .filter(|report| report.pid == mount.pid())
                .and_then(|report| report.fuse_connection);
        }
        if let (Some(mount), Some(engine)) = (&self.mount, &self.engine) {
            tracing::info!(
                cluster = self.name,
                mount = mount.pid(),
                engine = engine.pid(),
                "adopted an instance"
            );
        }
        self.mount.is_some() && self.engine.is_some() && self.namespace.is_some() && self.connection.is_some()
    }

    /// Starts the mount daemon. Nothing of an earlier pair may be left.
    pub fn start_mount(
        &mut self,
        shared: &Shared,
        region: &Region,
        cluster: &ClusterSpec,
        installed: &Installed,
    ) -> Result<(), StartError> {
        self.make_directories(installed)?;
        let status = self.home.mount_status(&self.name);
        let _ = fs::remove_file(&status);
        let addresses: Vec<_> = region.addresses(cluster).into_iter().map(|node| node.address).collect();
        let local = self.home.cluster(&self.name).join("local");
        let volume = cluster.volume.to_string();
        let mut what = Spawn::new(shared.program.clone(), self.home.mount_log(&self.name))
            .argument("mount")
            .option("--volume", &volume)
            .option("--nodes", addresses.join(","))
            .option("--key-file", self.home.key_file())
            .option("--mountpoint", self.mountpoint())
            .option("--class", self.kind.to_string())
            .option("--local-dir", local)
            .option("--cache-bytes", cluster.cache_bytes.to_string())
            .option("--status-file", &status)
            .option("--owner", format!("{}:{}", installed.uid, installed.gid));
        if Self::nobody_has(&volume) {
            what = what.argument("--reaped");
        }
        what.entry = Entry::default().network(region.compute.netns.as_deref())?;
        self.mount = Some(process::spawn(what)?);
        Ok(())
    }

    /// Waits until the daemon has opened the volume and mounted it, for as long as that takes.
    pub async fn wait_for_mount(&mut self) -> Result<(), StartError> {
        let Some(mount) = self.mount.clone() else { return Ok(()) };
        let status = self.home.mount_status(&self.name);
        tokio::select! {
            exit = mount.exited() => Err(self.ended("mount daemon", exit, &self.home.mount_log(&self.name))),
            report = mounted(&status, &mount) => {
                self.connection = report.fuse_connection;
                self.namespace = Some(Namespace::of(&mount)?);
                Ok(())
            }
        }
    }

    /// Whether no process on this host has the volume open. The only ones that open a region's volumes are on its host.
    fn nobody_has(volume: &str) -> bool {
        let arguments = [OsStr::new("--volume"), OsStr::new(volume)];
        process::by_arguments(nix::unistd::geteuid().as_raw(), &arguments).is_none()
    }

    fn make_directories(&self, installed: &Installed) -> Result<(), StartError> {
        make_dir(&self.home.cluster(&self.name).join("local"), 0o700)?;
        make_dir(&Home::runtime(self.region), 0o755)?;
        let runtime = self.runtime();
        make_dir(&runtime, 0o700)?;
        chown(&runtime, Some(installed.uid.as_raw()), Some(installed.gid.as_raw()))
            .map_err(|source| StartError::File { doing: "give the engine's user", path: runtime, source })?;
        let mountpoint = self.mountpoint();
        match fs::DirBuilder::new().mode(0o700).create(&mountpoint) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StartError::File { doing: "make", path: mountpoint, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Makes the database if the volume has none. Needs the mount.
    pub async fn ensure_database(&mut self, installed: &Installed) -> Result<(), StartError> {
        let Some(mount) = self.mount.clone() else { return Ok(()) };
        // The agent sees the mount through the daemon's own root.
        let root = PathBuf::from(format!("/proc/{}/root{}", mount.pid(), self.mountpoint().display()));
        let (kind, judge, finisher) = (self.kind, installed.clone(), installed.clone());
        if self.in_volume(&mount, root.clone(), move |root| judge.exists(root)).await? {
            return Ok(());
        }
        self.in_volume(&mount, root.clone(), move |root| kind.clear(root)).await?;
        self.initialise(&mount, installed).await?;
        self.in_volume(&mount, root, move |root| finisher.finish(root)).await
    }

    /// Runs something that blocks on the volume, for as long as the mount lives.
    async fn in_volume<T: Send + 'static>(
        &self,
        mount: &Process,
        root: PathBuf,
        work: impl FnOnce(&Path) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, StartError> {
        let working = tokio::task::spawn_blocking(move || work(&root));
        tokio::select! {
            done = working => match done {
                Ok(result) => Ok(result?),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            exit = mount.exited() => Err(self.ended("mount daemon", exit, &self.home.mount_log(&self.name))),
        }
    }

    async fn initialise(&self, mount: &Process, installed: &Installed) -> Result<(), StartError> {
        let secret = self.runtime().join("password");
        let failed = |source| StartError::File { doing: "write", path: secret.clone(), source };
        write_atomically(&secret, 0o600, self.kind.secret(&self.password()?).as_bytes()).map_err(failed)?;
        chown(&secret, Some(installed.uid.as_raw()), Some(installed.gid.as_raw())).map_err(failed)?;
        let initialised = self.run_initialiser(mount, installed, &secret).await;
        let _ = fs::remove_file(&secret);
        initialised
    }

    async fn run_initialiser(
        &self,
        mount: &Process,
        installed: &Installed,
        secret: &Path,
    ) -> Result<(), StartError> {
        let (mountpoint, data, runtime) = (self.mountpoint(), self.data_directory(), self.runtime());
        let place = Placement {
            mountpoint: &mountpoint,
            data_directory: &data,
            socket_directory: &runtime,
            host: "",
            port: 0,
        };
        let what =
            self.engines_own(installed.initialiser(&place, secret), mount, installed, Entry::default())?;
        let initialiser = process::spawn(what)?;
        let log = self.home.engine_log(&self.name);
        tokio::select! {
            exit = initialiser.exited() => match exit {
                Exit::Code(0) => Ok(()),
                exit => Err(self.ended("initialisation", exit, &log)),
            },
            exit = mount.exited() => Err(self.ended("mount daemon", exit, &self.home.mount_log(&self.name))),
        }
    }

    /// A program of the engine, to run as its user in the mount's namespace.
    fn engines_own(
        &self,
        invocation: Invocation,
        mount: &Process,
        installed: &Installed,
        entry: Entry,
    ) -> Result<Spawn, StartError> {
        let mut what = Spawn::new(invocation.program, self.home.engine_log(&self.name));
        what.arguments = invocation.arguments;
        what.entry = entry.mount_of(mount)?.user(installed.uid, installed.gid);
        what.environment = Some(engine_environment());
        Ok(what)
    }

    /// The superuser's password; generated when first asked for.
    pub fn password(&self) -> Result<String, StartError> {
        let path = self.home.password(&self.name);
        match fs::read_to_string(&path) {
            Ok(password) => return Ok(password.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StartError::File { doing: "read", path, source }),
        }
        let password = generate_password();
        let (file, content) = self.kind.client_file(&self.home, &self.name, &password);
        write_atomically(&file, 0o600, content.as_bytes()).map_err(|source| StartError::File {
            doing: "write",
            path: file,
            source,
        })?;
        write_atomically(&path, 0o600, password.as_bytes()).map_err(|source| StartError::File {
            doing: "write",
            path,
            source,
        })?;
        Ok(password)
    }

    /// Starts the engine and waits until it answers. Needs the mount and the database.
    pub async fn start_engine(
        &mut self,
        region: &Region,
        cluster: &ClusterSpec,
        installed: &Installed,
    ) -> Result<(), StartError> {
        let Some(mount) = self.mount.clone() else { return Ok(()) };
        let (mountpoint, data, runtime) = (self.mountpoint(), self.data_directory(), self.runtime());
        let place = Placement {
            mountpoint: &mountpoint,
            data_directory: &data,
            socket_directory: &runtime,
            host: region.engine_host(),
            port: cluster.port,
        };
        let log = self.home.engine_log(&self.name);
        let entry = Entry::default().network(region.compute.netns.as_deref())?;
        let server = installed.server(&place, &cluster.parameters);
        let what = self.engines_own(server, &mount, installed, entry)?;
        let engine = self.engine.insert(process::spawn(what)?).clone();
        let mut probe = self.probe(cluster)?;
        tokio::select! {
            exit = engine.exited() => Err(self.ended("engine", exit, &log)),
            exit = mount.exited() => Err(self.ended("mount daemon", exit, &self.home.mount_log(&self.name))),
            () = answers(&mut probe) => Ok(()),
        }
    }

    /// A prober of the engine.
    pub fn probe(&self, cluster: &ClusterSpec) -> Result<Probe, StartError> {
        Ok(self.kind.probe(&self.runtime(), cluster.port, &self.password()?))
    }

    /// Stops both in order: the engine with a fast shutdown, then the mount, which flushes. Whatever does not end in time
    /// is aborted.
    pub async fn stop(&mut self) {
        if let Some(engine) = &self.engine {
            engine.signal(self.kind.stop_signal());
            engine.signal(Signal::CONT);
            if !self.ends_in_order(engine).await {
                tracing::warn!(cluster = self.name, "the engine does not stop; aborting");
                return self.abort().await;
            }
        }
        // Backends that outlived their postmaster would keep the mount busy.
        self.kill_inside(|pid| self.mount.as_ref().is_none_or(|mount| mount.pid() != pid)).await;
        if let Some(mount) = &self.mount {
            mount.signal(Signal::TERM);
            mount.signal(Signal::CONT);
            let grace = if self.is_blocked() { BLOCKED_GRACE } else { MOUNT_GRACE };
            if mount.exited_within(grace).await.is_none() {
                tracing::warn!(cluster = self.name, "the mount does not stop; aborting");
                return self.abort().await;
            }
        }
        self.forget();
    }

    async fn ends_in_order(&self, engine: &Process) -> bool {
        let asked = Instant::now();
        let mut blocked_since = None;
        loop {
            if engine.exited_within(Duration::from_millis(200)).await.is_some() {
                return true;
            }
            let mount_died = self.mount.as_ref().is_none_or(|mount| mount.exit().is_some());
            blocked_since = if self.is_blocked() { blocked_since.or(Some(Instant::now())) } else { None };
            let too_long = blocked_since.is_some_and(|since: Instant| since.elapsed() >= BLOCKED_GRACE);
            if mount_died || too_long || asked.elapsed() >= ENGINE_GRACE {
                return false;
            }
        }
    }

    fn is_blocked(&self) -> bool {
        MountReport::read(&self.home.mount_status(&self.name))
            .is_some_and(|report| report.blocked().is_some())
    }

    /// Ends both at once: first the connection, so that nobody waits in it, then every process of the namespace. What has
    /// not reached storage is lost, as in a crash.
    pub async fn abort(&mut self) {
        if let Some(connection) = self.connection
            && let Err(error) = fusectl::abort(connection)
        {
            tracing::error!(cluster = self.name, error = chain(&error), "cannot abort a mount");
        }
        let processes: Vec<_> = self.engine.iter().chain(&self.mount).cloned().collect();
        for process in &processes {
            process.signal(Signal::KILL);
        }
        self.kill_inside(|_| true).await;
        for process in processes {
            if process.exited_within(KILL_LIMIT).await.is_none() {
                tracing::error!(cluster = self.name, pid = process.pid(), "a process ignores SIGKILL");
            }
        }
        self.forget();
    }

    /// Kills the processes of the daemon's namespace that `which` picks, until there are none.
    async fn kill_inside(&self, which: impl Fn(i32) -> bool) {
        let Some(namespace) = &self.namespace else { return };
        let asked = Instant::now();
        loop {
            let mut left = process::in_mount_namespace(&namespace.link);
            left.retain(|process| which(process.pid()));
            if left.is_empty() || asked.elapsed() >= KILL_LIMIT {
                return;
            }
            for process in left {
                process.kill(Duration::from_millis(200)).await;
            }
        }
    }

    fn forget(&mut self) {
        self.mount = None;
        self.engine = None;
        self.namespace = None;
        self.connection = None;
        let _ = fs::remove_file(self.home.mount_status(&self.name));
    }

    /// Removes the runtime directory of a pair that is down.
    pub fn clean_up(&self) {
        assert!(self.mount.is_none() && self.engine.is_none(), "cluster {} still runs", self.name);
        // Only empty directories and sockets are left here; whatever is not empty was not made here.
        let runtime = self.runtime();
        let _ = fs::remove_dir(self.mountpoint());
        for entry in fs::read_dir(&runtime).into_iter().flatten().flatten() {
            if self.kind.is_socket(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(&runtime);
        let _ = fs::remove_dir(Home::runtime(self.region));
    }

    /// What happened to a process, with the end of its log.
    #[must_use]
    pub fn ended(&self, who: &'static str, exit: Exit, log: &Path) -> StartError {
        StartError::Ended { who, exit, last: logs::tail(log, 5).join("\n") }
    }
}

async fn mounted(status: &Path, mount: &Process) -> MountReport {
    loop {
        match MountReport::read(status) {
            Some(report) if report.pid == mount.pid() && report.fuse_connection.is_some() => return report,
            _ => tokio::time::sleep(READY_POLL).await,
        }
    }
}

async fn answers(probe: &mut Probe) {
    while probe.ask(ANSWER_LIMIT).await != Answer::Alive {
        tokio::time::sleep(ANSWER_POLL).await;
    }
}

fn engine_environment() -> Vec<(&'static str, OsString)> {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8"), ("TZ", "UTC")]
        .map(|(name, value)| (name, OsString::from(value)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_says_in_several_ways_that_writes_wait() {
        let blocked = |text: &str| {
            serde_json::from_str::<MountReport>(&format!(r#"{{"pid": 1, {text}}}"#)).unwrap().blocked()
        };
        assert_eq!(blocked(r#""state": "serving""#), None);
        assert_eq!(blocked(r#""epoch": 3"#), None);
        assert_eq!(blocked(r#""state": "blocked: 3 of 6""#).as_deref(), Some("3 of 6"));
        assert_eq!(blocked(r#""state": "blocked", "reason": "3 of 6""#).as_deref(), Some("3 of 6"));
        assert_eq!(blocked(r#""state": {"blocked": "3 of 6"}"#).as_deref(), Some("3 of 6"));
        assert_eq!(blocked(r#""state": "blocked""#).as_deref(), Some("writes wait for storage"));
    }
}

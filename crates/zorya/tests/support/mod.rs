//! A whole region by the real binary, for tests: in a home of its own, down at the end.
#![allow(dead_code, reason = "every test binary uses another part")]

pub mod disk;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::Pid;
use serde_json::Value;

/// The distribution's PostgreSQL.
pub const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A region's home and how `zorya` is called on it.
pub struct Region {
    home: PathBuf,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// Whoever runs `zorya`, if not this process's user.
    user: Option<u32>,
    _directory: Option<tempfile::TempDir>,
}

impl Region {
    /// A region that is up, with the cluster `main`; `None` where that cannot be.
    pub fn up() -> Option<Region> {
        let region = Region::new()?;
        region.run(&["up", "--detach"]);
        Some(region)
    }

    /// A home without a region; `None` where there cannot be one.
    pub fn new() -> Option<Region> {
        let directory = tempfile::tempdir().unwrap();
        let mut region = Region::at(&directory.path().join("home"))?;
        region._directory = Some(directory);
        Some(region)
    }

    /// A home of a plain user's; `None` where such a user may not make a user namespace.
    pub fn of_user(user: u32) -> Option<Region> {
        let mut region = Region::new()?;
        let able = Command::new("unshare").args(["--user", "true"]).uid(user).gid(user).output().unwrap();
        if !able.status.success() {
            eprintln!("skipped: no user namespaces here: {}", String::from_utf8_lossy(&able.stderr));
            return None;
        }
        let directory = region.home.parent().unwrap();
        // The directories above the program may be closed to other users.
        let program = directory.join("zorya");
        std::fs::copy(&region.program, &program).unwrap();
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(&region.home).unwrap();
        chown(&region.home, Some(user), Some(user)).unwrap();
        open_fuse_to_all(&directory.join("fuse"));
        region.program = program;
        region.user = Some(user);
        Some(region)
    }

    /// The home at `home`, which belongs to somebody else.
    pub fn at(home: &Path) -> Option<Region> {
        let engine = Path::new(POSTGRES).join("postgres");
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() || !engine.exists() {
            eprintln!("skipped: needs root, /dev/fuse and PostgreSQL 15");
            return None;
        }
        let program = PathBuf::from(env!("CARGO_BIN_EXE_zorya"));
        Some(Region { home: home.to_owned(), program, environment: Vec::new(), user: None, _directory: None })
    }

    /// The same by another build of `zorya`, with a bug planted in every process of the region.
    pub fn with_bug(mut self, program: PathBuf, bug: &str) -> Region {
        self.program = program;
        self.environment.push(("ZORYA_PLANTED_BUG", bug.to_owned()));
        self
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn zorya(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().cloned()).arg("--home").arg(&self.home).args(arguments);
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", &self.home).current_dir("/");
        }
        command
    }

    /// Runs a command that has to succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.zorya(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command that has to fail, and returns what it says.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.zorya(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["--output", "json", "status"])).unwrap()
    }

    /// The cluster `main` as the status shows it.
    pub fn cluster(&self) -> Value {
        self.status()["clusters"][0].clone()
    }

    pub fn try_sql(&self, statement: &str) -> Option<String> {
        let output = self.zorya(&["sql", "main", "--", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn sql(&self, statement: &str) -> String {
        eventually(statement, || self.try_sql(statement))
    }

    /// A log of the cluster `main`: the engine's, or the mount daemon's.
    pub fn log(&self, of_mount: bool) -> String {
        let which: &[&str] = if of_mount { &["--mount"] } else { &[] };
        self.run(&[&["cluster", "logs", "main", "-n", "100000"], which].concat())
    }

    /// What the region is to be: its nodes, clusters and volumes.
    pub fn desired(&self) -> Value {
        let text = std::fs::read_to_string(self.home.join("region.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn pids(&self) -> Pids {
        let status = self.status();
        let pid = |value: &Value| value.as_i64().and_then(|pid| i32::try_from(pid).ok());
        let instance = &status["clusters"][0]["instances"][0];
        Pids {
            agent: pid(&status["agent"]["pid"]),
            nodes: status["nodes"].as_array().unwrap().iter().filter_map(|node| pid(&node["pid"])).collect(),
            engine: pid(&instance["pid"]),
            mount: pid(&instance["mount_pid"]),
        }
    }

    /// Waits until the cluster is available again by another engine than `before`.
    pub fn replaced(&self, before: &Pids) {
        eventually("the instance to be replaced", || {
            let now = self.pids();
            let available = self.status()["clusters"][0]["state"] == "available";
            (available && now.engine.is_some() && now.engine != before.engine && now.mount != before.mount)
                .then_some(())
        });
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let output = self.zorya(&["down"]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("down: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Lets every user open /dev/fuse, as udev does, in a mount namespace of this test's thread and of what it starts.
fn open_fuse_to_all(device: &Path) {
    let number = std::fs::metadata("/dev/fuse").unwrap().rdev();
    zorya_volume::mount::enter_private_namespace().unwrap();
    mknod(device, SFlag::S_IFCHR, Mode::empty(), number).unwrap();
    std::fs::set_permissions(device, PermissionsExt::from_mode(0o666)).unwrap();
    mount(Some(device), "/dev/fuse", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// The processes of a region with one cluster.
#[derive(Debug)]
pub struct Pids {
    pub agent: Option<i32>,
    pub nodes: Vec<i32>,
    pub engine: Option<i32>,
    pub mount: Option<i32>,
}

impl Pids {
    pub fn all(&self) -> Vec<i32> {
        self.agent.iter().chain(&self.nodes).chain(&self.engine).chain(&self.mount).copied().collect()
    }
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn send(pid: Option<i32>, signal: Signal) {
    kill(Pid::from_raw(pid.unwrap()), signal).unwrap();
}

pub fn is_alive(pid: i32) -> bool {
    zorya_compute::process::is_running(pid)
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A volume of a region mounted without an engine.
pub struct PlainMount {
    daemon: Child,
    killed: bool,
    directory: tempfile::TempDir,
    namespace: String,
}

impl PlainMount {
    /// The volume of the stopped cluster `main`.
    pub fn of(region: &Region) -> PlainMount {
        PlainMount::of_cluster(region, "main")
    }

    /// The volume of a stopped cluster.
    pub fn of_cluster(region: &Region, name: &str) -> PlainMount {
        let desired = region.desired();
        let clusters = desired["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
        let of = |field: &str| cluster[field].as_str().unwrap().to_owned();
        PlainMount::of_volume(region, &of("volume"), &of("engine"))
    }

    /// A volume that nobody else has open, with the path classes of an engine.
    pub fn of_volume(region: &Region, volume: &str, class: &str) -> PlainMount {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(directory.path().join("mnt")).unwrap();
        let desired = region.desired();
        let nodes: Vec<_> = desired["nodes"].as_array().unwrap().iter().map(|node| &node["listen"]).collect();
        let nodes: Vec<_> = nodes.into_iter().map(|listen| listen.as_str().unwrap()).collect();
        let status = directory.path().join("status.json");
        let mut command = Command::new(&region.program);
        command.args(["mount", "--reaped", "--class", class, "--nodes", &nodes.join(",")]);
        command.args(["--volume", volume]);
        command.arg("--key-file").arg(region.home.join("region.key"));
        command.arg("--mountpoint").arg(directory.path().join("mnt"));
        command.arg("--local-dir").arg(directory.path().join("local"));
        command.arg("--status-file").arg(&status);
        let daemon = command.spawn().unwrap();
        let namespace = eventually("the volume to be mounted", || {
            let said: Value = serde_json::from_slice(&std::fs::read(&status).ok()?).ok()?;
            Some(said["mount_namespace"].as_str()?.to_owned())
        });
        PlainMount { daemon, killed: false, directory, namespace }
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        self.killed = true;
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Takes the calling thread to where the mount is seen, for good.
    pub fn enter(&self) {
        let namespace = std::fs::File::open(&self.namespace).unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    }

    /// A program that sees the mount.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", self.namespace)).args(["--", program]);
        command
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("mnt").join(below)
    }
}

impl Drop for PlainMount {
    fn drop(&mut self) {
        if self.killed {
            return;
        }
        kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM).unwrap();
        let ended = self.daemon.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "the mount daemon: {ended}");
    }
}

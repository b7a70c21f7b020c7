//! Spawning a process inside other namespaces and as another user.
//!
//! A child has to join the mount daemon's private mount namespace *before* it gives up root, so the standard library's
//! own uid and gid do not serve: everything happens in one hook between fork and exec.
#![allow(
    unsafe_code,
    reason = "CommandExt::pre_exec is unsafe: the hook runs between fork and exec and may only make system calls"
)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, chdir, geteuid, setgid, setgroups, setsid, setuid};

use super::Process;

/// A process that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program could not be run.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its log could not be opened.
    #[error("cannot open the log {path}")]
    Log {
        /// The log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A namespace is not there.
    #[error("cannot open the namespace {path}: check that it exists")]
    Namespace {
        /// The namespace's file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Where and as whom a process runs.
#[derive(Debug, Default)]
pub struct Entry {
    network: Option<OwnedFd>,
    /// The user namespace that the mount namespace belongs to, unless it is this process's own.
    owner: Option<OwnedFd>,
    mount: Option<OwnedFd>,
    user: Option<(Uid, Gid)>,
}

impl Entry {
    /// Joins the network namespace `/var/run/netns/<name>`, if one is named.
    pub fn network(mut self, name: Option<&str>) -> Result<Entry, SpawnError> {
        if let Some(name) = name {
            self.network = Some(open_namespace(Path::new("/var/run/netns").join(name))?);
        }
        Ok(self)
    }

    /// Joins the mount namespace of a process.
    pub fn mount_of(mut self, process: &Process) -> Result<Entry, SpawnError> {
        let namespaces = PathBuf::from(format!("/proc/{}/ns", process.pid()));
        let owner = namespaces.join("user");
        if fs::read_link(&owner).ok() != fs::read_link("/proc/self/ns/user").ok() {
            self.owner = Some(open_namespace(owner)?);
        }
        self.mount = Some(open_namespace(namespaces.join("mnt"))?);
        Ok(self)
    }

    /// Runs as this user and group, without supplementary groups; as this process's own user just as it is.
    #[must_use]
    pub fn user(mut self, uid: Uid, gid: Gid) -> Entry {
        self.user = (uid != geteuid()).then_some((uid, gid));
        self
    }

    fn enter(&self) -> nix::Result<()> {
        if let Some(network) = &self.network {
            setns(network, CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(owner) = &self.owner {
            setns(owner, CloneFlags::CLONE_NEWUSER)?;
        }
        if let Some(mount) = &self.mount {
            setns(mount, CloneFlags::CLONE_NEWNS)?;
        }
        chdir("/")?;
        if let Some((uid, gid)) = self.user {
            setgroups(&[gid])?;
            setgid(gid)?;
            setuid(uid)?;
        }
        Ok(())
    }
}

fn open_namespace(path: PathBuf) -> Result<OwnedFd, SpawnError> {
    match File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(SpawnError::Namespace { path, source }),
    }
}

/// Moves the calling thread into the network namespace `/var/run/netns/<name>`.
pub fn enter_network(name: &str) -> Result<(), SpawnError> {
    let path = Path::new("/var/run/netns").join(name);
    let namespace = open_namespace(path.clone())?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|error| SpawnError::Namespace { path, source: error.into() })
}

/// A process to start.
#[derive(Debug)]
pub struct Spawn {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where its output is appended.
    pub log: PathBuf,
    /// Where and as whom it runs.
    pub entry: Entry,
    /// `None`: this process's environment; else exactly this one.
    pub environment: Option<Vec<(&'static str, OsString)>>,
}

impl Spawn {
    /// A process with this process's environment, namespaces and user.
    #[must_use]
    pub fn new(program: PathBuf, log: PathBuf) -> Spawn {
        Spawn { program, arguments: Vec::new(), log, entry: Entry::default(), environment: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Spawn {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds an option with its value.
    #[must_use]
    pub fn option(self, name: &str, value: impl AsRef<OsStr>) -> Spawn {
        self.argument(name).argument(value)
    }
}

/// Starts a process in a session of its own, so that neither the agent's death nor its terminal's Ctrl-C reaches it.
/// Needs a tokio runtime.
pub fn spawn(what: Spawn) -> Result<Process, SpawnError> {
    let log = |source| SpawnError::Log { path: what.log.clone(), source };
    let output = crate::logs::open(&what.log).map_err(log)?;
    let errors = output.try_clone().map_err(log)?;
    let mut command = Command::new(&what.program);
    command.args(&what.arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
    if let Some(environment) = &what.environment {
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    }
    let entry = what.entry;
    let hook = move || {
        setsid()?;
        entry.enter()?;
        Ok(())
    };
    // SAFETY: the hook makes system calls on descriptors and numbers that exist already; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
    let start = |source| SpawnError::Start { program: what.program.clone(), source };
    let child = command.spawn().map_err(start)?;
    // A child's id fits a pid; it stays a zombie at worst until `hold` has its pidfd, so the id cannot be reused.
    Process::hold(child.id() as i32).map_err(start)
}

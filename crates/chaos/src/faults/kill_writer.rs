//! kill -9 of the writer's processes: the mount daemon, the engine's first process, one of its backends, or several.

use nix::sys::signal::Signal;

use super::{Fault, FaultError, Scene};
use crate::process::{self, Process};
use crate::region::RegionError;

/// A process of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The mount daemon.
    Mount,
    /// The engine's first process.
    Engine,
    /// A backend that serves a client; the number chooses which.
    Backend(u64),
}

/// Kills parts of the writer.
#[derive(Debug)]
pub struct KillWriter {
    parts: Vec<Part>,
    killed: Vec<Process>,
}

impl KillWriter {
    /// Kills these, at once and in this order.
    #[must_use]
    pub fn new(parts: &[Part]) -> KillWriter {
        KillWriter { parts: parts.to_vec(), killed: Vec::new() }
    }

    fn find(&self, scene: Scene<'_>) -> Result<Vec<Process>, FaultError> {
        let (engine, mount) = match scene.region.writer() {
            Ok(found) => found,
            // With another fault before this one the agent may just be starting the pair anew.
            Err(RegionError::NotRunning(what, _)) => return Err(FaultError::NoTarget(what)),
            Err(error) => return Err(error.into()),
        };
        self.parts.iter().map(|part| find_part(*part, engine, mount)).collect()
    }
}

fn find_part(part: Part, engine: Process, mount: Process) -> Result<Process, FaultError> {
    match part {
        Part::Mount => Ok(mount),
        Part::Engine => Ok(engine),
        Part::Backend(number) => {
            let mut backends = process::children(engine.pid);
            // A backend's title names its client's address, other children's do not.
            backends.retain(|backend| {
                backend.arguments().first().is_some_and(|title| title.contains("127.0.0.1("))
            });
            let none = || FaultError::NoTarget("backend of a client".to_owned());
            if backends.is_empty() { Err(none()) } else { Ok(backends[number as usize % backends.len()]) }
        }
    }
}

impl Fault for KillWriter {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        self.killed = self.find(scene)?;
        for process in &self.killed {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        let gone = self.killed.iter().all(Process::is_gone);
        let pids: Vec<_> = self.killed.iter().map(|process| process.pid.to_string()).collect();
        gone.then(|| format!("{:?} ended (pids {})", self.parts, pids.join(", ")))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        Ok(scene.region.wait_healthy(super::targets::BACK)?)
    }
}

//! kill -9 of storage nodes, all at once; the agent starts them again.

use nix::sys::signal::Signal;

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::process::Process;

/// Kills nodes.
#[derive(Debug)]
pub struct KillNodes {
    targets: Targets,
    killed: Vec<Process>,
}

impl KillNodes {
    /// Kills these.
    #[must_use]
    pub fn new(targets: Targets) -> KillNodes {
        KillNodes { targets, killed: Vec::new() }
    }
}

impl Fault for KillNodes {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let found: Result<Vec<_>, _> = self.targets.ids.iter().map(|id| scene.region.node(id)).collect();
        self.killed = found?;
        for process in &self.killed {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        let gone = self.killed.iter().all(Process::is_gone);
        gone.then(|| format!("the processes of {} ended", self.targets.names()))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        Ok(scene.region.wait_healthy(super::targets::BACK)?)
    }
}

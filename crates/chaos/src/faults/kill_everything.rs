//! kill -9 of every process of the region at once; `zorya up` brings it back.

use nix::sys::signal::Signal;

use super::{Fault, FaultError, Scene};
use crate::process::Process;

/// Kills everything.
#[derive(Debug, Default)]
pub struct KillEverything {
    killed: Vec<Process>,
}

impl Fault for KillEverything {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let own = std::process::id() as i32;
        self.killed = scene.stage.network.processes();
        self.killed.retain(|process| process.pid != own);
        // The agent first: it would start again what it sees dying.
        let agent = scene.region.agent()?;
        self.killed.sort_by_key(|process| process.pid != agent.pid);
        for process in &self.killed {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        let gone = self.killed.iter().all(Process::is_gone);
        gone.then(|| format!("all {} processes of the region ended", self.killed.len()))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        Ok(scene.region.up_and_healthy()?)
    }
}

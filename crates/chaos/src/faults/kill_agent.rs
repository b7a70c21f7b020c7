//! kill -9 of the supervisor: the database goes on without it, and a new one adopts what runs.

use nix::sys::signal::Signal;

use super::{Fault, FaultError, Scene};
use crate::process::Process;

/// Kills the agent.
#[derive(Debug, Default)]
pub struct KillAgent {
    killed: Option<Process>,
    acknowledged: u64,
}

impl Fault for KillAgent {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let agent = scene.region.agent()?;
        agent.signal(Signal::SIGKILL)?;
        agent.wait_gone(super::targets::BACK)?;
        self.killed = Some(agent);
        self.acknowledged = scene.load.acknowledged();
        Ok(())
    }

    fn seen(&mut self, scene: Scene<'_>) -> Option<String> {
        let more = scene.load.acknowledged() - self.acknowledged;
        let gone = self.killed.is_some_and(|agent| agent.is_gone());
        (gone && more >= 20)
            .then(|| format!("the agent ended, and {more} commits were acknowledged without it"))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        Ok(scene.region.up_and_healthy()?)
    }
}

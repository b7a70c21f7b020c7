//! Power cuts: the nodes' file systems lose at one moment everything that was not synced, and the processes die.

use nix::sys::signal::Signal;

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::process::Process;
use crate::region::RegionError;

/// Cuts the power of nodes.
#[derive(Debug)]
pub struct PowerCut {
    targets: Targets,
    killed: Vec<Process>,
}

impl PowerCut {
    /// Cuts the power of these.
    #[must_use]
    pub fn new(targets: Targets) -> PowerCut {
        PowerCut { targets, killed: Vec::new() }
    }
}

impl Fault for PowerCut {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let found: Result<Vec<_>, _> = self.targets.ids.iter().map(|id| scene.region.node(id)).collect();
        self.killed = found?;
        // The disks first: what a node still sends after that it could not have synced.
        for id in &self.targets.ids {
            scene.stage.node(id).disk.cut_power()?;
        }
        for process in &self.killed {
            process.signal(Signal::SIGKILL)?;
        }
        // The agent must not start them again on dead disks.
        for id in &self.targets.ids {
            scene.region.zorya(&["node", "kill", id]).map_err(RegionError::from)?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        // `cut_power` saw EIO on every disk; `restore_power` makes sure that an unsynced file did not survive.
        let gone = self.killed.iter().all(Process::is_gone);
        gone.then(|| {
            format!("writes to the disks of {} gave EIO, and the processes ended", self.targets.names())
        })
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            scene.stage.node(id).disk.restore_power()?;
        }
        for id in &self.targets.ids {
            scene.region.start_node(id)?;
        }
        Ok(())
    }
}

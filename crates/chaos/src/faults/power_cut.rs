//! Power cuts: the nodes' disks lose at one moment what was not synced, and the processes die.
//!
//! The kernel's memory is lost wholly, the drive's cache in part: any of its sectors may have reached the platter.

use nix::sys::signal::Signal;

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::process::Process;
use crate::region::RegionError;
use crate::seed::Numbers;
use crate::stage::Loss;

/// Cuts the power of nodes.
#[derive(Debug)]
pub struct PowerCut {
    targets: Targets,
    /// Decides what reached the platters.
    numbers: Numbers,
    killed: Vec<Process>,
    /// Of all drives together.
    loss: Loss,
}

impl PowerCut {
    /// Cuts the power of these.
    #[must_use]
    pub fn new(targets: Targets, seed: u64) -> PowerCut {
        let numbers = Numbers::from_seed(seed);
        PowerCut { targets, numbers, killed: Vec::new(), loss: Loss::default() }
    }
}

impl Fault for PowerCut {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let found: Result<Vec<_>, _> = self.targets.ids.iter().map(|id| scene.region.node(id)).collect();
        self.killed = found?;
        // The disks first: what a node still sends after that it could not have synced.
        for id in &self.targets.ids {
            let loss = scene.stage.node(id).disk.cut_power(&mut self.numbers)?;
            self.loss.unflushed += loss.unflushed;
            self.loss.lost += loss.lost;
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
            let Loss { unflushed, lost } = self.loss;
            let names = self.targets.names();
            format!("writes to the disks of {names} gave EIO; {lost} of {unflushed} unflushed sectors are lost; the processes ended")
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

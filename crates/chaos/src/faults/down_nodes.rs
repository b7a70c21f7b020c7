//! Storage nodes that are killed and stay down for a while: what they miss, their peers must tell them later.

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::process::Process;
use crate::region::RegionError;

/// Takes nodes down.
#[derive(Debug)]
pub struct DownNodes {
    targets: Targets,
    killed: Vec<Process>,
}

impl DownNodes {
    /// Takes these down.
    #[must_use]
    pub fn new(targets: Targets) -> DownNodes {
        DownNodes { targets, killed: Vec::new() }
    }
}

impl Fault for DownNodes {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            self.killed.push(scene.region.node(id)?);
            scene.region.zorya(&["node", "kill", id]).map_err(RegionError::from)?;
        }
        Ok(())
    }

    fn seen(&mut self, scene: Scene<'_>) -> Option<String> {
        let status = scene.region.status().ok()?;
        let down = |id: &String| status.nodes.iter().any(|node| node.id == *id && node.pid.is_none());
        let seen = self.killed.iter().all(Process::is_gone) && self.targets.ids.iter().all(down);
        seen.then(|| format!("{} ended, and the status shows no process", self.targets.names()))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            scene.region.start_node(id)?;
        }
        Ok(())
    }
}

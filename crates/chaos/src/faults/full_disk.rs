//! Disks of storage nodes with no byte left.

use super::targets::Targets;
use super::{Fault, FaultError, Scene};

/// Fills disks.
#[derive(Debug)]
pub struct FullDisk {
    targets: Targets,
    /// How much of each node's log there was before.
    log_bytes: Vec<usize>,
}

impl FullDisk {
    /// Fills the disks of these.
    #[must_use]
    pub fn new(targets: Targets) -> FullDisk {
        FullDisk { targets, log_bytes: Vec::new() }
    }
}

impl Fault for FullDisk {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            self.log_bytes.push(scene.region.log_of_node(id).len());
            scene.stage.node(id).disk.fill()?;
        }
        Ok(())
    }

    /// The node itself must have run into it: no space alone could pass unnoticed with room left in its log files.
    fn seen(&mut self, scene: Scene<'_>) -> Option<String> {
        let refused = |(id, before): (&String, &usize)| {
            let log = scene.region.log_of_node(id);
            let free = scene.stage.node(id).disk.free_bytes().ok()?;
            // The node's words and the kernel's.
            let is_full = |line: &&str| line.contains("the disk is full") || line.contains("No space");
            let line = log.get(*before..)?.lines().find(is_full)?;
            (free == 0).then(|| format!("{id}: {line}"))
        };
        let said: Option<Vec<_>> = self.targets.ids.iter().zip(&self.log_bytes).map(refused).collect();
        said.map(|said| format!("no byte is free; {}", said.join("; ")))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            scene.stage.node(id).disk.free()?;
        }
        Ok(scene.region.wait_healthy(super::targets::BACK)?)
    }
}

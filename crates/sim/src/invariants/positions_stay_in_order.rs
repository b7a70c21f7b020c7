//! The inequality chain of the positions holds after every step of every writer and every replica.

use zorya_types::{SegmentPositions, Slot};

use crate::client::Role;
use crate::world::Simulation;

const NAME: &str = "positions stay in order";

impl Simulation {
    /// After a writer's step.
    pub(crate) fn check_writer(&mut self, index: usize) {
        if let Role::Writing(session) = &self.clients[index].role
            && let Err(error) = session.writer.positions().validate()
        {
            self.violate(NAME, format!("host {index}: {error}"));
        }
    }

    /// After a replica's step.
    pub(crate) fn check_replica(&mut self, slot: Slot) {
        let node = self.node(slot);
        let Some(replica) = &node.replica else { return };
        let positions = SegmentPositions {
            persisted: node.pages.persisted.min(node.pages.applied),
            applied: node.pages.applied,
            scl: replica.scl(),
            // What the layers hold was told once, whatever the replica remembers.
            told_vdl: replica.told().vdl.max(node.pages.persisted),
        };
        if let Err(error) = positions.validate() {
            self.violate(NAME, format!("node {slot}: {error}"));
        }
    }
}

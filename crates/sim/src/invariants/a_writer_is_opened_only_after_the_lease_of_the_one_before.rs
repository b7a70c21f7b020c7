//! Unless the one before is known to be dead, no writer is opened while another believes in its lease.

use zorya_log::opening::Opened;

use super::Violation;
use crate::client::Role;
use crate::world::Simulation;

impl Simulation {
    pub(super) fn check_leases(&self, index: usize, opened: &Opened, reaped: bool) -> Result<(), Violation> {
        let now_ms = self.now_us / 1_000;
        for (other, client) in self.clients.iter().enumerate().filter(|(other, _)| *other != index && !reaped)
        {
            if let Role::Writing(session) = &client.role
                && session.writer.lease_until_ms() > now_ms
            {
                return Err(Violation {
                    invariant: "a writer is opened only after the lease of the one before",
                    what: format!(
                        "host {index} has epoch {} at {now_ms} ms, host {other} (epoch {}) has a lease until {} ms",
                        opened.epoch,
                        session.writer.epoch(),
                        session.writer.lease_until_ms()
                    ),
                });
            }
        }
        Ok(())
    }
}

//! Packets that are dropped: between a zone and all others, between the writer and nodes; or a zone's link that is down.

use super::targets::a_zone;
use super::{Fault, FaultError, Scene};
use crate::seed::Numbers;
use crate::stage::COMPUTE;

/// Where nothing passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Into and out of a zone.
    Zone(&'static str),
    /// The same by its link.
    Link(&'static str),
    /// Between the writer and the nodes with these places among the six.
    Compute(Vec<usize>),
}

impl Cut {
    /// Any zone.
    pub fn zone(numbers: &mut Numbers) -> Cut {
        Cut::Zone(a_zone(numbers))
    }

    /// Any zone's link.
    pub fn link(numbers: &mut Numbers) -> Cut {
        Cut::Link(a_zone(numbers))
    }

    /// One to three nodes, which still reach their peers.
    pub fn compute(numbers: &mut Numbers) -> Cut {
        let mut places: Vec<usize> = (0..6).collect();
        numbers.shuffle(&mut places);
        places.truncate(numbers.between(1, 3) as usize);
        Cut::Compute(places)
    }

    /// All nodes.
    #[must_use]
    pub fn compute_from_all() -> Cut {
        Cut::Compute((0..6).collect())
    }
}

/// Partitions the network.
#[derive(Debug)]
pub struct Partition {
    cut: Cut,
}

impl Partition {
    /// Lets nothing pass there.
    #[must_use]
    pub fn new(cut: Cut) -> Partition {
        Partition { cut }
    }

    /// In whose namespace the packets are dropped.
    fn member(&self) -> &'static str {
        match self.cut {
            Cut::Zone(zone) | Cut::Link(zone) => zone,
            Cut::Compute(_) => COMPUTE,
        }
    }
}

impl Fault for Partition {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let network = &scene.stage.network;
        match &self.cut {
            Cut::Zone(zone) => network.isolate(zone)?,
            Cut::Link(zone) => network.set_link(zone, false)?,
            Cut::Compute(places) => {
                let nodes: Vec<_> = places
                    .iter()
                    .map(|at| &scene.stage.nodes[*at])
                    .map(|node| (node.zone, node.port))
                    .collect();
                network.separate_compute(&nodes)?;
            }
        }
        Ok(())
    }

    fn seen(&mut self, scene: Scene<'_>) -> Option<String> {
        if let Cut::Link(zone) = self.cut {
            let node = scene.stage.nodes.iter().find(|node| node.zone == zone)?;
            let address =
                std::net::SocketAddr::new(crate::stage::Network::address(zone).parse().ok()?, node.port);
            let connected =
                std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(500));
            return connected
                .is_err()
                .then(|| format!("the link of {zone} is down, {address} cannot be reached"));
        }
        let dropped = scene.stage.network.dropped(self.member()).ok()?.packets;
        (dropped > 0).then(|| format!("{dropped} packets were dropped by {:?}", self.cut))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        let network = &scene.stage.network;
        match self.cut {
            Cut::Link(zone) => network.set_link(zone, true)?,
            _ => network.reconnect(self.member())?,
        }
        Ok(scene.region.wait_healthy(super::targets::BACK)?)
    }
}

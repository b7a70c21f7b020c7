//! Picking TCP ports that are free now. A picked port is persisted by the caller and stays.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use crate::region::Engine;

/// Where storage nodes' ports are searched from.
pub const FIRST_NODE_PORT: u16 = 7101;
/// How far apart regions of one host search for their nodes' ports, and over how many places.
const REGION_STEP: u16 = 20;
const REGION_PLACES: u64 = 500;

/// Where a region with this home searches for its storage nodes' ports: regions that start at the same moment would
/// otherwise see the same ports free.
#[must_use]
pub fn first_node_port(home: &Path) -> u16 {
    let sum = home.as_os_str().as_encoded_bytes().iter();
    let place = sum.fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(*byte)) % REGION_PLACES;
    FIRST_NODE_PORT + place as u16 * REGION_STEP
}

/// Where an engine's ports are searched from: its own.
#[must_use]
pub fn first_engine_port(engine: Engine) -> u16 {
    match engine {
        Engine::Postgres => 5432,
        Engine::Mariadb => 3306,
    }
}

/// Every port of the search is taken.
#[derive(Debug, thiserror::Error)]
#[error("no free TCP port on {host} from {first} to {last}: stop something that listens there")]
pub struct NoFreePort {
    host: String,
    first: u16,
    last: u16,
}

/// Whether nothing listens on `host:port` and this host may listen there.
#[must_use]
pub fn is_free(host: &str, port: u16) -> bool {
    TcpListener::bind((host, port)).is_ok()
}

/// The first port from `first` on that is free and not `reserved`. The search stays below the range that the kernel
/// hands out to outgoing connections, so that a port that is free today is not borrowed tomorrow.
pub fn pick(host: &str, first: u16, reserved: &BTreeSet<u16>) -> Result<u16, NoFreePort> {
    let last = first.saturating_add(1000).min(32_767);
    (first..=last).find(|port| !reserved.contains(port) && is_free(host, *port)).ok_or_else(|| NoFreePort {
        host: host.to_owned(),
        first,
        last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_search_in_different_places_below_the_outgoing_range() {
        let places: BTreeSet<u16> =
            (0..50).map(|n| first_node_port(Path::new(&format!("/tmp/.tmp{n:06}/home")))).collect();
        assert!(places.len() > 40, "{places:?}");
        assert!(places.iter().all(|port| (7101..31_000).contains(port)), "{places:?}");
    }

    #[test]
    fn a_taken_or_reserved_port_is_not_picked() {
        let first = pick("127.0.0.1", 21_000, &BTreeSet::new()).unwrap();
        let held = TcpListener::bind(("127.0.0.1", first)).unwrap();
        let second = pick("127.0.0.1", first, &BTreeSet::new()).unwrap();
        assert!(second > first, "{first} is held");
        drop(held);
        let third = pick("127.0.0.1", first, &BTreeSet::from([first])).unwrap();
        assert!(third > first, "{first} is reserved");
    }
}

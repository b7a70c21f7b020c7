//! Picking TCP ports that are free now. A picked port is persisted by the caller and stays.

use std::collections::BTreeSet;
use std::net::TcpListener;

/// Where storage nodes' ports are searched from.
pub const FIRST_NODE_PORT: u16 = 7101;
/// Where engines' ports are searched from: PostgreSQL's own.
pub const FIRST_ENGINE_PORT: u16 = 5432;

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

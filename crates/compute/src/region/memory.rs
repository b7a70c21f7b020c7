//! How much memory this host has for a cluster.

/// The smallest block cache that a cluster gets by default, in bytes.
const LEAST: u64 = 128 << 20;
/// The largest block cache that a cluster gets by default, in bytes.
const MOST: u64 = 8 << 30;

/// The block cache of a cluster's mount daemon unless told otherwise, in bytes: an eighth of the memory that this host
/// (or this container, by cgroup v2) may use. A page that is in it is logged as the bytes that changed, any other whole,
/// so it should hold what is written over and over. It only grows as blocks come by.
#[must_use]
pub fn default_cache_bytes() -> u64 {
    let host = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    share(host, limit.as_deref())
}

/// `limit` is a number of bytes, or `max`.
fn share(host: u64, limit: Option<&str>) -> u64 {
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    (host.min(limit) / 8).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_an_eighth_of_what_the_host_or_its_container_has_within_bounds() {
        const GIB: u64 = 1 << 30;
        assert_eq!(share(24 * GIB, None), 3 * GIB);
        assert_eq!(share(24 * GIB, Some("max\n")), 3 * GIB);
        assert_eq!(share(24 * GIB, Some("2147483648\n")), GIB / 4);
        assert_eq!((share(0, None), share(1 << 50, Some("nonsense"))), (LEAST, MOST));
    }
}

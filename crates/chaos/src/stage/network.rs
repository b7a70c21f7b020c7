//! Zones as network namespaces: `compute` and one per zone, each with one veth to a bridge in a namespace of its own.
//! Nothing of it is visible outside of these namespaces.

use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::ZONES;
use crate::process::{self, Process};
use crate::shell::{self, ShellError};

/// The namespace of mounts, engines, the agent and the clients.
pub const COMPUTE: &str = "compute";
const SWITCH: &str = "switch";
/// The interface in every namespace.
const INTERFACE: &str = "eth0";
/// The table of drop rules.
const TABLE: &str = "chaos";

/// A network that could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program failed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The compute namespace cannot be entered.
    #[error("cannot enter the network namespace {path}")]
    Enter {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What nft printed is not what it prints.
    #[error("cannot read the counters that nft printed: {0}")]
    Counters(String),
}

/// What a drop rule has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
}

/// The zones' network.
#[derive(Debug)]
pub struct Network {
    tag: String,
}

impl Network {
    /// The network whose namespaces begin with `tag`. Nothing is made.
    #[must_use]
    pub fn named(tag: &str) -> Network {
        Network { tag: tag.to_owned() }
    }

    /// A member's namespace.
    #[must_use]
    pub fn namespace(&self, member: &str) -> String {
        format!("{}-{member}", self.tag)
    }

    fn path(&self, member: &str) -> PathBuf {
        PathBuf::from("/var/run/netns").join(self.namespace(member))
    }

    /// A member's address.
    #[must_use]
    pub fn address(member: &str) -> String {
        let zone = ZONES.iter().position(|zone| *zone == member).map_or(0, |at| at + 1);
        format!("10.77.{zone}.1")
    }

    fn members() -> impl Iterator<Item = &'static str> {
        std::iter::once(COMPUTE).chain(ZONES)
    }

    /// Makes all namespaces and joins them.
    pub fn make(&self) -> Result<(), NetworkError> {
        let switch = self.namespace(SWITCH);
        shell::run("ip", &["netns", "add", &switch])?;
        shell::run("ip", &["-n", &switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0"])?;
        shell::run("ip", &["-n", &switch, "link", "set", "br0", "up"])?;
        for member in Network::members() {
            self.join(member, &switch)?;
        }
        Ok(())
    }

    fn join(&self, member: &str, switch: &str) -> Result<(), NetworkError> {
        let inside = self.namespace(member);
        let address = format!("{}/16", Network::address(member));
        let veth = [
            "link", "add", INTERFACE, "netns", &inside, "type", "veth", "peer", "name", member, "netns",
            switch,
        ];
        shell::run("ip", &["netns", "add", &inside])?;
        shell::run("ip", &veth)?;
        shell::run("ip", &["-n", switch, "link", "set", member, "master", "br0", "up"])?;
        shell::run("ip", &["-n", &inside, "addr", "add", &address, "dev", INTERFACE])?;
        shell::run("ip", &["-n", &inside, "link", "set", "lo", "up"])?;
        shell::run("ip", &["-n", &inside, "link", "set", INTERFACE, "up"])?;
        Ok(())
    }

    /// Moves the calling thread, and all that it starts, into the compute namespace.
    pub fn enter_compute(&self) -> Result<(), NetworkError> {
        let path = self.path(COMPUTE);
        let enter = |file: std::fs::File| setns(file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from);
        let entered = std::fs::File::open(&path).and_then(enter);
        entered.map_err(|source| NetworkError::Enter { path, source })
    }

    /// Every process in these namespaces.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        Network::members().flat_map(|member| process::in_network(&self.path(member))).collect()
    }

    /// Removes the namespaces; their interfaces and rules go with them.
    pub fn unmake(&self) {
        for member in Network::members().chain([SWITCH]) {
            if self.path(member).exists()
                && let Err(error) = shell::run("ip", &["netns", "del", &self.namespace(member)])
            {
                eprintln!("chaos: {error}");
            }
        }
    }

    /// Takes a member's interface down or up.
    pub fn set_link(&self, member: &str, up: bool) -> Result<(), NetworkError> {
        // The switch's end: the member sees a dead link and keeps its address and routes.
        let state = if up { "up" } else { "down" };
        shell::run("ip", &["-n", &self.namespace(SWITCH), "link", "set", member, state])?;
        Ok(())
    }

    /// Drops every packet that enters or leaves a member's namespace. Within it, traffic goes on.
    pub fn isolate(&self, member: &str) -> Result<(), NetworkError> {
        let to = [format!("oifname {INTERFACE}")];
        let from = [format!("iifname {INTERFACE}")];
        self.drop_packets(member, &from, &to)
    }

    /// Drops every packet between the compute namespace and these nodes (zone, port).
    pub fn separate_compute(&self, nodes: &[(&str, u16)]) -> Result<(), NetworkError> {
        let rule = |zone: &str, port: u16, address: &str, side: &str| {
            format!("ip {address} {} tcp {side} {port}", Network::address(zone))
        };
        let from: Vec<_> = nodes.iter().map(|(zone, port)| rule(zone, *port, "saddr", "sport")).collect();
        let to: Vec<_> = nodes.iter().map(|(zone, port)| rule(zone, *port, "daddr", "dport")).collect();
        self.drop_packets(COMPUTE, &from, &to)
    }

    fn drop_packets(&self, member: &str, from: &[String], to: &[String]) -> Result<(), NetworkError> {
        let chain = |hook: &str, rules: &[String]| {
            let rules: String = rules.iter().map(|rule| format!("{rule} counter drop\n")).collect();
            format!("chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n{rules}}}\n")
        };
        let table = format!("table inet {TABLE} {{\n{}{}}}", chain("input", from), chain("output", to));
        self.nft(member, &table)?;
        Ok(())
    }

    /// What a member's rules have dropped so far.
    pub fn dropped(&self, member: &str) -> Result<Counters, NetworkError> {
        let listing = self.nft(member, &format!("list table inet {TABLE}"))?;
        sum_counters(&listing).ok_or(NetworkError::Counters(listing))
    }

    /// Lets every packet of a member pass again.
    pub fn reconnect(&self, member: &str) -> Result<(), NetworkError> {
        self.nft(member, &format!("delete table inet {TABLE}"))?;
        Ok(())
    }

    fn nft(&self, member: &str, command: &str) -> Result<String, ShellError> {
        shell::run("ip", &["netns", "exec", &self.namespace(member), "nft", command])
    }
}

/// The sum of `counter packets N` in a listing; `None` if there is no counter.
fn sum_counters(listing: &str) -> Option<Counters> {
    let mut words = listing.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        if word == "packets" {
            let packets: u64 = words.next()?.parse().ok()?;
            found = Some(found.unwrap_or(0) + packets);
        }
    }
    found.map(|packets| Counters { packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_and_missing_ones_are_noticed() {
        let listing = "table inet chaos { chain input { iifname \"eth0\" counter packets 3 bytes 180 drop } \
                       chain output { oifname \"eth0\" counter packets 4 bytes 1 drop } }";
        assert_eq!(sum_counters(listing), Some(Counters { packets: 7 }));
        assert_eq!(sum_counters("table inet chaos { }"), None);
    }

    #[test]
    fn zones_can_be_joined_separated_and_joined_again() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let network = Network::named(&format!("zct{}", std::process::id()));
        network.make().unwrap();
        let ping = |from: &str, to: &str| {
            let script = format!("exec 3<>/dev/tcp/{}/9 2>&1", Network::address(to));
            let arguments =
                ["netns", "exec", &network.namespace(from), "timeout", "1", "bash", "-c", &script];
            // Nobody listens there: a reachable host refuses at once, an unreachable one never answers.
            shell::run("ip", &arguments).unwrap_err().to_string().contains("refused")
        };
        assert!(ping("az1", "az2") && ping(COMPUTE, "az3"));
        network.isolate("az1").unwrap();
        assert!(!ping("az1", "az2") && ping(COMPUTE, "az2"));
        assert!(network.dropped("az1").unwrap().packets > 0);
        network.reconnect("az1").unwrap();
        assert!(ping("az1", "az2"));
        network.unmake();
        assert!(network.processes().is_empty());
    }
}

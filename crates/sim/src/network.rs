//! A simulated network: messages are delayed, reordered, lost, doubled, or cut off.

use rand::RngExt;
use rand::rngs::StdRng;
use zorya_log::replica::Origin;
use zorya_types::Slot;
use zorya_wire::message::log::{LogRequest, LogResponse};

use crate::config::Config;

/// Somebody on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A storage node.
    Node(Slot),
    /// A host that may run the writer.
    Client(usize),
}

/// A connection: who made it, in which life, to which life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Who made it.
    pub from: Address,
    /// Which life, or which session, of the one who made it.
    pub life: u64,
    /// To which node.
    pub to: Slot,
    /// Which life of the node.
    pub boot: u64,
}

/// Something on its way.
#[derive(Clone, Debug)]
pub enum Message {
    /// To a node, in the life that it had when the message was sent: connections do not survive.
    Request { from: Address, life: u64, to: Slot, boot: u64, id: u64, request: LogRequest },
    /// Back from a node.
    Response { to: Address, life: u64, from: Slot, id: u64, response: LogResponse },
}

impl Message {
    fn ends(&self) -> (Address, Address) {
        match self {
            Message::Request { from, to, .. } => (*from, Address::Node(*to)),
            Message::Response { to, from, .. } => (Address::Node(*from), *to),
        }
    }
}

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    /// Pairs that cannot speak, each until a time.
    cuts: Vec<(Address, Address, u64)>,
    /// Nodes that are slow, until a time.
    slow: Vec<(Slot, u64)>,
    /// Connections by number.
    connections: Vec<Connection>,
}

impl Network {
    /// The number that a connection goes by.
    pub fn origin(&mut self, connection: Connection) -> Origin {
        if let Some(index) = self.connections.iter().position(|other| *other == connection) {
            return index as Origin;
        }
        self.connections.push(connection);
        self.connections.len() as Origin - 1
    }

    /// The connection of a number.
    pub fn connection(&self, origin: Origin) -> Option<Connection> {
        self.connections.get(origin as usize).copied()
    }

    /// Cuts two off from each other.
    pub fn cut(&mut self, one: Address, other: Address, until_us: u64) {
        self.cuts.push((one, other, until_us));
    }

    /// Makes a node slow.
    pub fn slow(&mut self, slot: Slot, until_us: u64) {
        self.slow.push((slot, until_us));
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// After how long, in microseconds, the message arrives: once, twice or never.
    pub fn delays(&mut self, now_us: u64, message: &Message, config: &Config, rng: &mut StdRng) -> Vec<u64> {
        let (from, to) = message.ends();
        self.cuts.retain(|(_, _, until)| *until > now_us);
        self.slow.retain(|(_, until)| *until > now_us);
        let cut = |(one, other, _): &(Address, Address, u64)| {
            (*one == from && *other == to) || (*one == to && *other == from)
        };
        if self.cuts.iter().any(cut) || rng.random_bool(config.loss) {
            return Vec::new();
        }
        let slow = |address: Address| self.slow.iter().any(|(slot, _)| Address::Node(*slot) == address);
        let factor = if slow(from) || slow(to) { 20 } else { 1 };
        let copies = if rng.random_bool(config.duplication) { 2 } else { 1 };
        let mut delay = || {
            let usual = rng.random_range(100..=config.delay_us) * factor;
            if rng.random_bool(0.01) { usual + rng.random_range(0..500_000) } else { usual }
        };
        (0..copies).map(|_| delay()).collect()
    }
}

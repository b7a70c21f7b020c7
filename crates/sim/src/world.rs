//! The simulation itself: the queue of events, the run and its outcome.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zorya_log::replica::{Input, Seq};
use zorya_types::planted::plant;
use zorya_types::{Incarnation, Member, Membership, NodeId, Profile, Slot, VolumeId};

use crate::client::{Client, Role};
use crate::config::Config;
use crate::invariants::Violation;
use crate::ledger::Ledger;
use crate::network::{Address, Connection, Message, Network};
use crate::node::Node;
use crate::trace::Trace;

/// The one volume.
pub(crate) const VOLUME: VolumeId = VolumeId(0x5eed);
/// How many hosts may run the writer.
const HOSTS: usize = 3;
/// The wall clock at the start, microseconds since 1970.
const EPOCH_US: u64 = 1_700_000_000_000_000;
/// After the faults: how long it may take until the volume is open again, in microseconds.
const REOPEN_US: u64 = 20_000_000;
/// And from there until the new writes are durable and every replica has everything.
const CONVERGE_US: u64 = 20_000_000;

/// Something that happens at a time.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "most events are messages")]
pub(crate) enum Event {
    Arrival(Message),
    NodeTick { slot: Slot, boot: u64 },
    Synced { slot: Slot, boot: u64, upto: Seq },
    StartNode { slot: Slot },
    RestartNode { slot: Slot },
    DiskRoom { slot: Slot },
    ClientTick { index: usize, session: u64 },
    Reopen { index: usize, session: u64, reaped: bool },
    Append { index: usize, session: u64 },
    Fault,
}

/// An event in the queue; earlier first, then in the order of their making.
#[derive(Debug)]
struct Due {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Equal for two runs of one seed.
    pub trace_hash: u64,
    /// How many records became durable.
    pub durable_records: usize,
    /// How often the volume was opened.
    pub openings: u64,
    /// How many faults were drawn.
    pub faults: u64,
    /// What went wrong, if something did.
    pub violation: Option<Violation>,
}

/// One run.
pub struct Simulation {
    pub(crate) config: Config,
    pub(crate) rng: StdRng,
    pub(crate) now_us: u64,
    queue: BinaryHeap<Reverse<Due>>,
    next_number: u64,
    pub(crate) network: Network,
    pub(crate) membership: Membership,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    trace: Trace,
    /// Whether a disk has lost synced data already.
    pub(crate) damaged: bool,
    pub(crate) openings: u64,
    pub(crate) faults: u64,
    /// The first thing that went wrong ends the run.
    pub(crate) violation: Option<Violation>,
}

impl Simulation {
    /// Runs a seed to its end.
    #[must_use]
    pub fn run(seed: u64, config: Config) -> Report {
        plant(config.bug);
        let mut simulation = Simulation::new(seed, config);
        simulation.live();
        plant(None);
        Report {
            seed,
            trace_hash: simulation.trace.hash(),
            durable_records: simulation.ledger.durable_records(),
            openings: simulation.openings,
            faults: simulation.faults,
            violation: simulation.violation,
        }
    }

    fn new(seed: u64, config: Config) -> Simulation {
        let mut rng = StdRng::seed_from_u64(seed);
        let membership = membership(config.profile);
        let skew = config.skew_us as i64;
        let mut skew = || rng.random_range(-skew..=skew);
        let member = |slot: Slot| membership.member(slot).map_or(Incarnation(0), |member| member.incarnation);
        let nodes = membership.slots().map(|slot| Node::new(slot, member(slot), skew())).collect();
        let clients = (0..HOSTS).map(|_| Client::new(skew())).collect();
        let trace = Trace::new(config.verbose);
        Simulation {
            config,
            rng,
            now_us: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
            network: Network::default(),
            membership,
            nodes,
            clients,
            ledger: Ledger::default(),
            trace,
            damaged: false,
            openings: 0,
            faults: 0,
            violation: None,
        }
    }

    fn live(&mut self) {
        for slot in self.membership.slots().collect::<Vec<_>>() {
            self.start_node(slot);
        }
        self.open(0, true);
        self.at(self.config.fault_every_us, Event::Fault);
        let faults_us = self.config.faults_us;
        self.run_until(faults_us, |_| false);
        self.heal();
        let opened = self.run_until(REOPEN_US, |simulation| simulation.writer_works());
        // Of three replicas, one whose disk lost something and one in doubt are too much at once: then waiting is right.
        if !opened && self.damaged && self.nodes.len() == 3 {
            return;
        }
        if !opened {
            return self.violate("a healed volume opens", "no writer works after the faults ended");
        }
        let goal = self.ledger.durable_records() + 30;
        let written = self.run_until(CONVERGE_US, |simulation| simulation.ledger.durable_records() >= goal);
        if !written {
            return self
                .violate("a healed volume takes writes", "nothing becomes durable after the faults ended");
        }
        if !self.run_until(CONVERGE_US, |simulation| simulation.has_converged()) {
            let state: Vec<_> = self.nodes.iter().map(|node| (node.slot.0, node.pages.applied.0)).collect();
            self.violate(
                "healed replicas converge",
                format!("the log is durable to {}, pages to {state:?}", self.ledger.head()),
            );
        }
    }

    /// Runs for so long, or until the goal is reached or something is wrong. Whether the goal was reached.
    fn run_until(&mut self, for_us: u64, goal: impl Fn(&Simulation) -> bool) -> bool {
        let end_us = self.now_us + for_us;
        while self.violation.is_none() {
            if goal(self) {
                return true;
            }
            let Some(Reverse(due)) = self.queue.pop() else { return false };
            if due.at_us > end_us {
                self.queue.push(Reverse(due));
                self.now_us = end_us;
                return false;
            }
            self.now_us = due.at_us;
            self.happen(due.event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        self.trace.note(self.now_us, format_args!("{}", Short(&event)));
        match event {
            Event::Arrival(Message::Request { from, life, to, boot, id, request }) => {
                self.node_receives(Connection { from, life, to, boot }, id, request);
            }
            Event::Arrival(Message::Response { to: Address::Client(index), life, from, id, response }) => {
                self.client_receives(index, life, from, id, response);
            }
            Event::Arrival(Message::Response { to: Address::Node(slot), life, from, response, .. }) => {
                if self.node(slot).boot == life {
                    self.step_node(slot, Input::PeerResponse { peer: from, response });
                }
            }
            Event::NodeTick { slot, boot } => self.node_tick(slot, boot),
            Event::Synced { slot, boot, upto } => self.sync_ends(slot, boot, upto),
            Event::StartNode { slot } => self.start_node(slot),
            Event::RestartNode { slot } => {
                self.stop_node(slot, true);
                self.start_node(slot);
            }
            Event::DiskRoom { slot } => self.unfill_disk(slot),
            Event::ClientTick { index, session } => self.client_tick(index, session),
            Event::Reopen { index, session, reaped } => {
                if self.clients[index].session == session {
                    self.open(index, reaped);
                }
            }
            Event::Append { index, session } => self.append(index, session),
            Event::Fault => self.next_fault(),
        }
    }

    /// Everything works again, and one host takes over.
    fn heal(&mut self) {
        self.trace(format_args!("healed"));
        self.network.heal();
        (self.config.loss, self.config.duplication) = (0.0, 0.0);
        self.config.delay_us = self.config.delay_us.min(5_000);
        for slot in self.membership.slots().collect::<Vec<_>>() {
            if self.node(slot).disk.failed {
                self.stop_node(slot, true);
            }
            self.unfill_disk(slot);
            self.start_node(slot);
        }
        (0..HOSTS).for_each(|index| self.kill(index));
        let highest = self.highest_promised();
        self.clients[0].epoch = self.clients[0].epoch.max(highest);
        self.open(0, true);
    }

    fn writer_works(&self) -> bool {
        self.clients.iter().any(|client| matches!(&client.role, Role::Writing(_)))
    }

    fn has_converged(&self) -> bool {
        let mut members = self.nodes.iter().filter(|node| self.is_member(node.slot));
        let head = self.ledger.head();
        members.all(|node| node.pages.applied.plus(20_000) >= head && node.replica.is_some())
    }

    /// Schedules an event.
    pub(crate) fn at(&mut self, after_us: u64, event: Event) {
        self.next_number += 1;
        let due = Due { at_us: self.now_us + after_us, number: self.next_number, event };
        self.queue.push(Reverse(due));
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: Message) {
        for delay in self.network.delays(self.now_us, &message, &self.config, &mut self.rng) {
            self.at(delay, Event::Arrival(message.clone()));
        }
    }

    pub(crate) fn node(&self, slot: Slot) -> &Node {
        &self.nodes[usize::from(slot.0)]
    }

    /// The true wall clock, microseconds since 1970.
    pub(crate) fn clock_us(&self) -> u64 {
        EPOCH_US + self.now_us
    }

    pub(crate) fn trace(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now_us, what);
    }
}

/// An event in a few words.
struct Short<'a>(&'a Event);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Arrival(Message::Request { from, to, id, request, .. }) => {
                write!(f, "{from:?} to node {to} #{id}: {:?} +{}", request.body, request.records.len())
            }
            Event::Arrival(Message::Response { to, from, id, response, .. }) => {
                write!(f, "node {from} to {to:?} #{id}: {:?} +{}", response.body, response.records.len())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn membership(profile: &str) -> Membership {
    let profile = Profile::named(profile).unwrap_or_else(|error| panic!("the simulation's profile: {error}"));
    let member = |index: u8| Member {
        node: NodeId(format!("node-{index}")),
        incarnation: Incarnation(u64::from(index) + 1),
        zone: format!("zone-{}", index % profile.zones),
        address: format!("simulated:{index}"),
    };
    Membership { generation: 1, members: (0..profile.replicas).map(member).collect(), profile }
}

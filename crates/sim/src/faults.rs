//! What breaks: drawn one after another, each undone after a while.

use rand::RngExt;
use zorya_types::Slot;

use crate::client::Role;
use crate::network::Address;
use crate::world::{Event, Simulation};

/// A kind of fault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash,
    Zone,
    Power,
    Partition,
    Failover,
    Rival,
    Disk,
    Damage,
    Clock,
}

impl Simulation {
    /// Breaks something, and says when something breaks next.
    pub(crate) fn next_fault(&mut self) {
        if self.now_us >= self.config.faults_us {
            return;
        }
        let after = self.rng.random_range(1..=self.config.fault_every_us * 2);
        self.at(after, Event::Fault);
        let Some(fault) = self.draw_fault() else { return };
        self.faults += 1;
        let slot = self.any_slot();
        match fault {
            Fault::Crash => self.crash(slot),
            Fault::Zone => {
                let zones = self.membership.profile.zones;
                self.slots().filter(|one| one.0 % zones == slot.0 % zones).for_each(|one| self.crash(one));
            }
            Fault::Power => self.slots().for_each(|one| self.crash(one)),
            Fault::Partition => self.partition(slot),
            Fault::Failover => self.failover(),
            Fault::Rival => self.rival(),
            Fault::Disk => self.disk_fault(slot),
            Fault::Damage => self.damage(slot),
            Fault::Clock => self.clock_fault(slot),
        }
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let weights = self.config.weights;
        let faults = [
            (Fault::Crash, weights.crash),
            (Fault::Zone, weights.zone),
            (Fault::Power, weights.power),
            (Fault::Partition, weights.partition),
            (Fault::Failover, weights.failover),
            (Fault::Rival, weights.rival),
            (Fault::Disk, weights.disk),
            (Fault::Damage, weights.damage),
            (Fault::Clock, weights.clock),
        ];
        let total: u32 = faults.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = self.rng.random_range(0..total);
        for (fault, weight) in faults {
            if drawn < weight {
                return Some(fault);
            }
            drawn -= weight;
        }
        None
    }

    fn slots(&self) -> std::vec::IntoIter<Slot> {
        self.membership.slots().collect::<Vec<_>>().into_iter()
    }

    fn any_slot(&mut self) -> Slot {
        Slot(self.rng.random_range(0..self.nodes.len()) as u8)
    }

    fn crash(&mut self, slot: Slot) {
        let power_cut = self.rng.random_bool(0.8);
        self.stop_node(slot, power_cut);
        let after = self.rng.random_range(20_000..2_000_000);
        self.at(after, Event::StartNode { slot });
    }

    fn partition(&mut self, slot: Slot) {
        let until = self.now_us + self.rng.random_range(50_000..2_500_000);
        let (zones, kind) = (self.membership.profile.zones, self.rng.random_range(0..5));
        let mine = match kind {
            0 => vec![Address::Node(slot)],
            1 => self.slots().filter(|one| one.0 % zones == slot.0 % zones).map(Address::Node).collect(),
            2 => vec![Address::Client(self.rng.random_range(0..self.clients.len()))],
            3 => {
                self.network.slow(slot, until);
                Vec::new()
            }
            _ => {
                let other = self.any_slot();
                self.network.cut(Address::Node(slot), Address::Node(other), until);
                Vec::new()
            }
        };
        let nodes = self.slots().map(Address::Node);
        let everyone: Vec<_> = nodes.chain((0..self.clients.len()).map(Address::Client)).collect();
        for one in &mine {
            for other in everyone.iter().filter(|other| !mine.contains(other)) {
                self.network.cut(*one, *other, until);
            }
        }
        self.trace(format_args!("partition {kind} of {mine:?} around node {slot} until {until}"));
    }

    /// The supervisor kills whoever may write and starts another.
    fn failover(&mut self) {
        (0..self.clients.len()).for_each(|index| self.kill(index));
        let index = self.rng.random_range(0..self.clients.len());
        self.open(index, true);
    }

    /// A second writer starts without knowing what became of the first, or believes wrongly that it is dead.
    fn rival(&mut self) {
        let index = self.rng.random_range(0..self.clients.len());
        let believed_dead = self.rng.random_bool(0.5);
        if matches!(self.clients[index].role, Role::Idle) {
            self.open(index, believed_dead);
        }
    }

    fn disk_fault(&mut self, slot: Slot) {
        if self.node(slot).replica.is_none() {
            return;
        }
        let full = self.rng.random_bool(0.6);
        self.break_disk(slot, full);
        let after = self.rng.random_range(50_000..1_500_000);
        if full {
            self.at(after, Event::DiskRoom { slot });
        } else {
            self.at(after, Event::RestartNode { slot });
        }
    }

    /// At most one disk of a run loses what it had synced: more is beyond what the quorums promise to survive.
    fn damage(&mut self, slot: Slot) {
        if std::mem::replace(&mut self.damaged, true) || self.nodes.len() < 3 {
            return;
        }
        if self.rng.random_bool(0.5) {
            self.wipe_disk(slot);
        } else {
            self.stop_node(slot, true);
            let node = &mut self.nodes[usize::from(slot.0)];
            if node.disk.damage(&mut self.rng) {
                node.tail = zorya_wire::message::log::Tail::Damaged;
            }
            self.trace(format_args!("node {slot}: disk damaged"));
        }
        self.at(300_000, Event::StartNode { slot });
    }

    /// One node's clock, and one host's, are wrong for good.
    fn clock_fault(&mut self, slot: Slot) {
        let wrong = self.rng.random_range(-4_000_000_000..4_000_000_000_i64);
        let already = self.nodes.iter().any(|node| node.skew_us.unsigned_abs() > self.config.skew_us);
        // A replica whose clock is behind refuses appends: with three, that and a lost disk are too much at once.
        let may =
            self.nodes.len() > 3 || (self.nodes.len() == 3 && !std::mem::replace(&mut self.damaged, true));
        if !already && may {
            self.nodes[usize::from(slot.0)].skew_us = wrong;
            self.trace(format_args!("node {slot}: clock off by {wrong} us"));
        }
        let index = self.rng.random_range(0..self.clients.len());
        self.clients[index].skew_us = -wrong;
    }
}

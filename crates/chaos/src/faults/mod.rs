//! The faults, one file each, and the catalogue that a seed chooses from.
//!
//! A fault is injected, *seen in effect*, lasts a while, and is healed. A round whose fault was not seen does not count:
//! it would show nothing.

mod both;
mod down_nodes;
mod flip_bits;
mod freeze;
mod full_disk;
mod kill_agent;
mod kill_everything;
mod kill_nodes;
mod kill_writer;
mod partition;
mod power_cut;
mod targets;

use crate::engine::Engine;
use crate::load::Load;
use crate::process::SignalError;
use crate::region::{Region, RegionError};
use crate::seed::Numbers;
use crate::stage::{DiskError, NetworkError, Stage};
use crate::wait::WaitError;

use both::Both;
use down_nodes::DownNodes;
use flip_bits::{FlipBits, Where};
use freeze::Freeze;
use full_disk::FullDisk;
use kill_agent::KillAgent;
use kill_everything::KillEverything;
use kill_nodes::KillNodes;
use kill_writer::{KillWriter, Part};
use partition::{Cut, Partition};
use power_cut::PowerCut;
use targets::Targets;

/// What a fault can reach.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The region.
    pub region: &'a Region,
    /// Its disks and network.
    pub stage: &'a Stage,
    /// The clients.
    pub load: &'a Load,
}

/// A fault that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// By the region's own commands.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// On a disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// In the network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// By a signal.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// Something did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// There was nothing to do it to.
    #[error("there is no {0} to hit")]
    NoTarget(String),
    /// A file that was to be damaged.
    #[error("cannot damage {path}")]
    Damage {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One fault.
pub trait Fault {
    /// Does it.
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError>;

    /// What shows that it is in effect; `None` as long as nothing does. Asked again and again until it answers.
    fn seen(&mut self, scene: Scene<'_>) -> Option<String>;

    /// Undoes it, as an operator would.
    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError>;
}

/// A fault of the catalogue.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name, for `--fault`.
    pub name: &'static str,
    /// How often a seed chooses it, relative to the others.
    weight: u64,
    /// How long it lasts, in milliseconds, from and to.
    pub lasts_ms: (u64, u64),
    /// Whether the clients must write large rows for it to be seen.
    pub large_rows: bool,
    /// Whether a node may be damaged for good by it, so that the next round needs a new stage.
    pub scars: bool,
    /// Whether power is cut.
    pub cuts_power: bool,
    /// Whether it needs an engine that serves each client by a process of its own.
    needs_backends: bool,
    make: fn(&mut Numbers) -> Box<dyn Fault>,
}

impl Kind {
    const fn new(name: &'static str, weight: u64, make: fn(&mut Numbers) -> Box<dyn Fault>) -> Kind {
        Kind {
            name,
            weight,
            lasts_ms: (200, 2500),
            large_rows: false,
            scars: false,
            cuts_power: false,
            needs_backends: false,
            make,
        }
    }

    const fn lasting(mut self, from_ms: u64, to_ms: u64) -> Kind {
        self.lasts_ms = (from_ms, to_ms);
        self
    }

    const fn large_rows(mut self) -> Kind {
        self.large_rows = true;
        self
    }

    const fn scarring(mut self) -> Kind {
        self.scars = true;
        self
    }

    const fn cutting_power(mut self) -> Kind {
        self.cuts_power = true;
        self
    }

    const fn of_backends(mut self) -> Kind {
        self.needs_backends = true;
        self
    }

    /// Whether it can be done to this engine.
    #[must_use]
    pub fn fits(&self, engine: Engine) -> bool {
        !self.needs_backends || engine.has_backends()
    }

    /// The fault, with its targets chosen.
    pub fn make(&self, numbers: &mut Numbers) -> Box<dyn Fault> {
        (self.make)(numbers)
    }
}

/// Every fault.
pub const CATALOGUE: &[Kind] = &[
    Kind::new("kill-node", 2, |n| Box::new(KillNodes::new(Targets::nodes(n, 1)))),
    Kind::new("kill-zone", 2, |n| Box::new(KillNodes::new(Targets::zone(n)))),
    Kind::new("kill-four-nodes", 2, |n| Box::new(KillNodes::new(Targets::nodes(n, 4)))),
    Kind::new("kill-all-nodes", 2, |n| Box::new(KillNodes::new(Targets::nodes(n, 6)))),
    Kind::new("down-node", 1, |n| Box::new(DownNodes::new(Targets::nodes(n, 1)))).lasting(1000, 8000),
    Kind::new("down-zone", 2, |n| Box::new(DownNodes::new(Targets::zone(n)))).lasting(1000, 8000),
    Kind::new("down-zone-plus-one", 2, |n| Box::new(DownNodes::new(Targets::zone_plus_one(n)))),
    Kind::new("kill-mount", 3, |_| Box::new(KillWriter::new(&[Part::Mount]))),
    Kind::new("kill-engine", 3, |_| Box::new(KillWriter::new(&[Part::Engine]))),
    Kind::new("kill-backend", 3, |n| Box::new(KillWriter::new(&[Part::Backend(n.draw())]))).of_backends(),
    Kind::new("kill-writer", 4, |_| Box::new(KillWriter::new(&[Part::Engine, Part::Mount]))),
    Kind::new("kill-agent", 2, |_| Box::new(KillAgent::default())),
    Kind::new("kill-everything", 4, |_| Box::new(KillEverything::default())),
    Kind::new("freeze-node", 1, |n| Box::new(Freeze::nodes(Targets::nodes(n, 1)))).lasting(1000, 6000),
    Kind::new("freeze-zone", 2, |n| Box::new(Freeze::nodes(Targets::zone(n)))).lasting(1000, 6000),
    Kind::new("freeze-zone-plus-one", 2, |n| Box::new(Freeze::nodes(Targets::zone_plus_one(n))))
        .lasting(500, 5000),
    Kind::new("freeze-mount", 1, |_| Box::new(Freeze::mount())).lasting(1000, 15_000),
    Kind::new("freeze-engine", 1, |_| Box::new(Freeze::engine())).lasting(500, 3000),
    Kind::new("partition-zone", 2, |n| Box::new(Partition::new(Cut::zone(n)))).lasting(1000, 6000),
    Kind::new("link-down-zone", 1, |n| Box::new(Partition::new(Cut::link(n)))).lasting(1000, 6000),
    Kind::new("partition-compute", 2, |n| Box::new(Partition::new(Cut::compute(n)))).lasting(500, 6000),
    Kind::new("isolate-compute", 2, |_| Box::new(Partition::new(Cut::compute_from_all()))).lasting(300, 5000),
    Kind::new("isolate-and-kill-writer", 3, |_| {
        let isolate = Partition::new(Cut::compute_from_all());
        Box::new(Both::new(isolate, KillWriter::new(&[Part::Engine, Part::Mount]), 1500))
    }),
    Kind::new("partition-zone-and-kill-writer", 2, |n| {
        let partition = Partition::new(Cut::zone(n));
        Box::new(Both::new(partition, KillWriter::new(&[Part::Engine, Part::Mount]), n.between(0, 1000)))
    })
    .lasting(3000, 8000),
    Kind::new("down-node-and-kill-writer", 2, |n| {
        let down = DownNodes::new(Targets::nodes(n, 2));
        Box::new(Both::new(down, KillWriter::new(&[Part::Engine, Part::Mount]), n.between(0, 1000)))
    })
    .lasting(3000, 8000),
    Kind::new("full-disk-node", 2, |n| Box::new(FullDisk::new(Targets::nodes(n, 1)))).large_rows(),
    Kind::new("full-disk-zone", 1, |n| Box::new(FullDisk::new(Targets::zone(n)))).large_rows(),
    Kind::new("flip-log", 2, |n| Box::new(FlipBits::new(Targets::nodes(n, 1), Where::Log, n.draw())))
        .scarring(),
    Kind::new("flip-layer", 2, |n| Box::new(FlipBits::new(Targets::nodes(n, 1), Where::Layers, n.draw())))
        .large_rows()
        .scarring(),
    Kind::new("flip-manifest", 1, |n| {
        Box::new(FlipBits::new(Targets::nodes(n, 1), Where::Manifests, n.draw()))
    })
    .large_rows()
    .scarring(),
    Kind::new("power-cut-node", 2, |n| Box::new(PowerCut::new(Targets::nodes(n, 1), n.draw())))
        .cutting_power(),
    Kind::new("power-cut-zone", 3, |n| Box::new(PowerCut::new(Targets::zone(n), n.draw()))).cutting_power(),
    Kind::new("power-cut-all", 5, |n| Box::new(PowerCut::new(Targets::nodes(n, 6), n.draw())))
        .cutting_power(),
    Kind::new("power-cut-all-and-kill-writer", 4, |n| {
        let cut = PowerCut::new(Targets::nodes(n, 6), n.draw());
        Box::new(Both::new(cut, KillWriter::new(&[Part::Engine, Part::Mount]), 0))
    })
    .cutting_power(),
];

/// From the first round of a run on, every so many is a power cut: of N rounds a third, rounded up, or more.
const POWER_CUT_EVERY: u64 = 3;

/// The fault of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Kind> {
    CATALOGUE.iter().find(|kind| kind.name == name)
}

/// The fault of a run's round, counted from 0, as its seed chooses.
#[must_use]
pub fn choose(engine: Engine, number: u64, seed: u64) -> &'static Kind {
    let must_cut = number.is_multiple_of(POWER_CUT_EVERY);
    let fits = |kind: &&Kind| kind.fits(engine) && (kind.cuts_power || !must_cut);
    let kinds: Vec<_> = CATALOGUE.iter().filter(fits).collect();
    let total: u64 = kinds.iter().map(|kind| kind.weight).sum();
    let mut left = Numbers::from_seed(seed).below(total);
    for kind in kinds {
        if left < kind.weight {
            return kind;
        }
        left -= kind.weight;
    }
    unreachable!("{left} is beyond the weights' sum {total}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_is_chosen_by_some_seed() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        let chosen: BTreeSet<_> = (0..2000).map(|seed| choose(Engine::Postgres, 1, seed).name).collect();
        assert_eq!(chosen, names);
        assert!(named("power-cut-all").is_some() && named("nothing").is_none());
    }

    #[test]
    fn mariadb_has_every_fault_but_the_death_of_a_backend() {
        let names = CATALOGUE.iter().map(|kind| kind.name).filter(|name| *name != "kill-backend");
        let chosen: BTreeSet<_> = (0..2000).map(|seed| choose(Engine::Mariadb, 1, seed).name).collect();
        assert_eq!(chosen, names.collect());
    }

    #[test]
    fn a_third_of_any_run_are_power_cuts_whatever_the_seeds() {
        for first in 0..50 {
            let mut cuts = 0;
            for number in 0..100 {
                cuts += u64::from(choose(Engine::Mariadb, number, first + number).cuts_power);
                assert!(cuts >= (number + 1).div_ceil(3), "{} rounds from seed {first}", number + 1);
            }
        }
        let kinds: BTreeSet<_> = (0..200).map(|seed| choose(Engine::Postgres, 0, seed).name).collect();
        assert_eq!(kinds.len(), CATALOGUE.iter().filter(|kind| kind.cuts_power).count());
    }
}

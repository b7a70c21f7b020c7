//! What a run does: drawn from the seed, so that different seeds stress different things.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zorya_types::planted::PlantedBug;

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The protection profile.
    pub profile: &'static str,
    /// For how long things break, in microseconds of simulated time.
    pub faults_us: u64,
    /// The mean time between faults, in microseconds.
    pub fault_every_us: u64,
    /// How often each kind of fault is drawn, against the others.
    pub weights: Weights,
    /// The chance that a message is lost.
    pub loss: f64,
    /// The chance that a message arrives twice.
    pub duplication: f64,
    /// The longest usual delay of a message, in microseconds.
    pub delay_us: u64,
    /// How far clocks are off, in microseconds either way.
    pub skew_us: u64,
    /// The mean time between appends, in microseconds.
    pub append_every_us: u64,
    /// The volume's allocation limit, in bytes.
    pub allocation_limit: u64,
    /// How much log a writer keeps for slow replicas, in bytes.
    pub retain_bytes: u64,
    /// A bug to plant.
    pub bug: Option<PlantedBug>,
    /// Whether to print every event.
    pub verbose: bool,
}

/// How often each kind of fault is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// A node crashes and restarts.
    pub crash: u32,
    /// A zone crashes and restarts.
    pub zone: u32,
    /// All nodes lose power at once.
    pub power: u32,
    /// The network is cut somewhere for a while.
    pub partition: u32,
    /// A writer is killed and another started.
    pub failover: u32,
    /// A second writer starts beside the first.
    pub rival: u32,
    /// A disk is full for a while, or fails for good until a restart.
    pub disk: u32,
    /// A disk loses something that it had synced (once), or everything (once).
    pub damage: u32,
    /// A clock is set wrong.
    pub clock: u32,
}

impl Config {
    /// The set-up of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Config {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x005e_ed0f_c0f1_6000);
        let profile = ["6/3az", "6/3az", "6/3az", "3/3az", "1"][rng.random_range(0..5)];
        let mut weight = |usual: u32| if rng.random_bool(0.7) { usual } else { 0 };
        let weights = Weights {
            crash: weight(6),
            zone: weight(2),
            power: weight(2),
            partition: weight(6),
            failover: weight(4),
            rival: weight(4),
            disk: weight(2),
            damage: weight(1),
            clock: weight(1),
        };
        let lossy = rng.random_bool(0.5);
        Config {
            profile,
            faults_us: 8_000_000,
            fault_every_us: rng.random_range(80_000..800_000),
            weights,
            loss: if lossy { rng.random_range(0.0..0.1) } else { 0.0 },
            duplication: if lossy { rng.random_range(0.0..0.1) } else { 0.0 },
            delay_us: rng.random_range(500..20_000),
            skew_us: rng.random_range(0..300_000),
            append_every_us: rng.random_range(4_000..40_000),
            allocation_limit: rng.random_range(8..128) * 1024,
            retain_bytes: [0, 16 << 10, 1 << 30][rng.random_range(0..3)],
            bug: None,
            verbose: false,
        }
    }
}

//! The replicas' clocks, as the writer learns them from acknowledgements.

use zorya_types::Slot;

use crate::Now;

/// A replica's clock when it was last heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    clock_us: u64,
    at_ms: u64,
}

/// What is known of the replicas' clocks.
#[derive(Debug)]
pub(super) struct ReplicaClocks {
    by_slot: Vec<Option<Heard>>,
}

impl ReplicaClocks {
    pub fn new(replicas: usize) -> ReplicaClocks {
        ReplicaClocks { by_slot: vec![None; replicas] }
    }

    pub fn note(&mut self, now: Now, slot: Slot, clock_us: u64) {
        if let Some(heard) = self.by_slot.get_mut(usize::from(slot.0)) {
            *heard = Some(Heard { clock_us, at_ms: now.monotonic_ms });
        }
    }

    /// The median of the clocks now, the lower one of two; `None` until at least `least` replicas were heard.
    pub fn median_us(&self, now: Now, least: u8) -> Option<u64> {
        let current = |heard: &Heard| {
            heard.clock_us.saturating_add(now.monotonic_ms.saturating_sub(heard.at_ms).saturating_mul(1_000))
        };
        let mut clocks: Vec<u64> = self.by_slot.iter().flatten().map(current).collect();
        if clocks.is_empty() || clocks.len() < usize::from(least) {
            return None;
        }
        clocks.sort_unstable();
        Some(clocks[(clocks.len() - 1) / 2])
    }
}

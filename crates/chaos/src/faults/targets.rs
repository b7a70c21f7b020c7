//! Which storage nodes a fault hits.

use std::time::Duration;

use crate::seed::Numbers;
use crate::stage::ZONES;

/// How long the region may take until every process runs again.
pub const BACK: Duration = Duration::from_secs(60);

/// Storage nodes, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// In the order in which they are hit.
    pub ids: Vec<String>,
}

impl Targets {
    /// Any `count` of the six.
    pub fn nodes(numbers: &mut Numbers, count: usize) -> Targets {
        let mut ids: Vec<_> = ZONES.iter().flat_map(|zone| of_zone(zone)).collect();
        numbers.shuffle(&mut ids);
        ids.truncate(count);
        Targets { ids }
    }

    /// A zone's nodes.
    pub fn zone(numbers: &mut Numbers) -> Targets {
        let mut ids = of_zone(a_zone(numbers));
        numbers.shuffle(&mut ids);
        Targets { ids }
    }

    /// A zone's nodes and one of another zone: one too many for writes.
    pub fn zone_plus_one(numbers: &mut Numbers) -> Targets {
        let mut zones = ZONES;
        numbers.shuffle(&mut zones);
        let mut ids = of_zone(zones[0]);
        ids.push(numbers.pick(&of_zone(zones[1])).clone());
        Targets { ids }
    }

    /// Their names in one text.
    #[must_use]
    pub fn names(&self) -> String {
        self.ids.join(", ")
    }
}

/// Any zone.
pub fn a_zone(numbers: &mut Numbers) -> &'static str {
    ZONES[numbers.below(ZONES.len() as u64) as usize]
}

fn of_zone(zone: &str) -> Vec<String> {
    ["a", "b"].iter().map(|place| format!("{zone}-{place}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_zone_plus_one_is_three_nodes_of_two_zones() {
        for seed in 0..50 {
            let mut numbers = Numbers::from_seed(seed);
            let targets = Targets::zone_plus_one(&mut numbers);
            let zones: BTreeSet<_> = targets.ids.iter().map(|id| &id[..3]).collect();
            assert_eq!((targets.ids.len(), zones.len()), (3, 2));
            assert_eq!(Targets::zone(&mut numbers).ids.len(), 2);
            let all: BTreeSet<_> = Targets::nodes(&mut numbers, 6).ids.into_iter().collect();
            assert_eq!(all.len(), 6);
        }
    }
}

//! From slices to figures.

use crate::process::Role;
use crate::report::Figure;
use crate::slice::{Slice, Spent, Work};
use crate::statistics;
use crate::target::Side;

const SIDES: [Side; 2] = [Side::Stock, Side::Zorya];
const ROLES: [Role; 5] = [Role::Engine, Role::Mount, Role::Node, Role::Agent, Role::Client];
const MIB: f64 = 1024.0 * 1024.0;

/// What a ratio is to be at least; `None` where none is set.
fn goal(name: &str) -> Option<f64> {
    match name {
        "tpcb_c8_vs_stock" => Some(0.5),
        "mariadb_rw_c8_vs_stock" => Some(0.6),
        _ => None,
    }
}

/// The figures of a run: the ratios first, then what they come from, then what each process spent.
#[must_use]
pub fn figures(works: &[Work], slices: &[Slice]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = works.iter().filter_map(|work| ratio(*work, slices)).collect();
    for work in works {
        for side in SIDES {
            let of_side: Vec<&Slice> = slices.iter().filter(|s| s.work == *work && s.side == side).collect();
            figures.extend(rates(*work, side, &of_side));
            figures.extend(costs(*work, side, &of_side));
        }
    }
    figures.extend(memory(slices));
    figures
}

fn ratio(work: Work, slices: &[Slice]) -> Option<Figure> {
    let rates = |side| -> Vec<f64> {
        slices.iter().filter(|s| s.work == work && s.side == side).map(|s| s.rate).collect()
    };
    let value = statistics::ratio_of_medians(&rates(Side::Zorya), &rates(Side::Stock))?;
    let name = format!("{}_vs_stock", work.name());
    Some(Figure { goal: goal(&name), name, value, unit: "ratio" })
}

/// The median over slices of what `measure` finds in each.
fn median_figure(
    name: String,
    unit: &'static str,
    slices: &[&Slice],
    measure: impl Fn(&Slice) -> Option<f64>,
) -> Option<Figure> {
    let values: Vec<f64> = slices.iter().filter_map(|slice| measure(slice)).collect();
    Some(Figure { value: statistics::median(&values)?, name, unit, goal: None })
}

fn rates(work: Work, side: Side, slices: &[&Slice]) -> Vec<Figure> {
    let name = |what: &str| format!("{}_{what}_{}", work.name(), side.word());
    let milliseconds = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
    let found = if work == Work::Load {
        vec![median_figure(name("seconds"), "s", slices, |s| Some(1.0 / s.rate))]
    } else {
        vec![
            median_figure(name("tps"), "tx/s", slices, |s| Some(s.rate)),
            median_figure(name("p50"), "ms", slices, |s| milliseconds(s.p50_us)),
            median_figure(name("p99"), "ms", slices, |s| milliseconds(s.p99_us)),
        ]
    };
    found.into_iter().flatten().collect()
}

/// What a transaction (or a load) costs, by the part that the processes play.
fn costs(work: Work, side: Side, slices: &[&Slice]) -> Vec<Figure> {
    let per = if work == Work::Load { "load" } else { "tx" };
    let units = if work == Work::Load { ["us/load", "B/load", "1/load"] } else { ["us/tx", "B/tx", "1/tx"] };
    let [microseconds, bytes, count] = units;
    let name = |what: &str, who: &str| format!("{}_{what}_per_{per}_{}{who}", work.name(), side.word());
    let per_transaction = |slice: &Slice, value: f64| {
        let value = value / slice.transactions as f64;
        value.is_finite().then_some(value)
    };
    let mut found = Vec::new();
    for role in ROLES {
        let who = format!("_{}", role.word());
        let sum = |slice: &Slice, of: &dyn Fn(&Spent) -> f64| {
            let mut spent = slice.processes.iter().filter(|spent| spent.process.role == role).peekable();
            spent.peek()?;
            per_transaction(slice, spent.map(of).sum())
        };
        let measure = |what: &str, unit, of: &dyn Fn(&Spent) -> f64| {
            median_figure(name(what, &who), unit, slices, |slice| sum(slice, of))
        };
        found.push(measure("cpu", microseconds, &|spent| spent.usage.cpu_seconds() * 1e6));
        found.push(measure("system_cpu", microseconds, &|spent| spent.usage.system_seconds * 1e6));
        found.push(measure("written_bytes", bytes, &|spent| spent.usage.written_bytes as f64));
        found.push(measure("write_calls", count, &|spent| spent.usage.write_calls as f64));
        found.push(measure("sleeps", count, &|spent| spent.usage.voluntary_switches as f64));
        if role == Role::Node {
            found.push(measure("syncs", count, &|spent| spent.syncs.unwrap_or_default() as f64));
        }
    }
    let whole = |what: &str, unit, of: &dyn Fn(&Slice) -> Option<f64>| {
        median_figure(name(what, ""), unit, slices, |slice| per_transaction(slice, of(slice)?))
    };
    found.push(whole("wal_bytes", bytes, &|slice| Some(slice.wal.bytes as f64)));
    found.push(whole("wal_syncs", count, &|slice| Some(slice.wal.syncs as f64)));
    found.push(whole("disk_bytes", bytes, &|slice| slice.disk.map(|disk| disk.written_bytes as f64)));
    found.push(whole("disk_flushes", count, &|slice| slice.disk.map(|disk| disk.flushes as f64)));
    found.into_iter().flatten().collect()
}

/// The most memory of any process of each part, over the whole run.
fn memory(slices: &[Slice]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for side in SIDES {
        for role in ROLES {
            let of_role = slices
                .iter()
                .filter(|slice| slice.side == side && role != Role::Client)
                .flat_map(|slice| &slice.processes)
                .filter(|spent| spent.process.role == role);
            if let Some(bytes) = of_role.filter_map(|spent| spent.peak_memory_bytes).max() {
                let name = format!("peak_memory_{}_{}", side.word(), role.word());
                figures.push(Figure { name, value: bytes as f64 / MIB, unit: "MiB", goal: None });
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Wal;
    use crate::disk::DiskCounters;
    use crate::process::{Usage, Watched};

    fn slice(work: Work, side: Side, rate: f64) -> Slice {
        let spent = |role, user_seconds, syncs| Spent {
            process: Watched { role, name: role.word().to_owned(), pid: 1 },
            usage: Usage { user_seconds, ..Usage::default() },
            syncs,
            peak_memory_bytes: Some(3 << 20),
        };
        let processes = match side {
            Side::Stock => vec![spent(Role::Engine, 1.0, None)],
            Side::Zorya => vec![spent(Role::Node, 1.0, Some(50)), spent(Role::Node, 3.0, Some(150))],
        };
        let disk = Some(DiskCounters { written_bytes: 1000, writes: 1, flushes: 300 });
        let (p50_us, p99_us) = (Some(2500), Some(9000));
        let (round, seconds, transactions, failed, settled_after_ms) = (1, 10.0, 1000, 0, 0);
        let wal = Wal { syncs: 500, ..Wal::default() };
        Slice {
            work,
            side,
            round,
            seconds,
            transactions,
            failed,
            rate,
            p50_us,
            p99_us,
            settled_after_ms,
            processes,
            disk,
            wal,
        }
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        let found = figures.iter().find(|figure| figure.name == name);
        found.unwrap_or_else(|| panic!("{name} is not among {figures:?}")).value
    }

    #[test]
    fn ratios_come_first_and_the_goal_stands_beside_its_figure() {
        let work = Work::TpcB { clients: 8 };
        let slices = [slice(work, Side::Stock, 1000.0), slice(work, Side::Zorya, 600.0)];
        let figures = figures(&[work], &slices);
        assert_eq!((figures[0].name.as_str(), figures[0].value), ("tpcb_c8_vs_stock", 0.6));
        assert_eq!(figures[0].goal, Some(0.5));
        assert!(figures[1..].iter().all(|figure| figure.goal.is_none()));
    }

    #[test]
    fn a_part_costs_what_all_its_processes_spent() {
        let work = Work::TpcB { clients: 8 };
        let slices = [slice(work, Side::Stock, 1000.0), slice(work, Side::Zorya, 600.0)];
        let figures = figures(&[work], &slices);
        assert_eq!(value(&figures, "tpcb_c8_cpu_per_tx_zorya_node"), 4000.0);
        assert_eq!(value(&figures, "tpcb_c8_syncs_per_tx_zorya_node"), 0.2);
        assert_eq!(value(&figures, "tpcb_c8_disk_flushes_per_tx_stock"), 0.3);
        assert_eq!(value(&figures, "tpcb_c8_p50_zorya"), 2.5);
        assert_eq!(value(&figures, "peak_memory_zorya_node"), 3.0);
        assert!(!figures.iter().any(|figure| figure.name.contains("stock_mount")));
    }

    #[test]
    fn a_load_is_better_when_it_is_shorter() {
        let slices = [slice(Work::Load, Side::Stock, 1.0 / 2.0), slice(Work::Load, Side::Zorya, 1.0 / 8.0)];
        let figures = figures(&[Work::Load], &slices);
        assert_eq!(value(&figures, "load_vs_stock"), 0.25);
        assert_eq!(value(&figures, "load_seconds_zorya"), 8.0);
    }

    #[test]
    fn a_figure_without_slices_is_left_out() {
        assert!(
            figures(&[Work::Load], &[slice(Work::Load, Side::Stock, 1.0)]).iter().all(|f| f.unit != "ratio")
        );
    }
}

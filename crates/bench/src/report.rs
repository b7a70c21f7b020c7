//! What a run says in the end.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;
use crate::slice::Slice;

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median over slices; for ratios that of two medians.
    pub value: f64,
    /// In which unit.
    pub unit: &'static str,
    /// What it should be at least, or, of a time, at most; `None` where no goal is set.
    pub goal: Option<f64>,
}

impl Figure {
    fn meets(&self, goal: f64) -> bool {
        if self.unit == "s" { self.value <= goal } else { self.value >= goal }
    }
}

/// A run's figures and what they come from. Serialises to the JSON of `zorya bench --output json`, displays as a table.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The ratios first.
    pub figures: Vec<Figure>,
    /// Every slice, in the order of measuring.
    pub runs: Vec<Slice>,
    /// Where.
    pub machine: Machine,
    /// The scale of TPC-B and selects.
    pub scale: u32,
    /// Rounds, each of one slice per figure and side.
    pub rounds: u32,
    /// How long everything took, set-up included.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(f, "{} x {}, Linux {}, {}", machine.cpus, machine.cpu, machine.kernel, machine.postgres)?;
        if !machine.mariadb.is_empty() {
            writeln!(f, "{}", machine.mariadb)?;
        }
        writeln!(f, "scale {}, {} rounds, {:.0} s\n", self.scale, self.rounds, self.seconds)?;
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
        for figure in &self.figures {
            let value = rounded(figure.value);
            write!(f, "{:width$}  {value:>12} {:7}", figure.name, figure.unit)?;
            match figure.goal {
                Some(goal) if figure.meets(goal) => writeln!(f, "  goal {goal}: met")?,
                Some(goal) => writeln!(f, "  goal {goal}: missed")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Three digits that count, or all before the point.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Programs;

    #[test]
    fn small_numbers_keep_their_decimals() {
        for (value, text) in
            [(0.4567, "0.457"), (1.234, "1.23"), (45.67, "45.7"), (1234.5, "1234"), (0.0, "0.000")]
        {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn a_goal_is_judged_in_the_table() {
        let figure =
            |name: &str, value| Figure { name: name.to_owned(), value, unit: "ratio", goal: Some(0.5) };
        let none = std::path::Path::new("/no/such");
        let programs = Programs { postgres: none, mariadb: Some(none), zorya: none };
        let machine = Machine::observe(std::path::Path::new("/"), None, &programs);
        assert!(!Figure { unit: "s", ..figure("a time", 0.6) }.meets(0.5));
        assert!(Figure { unit: "s", ..figure("a time", 0.4) }.meets(0.5));
        let figures = vec![figure("a", 0.4), figure("b", 0.5)];
        let report = Report { figures, runs: Vec::new(), machine, scale: 1, rounds: 1, seconds: 1.0 };
        let table = report.to_string();
        assert!(table.contains("goal 0.5: missed") && table.contains("goal 0.5: met"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["figures"][0]["goal"], 0.5);
    }
}

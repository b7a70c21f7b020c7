//! What all scenarios together have seen and found, and the verdict.

use crate::Arguments;
use crate::check::{Checker, Tally};
use crate::coverage::{self, Entry};
use crate::metadata::Compared;
use crate::plant::{Bug, Plants};

/// The sum over scenarios.
#[derive(Default)]
pub struct Totals {
    /// What was seen and found in records and blocks.
    pub tally: Tally,
    /// What was compared beside blocks.
    pub compared: Compared,
    /// The bugs that are planted, in a run that is to find them.
    pub plants: Option<Plants>,
}

impl Totals {
    /// Adds what a checker has seen.
    pub fn add(&mut self, checker: Checker) {
        self.compared.add(&checker.metadata.compared);
        self.tally.add(checker.tally);
        self.plants = checker.plants;
    }

    /// Prints what was not seen, or would not have been noticed. Says whether all is as it should be.
    pub fn conclude(&self, arguments: &Arguments, is_whole: bool, seconds: u64) -> bool {
        let tally = &self.tally;
        let missing = if is_whole { self.missing(arguments) } else { Vec::new() };
        for entry in &missing {
            println!("NOT SEEN {entry}");
        }
        let checked = tally.seen.keys().filter(|entry| entry.reference.is_some());
        let silent = checked.filter(|entry| !tally.telling.contains(entry)).copied();
        let (equivalent, silent): (Vec<_>, Vec<_>) = silent.partition(coverage::changes_nothing);
        for entry in silent.iter().filter(|_| is_whole) {
            println!("NOT TELLING {entry}");
        }
        println!(
            "{} kinds of block changes would be noticed if left out, {} change nothing, {} would not be noticed",
            tally.telling.len(),
            equivalent.len(),
            silent.len()
        );
        let Compared { checkpoints, pages, files } = &self.compared;
        println!(
            "{checkpoints} checkpoints' counters, {pages} pages of transaction files and {files} other files compared"
        );
        let missed = self.plants.as_ref().map_or(0, |plants| self.report_plants(plants));
        println!("{} servers started on derived data directories", tally.starts);
        let telling = silent.is_empty() || self.plants.is_some() || !is_whole;
        let clean = tally.findings == 0 && missing.is_empty() && telling && missed == 0;
        let verdict = if clean { "clean" } else { "NOT CLEAN" };
        let major = arguments.major;
        println!("{verdict}: {major}, {tally}, {} not seen, {seconds} s", missing.len());
        clean
    }

    /// The entries of the list that were not seen.
    fn missing(&self, arguments: &Arguments) -> Vec<Entry> {
        let mut entries = coverage::entries(arguments.major);
        let seen = &self.tally.seen;
        if self.plants.is_some() {
            // Bugs are planted into blocks only, and scenarios left out that add none.
            entries.retain(|entry| entry.reference.is_some());
        }
        entries.retain(|entry| !(seen.contains_key(entry) || arguments.quick && coverage::is_long(entry)));
        entries
    }

    /// Prints which bugs were not noticed, or could not even be planted, and returns how many: each kind of block change
    /// that was seen must have been left out once, and corrupted once.
    fn report_plants(&self, plants: &Plants) -> usize {
        let seen = self.tally.seen.keys().filter(|entry| entry.reference.is_some());
        let due = seen.filter(|entry| !coverage::changes_nothing(entry));
        let missed: Vec<_> = due
            .flat_map(|entry| [(*entry, Bug::LeftOut), (*entry, Bug::Corrupted)])
            .filter(|(entry, bug)| !plants.has_noticed(*entry, *bug))
            .collect();
        for (entry, bug) in &missed {
            println!("NOT NOTICED {entry} {bug}: planted {} times", plants.tries(*entry, *bug));
        }
        println!("{} planted bugs noticed, {} not", plants.noticed(), missed.len());
        missed.len()
    }
}

//! The timelines of a log: which one its end belongs to, and where those before it were left.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use zorya_redo::postgres::checkpoint::Checkpoint;
use zorya_redo::postgres::decode::record::Record;
use zorya_redo::postgres::recovery::Recovered;
use zorya_redo::postgres::{Underivable, WalPosition};

/// The timeline at hand and those that led to it.
pub struct Timelines {
    current: u32,
    left: Vec<(u32, WalPosition)>,
}

impl Timelines {
    /// Before any record: on the base's timeline.
    pub fn from(current: u32) -> Self {
        Self { current, left: Vec::new() }
    }

    /// The timeline at hand.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// Follows a record, before which a record ended at `end`, and returns what does not fit. A timeline begins with the
    /// record of a promotion or of the checkpoint at the end of a recovery that stopped at a target.
    pub fn observe(&mut self, record: &Record<'_>, end: WalPosition) -> Result<Option<String>, Underivable> {
        let (timeline, previous) = match (Recovered::of(record)?, Checkpoint::of(record)?) {
            (Some(Recovered::Promoted { timeline, previous_timeline }), _) => (timeline, previous_timeline),
            (Some(Recovered::GivenUp(begin)), _) => return Ok(given_up(begin, end)),
            (None, Some((checkpoint, _))) => (checkpoint.timeline, checkpoint.previous_timeline),
            (None, None) => return Ok(None),
        };
        let fits = previous == self.current && timeline >= previous;
        let finding = (!fits).then(|| format!("timeline {timeline} after {previous}, not {}", self.current));
        if timeline != self.current {
            self.left.push((self.current, end));
            self.current = timeline;
        }
        Ok(finding)
    }

    /// The file that says where the timelines before were left (`writeTimeLineHistory` in
    /// `access/transam/timeline.c`), and its name; `None` on the first timeline.
    fn history(&self) -> Option<(String, String)> {
        let lines = self.left.iter().map(|(timeline, end)| format!("{timeline}\t{end}\tderived\n"));
        (!self.left.is_empty()).then(|| (format!("{:08X}.history", self.current), lines.collect()))
    }

    /// Writes that file into a data directory.
    pub fn write_history(&self, target: &Path) -> Result<()> {
        match self.history() {
            Some((name, text)) => Ok(fs::write(target.join("pg_wal").join(name), text)?),
            None => Ok(()),
        }
    }

    /// Compares it with the server's, but for the reasons, which no record gives.
    pub fn compare(&self, data: &Path) -> Result<Option<String>> {
        let Some((name, ours)) = self.history() else { return Ok(None) };
        let theirs = fs::read_to_string(data.join("pg_wal").join(&name))
            .with_context(|| format!("reading the history {name}"))?;
        let without_reasons = |text: &str| {
            let lines = text.lines().filter(|line| !line.is_empty());
            lines.map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(" at ")).collect::<Vec<_>>()
        };
        let (ours, theirs) = (without_reasons(&ours), without_reasons(&theirs));
        Ok((ours != theirs).then(|| format!("{name}: derived {ours:?}, the server's {theirs:?}")))
    }
}

/// A record that was given up began where the last whole one ended, or behind the page header there.
fn given_up(begin: WalPosition, end: WalPosition) -> Option<String> {
    const LONGEST_PAGE_HEADER_LEN: u64 = 40;
    let distance = begin.0.wrapping_sub(end.0);
    let fits = distance == 0 || (end.page_offset() == 0 && distance <= LONGEST_PAGE_HEADER_LEN);
    (!fits).then(|| format!("the record at {begin} was given up, but the one before ended at {end}"))
}

//! What is printed: tables for people, JSON for programs, a progress bar where somebody watches.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use zorya_compute::agent::protocol::Progress;
use zorya_compute::agent::status::Document;

/// A JSON value on its own lines.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Text as it is. Whoever reads it may stop early (`zorya status | head -n 1`): that is no error, and nothing to panic at.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Columns under their headings, padded to their widths.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(headings.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

fn or_dash(pid: Option<i32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

/// The state of its serialised name.
pub fn word(state: impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The first line of a reason; the whole of it is in the JSON.
fn brief(reason: Option<&String>) -> String {
    reason.and_then(|reason| reason.lines().next()).unwrap_or_default().to_owned()
}

/// The storage nodes of a document.
pub fn nodes(document: &Document) -> String {
    let rows: Vec<_> = document
        .nodes
        .iter()
        .map(|node| {
            let disk = node.disk.map_or_else(|| "-".to_owned(), |disk| format!("{} %", disk.used_percent));
            vec![
                node.id.to_string(),
                node.zone.clone(),
                word(node.state),
                or_dash(node.pid),
                node.address.clone(),
                disk,
                brief(node.reason.as_ref()),
            ]
        })
        .collect();
    table(&["NODE", "ZONE", "STATE", "PID", "ADDRESS", "DISK", ""], &rows)
}

/// The clusters of a document. Passwords are left out.
pub fn clusters(document: &Document) -> String {
    let rows: Vec<_> = document
        .clusters
        .iter()
        .map(|cluster| {
            let instance = cluster.instances.first();
            let place = cluster.endpoint.as_deref().and_then(|url| url.rsplit('@').next()).unwrap_or("-");
            let there = cluster.volume.segments.iter().filter(|segment| segment.state == "available").count();
            vec![
                cluster.id.clone(),
                cluster.engine.clone(),
                word(cluster.state),
                or_dash(instance.and_then(|instance| instance.pid)),
                or_dash(instance.and_then(|instance| instance.mount_pid)),
                place.to_owned(),
                format!("{there}/{}", cluster.volume.segments.len()),
                cluster.volume.epoch.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                cluster.volume.vdl.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                brief(cluster.reason.as_ref()),
            ]
        })
        .collect();
    table(
        &["CLUSTER", "ENGINE", "STATE", "PID", "MOUNT PID", "ENDPOINT", "COPIES", "EPOCH", "VDL", ""],
        &rows,
    )
}

/// Everything.
pub fn document(document: &Document) -> String {
    let mut text = format!("region {}  {}\n", document.region, document.home);
    text.push_str(&format!("agent  {} (pid {})\n\n", document.agent.state, or_dash(document.agent.pid)));
    text.push_str(&nodes(document));
    if !document.clusters.is_empty() {
        text.push('\n');
        text.push_str(&clusters(document));
    }
    for warning in &document.warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text
}

/// Shows how far something is: a bar on a terminal, a line for every change elsewhere. Always on stderr.
pub struct Watcher {
    bar: Option<ProgressBar>,
    last: Progress,
}

impl Watcher {
    /// A watcher of something that is about to begin.
    pub fn new() -> Watcher {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {wide_msg}");
            let bar = ProgressBar::new(0);
            // Without the template the default style says the same less prettily.
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        Watcher { bar, last: Progress::default() }
    }

    /// Shows where it is now.
    pub fn tell(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.of as u64);
            bar.set_position(progress.done as u64);
            bar.set_message(progress.message.lines().next().unwrap_or_default().to_owned());
        } else if *progress != self.last {
            eprintln!("[{}/{}] {}", progress.done, progress.of, progress.message);
        }
        self.last = progress.clone();
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["ééé".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "WHAT"], &rows), "N    WHAT\na    long cell\nééé  x\n");
    }

    #[test]
    fn states_print_as_they_serialise() {
        assert_eq!(word(zorya_compute::agent::node::NodePhase::Unresponsive), "unresponsive");
    }
}

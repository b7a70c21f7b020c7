//! What pgbench prints and logs.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{Report, ReportError};

/// A run's summary, as pgbench prints it at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Transactions per second, connections' making left out.
    pub tps: f64,
    /// Committed transactions.
    pub transactions: u64,
    /// Transactions that ended in an error.
    pub failed: u64,
    /// Mean latency.
    pub latency_avg_ms: f64,
}

fn report(text: &str) -> Report<'_> {
    Report { program: "pgbench", version: "of PostgreSQL 15", text }
}

/// Reads a run's summary.
pub fn parse_outcome(output: &str) -> Result<Outcome, ReportError> {
    let report = report(output);
    Ok(Outcome {
        tps: report.number_after("tps = ")?,
        transactions: report.number_after("number of transactions actually processed: ")? as u64,
        failed: report.number_after("number of failed transactions: ")? as u64,
        latency_avg_ms: report.number_after("latency average = ")?,
    })
}

/// Reads the total seconds of `pgbench -i`, as in `done in 1.25 s (drop tables 0.00 s, …)`.
pub fn parse_load_seconds(output: &str) -> Result<f64, ReportError> {
    report(output).number_after("done in ")
}

/// The latencies in microseconds in every log that `pgbench --log` left in `directory`, one per thread.
pub fn read_latencies(directory: &Path) -> Result<Vec<u64>, ReportError> {
    let failed = |source| ReportError::Log { directory: directory.display().to_string(), source };
    let mut latencies = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let text = fs::read_to_string(entry.map_err(failed)?.path()).map_err(failed)?;
        latencies.extend(text.lines().filter_map(parse_log_line));
    }
    Ok(latencies)
}

/// `client_id transaction_no time script_no time_epoch time_us`; a failed transaction has a word for its time, and the
/// last line may be cut off.
fn parse_log_line(line: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let latency = words.nth(2)?.parse().ok()?;
    (words.count() == 3).then_some(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
pgbench (15.12 (Debian 15.12-0+deb12u2))
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 10
query mode: simple
number of clients: 8
number of threads: 2
maximum number of tries: 1
duration: 5 s
number of transactions actually processed: 12345
number of failed transactions: 3 (0.024%)
latency average = 3.240 ms
initial connection time = 12.345 ms
tps = 2469.123456 (without initial connection time)
";

    #[test]
    fn a_summary_is_read() {
        let outcome = parse_outcome(OUTPUT).unwrap();
        let expected = Outcome { tps: 2469.123456, transactions: 12345, failed: 3, latency_avg_ms: 3.24 };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn a_missing_line_is_named() {
        let error = parse_outcome(&OUTPUT.replace("tps", "xps")).unwrap_err();
        assert!(matches!(error, ReportError::MissingLine { line: "tps = ", .. }), "{error}");
        assert!(parse_outcome("").is_err());
    }

    #[test]
    fn a_word_for_a_number_is_an_error() {
        let error = parse_outcome(&OUTPUT.replace("tps = 2469", "tps = inf")).unwrap_err();
        assert!(matches!(error, ReportError::NotANumber { .. }), "{error}");
    }

    #[test]
    fn a_load_says_how_long_it_took() {
        let output = "dropping old tables...\ncreating tables...\n1000000 of 1000000 tuples (100%) done (elapsed 0.95 s)\n\
                      done in 1.73 s (drop tables 0.00 s, create tables 0.01 s, client-side generate 0.98 s).\n";
        assert_eq!(parse_load_seconds(output).unwrap(), 1.73);
    }

    #[test]
    fn latencies_of_all_threads_are_read_and_torn_or_failed_lines_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("t.17"),
            "0 199 2241 0 1175850568 995598\n1 3 skipped 0 1175850568 998079\n0 2",
        )
        .unwrap();
        fs::write(dir.path().join("t.17.1"), "3 153 1500 0 1175850569 2000\n").unwrap();
        let mut latencies = read_latencies(dir.path()).unwrap();
        latencies.sort_unstable();
        assert_eq!(latencies, [1500, 2241]);
    }
}

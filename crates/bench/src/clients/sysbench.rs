//! What sysbench prints.

use super::{Done, Report, ReportError};

/// Reads the report of a run with `--histogram=on`.
pub fn parse(output: &str) -> Result<Done, ReportError> {
    let report = Report { program: "sysbench", version: "1.0", text: output };
    let transactions = report.number_after("transactions:")? as u64;
    let per_second = report.line("transactions:")?.split_once('(').map_or("", |(_, rest)| rest);
    let rate = Report { text: per_second, ..report }.number_after("")?;
    let latencies = histogram(output);
    Ok(Done {
        transactions,
        failed: report.number_after("ignored errors:")? as u64,
        rate,
        p50_us: percentile(&latencies, 50.0),
        p99_us: percentile(&latencies, 99.0),
    })
}

/// The latencies in microseconds, each the middle of a class of some 2 %, and how many there were, shortest first.
fn histogram(output: &str) -> Vec<(u64, u64)> {
    let class = |line: &str| {
        let (value, rest) = line.split_once('|')?;
        let milliseconds: f64 = value.trim().parse().ok()?;
        Some(((milliseconds * 1000.0) as u64, rest.split_ascii_whitespace().last()?.parse().ok()?))
    };
    output.lines().filter_map(class).collect()
}

/// The class that holds the smallest value which `percent` of the values do not exceed.
fn percentile(classes: &[(u64, u64)], percent: f64) -> Option<u64> {
    let total: u64 = classes.iter().map(|(_, count)| count).sum();
    let rank = (percent / 100.0 * total as f64).ceil() as u64;
    let mut seen = 0;
    classes.iter().find_map(|(value, count)| {
        seen += count;
        (seen >= rank.max(1)).then_some(*value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       1.469 |**                                       10
       4.407 |**************************************** 89
      29.194 |                                         1
 
SQL statistics:
    transactions:                        2276   (756.12 per sec.)
    queries:                             45552  (15132.98 per sec.)
    ignored errors:                      2      (0.66 per sec.)
    reconnects:                          0      (0.00 per sec.)
";

    #[test]
    fn a_report_is_read() {
        let expected =
            Done { transactions: 2276, failed: 2, rate: 756.12, p50_us: Some(4407), p99_us: Some(4407) };
        assert_eq!(parse(OUTPUT).unwrap(), expected);
    }

    #[test]
    fn a_missing_line_is_named() {
        let error = parse(&OUTPUT.replace("ignored", "x")).unwrap_err();
        assert!(matches!(error, ReportError::MissingLine { line: "ignored errors:", .. }), "{error}");
        assert!(parse("").is_err());
        assert!(parse("transactions: 5").is_err());
    }

    #[test]
    fn percentiles_are_classes_that_have_values() {
        let classes = histogram(OUTPUT);
        let at = |percent| percentile(&classes, percent);
        assert_eq!(
            (at(0.0), at(10.0), at(10.1), at(99.0), at(99.1)),
            (Some(1469), Some(1469), Some(4407), Some(4407), Some(29194))
        );
        assert_eq!(percentile(&[], 50.0), None);
    }
}

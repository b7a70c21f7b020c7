//! Medians, percentiles and ratios.

use serde::Serialize;

/// The middle of some measurements and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many there were.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The middle; the mean of the two middle ones of an even number.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// Summarises measurements; `None` without any, or with one that is not finite.
#[must_use]
pub fn summarise(values: &[f64]) -> Option<Summary> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Summary { count: sorted.len(), min: sorted[0], median, max: sorted[sorted.len() - 1] })
}

/// The median alone.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    summarise(values).map(|summary| summary.median)
}

/// The median of `ours` in units of the median of `theirs`; `None` if either is missing or theirs is zero.
#[must_use]
pub fn ratio_of_medians(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratio = median(ours)? / median(theirs)?;
    ratio.is_finite().then_some(ratio)
}

/// The smallest value that `percent` of the values do not exceed (nearest rank). The values are sorted in place.
#[must_use]
pub fn percentile(values: &mut [u64], percent: f64) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable();
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    Some(values[rank.clamp(1, values.len()) - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        for (values, expected) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0, 5.0], 5.0),
            (vec![4.0, 1.0, 3.0, 2.0], 2.5),
            (vec![2.0, 2.0], 2.0),
        ] {
            assert_eq!(median(&values), Some(expected), "{values:?}");
        }
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn one_outlier_does_not_move_the_ratio() {
        assert_eq!(ratio_of_medians(&[50.0, 52.0, 1.0], &[100.0, 100.0, 900.0]), Some(0.5));
        assert_eq!(ratio_of_medians(&[1.0], &[0.0]), None);
        assert_eq!(ratio_of_medians(&[], &[1.0]), None);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50));
        assert_eq!(percentile(&mut values, 99.0), Some(99));
        assert_eq!(percentile(&mut values, 100.0), Some(100));
        assert_eq!(percentile(&mut values, 0.0), Some(1));
        assert_eq!(percentile(&mut [7], 99.0), Some(7));
        assert_eq!(percentile(&mut [], 50.0), None);
    }

    #[test]
    fn a_summary_has_the_spread() {
        let summary = summarise(&[2.0, 8.0, 4.0]).unwrap();
        assert_eq!((summary.count, summary.min, summary.median, summary.max), (3, 2.0, 4.0, 8.0));
    }
}

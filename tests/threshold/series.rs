//! When the alert of a series closes although its score is high.

use std::time::Duration;

use outlierd::record::alert::CloseReason;
use outlierd::threshold::{SeriesThresholdParams, SeriesThresholds, ThresholdKind};

use super::settings;

/// Records of an open alert whose score is half above its threshold, and would be well below it had
/// the alert never been; the one that closes it, from 0.
fn closed_at(
    params: &SeriesThresholdParams,
    series: &mut SeriesThresholds,
    records: usize,
) -> Option<usize> {
    let threshold = series.value(&params.chart);
    let (scores, before) = ([1.5 * threshold], [0.3 * threshold]);
    // It moves: no new level.
    let unrest = f64::INFINITY;
    let mut records = 0..records;
    records.find(|_| {
        let found = series.step(params, &scores, &before, unrest, true);
        found.settled == Some(CloseReason::Returned)
    })
}

#[test]
fn a_series_that_seemed_to_return_and_alerts_again_stays_in_alert() {
    let scores: Vec<f64> = (0..2_000)
        .map(|i| 1.0 + f64::from(i * 31 % 97) / 97.0)
        .collect();
    let settings = settings(ThresholdKind::Spot, 1e-5, 1.0);
    let scores = [scores.as_slice()];
    let params =
        SeriesThresholdParams::new(&settings, Duration::from_secs(1), scores.into_iter(), 0.0);
    let mut series = params.begin(None, false);
    let quiet = |series: &mut SeriesThresholds, records: usize| {
        for _ in 0..records {
            series.step(&params, &[1.2], &[1.2], 0.0, false);
        }
    };
    quiet(&mut series, 10);
    assert_eq!(closed_at(&params, &mut series, 100), Some(9));
    quiet(&mut series, 30);
    assert_eq!(
        closed_at(&params, &mut series, 2_000),
        None,
        "it had not returned"
    );
    quiet(&mut series, 1_000);
    assert_eq!(
        closed_at(&params, &mut series, 100),
        Some(9),
        "another fault"
    );
}

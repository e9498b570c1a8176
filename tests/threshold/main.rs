//! The thresholds against known distributions, over long streams, and through shifts, faults and
//! restarts.

mod properties;
mod series;
mod source;

use std::time::Duration;

use outlierd::threshold::{AlertBudget, ThresholdKind, ThresholdSettings};
use outlierd::threshold::{DRIFT_MAX, ThresholdParams, ThresholdState};

use self::source::{Chart, Draw, half_normal_tail};

const KINDS: [ThresholdKind; 4] = [
    ThresholdKind::Sigma,
    ThresholdKind::Quantile,
    ThresholdKind::Spot,
    ThresholdKind::Dspot,
];

fn settings(kind: ThresholdKind, risk: f64, margin: f64) -> ThresholdSettings {
    ThresholdSettings {
        kind,
        budget: AlertBudget {
            alerts: risk * 1e6,
            period: Duration::from_secs(1_000_000),
        },
        period: None,
        margin,
        level: 0.99,
        min_records: 400,
        memory: 10_000,
        level_shift_after: Duration::from_secs(3_600),
    }
}

fn plan(kind: ThresholdKind, risk: f64, margin: f64) -> ThresholdParams {
    ThresholdParams::new(&settings(kind, risk, margin), Duration::from_secs(1), 1)
}

/// Records above the threshold, and runs of them that are ten records apart: what an operator sees
/// as one alert.
fn alerts(
    plan: &ThresholdParams,
    state: &mut ThresholdState,
    scores: impl Iterator<Item = f64>,
) -> (u64, u64) {
    let (mut records, mut runs, mut quiet) = (0, 0, 10);
    for score in scores {
        if state.step(plan, score, 1.0).above {
            records += 1;
            runs += u64::from(quiet >= 10);
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    (records, runs)
}

/// Name, draw, true quantile by its survival probability, and the largest ratio between the found
/// and the true one, from the fleet's 500 peaks and from the series' last 64: about three standard
/// errors at a risk of 1e-5.
type Known = (&'static str, fn(&mut Draw) -> f64, fn(f64) -> f64, [f64; 2]);

const DISTRIBUTIONS: [Known; 4] = [
    ("exponential", Draw::exponential, |q| -q.ln(), [1.25, 1.4]),
    (
        "half normal",
        |d| d.normal().abs(),
        half_normal,
        [1.2, 1.35],
    ),
    (
        "pareto 5",
        |d| d.uniform().powf(-0.2),
        |q| q.powf(-0.2),
        [1.5, 1.8],
    ),
    ("uniform", |d| d.uniform(), |q| 1.0 - q, [1.05, 1.05]),
];

/// By bisection.
fn half_normal(q: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if half_normal_tail(middle) > q {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

#[test]
fn spot_finds_the_extreme_quantiles_of_known_distributions_at_any_scale() {
    for (name, draw, tail, [calibrated, learned]) in DISTRIBUTIONS {
        for scale in [1e-9, 1.0, 1e9] {
            for risk in [1e-3, 1e-4, 1e-5] {
                let plan = plan(ThresholdKind::Spot, risk, 1.0);
                let mut source = Draw::seeded(1);
                let scores: Vec<f64> = source
                    .of(50_000, draw)
                    .iter()
                    .map(|score| score * scale)
                    .collect();
                let mut state = ThresholdState::calibrated(&plan, &scores);
                let truth = tail(risk) * scale;
                let ratio = state.value(&plan) / truth;
                assert!(
                    ratio.max(1.0 / ratio) < calibrated,
                    "{name} {scale} {risk} calibrated: {ratio}"
                );
                for _ in 0..30_000 {
                    state.learn(&plan, draw(&mut source) * scale);
                }
                let ratio = state.value(&plan) / truth;
                assert!(
                    ratio.max(1.0 / ratio) < learned,
                    "{name} {scale} {risk} learned: {ratio}"
                );
            }
        }
    }
}

/// The risk of a new series, on the mean of fleets that showed some fifteen peaks each.
#[test]
fn few_peaks_of_a_fleet_do_not_make_its_series_alert_beyond_the_budget() {
    let plan = plan(ThresholdKind::Spot, 1e-4, 1.0);
    let mut source = Draw::seeded(21);
    let fleets = 200;
    let risk = |_| {
        let scores = source.of(1_600, |d| d.normal().abs());
        half_normal_tail(ThresholdState::calibrated(&plan, &scores).value(&plan))
    };
    let mean = (0..fleets).map(risk).sum::<f64>() / f64::from(fleets);
    let ratio = mean / plan.risk();
    assert!(ratio > 0.5 && ratio < 1.8, "{ratio} times the risk");
}

#[test]
fn sigma_and_quantile_find_theirs() {
    for scale in [1e-9, 1.0, 1e9] {
        let mut source = Draw::seeded(2);
        let scores = source.of(20_000, |d| (10.0 + d.normal()) * scale);
        for (kind, truth) in [
            (ThresholdKind::Sigma, 13.0902),
            (ThresholdKind::Quantile, 12.3263),
        ] {
            let plan = plan(kind, 1e-3, 1.0);
            let mut state = ThresholdState::calibrated(&plan, &scores);
            assert!(
                (state.value(&plan) / scale / truth - 1.0).abs() < 0.02,
                "{kind:?} calibrated"
            );
            source
                .of(30_000, |d| (10.0 + d.normal()) * scale)
                .iter()
                .for_each(|&score| state.learn(&plan, score));
            assert!(
                (state.value(&plan) / scale / truth - 1.0).abs() < 0.02,
                "{kind:?} learned"
            );
        }
    }
}

#[test]
fn a_series_unlike_its_fleet_gets_its_own_threshold_in_the_end() {
    for kind in KINDS {
        let plan = plan(kind, 1e-4, 2.0);
        let fleet = ThresholdState::calibrated(&plan, &Chart::seeded(3).scores(20_000));
        for factor in [0.5, 1.5] {
            let mut state = fleet.clone();
            let mut chart = Chart::seeded(4);
            for _ in 0..400_000 {
                state.step(&plan, chart.score() * factor, 1.0);
            }
            let ratio = state.value(&plan) / fleet.value(&plan) / factor;
            assert!(ratio > 0.8 && ratio < 1.25, "{kind:?} {factor}: {ratio}");
        }
    }
}

#[test]
fn the_budget_is_kept_on_independent_scores() {
    for kind in [ThresholdKind::Spot, ThresholdKind::Dspot] {
        for (name, draw, _, _) in DISTRIBUTIONS {
            let plan = plan(kind, 1e-3, 1.0);
            let mut source = Draw::seeded(5);
            let mut state = ThresholdState::calibrated(&plan, &source.of(5_000, draw));
            let n = 300_000;
            let (records, _) = alerts(&plan, &mut state, (0..n).map(|_| draw(&mut source)));
            let ratio = records as f64 / n as f64 / plan.risk();
            // Shapes below -0.5 are cut off: for uniform scores the threshold errs on the quiet
            // side.
            let least = if name == "uniform" { 0.2 } else { 0.5 };
            assert!(
                ratio > least && ratio < 2.0,
                "{kind:?} {name}: {ratio} times the risk"
            );
        }
    }
}

#[test]
fn the_budget_counts_alerts_where_scores_come_in_clusters() {
    for kind in [ThresholdKind::Spot, ThresholdKind::Dspot] {
        let plan = plan(kind, 2e-4, 1.0);
        let mut state = ThresholdState::calibrated(&plan, &Chart::seeded(6).scores(5_000));
        let mut chart = Chart::seeded(7);
        let n = 500_000;
        let (records, runs) = alerts(&plan, &mut state, (0..n).map(|_| chart.score()));
        let ratio = runs as f64 / n as f64 / plan.risk();
        assert!(
            ratio > 0.5 && ratio < 2.0,
            "{kind:?}: {ratio} times the risk, {records} records"
        );
    }
}

#[test]
fn a_quantile_without_margin_does_not_sink_though_outliers_are_not_learned() {
    let plan = plan(ThresholdKind::Quantile, 1e-4, 1.0);
    let mut source = Draw::seeded(8);
    let mut state = ThresholdState::calibrated(&plan, &source.of(5_000, Draw::exponential));
    let n = 300_000;
    let (records, _) = alerts(&plan, &mut state, (0..n).map(|_| source.exponential()));
    let rate = records as f64 / n as f64;
    assert!(rate > 0.007 && rate < 0.015, "{rate}, not 0.01");
}

#[test]
fn constants_do_not_alert_at_their_first_tick() {
    for kind in KINDS {
        for constant in [1e-300, 1e-9, 1.0, 1e300] {
            let plan = plan(kind, 1e-6, 1.0);
            let mut state = ThresholdState::calibrated(&plan, &[constant; 500]);
            for _ in 0..50_000 {
                assert!(!state.step(&plan, constant, 1.0).above);
            }
            assert!(
                !state.step(&plan, constant * 1.05, 1.0).above,
                "{kind:?} {constant}: a tick"
            );
            assert!(
                state.step(&plan, constant * 6.0, 1.0).above,
                "{kind:?} {constant}: a fault"
            );
        }
    }
}

#[test]
fn few_records_do_not_move_a_threshold_absurdly() {
    for kind in KINDS {
        let plan = plan(kind, 1e-5, 2.0);
        let fleet = ThresholdState::calibrated(&plan, &Chart::seeded(9).scores(2_000));
        let before = fleet.value(&plan);
        let (mut silent, mut loud) = (fleet.clone(), fleet.clone());
        for _ in 0..200 {
            silent.step(&plan, 0.0, 1.0);
            loud.step(&plan, before * 0.6, 1.0);
        }
        assert!(
            silent.value(&plan) > 0.5 * before,
            "{kind:?}: {} of {before}",
            silent.value(&plan)
        );
        // Squares make `sigma` the least steady kind.
        let most = if kind == ThresholdKind::Sigma {
            2.5
        } else {
            2.0
        };
        assert!(
            loud.value(&plan) < most * before,
            "{kind:?}: {} of {before}",
            loud.value(&plan)
        );
        assert!(
            fleet.provisional(&plan) && silent.provisional(&plan),
            "{kind:?}"
        );
        assert_eq!((fleet.own_records(), silent.own_records()), (0, 200));
        (0..200).for_each(|_| silent.learn(&plan, 1.0));
        assert!(!silent.provisional(&plan), "{kind:?}");
    }
}

#[test]
fn contamination_does_not_lift_the_threshold() {
    for kind in KINDS {
        for margin in [1.0, 2.0] {
            let plan = plan(kind, 1e-4, margin);
            let template = ThresholdState::calibrated(&plan, &Chart::seeded(10).scores(20_000));
            let (mut clean, mut dirty) = (template.clone(), template);
            let (mut chart, mut draw) = (Chart::seeded(11), Draw::seeded(12));
            let mut missed = 0;
            for _ in 0..100_000 {
                let score = chart.score();
                clean.step(&plan, score, 1.0);
                dirty.step(&plan, score, 1.0);
                if draw.uniform() < 0.01 {
                    missed +=
                        u32::from(!dirty.step(&plan, 15.0 * (1.0 + draw.uniform()), 1.0).above);
                }
            }
            let ratio = dirty.value(&plan) / clean.value(&plan);
            assert!(ratio > 0.85 && ratio < 1.15, "{kind:?} {margin}: {ratio}");
            assert_eq!(missed, 0, "{kind:?} {margin}");
        }
    }
}

#[test]
fn a_level_shift_is_accepted_after_its_bound_and_not_before() {
    for kind in KINDS {
        let plan = plan(kind, 1e-5, 1.5);
        let mut state = ThresholdState::calibrated(&plan, &Chart::seeded(13).scores(5_000));
        let mut chart = Chart::seeded(14);
        for _ in 0..2_000 {
            state.step(&plan, chart.score(), 1.0);
        }
        let before = state.value(&plan);
        for i in 1..3_600 {
            let step = state.step(&plan, 30.0 + chart.score(), 1.0);
            assert!(step.above && !step.relearning, "{kind:?} {i}");
        }
        assert!(
            state.value(&plan) < 1.1 * before,
            "{kind:?}: the shift was not learned before"
        );
        let step = state.step(&plan, 30.0 + chart.score(), 1.0);
        assert!(
            step.above && step.relearning && state.provisional(&plan),
            "{kind:?}"
        );
        let bound = before * 40.0;
        for _ in 0..20_000 {
            assert!(
                !state.step(&plan, 30.0 + chart.score(), 1.0).above,
                "{kind:?}: the new normal"
            );
            assert!(state.value(&plan) < bound);
        }
        assert!(
            state.step(&plan, 33.0 * DRIFT_MAX * 1.5 * 4.0, 1.0).above,
            "{kind:?}: still a threshold"
        );
    }
}

#[test]
fn no_level_shift_is_accepted_where_it_is_turned_off() {
    let never = ThresholdSettings {
        level_shift_after: Duration::ZERO,
        ..settings(ThresholdKind::Quantile, 1e-5, 2.0)
    };
    let plan = ThresholdParams::new(&never, Duration::from_secs(1), 1);
    let mut state = ThresholdState::calibrated(&plan, &Chart::seeded(15).scores(5_000));
    for _ in 0..20_000 {
        let step = state.step(&plan, 100.0, 1.0);
        assert!(step.above && !step.relearning);
    }
}

#[test]
fn scores_that_are_none_change_nothing() {
    for kind in KINDS {
        let plan = plan(kind, 1e-5, 2.0);
        let mut state = ThresholdState::calibrated(&plan, &Chart::seeded(16).scores(1_000));
        let before = state.clone();
        for score in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert!(!state.step(&plan, score, 1.0).above);
            state.learn(&plan, score);
        }
        assert!(state.step(&plan, f64::INFINITY, 1.0).above);
        assert_eq!(state, before, "{kind:?}");
    }
}

#[test]
fn a_state_is_small() {
    for kind in KINDS {
        let plan = plan(kind, 1e-5, 2.0);
        let mut state = ThresholdState::calibrated(&plan, &Chart::seeded(17).scores(20_000));
        let mut chart = Chart::seeded(18);
        for _ in 0..50_000 {
            state.step(&plan, chart.score(), 1.0);
        }
        let bytes = postcard::to_stdvec(&state)
            .expect("a state and its own bytes")
            .len();
        let peaks = if matches!(kind, ThresholdKind::Spot | ThresholdKind::Dspot) {
            64 * 4
        } else {
            0
        };
        let memory = size_of::<ThresholdState>() + peaks;
        assert!(
            bytes < 400 && memory < 400,
            "{kind:?}: {bytes} bytes stored, {memory} in memory"
        );
        assert!(state.fits(&plan));
    }
}

#[test]
fn the_risk_is_the_budget_per_record_within_its_range() {
    let weekly = |alerts, period| {
        let budget = AlertBudget {
            alerts,
            period: Duration::from_secs(604_800),
        };
        ThresholdParams::new(
            &ThresholdSettings {
                budget,
                ..settings(ThresholdKind::Spot, 1.0, 1.0)
            },
            period,
            1,
        )
        .risk()
    };
    assert!((weekly(2.0, Duration::from_secs(1)) - 2.0 / 604_800.0).abs() < 1e-12);
    assert!((weekly(2.0, Duration::from_secs(60)) - 120.0 / 604_800.0).abs() < 1e-10);
    assert_eq!(weekly(2.0, Duration::from_secs(604_800)), 0.1);
    assert_eq!(weekly(2.0, Duration::ZERO), 1e-9);
}

#[test]
fn what_an_operator_calls_a_false_alarm_lifts_the_threshold_above_it_once() {
    for kind in KINDS {
        let (plan, mut draw) = (plan(kind, 1e-5, 1.0), Draw::seeded(3));
        let calibration: Vec<f64> = (0..2_000).map(|_| draw.normal().abs()).collect();
        let mut state = ThresholdState::calibrated(&plan, &calibration);
        let before = state.value(&plan);
        state.lift_above(&plan, 0.5 * before);
        state.lift_above(&plan, f64::NAN);
        assert!(
            (state.value(&plan) - before).abs() < 1e-9,
            "{kind:?}: what is below it, or no number, lifts nothing"
        );
        state.lift_above(&plan, 2.0 * before);
        let lifted = state.value(&plan);
        assert!(
            (2.1..2.3).contains(&(lifted / before)),
            "{kind:?}: {lifted} {before}"
        );
        state.lift_above(&plan, 2.0 * before);
        assert!(
            (state.value(&plan) / lifted - 1.0).abs() < 1e-3,
            "{kind:?}: said twice"
        );
        // It stays while normal scores go on.
        for _ in 0..20_000 {
            state.step(&plan, draw.normal().abs(), 1.0);
        }
        assert!(
            state.value(&plan) > 1.6 * before,
            "{kind:?}: {} {before}",
            state.value(&plan)
        );
        state.lift_above(&plan, 1e9);
        assert!(state.value(&plan) < 5.0 * before, "{kind:?}: bounded");
    }
}

#[test]
fn a_score_that_hardly_varies_is_not_near_its_threshold() {
    let plan = plan(ThresholdKind::Spot, 1e-4, 1.0);
    let steady: Vec<f64> = (0..4_000).map(|i| 2.0 + 0.01 * f64::from(i % 7)).collect();
    let state = ThresholdState::calibrated(&plan, &steady);
    let threshold = state.value(&plan);
    assert!(threshold < 2.5, "{threshold}");
    let ratio = |score: f64| state.ratio(&plan, score, 1.0);
    assert!((ratio(2.03) - 0.5).abs() < 0.05, "{}", ratio(2.03));
    assert!(ratio(1.0) < 1e-12 && (ratio(threshold) - 1.0).abs() < 1e-9);
    assert!((ratio(3.0 * threshold) - 3.0).abs() < 1e-9);
    // One that varies is compared as it is.
    let varied = ThresholdState::calibrated(&plan, &Chart::seeded(3).scores(20_000));
    let threshold = varied.value(&plan);
    assert!((varied.ratio(&plan, 0.8 * threshold, 1.0) - 0.8).abs() < 1e-9);
}

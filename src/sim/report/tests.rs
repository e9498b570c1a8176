//! Constructed runs whose score is known.

use super::*;
use crate::record::alert::{InputPosition, Severity};
use crate::sim::sensor::Sensor;

fn at(seconds: i64) -> EventTime {
    EventTime::from_millis(seconds * 1_000)
}

/// 10 pumps, a whole day each, 60 s and 600 s of grace.
fn rules() -> MatchRules {
    MatchRules {
        pumps: 10,
        from: at(0),
        until: at(86_400),
        catch_grace: Duration::from_secs(60),
        recovery: Duration::from_secs(600),
    }
}

fn wear(pump: usize, start: i64, end: i64) -> TrueFault {
    let pump = FleetPlan::name_of(pump);
    TrueFault {
        pump,
        kind: PlantFaultKind::BearingWear,
        size: FaultSize::Medium,
        start: at(start),
        end: at(end),
    }
}

/// The opening of an episode that began at `began` and was opened at `opened`.
fn opening(id: &str, pump: usize, began: i64, opened: i64) -> Alert {
    Alert {
        id: id.to_owned(),
        sequence: 0,
        event: AlertEvent::Open,
        kind: AlertKind::Anomaly,
        severity: Severity::Warning,
        stream: "pumps".to_owned(),
        series: FleetPlan::name_of(pump),
        time: at(opened).to_string(),
        summary: String::new(),
        since: None,
        opened_at: at(began).to_string(),
        closed_at: None,
        records: 1,
        score: None,
        threshold: None,
        ratio: None,
        peak_ratio: None,
        chart: None,
        close_reason: None,
        fields: Vec::new(),
        regions: Vec::new(),
        faults: Vec::new(),
        outside: Vec::new(),
        not_scored: false,
        incident: None,
        trained_on: 400,
        bundle: String::new(),
        provisional: false,
        missing_records: 0,
        spans_gap: false,
        position: InputPosition {
            topic: "t".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

fn report(truth: &[TrueFault], alerts: &[Alert]) -> FaultReport {
    FaultReport::new(truth, alerts, &rules()).unwrap()
}

fn delay_of(report: &FaultReport, line: usize) -> Option<u64> {
    report.lines[line]
        .catch()
        .map(|catch| catch.delay.as_secs())
}

#[test]
fn an_alert_in_the_time_of_the_fault_is_a_catch_with_the_delay_of_its_opening() {
    let report = report(&[wear(1, 1_000, 2_000)], &[opening("a", 1, 1_040, 1_045)]);
    assert_eq!(delay_of(&report, 0), Some(45));
    assert_eq!(
        (report.caught(), report.false_alarms, report.aftermath),
        ((1, 1), 0, 0)
    );
}

#[test]
fn an_episode_that_began_before_the_onset_is_a_false_alarm_and_no_catch() {
    let report = report(&[wear(1, 1_000, 2_000)], &[opening("a", 1, 999, 1_003)]);
    assert_eq!((report.caught(), report.false_alarms), ((0, 1), 1));
}

#[test]
fn an_alert_on_another_pump_catches_nothing() {
    let alerts = [
        opening("a", 2, 1_500, 1_500),
        opening("b", 77, 1_500, 1_500),
    ];
    let report = report(&[wear(1, 1_000, 2_000)], &alerts);
    assert_eq!((report.caught(), report.false_alarms), ((0, 1), 2));
}

#[test]
fn the_graces_after_the_end_are_exact() {
    let truth = [wear(1, 1_000, 2_000)];
    for (second, expected) in [
        (2_060, ((1, 1), 0, 0)),
        (2_061, ((0, 1), 1, 0)),
        (2_600, ((0, 1), 1, 0)),
        (2_601, ((0, 1), 0, 1)),
    ] {
        let report = report(&truth, &[opening("a", 1, second, second)]);
        assert_eq!(
            (report.caught(), report.aftermath, report.false_alarms),
            expected,
            "alert at {second}"
        );
    }
}

#[test]
fn the_first_alert_catches_and_later_ones_are_repeats_in_whatever_order_they_come() {
    let alerts = [
        opening("late", 1, 1_500, 1_500),
        opening("early", 1, 1_100, 1_100),
    ];
    let report = report(&[wear(1, 1_000, 2_000)], &alerts);
    assert_eq!(
        (delay_of(&report, 0), report.lines[0].repeats),
        (Some(100), 1)
    );
}

#[test]
fn an_opening_that_is_delivered_twice_counts_once_and_other_events_count_not_at_all() {
    let open = opening("a", 5, 100, 100);
    let close = Alert {
        event: AlertEvent::Close,
        ..opening("a", 5, 100, 300)
    };
    let update = Alert {
        event: AlertEvent::Update,
        ..opening("b", 1, 1_100, 1_100)
    };
    let report = report(
        &[wear(1, 1_000, 2_000)],
        &[open.clone(), open, close, update],
    );
    assert_eq!((report.caught(), report.false_alarms), ((0, 1), 1));
}

#[test]
fn the_next_fault_of_a_pump_takes_its_own_alerts() {
    let truth = [wear(1, 1_000, 2_000), wear(1, 2_030, 3_000)];
    let report = report(&truth, &[opening("a", 1, 2_040, 2_040)]);
    assert_eq!(
        (delay_of(&report, 0), delay_of(&report, 1)),
        (None, Some(10))
    );
}

#[test]
fn healthy_time_leaves_out_faults_and_recovery_once_each() {
    // 1,000 s and 600 s on pump 1; on pump 2 a recovery that reaches into the next fault, 1,000 to
    // 3,600.
    let truth = [
        wear(1, 1_000, 2_000),
        wear(2, 1_000, 2_000),
        wear(2, 2_300, 3_000),
    ];
    let report = report(&truth, &[opening("a", 4, 50, 50)]);
    let expected = 10.0 - (1_600.0 + 2_600.0) / 86_400.0;
    assert!(
        (report.healthy_days - expected).abs() < 1e-9,
        "{}",
        report.healthy_days
    );
    assert!((report.false_alarms_per_day().unwrap() - 1.0 / expected).abs() < 1e-9);
}

#[test]
fn time_that_is_not_scored_counts_for_nothing() {
    let rules = MatchRules {
        from: at(10_000),
        until: at(20_000),
        ..rules()
    };
    let truth = [
        wear(1, 1_000, 2_000),
        wear(2, 19_000, 21_000),
        wear(3, 30_000, 31_000),
        wear(4, 9_000, 12_000),
    ];
    let alerts = [
        opening("a", 1, 1_500, 1_500),
        opening("b", 3, 30_010, 30_010),
        opening("c", 4, 11_000, 11_000),
    ];
    let report = FaultReport::new(&truth, &alerts, &rules).unwrap();
    assert_eq!(report.lines.len(), 1);
    assert_eq!(report.lines[0].outcome, FaultOutcome::Unfinished);
    assert_eq!((report.caught(), report.false_alarms), ((0, 0), 0));
    assert!((report.healthy_days * 86_400.0 - (100_000.0 - 1_000.0 - 2_600.0)).abs() < 1e-6);
}

#[test]
fn a_detector_that_alerts_all_the_time_is_shown_to_catch_by_chance() {
    let alerts: Vec<Alert> = (0..864)
        .flat_map(|i| {
            (0..10).map(move |pump| opening(&format!("{i}-{pump}"), pump, i * 100 + 1, i * 100 + 1))
        })
        .collect();
    let report = report(&[wear(1, 1_000, 2_000), wear(2, 5_000, 6_000)], &alerts);
    assert_eq!(report.caught(), (2, 2));
    assert!(report.caught_by_chance > 1.9, "{}", report.caught_by_chance);
    assert!(report.false_alarms_per_day().unwrap() > 800.0);
}

#[test]
fn a_time_that_is_none_is_an_error_that_names_the_alert() {
    let broken = Alert {
        time: "yesterday".to_owned(),
        ..opening("abc", 1, 0, 0)
    };
    let error = FaultReport::new(&[], &[broken], &rules())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("abc") && error.contains("yesterday") && error.contains("RFC 3339"),
        "{error}"
    );
}

#[test]
fn no_healthy_time_gives_no_rate() {
    let rules = MatchRules {
        pumps: 1,
        ..rules()
    };
    let report = FaultReport::new(&[wear(1, 0, 86_400)], &[], &rules).unwrap();
    assert_eq!(
        (report.false_alarms_per_day(), report.caught_by_chance),
        (None, 0.0)
    );
    assert!(report.render().contains("no healthy time"));
}

#[test]
fn the_text_shows_every_fault_and_the_totals() {
    let stuck = TrueFault {
        kind: PlantFaultKind::Stuck(Sensor::Flow),
        ..wear(2, 3_000, 3_600)
    };
    let sensor_alert = Alert {
        kind: AlertKind::SensorFault,
        ..opening("b", 2, 3_025, 3_025)
    };
    let alerts = [sensor_alert, opening("c", 6, 40_000, 40_000)];
    insta::assert_snapshot!(report(&[wear(1, 1_000, 2_000), stuck], &alerts).render(), @r"
    ┌─────────┬──────────────┬────────┬────────┬──────────────────────┬─────────┬──────────┬───────┬──────────────┬─────────────┐
    │ pump    ┆ fault        ┆ sensor ┆ size   ┆ onset                ┆ lasted  ┆ result   ┆ delay ┆ alert        ┆ named first │
    ╞═════════╪══════════════╪════════╪════════╪══════════════════════╪═════════╪══════════╪═══════╪══════════════╪═════════════╡
    │ pump-01 ┆ bearing wear ┆        ┆ medium ┆ 1970-01-01T00:16:40Z ┆ 16m 40s ┆ MISSED   ┆       ┆              ┆             │
    │ pump-02 ┆ sensor stuck ┆ flow   ┆        ┆ 1970-01-01T00:50:00Z ┆ 10m     ┆ detected ┆ 25s   ┆ sensor fault ┆             │
    └─────────┴──────────────┴────────┴────────┴──────────────────────┴─────────┴──────────┴───────┴──────────────┴─────────────┘

    ┌──────────────┬─────────┬──────────┬────────────┬─────────────────┬────────────┬──────────────────────┬──────────────┐
    │ fault        ┆ planted ┆ detected ┆ as anomaly ┆ as sensor fault ┆ as silence ┆ as detector degraded ┆ median delay │
    ╞══════════════╪═════════╪══════════╪════════════╪═════════════════╪════════════╪══════════════════════╪══════════════╡
    │ bearing wear ┆ 1       ┆ 0        ┆ 0          ┆ 0               ┆ 0          ┆ 0                    ┆              │
    │ sensor stuck ┆ 1       ┆ 1        ┆ 0          ┆ 1               ┆ 0          ┆ 0                    ┆ 25s          │
    └──────────────┴─────────┴──────────┴────────────┴─────────────────┴────────────┴──────────────────────┴──────────────┘

    detected 1 of 2 faults; as many false alarms at random times would coincide with 0.0
    false alarms 1 in 9.97 healthy series-days: 0.10 per series-day
    alerts while a pump recovered 0
    ");
}

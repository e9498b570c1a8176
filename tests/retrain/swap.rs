//! What a change of the live bundle does to the series that it scores.

use super::*;

/// A pipeline with the champion on a plant that has run for a while, and another bundle of the same
/// traffic.
fn settled() -> (Plant, Pipeline, Bundle) {
    let stream = Arc::new(stream());
    let set = TrainingSet::of_runs(&fixture().runs);
    let other = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let (mut plant, mut pipeline) = (
        Plant::new(),
        Pipeline::new(stream, Some(champion())).unwrap(),
    );
    let (_, alerts, _) = plant.run(&mut pipeline, 1_500, |_, _| {});
    assert!(
        alerts.iter().all(|alert| alert.kind != AlertKind::Anomaly),
        "{alerts:#?}"
    );
    (plant, pipeline, other)
}

#[test]
fn a_swap_on_normal_traffic_makes_no_alert() {
    let (mut plant, mut pipeline, other) = settled();
    pipeline.swap(Some(other)).unwrap();
    let (_, alerts, _) = plant.run(&mut pipeline, 600, |_, _| {});
    assert!(
        alerts.iter().all(|alert| alert.kind != AlertKind::Anomaly),
        "{alerts:#?}"
    );
}

#[test]
fn an_open_alert_outlasts_a_swap_and_ends_with_its_fault() {
    let (mut plant, mut pipeline, other) = settled();
    let shift = |pump: usize, values: &mut [f64]| {
        if pump == 1 {
            values[Sensor::Flow.index()] -= 3.0 * Sensor::Flow.spread();
        }
    };
    let anomalies = |alerts: Vec<Alert>| {
        let of = alerts
            .into_iter()
            .filter(|alert| alert.kind == AlertKind::Anomaly && alert.event != AlertEvent::Update);
        of.map(|alert| (alert.series, alert.event))
            .collect::<Vec<_>>()
    };
    let (_, alerts, _) = plant.run(&mut pipeline, 120, shift);
    assert_eq!(
        anomalies(alerts),
        [("pump-01".to_owned(), AlertEvent::Open)]
    );
    pipeline.swap(Some(other)).unwrap();
    let (_, alerts, _) = plant.run(&mut pipeline, 120, shift);
    assert_eq!(
        anomalies(alerts),
        [],
        "the fault goes on, and so does its alert"
    );
    let (_, alerts, _) = plant.run(&mut pipeline, 900, |_, _| {});
    assert_eq!(
        anomalies(alerts),
        [("pump-01".to_owned(), AlertEvent::Close)]
    );
}

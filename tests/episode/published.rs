//! Events as they are published.

use outlierd::record::alert::CloseReason;

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn an_anomaly_tells_its_story() {
    let mut series = Series::new(&rules(), &[]);
    let [open, update, close] = &series.alerts("..OOC...")[..] else {
        panic!("three events")
    };
    insta::assert_snapshot!(pretty(open), @r#"
    {
      "id": "c9198e4be89876c3ccdf5c6327c046fa",
      "sequence": 0,
      "event": "open",
      "kind": "anomaly",
      "severity": "warning",
      "stream": "pumps",
      "series": "pump-7",
      "time": "1970-01-01T00:00:03Z",
      "summary": "",
      "opened_at": "1970-01-01T00:00:03Z",
      "since": "1970-01-01T00:00:02Z",
      "records": 1,
      "score": 3.0,
      "threshold": 2.0,
      "ratio": 1.5,
      "peak_ratio": 1.5,
      "fields": [
        {
          "name": "flow",
          "value": 1.0,
          "expected": 0.0,
          "share": 0.7
        },
        {
          "name": "current",
          "value": 1.0,
          "expected": 0.0,
          "share": 0.2
        }
      ],
      "faults": [],
      "incident": "a977ceb723005dd1",
      "bundle": "b1",
      "trained_on": 400,
      "provisional": true,
      "missing_records": 12,
      "position": {
        "topic": "plant.pumps",
        "partition": 4,
        "offset": 3
      }
    }
    "#);
    assert_eq!(
        (update.event, update.sequence, update.severity),
        (AlertEvent::Update, 1, Severity::Critical)
    );
    assert_eq!(
        (update.records, update.ratio, update.peak_ratio),
        (2, Some(2.0), Some(2.0))
    );
    assert_eq!(
        (close.event, close.sequence, close.severity),
        (AlertEvent::Close, 2, Severity::Critical)
    );
    assert_eq!(
        (close.records, close.ratio, close.peak_ratio),
        (2, Some(0.25), Some(2.0))
    );
    assert_eq!(
        (&*close.opened_at, &*close.time),
        ("1970-01-01T00:00:03Z", "1970-01-01T00:00:07Z")
    );
    assert_eq!(
        (&close.id, close.closed_at.as_deref()),
        (&open.id, Some("1970-01-01T00:00:07Z"))
    );
}

#[test]
fn a_sensor_fault_tells_its_story() {
    let mut series = Series::new(&rules(), &[]);
    let [open, close] = &series.alerts("FFFF...")[..] else {
        panic!("two events")
    };
    insta::assert_snapshot!(pretty(open), @r#"
    {
      "id": "ee7f21febf7451249657089ed31ed986",
      "sequence": 0,
      "event": "open",
      "kind": "sensor_fault",
      "severity": "warning",
      "stream": "pumps",
      "series": "pump-7",
      "time": "1970-01-01T00:00:02Z",
      "summary": "",
      "opened_at": "1970-01-01T00:00:02Z",
      "since": "1970-01-01T00:00:00Z",
      "records": 1,
      "fields": [],
      "faults": [
        {
          "name": "flow",
          "kind": "stuck",
          "value": 7.0
        }
      ],
      "not_scored": true,
      "incident": "29b6da0100d59bdf",
      "bundle": "b1",
      "trained_on": 400,
      "provisional": false,
      "position": {
        "topic": "plant.pumps",
        "partition": 4,
        "offset": 2
      }
    }
    "#);
    assert_eq!((&close.id, close.sequence, close.records), (&open.id, 1, 2));
    assert_eq!(
        (close.closed_at.as_deref(), close.faults.len()),
        (Some("1970-01-01T00:00:06Z"), 0)
    );
}

#[test]
fn a_doubted_calibration_closes_a_sensor_fault_at_once_and_says_so() {
    let mut series = Series::new(&rules(), &[]);
    let [open] = &series.alerts("FFF")[..] else {
        panic!("it opens")
    };
    let doubted = [SensorFault {
        field: 1,
        kind: FaultKind::CalibrationDoubtful,
        value: Some(7.5),
        repeats: None,
    }];
    let record = RecordContext {
        series: "pump-7",
        time: EventTime(14 * 86_400 * SECOND),
        ..RecordContext::default()
    };
    let judgement = Judgement::Faulty(&doubted);
    let step = series
        .plan
        .step(&mut series.state, &record, &judgement, shares);
    let [close] = &step.alerts[..] else {
        panic!("{step:?}")
    };
    assert_eq!((&close.id, close.event), (&open.id, AlertEvent::Close));
    assert_eq!(close.close_reason, Some(CloseReason::CalibrationDoubtful));
    assert_eq!(
        close.clone().summarized().summary,
        "flow of pump-7 varies as the other sensors do, its calibration is doubtful, and it is scored \
         again; the sensor fault lasted 14 d from 1970-01-01 00:00:00 UTC to 00:00:00 UTC."
    );
    assert!(!series.state.fault_open());
}

use serde_json::{Value, json};

use super::*;

/// An alert of `pump-3` with these keys, as a reader of the topic gets it.
fn alert(keys: &Value) -> Alert {
    let mut json = json!({
        "id": "0123456789abcdef0123456789abcdef", "sequence": 0, "event": "open", "kind": "anomaly",
        "severity": "warning", "stream": "pumps", "series": "pump-3",
        "time": "2026-03-09T10:02:14Z", "opened_at": "2026-03-09T10:02:14Z",
        "since": "2026-03-09T10:02:10.5Z", "records": 1, "fields": [], "faults": [], "bundle": "b1",
        "provisional": false, "position": {"topic": "plant.pumps", "partition": 1, "offset": 7},
    });
    for (key, value) in keys.as_object().unwrap() {
        json[key] = value.clone();
    }
    serde_json::from_value(json).unwrap()
}

#[track_caller]
fn assert_reads(keys: &Value, sentence: &str) {
    assert_eq!(alert(keys).summarized().summary, sentence, "{keys}");
}

fn field(name: &str, unit: &str, value: f64, expected: f64, share: f64) -> Value {
    json!({"name": name, "unit": unit, "value": value, "expected": expected, "share": share})
}

fn temp() -> Value {
    field("bearing_temp", "°C", 81.2345, 63.9876, 0.6)
}

fn vibration() -> Value {
    field("vibration", "mm/s", 4.1, 2.0, 0.25)
}

#[test]
fn an_anomaly_names_the_reading_what_is_expected_since_when_and_what_moved_too() {
    assert_reads(
        &json!({"fields": [temp(), vibration(), field("flow", "l/min", 9.0, 9.5, 0.05)], "ratio": 1.64}),
        "bearing_temp of pump-3 reads 81.2 °C where 64.0 °C is expected since 10:02:10 UTC; \
         vibration moved too (4.10 mm/s, expected 2.00); score 1.6 times the threshold.",
    );
    let unit = json!({"name": "x", "value": -0.001, "expected": 40_000.0, "share": 1.0});
    assert_reads(
        &json!({"fields": [unit], "ratio": 12.3, "provisional": true, "missing_records": 120,
            "event": "update", "time": "2026-03-10T08:00:00Z"}),
        "x of pump-3 still reads 0 where 40000 is expected since 2026-03-09 10:02:10 UTC; \
         score 12 times the threshold (provisional for 120 more records).",
    );
    let many: Vec<Value> = (0..5)
        .map(|i| field(&format!("f{i}"), "V", 1013.25, 1012.9, 0.2))
        .collect();
    assert_reads(
        &json!({"fields": many, "provisional": true}),
        "f0 of pump-3 reads 1013.2 V where 1012.9 V is expected since 10:02:10 UTC; \
         f1 (1013.2 V, expected 1012.9), f2 (1013.2 V, expected 1012.9) and 2 more fields moved too \
         (provisional: more alerts than the budget allows).",
    );
    assert_reads(
        &json!({}),
        "pump-3 deviates from its normal records since 10:02:10 UTC.",
    );
}

#[test]
fn an_anomaly_says_what_its_chart_looks_at() {
    assert_reads(
        &json!({"fields": [vibration()], "chart": "variance"}),
        "vibration of pump-3 varies unusually (now 4.10 mm/s, expected 2.00) since 10:02:10 UTC.",
    );
    assert_reads(
        &json!({"fields": [vibration(), temp()], "chart": "adjusted"}),
        "vibration of pump-3 does not fit the other fields (now 4.10 mm/s, expected 2.00) since \
         10:02:10 UTC; bearing_temp moved too (81.2 °C, expected 64.0).",
    );
    let same = field("temp", "°C", 64.0, 64.0, 1.0);
    assert_reads(
        &json!({"fields": [same], "chart": "mewma"}),
        "temp of pump-3 deviates (now 64.0 °C, as expected) since 10:02:10 UTC.",
    );
}

#[test]
fn an_image_names_its_largest_region() {
    let region = |x: u32| json!({"x": x, "y": 12, "width": 16, "height": 9, "share": 0.5});
    assert_reads(
        &json!({"regions": [region(40)], "ratio": 2.0}),
        "The image of pump-3 deviates at 16 x 9 pixels from (40, 12) since 10:02:10 UTC; \
         score 2.0 times the threshold.",
    );
    assert_reads(
        &json!({"regions": [region(40), region(1), region(2)]}),
        "The image of pump-3 deviates at 16 x 9 pixels from (40, 12) and 2 more regions since \
         10:02:10 UTC.",
    );
}

#[test]
fn each_kind_of_sensor_fault_has_its_sentence() {
    let reads = |fault: Value, sentence: &str| {
        let mut fault = fault;
        fault["name"] = json!("power");
        fault["unit"] = json!("kW");
        let sentence = format!("power of pump-3 {sentence} since 10:02:10 UTC.");
        assert_reads(
            &json!({"kind": "sensor_fault", "faults": [fault]}),
            &sentence,
        );
    };
    reads(json!({"kind": "missing"}), "is missing");
    reads(json!({"kind": "non_finite"}), "is not a finite number");
    reads(
        json!({"kind": "out_of_range", "value": 812.0}),
        "reads 812 kW, outside of its physical range",
    );
    reads(
        json!({"kind": "stuck", "value": 60.76, "repeats": 61}),
        "is stuck at 60.76 kW for 61 records",
    );
    reads(
        json!({"kind": "sentinel", "value": -9999.0}),
        "sends -9999 in place of a reading",
    );
    reads(
        json!({"kind": "sentinel", "value": 1e30}),
        "sends 1.00e30 in place of a reading",
    );
    reads(
        json!({"kind": "flat", "value": 1.023456789012}),
        "hardly changes any more (now 1.023 kW)",
    );
    reads(
        json!({"kind": "scale_jump", "value": 354.15}),
        "reads 354.15 kW, which is normal only in another unit or scale",
    );
    reads(json!({"kind": "jump", "value": 99.5}), "jumped to 99.5 kW");
    reads(
        json!({"kind": "spike", "value": 999.0}),
        "had a spike of 999 kW",
    );
}

#[test]
fn several_faulty_sensors_are_one_sentence() {
    let fault =
        |name: &str, kind: &str| json!({"name": name, "kind": kind, "value": 5.0, "repeats": 90});
    assert_reads(
        &json!({"kind": "sensor_fault", "faults": [fault("a", "missing"), fault("b", "non_finite")]}),
        "a of pump-3 is missing since 10:02:10 UTC; b (non finite) is faulty too.",
    );
    let names = ["a", "b", "c", "d", "e"];
    let stuck: Vec<Value> = names.iter().map(|name| fault(name, "stuck")).collect();
    assert_reads(
        &json!({"kind": "sensor_fault", "faults": stuck, "not_scored": true}),
        "a of pump-3 is stuck at 5 for 90 records since 10:02:10 UTC; \
         b (stuck), c (stuck) and 2 more fields are faulty too; \
         its records are not scored until at least half of the fields are usable.",
    );
    let still = names.iter().map(|name| fault(name, "standstill"));
    let mut still: Vec<Value> = still.collect();
    still.insert(0, fault("z", "missing"));
    assert_reads(
        &json!({"kind": "sensor_fault", "faults": still}),
        "pump-3 is at a standstill or repeats its last readings: 5 fields do not change \
         (a at 5 for 90 records) since 10:02:10 UTC; z (missing) is faulty too.",
    );
}

#[test]
fn silence_names_the_series_the_gateway_or_the_topic() {
    let silence = |series: &str, records: u64, opened_at: &str| {
        json!({"kind": "silence", "series": series, "records": records,
            "since": "2026-03-09T10:02:10Z", "time": opened_at, "opened_at": opened_at})
    };
    assert_reads(
        &silence("hall-0/pump-3", 0, "2026-03-09T10:03:10Z"),
        "Series hall-0/pump-3 has sent no record since 10:02:10 UTC; a record was due by 10:03:10 UTC.",
    );
    assert_reads(
        &silence("hall-0/*", 5, "2026-03-09T10:02:10Z"),
        "Gateway hall-0 with all of its 5 series has sent no record since 10:02:10 UTC.",
    );
    assert_reads(
        &silence("*", 8, "2026-03-10T00:00:10Z"),
        "Topic plant.pumps has sent no record since 2026-03-09 10:02:10 UTC; \
         a record was due by 00:00:10 UTC.",
    );
}

#[test]
fn a_degraded_detector_and_readings_outside_the_training_range() {
    assert_reads(
        &json!({"kind": "detector_degraded", "series": "*", "records": 4}),
        "The detector of stream pumps would miss faults that its model detected in the promotion \
         tests since 10:02:10 UTC; 4 series were tested.",
    );
    let outside =
        |name: &str| json!({"name": name, "unit": "bar", "value": 25.34, "trained": [0.1, 10.2]});
    assert_reads(
        &json!({"kind": "out_of_training_range", "outside": [outside("level"), outside("head")]}),
        "level of pump-3 reads 25.3 bar, far outside of its training range of 0.1 to 10.2 bar since \
         10:02:10 UTC; head too; the model knows nothing of such readings until it is trained on them.",
    );
}

#[test]
fn an_alert_that_closes_says_why_and_how_long_it_lasted() {
    let closes = |kind: &str, reason: Option<&str>, records: u64, sentence: &str| {
        let mut keys = json!({"event": "close", "kind": kind, "records": records, "peak_ratio": 3.04,
            "time": "2026-03-09T10:14:33.5Z", "closed_at": "2026-03-09T10:14:33.5Z"});
        if let Some(reason) = reason {
            keys["close_reason"] = json!(reason);
        }
        assert_reads(&keys, sentence);
    };
    let lasted = "lasted 12 min 23 s from 10:02:10 UTC to 10:14:33 UTC";
    for (reason, why) in [
        ("recovered", "pump-3 is back to normal"),
        ("returned", "pump-3 is back where it was before the fault"),
        ("level_shift", "pump-3 is steady again, at another level"),
        (
            "accepted_as_normal",
            "The level of pump-3 is accepted as normal after threshold.level_shift_after",
        ),
        (
            "forgotten",
            "pump-3 is forgotten after retention.forget_after without a record",
        ),
    ] {
        let sentence =
            format!("{why}; the anomaly {lasted}: 12 outliers, at most 3.0 times the threshold.");
        closes("anomaly", Some(reason), 12, &sentence);
    }
    for (kind, reason, why, what) in [
        (
            "sensor_fault",
            None,
            "All sensors of pump-3 are usable again",
            "sensor fault",
        ),
        ("silence", None, "Series pump-3 sends again", "silence"),
        (
            "silence",
            Some("ended"),
            "Series pump-3 has ended: another series has begun in its place",
            "silence",
        ),
        (
            "detector_degraded",
            None,
            "The detector of stream pumps detects the faults of its promotion tests again",
            "degradation",
        ),
        (
            "out_of_training_range",
            None,
            "The readings of pump-3 are back in their training range, or trained on",
            "excursion",
        ),
    ] {
        closes(kind, reason, 1, &format!("{why}; the {what} {lasted}."));
    }
}

#[test]
fn durations_have_their_two_largest_units() {
    for (seconds, text) in [
        (-5, ""),
        (0, "less than 1 s "),
        (59, "59 s "),
        (3_600, "1 h "),
        (3_605, "1 h "),
        (3_660, "1 h 1 min "),
        (200_000, "2 d 7 h "),
    ] {
        assert_eq!(duration(seconds), text, "{seconds}");
    }
}

#[test]
fn readings_of_any_size_are_short() {
    for x in [
        0.0,
        -0.0,
        1e-300,
        -1e-5,
        0.1 + 0.2,
        99.999,
        123_456.789,
        1e15,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
    ] {
        for y in [0.0, x, x + 1.0, -x, f64::NAN] {
            let field = FieldShare {
                name: "x".into(),
                unit: None,
                value: x,
                expected: y,
                share: 1.0,
            };
            let (value, expected) = pair(&field);
            assert!(
                value.len() <= 12 && expected.len() <= 12,
                "{x} {y}: {value} {expected}"
            );
        }
        assert!(exact(x).len() <= 12, "{x}: {}", exact(x));
    }
    assert_eq!(exact(0.1 + 0.2), "0.3000");
    assert_eq!(exact(-0.0), "0");
}

#[test]
fn an_alert_of_an_older_version_is_read() {
    let old =
        alert(&json!({"fields": [{"name": "x", "value": 2.0, "expected": 1.0, "share": 1.0}]}));
    assert_eq!((old.summary.as_str(), old.trained_on), ("", 0));
    let mut json = serde_json::to_value(&old).unwrap();
    json.as_object_mut().unwrap().remove("since");
    let old: Alert = serde_json::from_value(json).unwrap();
    assert_eq!(
        old.summarized().summary,
        "x of pump-3 reads 2.00 where 1.00 is expected since 10:02:14 UTC."
    );
}

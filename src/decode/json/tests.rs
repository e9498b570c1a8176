//! One test for each defined outcome of the JSON decoder.

mod places;

use std::borrow::Cow;

use super::*;
use crate::decode::fixtures::{example, format};
use crate::decode::records::Decoder;
use crate::record::format::{KeyFrom, RecordFormat, TimeFrom};
use crate::record::{EventTime, Message, NON_FINITE, Record, Rejected};

const AT: EventTime = EventTime(1_773_051_273_000_000);

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        partition: 3,
        offset: 41,
        key: Some(b"p1"),
        payload: Some(payload),
        timestamp: Some(AT),
        arrival: Some(AT),
        headers: None,
    }
}

/// The readings and the count of coerced numbers of one payload, which must be a record.
fn readings(decoder: &Decoder, payload: &[u8]) -> (Vec<f64>, u64) {
    let batch = decoder.decode(&[message(payload)]);
    assert_eq!(batch.rejected, [], "{}", String::from_utf8_lossy(payload));
    assert_eq!(batch.records.len(), 1);
    (batch.values, batch.coerced)
}

/// The reason and detail of one message, which must be rejected.
fn rejection(decoder: &Decoder, message: Message<'_>) -> (RejectReason, String) {
    let mut batch = decoder.decode(&[message]);
    assert_eq!(
        (batch.records.len(), batch.values.len(), batch.coerced),
        (0, 0, 0),
        "nothing of it is kept"
    );
    let rejected = batch.rejected.pop().expect("a rejection");
    assert_eq!((rejected.message, batch.rejected.len()), (0, 0));
    (rejected.reason, rejected.detail)
}

#[track_caller]
fn assert_rejected(decoder: &Decoder, payload: &[u8], reason: RejectReason, says: &[&str]) {
    let (found, detail) = rejection(decoder, message(payload));
    assert_eq!(found, reason, "{detail}");
    for part in says {
        assert!(detail.contains(part), "{detail:?} does not say {part:?}");
    }
}

/// `x` as a plain field.
fn x() -> Decoder {
    Decoder::new(&format(&[("x", "x")]))
}

fn same(left: f64, right: f64) -> bool {
    left == right || (left.is_nan() && right.is_nan())
}

#[test]
fn a_record_carries_its_place_key_time_and_readings() {
    let decoder = Decoder::new(&example());
    let payload = br#"{"note":{"a":[1,{"b":null}]},"pump":"p7","motor":{"rpm":9,"temp":61.5},"flow":12,"ts":"2026-03-09 10:14:33"}"#;
    let batch = decoder.decode(&[message(payload)]);
    let record = Record {
        message: 0,
        partition: 3,
        offset: 41,
        part: None,
        series: Cow::Borrowed("p7"),
        time: AT,
        second_time: None,
        arrival: Some(AT),
    };
    assert_eq!(batch.records, [record]);
    assert!(
        matches!(batch.records[0].series, Cow::Borrowed(_)),
        "the key is not copied"
    );
    assert_eq!(batch.values[0], 12.0);
    assert!(batch.values[1].is_nan(), "an absent field is missing");
    assert_eq!(batch.values[2], 61.5);
}

#[test]
fn order_is_kept_and_a_rejected_message_leaves_no_trace() {
    let payloads: [&[u8]; 5] = [
        br#"{"x":1}"#,
        br#"{"x":2,"#,
        br#"{"x":3}"#,
        br#"{"x":"5","x":4}"#,
        br#"{"x":"5"}"#,
    ];
    let messages: Vec<_> = payloads.iter().map(|payload| message(payload)).collect();
    let batch = x().decode(&messages);
    assert_eq!(
        batch
            .records
            .iter()
            .map(|record| record.message)
            .collect::<Vec<_>>(),
        [0, 2, 4]
    );
    assert_eq!(
        batch
            .rejected
            .iter()
            .map(|rejected| rejected.message)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(batch.values, [1.0, 3.0, 5.0]);
    assert_eq!(batch.coerced, 1, "the rejected duplicate does not count");
}

#[test]
fn every_form_of_a_reading_has_its_value() {
    let infinite = f64::INFINITY;
    for (text, value, coerced) in [
        ("12.5", 12.5, 0),
        ("-0.25e2", -25.0, 0),
        ("7", 7.0, 0),
        ("-7", -7.0, 0),
        ("18446744073709551615", 18446744073709551615.0, 0),
        (
            "123456789012345678901234567890",
            123456789012345678901234567890.0,
            0,
        ),
        ("1e-999", 0.0, 0),
        ("true", 1.0, 0),
        ("false", 0.0, 0),
        ("null", f64::NAN, 0),
        ("\"\"", f64::NAN, 0),
        ("\"  \"", f64::NAN, 0),
        ("\"12.5\"", 12.5, 1),
        ("\" 12.5 \"", 12.5, 1),
        ("\"1\\u0032\"", 12.0, 1),
        ("\"NaN\"", infinite, 0),
        ("\"nan\"", infinite, 0),
        ("\"Infinity\"", infinite, 0),
        ("\"-inf\"", infinite, 0),
        ("\"-INF\"", infinite, 0),
    ] {
        let (values, count) = readings(&x(), format!("{{\"x\":{text}}}").as_bytes());
        assert!(
            values.len() == 1 && same(values[0], value),
            "{text}: {values:?}"
        );
        assert_eq!(count, coerced, "{text}");
    }
}

#[test]
fn what_is_no_reading_is_rejected_by_name_and_value() {
    for (text, says) in [
        ("\"n/a\"", "n/a"),
        ("\"null\"", "null"),
        ("\"-\"", "\"-\""),
        ("\"12,5\"", "decimal mark"),
        ("\"1e999\"", "64-bit"),
        ("1e999", "64-bit"),
        ("-1e999", "64-bit"),
        ("{}", "an object"),
        ("[1]", "an array"),
    ] {
        assert_rejected(
            &x(),
            format!("{{\"x\":{text}}}").as_bytes(),
            RejectReason::WrongType,
            &["`x`", says],
        );
    }
}

#[test]
fn bare_nan_is_a_reading_that_is_not_a_number() {
    for text in [
        "NaN",
        "nan",
        "-NaN",
        "Infinity",
        "-Infinity",
        "+inf",
        "inf",
        "-inf",
    ] {
        let payload = format!("{{\"y\":1,\n \"x\":{text}}}");
        assert_eq!(readings(&x(), payload.as_bytes()).0, [NON_FINITE], "{text}");
    }
    let two = Decoder::new(&format(&[("x", "x"), ("y", "y")]));
    let payload = br#"{"x":1,"note":"NaN, \"NaN","y":NaN,"z":[NaN,{"x":NaN}]}"#;
    assert_eq!(readings(&two, payload).0, [1.0, NON_FINITE]);
    assert_eq!(readings(&two, br#"{"x":NaN,"y":2}"#).0, [NON_FINITE, 2.0]);
    for text in ["nul", "nano", "NaN1"] {
        let payload = format!("{{\"x\":{text}}}");
        assert_rejected(
            &x(),
            payload.as_bytes(),
            RejectReason::NotJson,
            &["not JSON"],
        );
    }
}

#[test]
fn text_that_is_not_a_number_makes_its_field_faulty_where_the_record_has_another_reading() {
    let two = Decoder::new(&format(&[("x", "x"), ("y", "y")]));
    for text in ["Bad", "---", "1,5", "1e999"] {
        let payload = format!("{{\"x\":\"{text}\",\"y\":2}}");
        assert_eq!(
            readings(&two, payload.as_bytes()).0,
            [NON_FINITE, 2.0],
            "{text}"
        );
    }
    for text in ["{\"v\":1}", "[1,[2]]", "1e999", "-1e400"] {
        let payload = format!("{{\"x\":{text},\"y\":2}}");
        let found = readings(&two, payload.as_bytes()).0;
        assert_eq!(found, [NON_FINITE, 2.0], "{text}");
    }
    let below = Decoder::new(&format(&[("s.a", "a"), ("s.b", "b"), ("y", "y")]));
    let found = readings(&below, br#"{"s":"Error!","y":2}"#).0;
    assert_eq!(found, [NON_FINITE, NON_FINITE, 2.0]);
    let none = br#"{"x":"Bad","y":null}"#;
    assert_rejected(
        &two,
        none,
        RejectReason::WrongType,
        &["`x`", "\"Bad\"", "not a number"],
    );
}

#[test]
fn numbers_that_json_does_not_know_are_read() {
    for (text, number) in [
        ("007.5", 7.5),
        ("-01", -1.0),
        ("+2", 2.0),
        (".5", 0.5),
        ("5.", 5.0),
    ] {
        let payload = format!("{{\"x\":{text}}}");
        assert_eq!(readings(&x(), payload.as_bytes()).0, [number], "{text}");
    }
}

#[test]
fn configured_places_may_not_stand_twice_but_others_may() {
    let nested = Decoder::new(&format(&[("a.b", "b"), ("a.c", "c")]));
    let twice = RejectReason::DuplicateField;
    assert_rejected(&x(), br#"{"x":1,"x":1}"#, twice, &["`x`", "twice"]);
    assert_rejected(&x(), br#"{"x":null,"\u0078":1}"#, twice, &["`x`"]);
    assert_rejected(
        &nested,
        br#"{"a":{"b":1,"b":2}}"#,
        twice,
        &["`b` (at `a.b`)"],
    );
    assert_rejected(&nested, br#"{"a":{"b":1},"a":{"c":2}}"#, twice, &["`a`"]);
    assert_eq!(
        readings(&x(), br#"{"y":1,"y":2,"x":3,"z":{"x":4},"z":{"x":5}}"#).0,
        [3.0]
    );
}

#[test]
fn paths_lead_through_objects_and_arrays_only() {
    let decoder = Decoder::new(&format(&[
        ("a.b", "b"),
        ("r.1.value", "one"),
        ("r.0.value", "zero"),
    ]));
    for payload in [
        "{\"a\":null,\"r\":null}",
        "{}",
        "{\"a\":{},\"r\":[]}",
        "{\"a\":[5],\"r\":[null,{}]}",
    ] {
        assert!(
            readings(&decoder, payload.as_bytes())
                .0
                .iter()
                .all(|value| value.is_nan()),
            "{payload}"
        );
    }
    let payload = br#"{"r":[{"value":1},{"value":2,"x":[]},{"value":3}],"a":{"b":0}}"#;
    assert_eq!(readings(&decoder, payload).0, [0.0, 2.0, 1.0]);
    assert_eq!(
        readings(
            &decoder,
            br#"{"r":{"1":{"value":2},"0":{"value":1}},"a":{"b":0}}"#
        )
        .0,
        [0.0, 2.0, 1.0]
    );
    for (payload, found) in [
        ("{\"a\":5}", "number 5"),
        ("{\"a\":\"\"}", "text"),
        ("{\"a\":true}", "true"),
        ("{\"r\":[7]}", "number 7"),
    ] {
        assert_rejected(
            &decoder,
            payload.as_bytes(),
            RejectReason::WrongType,
            &[found, "an object or array"],
        );
    }
    let both = Decoder::new(&format(&[("a", "a"), ("a.b", "b")]));
    assert_eq!(readings(&both, br#"{"a":1}"#).0[0], 1.0);
    assert_eq!(readings(&both, br#"{"a":{"b":2}}"#).0[1], 2.0);
}

#[test]
fn one_object_is_due_and_nothing_else() {
    for payload in [
        "[]",
        "[{\"x\":1}]",
        "1",
        "1.5",
        "\"x\"",
        "true",
        "null",
        "-3",
    ] {
        assert_rejected(
            &x(),
            payload.as_bytes(),
            RejectReason::NotObject,
            &["an object"],
        );
    }
    for payload in [
        "{\"x\":1}{\"x\":2}",
        "{\"x\":1}\n{\"x\":2}",
        "{\"x\":1},",
        "{\"x\":1} garbage",
        "{}\0",
    ] {
        assert_rejected(
            &x(),
            payload.as_bytes(),
            RejectReason::NotJson,
            &["trailing", "one JSON object"],
        );
    }
    for payload in [
        " ",
        "{",
        "{\"x\"",
        "{\"x\":1,}",
        "{'x':1}",
        "{\"y\":[1}",
        "x=1",
        "{\"x\":\"\n\"}",
        "{\"y\":\"\\q\"}",
    ] {
        assert_rejected(
            &x(),
            payload.as_bytes(),
            RejectReason::NotJson,
            &["not JSON"],
        );
    }
}

#[test]
fn the_payload_is_bounded_and_may_begin_with_a_byte_order_mark() {
    assert_eq!(readings(&x(), b"\xEF\xBB\xBF{\"x\":1}").0, [1.0]);
    assert_eq!(readings(&x(), b" \r\n\t{ \"x\" : 1 } \n").0, [1.0]);
    assert_rejected(&x(), b"", RejectReason::Empty, &["empty"]);
    assert_rejected(&x(), b"\xEF\xBB\xBF", RejectReason::Empty, &["empty"]);
    let tombstone = Message {
        payload: None,
        ..message(b"")
    };
    assert_eq!(rejection(&x(), tombstone).0, RejectReason::Empty);
    // It would be 10 MB of broken JSON: the length is what is looked at first.
    let large = vec![b'{'; 10 << 20];
    assert_rejected(
        &x(),
        &large,
        RejectReason::TooLarge,
        &["1048576", "record.max_payload_bytes"],
    );
    let mut just_fits = b"{\"x\":1}".to_vec();
    just_fits.resize(1 << 20, b' ');
    assert_eq!(readings(&x(), &just_fits).0, [1.0]);
}

#[test]
fn invalid_utf8_is_rejected_wherever_it_stands() {
    let payloads: [&[u8]; 5] = [
        b"{\"x\":\"\xFF\"}",
        b"{\"y\":\"\xC3\x28\",\"x\":1}",
        b"{\"\xFF\":1,\"x\":1}",
        b"{\"x\xED\xA0\x80\":1}",
        b"\xFE\xFF\x00{",
    ];
    for payload in payloads {
        assert_rejected(
            &x(),
            payload,
            RejectReason::NotUtf8,
            &["byte", "0x", "UTF-8"],
        );
    }
}

#[test]
fn deep_nesting_neither_overflows_the_stack_nor_hides_a_record() {
    let deep = 200_000;
    let skipped = format!("{{\"y\":{}{},\"x\":1}}", "[".repeat(deep), "]".repeat(deep));
    assert_eq!(readings(&x(), skipped.as_bytes()).0, [1.0]);
    let open = format!("{{\"y\":{}", "{\"y\":".repeat(deep));
    assert_rejected(&x(), open.as_bytes(), RejectReason::NotJson, &["EOF"]);
    assert_rejected(
        &x(),
        format!("{{\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep)).as_bytes(),
        RejectReason::WrongType,
        &["an array"],
    );
    let long = vec!["a"; 300].join(".");
    let decoder = Decoder::new(&format(&[(long.as_str(), "deep")]));
    let payload = format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300));
    assert_rejected(
        &decoder,
        payload.as_bytes(),
        RejectReason::NotJson,
        &["recursion limit"],
    );
}

#[test]
fn escaped_keys_are_the_keys_that_they_spell() {
    let decoder = Decoder::new(&format(&[("sensors.fl\u{f6}w", "flow")]));
    assert_eq!(
        readings(&decoder, br#"{"sen\u0073ors":{"fl\u00f6w":3}}"#).0,
        [3.0]
    );
    assert_eq!(
        readings(&decoder, "{\"sensors\":{\"flöw\":4}}".as_bytes()).0,
        [4.0]
    );
    assert_rejected(
        &decoder,
        br#"{"\ud800":1}"#,
        RejectReason::NotJson,
        &["not JSON"],
    );
}

#[test]
fn details_are_bounded_however_long_the_found_value_is() {
    let payload = format!("{{\"x\":\"{}\"}}", "\u{1F4A9}".repeat(10_000));
    let (reason, detail) = rejection(&x(), message(payload.as_bytes()));
    assert_eq!(reason, RejectReason::WrongType);
    assert!(
        detail.len() <= Rejected::DETAIL_MAX && detail.contains("not a number; allowed"),
        "{detail}"
    );
}

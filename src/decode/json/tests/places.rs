//! Where the series key and the event time stand.

use super::*;

#[test]
fn the_series_key_may_be_kafkas() {
    let long = [b'k'; 257];
    for (key, reason) in [
        (None, RejectReason::MissingKey),
        (Some(&b""[..]), RejectReason::BadKey),
        (Some(&long[..]), RejectReason::BadKey),
        (Some(&b"p\xFF"[..]), RejectReason::BadKey),
    ] {
        let (found, detail) = rejection(
            &x(),
            Message {
                key,
                ..message(b"{\"x\":1}")
            },
        );
        assert_eq!(found, reason, "{detail}");
        assert!(detail.contains("Kafka key"), "{detail}");
    }
    let batch = x().decode(&[Message {
        key: long.get(..256),
        ..message(b"{\"x\":1}")
    }]);
    assert!(matches!(&batch.records[0].series, Cow::Borrowed(key) if key.len() == 256));
}

#[test]
fn the_series_key_may_be_a_field_or_the_partition() {
    let mut by_field = format(&[("x", "x"), ("id.n", "id")]);
    by_field.key = KeyFrom::Field(vec!["id".into(), "n".into()]);
    let decoder = Decoder::new(&by_field);
    for (id, series) in [
        ("\"7\"", "7"),
        ("7", "7"),
        ("-7", "-7"),
        ("\"\\u0037\"", "7"),
    ] {
        let payload = format!("{{\"x\":1,\"id\":{{\"n\":{id}}}}}");
        let batch = decoder.decode(&[message(payload.as_bytes())]);
        assert_eq!(
            (batch.records[0].series.as_ref(), batch.rejected.len()),
            (series, 0)
        );
        assert_eq!(batch.values[1].abs(), 7.0, "the key may be a reading too");
    }
    for (id, reason) in [
        ("null", RejectReason::MissingKey),
        ("\"\"", RejectReason::BadKey),
        ("1.5", RejectReason::BadKey),
        ("true", RejectReason::BadKey),
        ("{}", RejectReason::BadKey),
        ("[]", RejectReason::BadKey),
    ] {
        assert_rejected(
            &decoder,
            format!("{{\"id\":{{\"n\":{id}}}}}").as_bytes(),
            reason,
            &["series key `id.n`"],
        );
    }
    assert_rejected(
        &decoder,
        format!("{{\"id\":{{\"n\":\"{}\"}}}}", "k".repeat(257)).as_bytes(),
        RejectReason::BadKey,
        &["257"],
    );
    assert_rejected(
        &decoder,
        br#"{"x":1}"#,
        RejectReason::MissingKey,
        &["`id.n`"],
    );
    let by_partition = RecordFormat {
        key: KeyFrom::Partition,
        ..by_field
    };
    let batch = Decoder::new(&by_partition).decode(&[Message {
        key: None,
        ..message(b"{}")
    }]);
    assert_eq!(batch.records[0].series, "3");
}

#[test]
fn the_event_time_may_be_kafkas_or_a_field() {
    let (reason, detail) = rejection(
        &x(),
        Message {
            timestamp: None,
            ..message(b"{}")
        },
    );
    assert_eq!(reason, RejectReason::MissingTime, "{detail}");
    let (reason, detail) = rejection(
        &x(),
        Message {
            timestamp: Some(EventTime(-1)),
            ..message(b"{}")
        },
    );
    assert_eq!(reason, RejectReason::BadTime, "{detail}");

    let mut by_field = format(&[("x", "x")]);
    by_field.time = TimeFrom::Field(vec!["ts".into()]);
    let decoder = Decoder::new(&by_field);
    for ts in [
        "1773051273",
        "1773051273.0",
        "\"1773051273\"",
        "\"2026-03-09T10:14:33Z\"",
        "1773051273000000000",
    ] {
        let payload = format!("{{\"ts\":{ts}}}");
        let batch = decoder.decode(&[message(payload.as_bytes())]);
        assert_eq!((batch.records[0].time, batch.coerced), (AT, 0), "{ts}");
    }
    let missing = RejectReason::MissingTime;
    let bad = RejectReason::BadTime;
    for (payload, reason) in [
        ("{}", missing),
        ("{\"ts\":null}", missing),
        ("{\"ts\":\" \"}", missing),
        ("{\"ts\":true}", bad),
        ("{\"ts\":[]}", bad),
        ("{\"ts\":\"soon\"}", bad),
        ("{\"ts\":-5}", bad),
        ("{\"ts\":18446744073709551615}", bad),
        ("{\"ts\":1e999}", bad),
    ] {
        assert_rejected(&decoder, payload.as_bytes(), reason, &["event time `ts`"]);
    }
}

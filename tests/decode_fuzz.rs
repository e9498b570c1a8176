//! 100,000 damaged payloads through the JSON decoder: whatever comes, each message is one record or
//! one rejection, in order, and what is accepted means the same to an independent reader.

use outlierd::decode::records::Decoder;
use outlierd::record::format::{FieldSettings, KeyFrom, RecordFormat, TimeFrom};
use outlierd::record::{Batch, EventTime, Message, RejectReason, Rejected};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

const PAYLOADS: usize = 100_000;
const BATCH: usize = 500;

/// Values that a structural mutation puts in place of others.
const VALUES: [&str; 30] = [
    "1",
    "-0.5",
    "1e5",
    "1e999",
    "-1e-999",
    "123456789012345678901234567890",
    "true",
    "false",
    "null",
    "\"\"",
    "\" 12.5 \"",
    "\"NaN\"",
    "\"-inf\"",
    "\"n/a\"",
    "\"1,5\"",
    "\"\\u0031\"",
    "\"\\ud800\"",
    "NaN",
    "-Infinity",
    "{}",
    "[]",
    "[1,[2,{\"x\":3}]]",
    "{\"temp\":4}",
    "{\"temp\":{\"temp\":5}}",
    "{\"a\":1,\"a\":2}",
    "\"p\u{e9}\u{1F4A9}\"",
    "1773051273",
    "\"2026-03-09 10:14:33\"",
    "18446744073709551615",
    "9007199254740993",
];

/// Pieces that a token mutation inserts or removes.
const TOKENS: [&str; 22] = [
    "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u00", "null", "NaN", "e", "E+", "-", ".", "0",
    "\n", " ", "\u{FEFF}", "\u{0}", "\"x\":1,", "\\",
];

fn format() -> RecordFormat {
    let field = |name: &str, path: &[&str]| FieldSettings {
        path: path.iter().map(|&key| key.to_owned()).collect(),
        ..FieldSettings::named(name)
    };
    RecordFormat {
        key: KeyFrom::Field(vec!["pump".to_owned()]),
        time: TimeFrom::Field(vec!["ts".to_owned()]),
        max_payload_bytes: 4096,
        ..RecordFormat::json(vec![
            field("flow", &["flow"]),
            field("temp", &["motor", "temp"]),
            field("second", &["r", "1", "v"]),
            field("b\"q", &["b\"q"]),
        ])
    }
}

/// The keys, then values, of a record's members; nested parts are values.
fn members(rng: &mut ChaCha8Rng) -> Vec<(String, String)> {
    let number = |rng: &mut ChaCha8Rng| match rng.random_range(0..4) {
        0 => format!("{}", rng.random_range(-1000..1000)),
        1 => format!("{:e}", f64::from_bits(rng.random::<u64>() & !(1 << 62))),
        2 => format!("\"{:.3}\"", rng.random_range(-1e6..1e6)),
        _ => format!("{:.6}", rng.random_range(-1e3..1e3)),
    };
    let mut members = vec![
        (
            "pump".to_owned(),
            format!("\"p{}\"", rng.random_range(0..10)),
        ),
        (
            "ts".to_owned(),
            format!("{}", 1_773_051_273 + rng.random_range(0..1_000_000)),
        ),
        ("flow".to_owned(), number(rng)),
        (
            "motor".to_owned(),
            format!("{{\"rpm\":7,\"temp\":{}}}", number(rng)),
        ),
        (
            "r".to_owned(),
            format!("[{{\"v\":1}},{{\"v\":{}}},3]", number(rng)),
        ),
        ("b\\\"q".to_owned(), number(rng)),
        (
            "note".to_owned(),
            "{\"deep\":[[[{\"x\":null}]]],\"t\":\"\u{e9}\\n\"}".to_owned(),
        ),
    ];
    for at in (1..members.len()).rev() {
        members.swap(at, rng.random_range(0..=at));
    }
    members
}

fn joined(members: &[(String, String)]) -> Vec<u8> {
    let parts: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("{{{}}}", parts.join(",")).into_bytes()
}

fn pick<'a>(rng: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng).expect("there are some")
}

fn mutate_structure(rng: &mut ChaCha8Rng, members: &mut Vec<(String, String)>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..members.len());
        match rng.random_range(0..5) {
            0 => members[at].1 = pick(rng, &VALUES).to_owned(),
            1 => members.push(members[at].clone()),
            2 if members.len() > 1 => drop(members.remove(at)),
            3 => members[at].1 = format!("{{\"temp\":{},\"v\":1}}", pick(rng, &VALUES)),
            _ => members[at].0 = members[at].0.replacen('o', "\\u006f", 1),
        }
    }
}

fn mutate_tokens(rng: &mut ChaCha8Rng, payload: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=payload.len());
        let cut = (at + rng.random_range(0..4)).min(payload.len());
        payload.splice(at..cut, pick(rng, &TOKENS).bytes());
    }
}

fn mutate_bytes(rng: &mut ChaCha8Rng, payload: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..payload.len());
        match rng.random_range(0..4) {
            0 => payload[at] = rng.random(),
            1 => payload[at] ^= 1 << rng.random_range(0..8),
            2 => payload.insert(at, rng.random()),
            _ => payload.truncate(at.max(1)),
        }
    }
}

/// One payload: a valid record, damaged in one of six ways, or not at all.
fn payload(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut members = members(rng);
    match rng.random_range(0..10) {
        0 => return (0..rng.random_range(0..64)).map(|_| rng.random()).collect(),
        1 => return vec![b"{[\"0"[rng.random_range(0..4)]; rng.random_range(0..6000)],
        2..=5 => mutate_structure(rng, &mut members),
        6 => {
            // Not one reading is a number.
            members.retain(|(key, _)| key == "pump" || key == "ts");
            members.push((
                "flow".to_owned(),
                pick(rng, &["\"Bad\"", "{}", "1e999"]).to_owned(),
            ));
        }
        _ => {}
    }
    let mut payload = joined(&members);
    match rng.random_range(0..4) {
        0 => mutate_tokens(rng, &mut payload),
        1 => mutate_bytes(rng, &mut payload),
        _ => {}
    }
    payload
}

/// What one reading is, by the rules of the documentation and on a built document: NaN is missing,
/// infinite is not finite.
fn reading(document: &Value, path: &[&str]) -> f64 {
    let mut value = document;
    for key in path {
        let below = match value {
            Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Object(_) => value.get(key),
            Value::Null => None,
            // It stands in place of the object that has the reading.
            _ => return f64::INFINITY,
        };
        let Some(below) = below else { return f64::NAN };
        value = below;
    }
    match value {
        Value::Null => f64::NAN,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().expect("a 64-bit float"),
        Value::String(text) if text.trim().is_empty() => f64::NAN,
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => number,
            _ => f64::INFINITY,
        },
        Value::Array(_) | Value::Object(_) => f64::INFINITY,
    }
}

/// Whether the independent reader may fail where the decoder did not: it computes what the decoder
/// only skips.
fn is_skipped_detail(error: &serde_json::Error) -> bool {
    let error = error.to_string();
    [
        "number out of range",
        "surrogate",
        "hex escape",
        "recursion limit",
    ]
    .iter()
    .any(|part| error.contains(part))
}

/// Numbers that JSON does not know, and words for what is not one, in quotes.
fn worded(text: &str) -> String {
    let (mut worded, mut token) = (String::new(), String::new());
    let (mut in_text, mut is_escaped) = (false, false);
    for c in text.chars().chain(['\n']) {
        if !in_text && (c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            token.push(c);
            continue;
        }
        let is_number = token.parse::<f64>().is_ok();
        let is_known = serde_json::from_str::<Value>(&token).is_ok();
        match is_number && !is_known {
            true => worded.push_str(&format!("\"{token}\"")),
            false => worded.push_str(&token),
        }
        token.clear();
        if c == '"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = in_text && c == '\\' && !is_escaped;
        worded.push(c);
    }
    worded
}

/// Holds an accepted record against an independent reading of its payload; `false` where that
/// reader cannot read it.
fn check_record(payload: &[u8], series: &str, time: EventTime, values: &[f64]) -> bool {
    let shown = String::from_utf8_lossy(payload);
    let text = shown.trim_start_matches('\u{FEFF}');
    let document: Value =
        match serde_json::from_str(text).or_else(|_| serde_json::from_str(&worded(text))) {
            Ok(document) => document,
            Err(error) if is_skipped_detail(&error) => return false,
            Err(error) => panic!("accepted, but {error}: {shown}"),
        };
    let due = [
        &["flow"][..],
        &["motor", "temp"],
        &["r", "1", "v"],
        &["b\"q"],
    ]
    .map(|path| reading(&document, path));
    for (found, due) in values.iter().zip(due) {
        let same = if due.is_nan() {
            found.is_nan()
        } else {
            *found == due
        };
        assert!(same, "{found} for {due}: {shown}");
        assert!(
            found.is_finite() || found.is_nan() || *found == f64::INFINITY,
            "{found}: {shown}"
        );
    }
    let key = match &document["pump"] {
        Value::String(key) => key.clone(),
        other => other.to_string(),
    };
    assert!(key == series && !series.is_empty(), "{shown}");
    if let Some(seconds) = document["ts"]
        .as_i64()
        .filter(|&number| number < 10_000_000_000)
    {
        assert_eq!(time, EventTime(seconds * 1_000_000), "{shown}");
    }
    true
}

/// What a batch came to: records checked, records beyond the independent reader, and the reasons of
/// the rest.
fn check_batch(
    payloads: &[Vec<u8>],
    batch: &Batch<'_>,
    tally: &mut (usize, usize, Vec<RejectReason>),
) {
    assert_eq!(batch.records.len() + batch.rejected.len(), payloads.len());
    assert_eq!(batch.values.len(), batch.records.len() * 4);
    let (mut records, mut rejected) = (
        batch.records.iter().zip(batch.values.chunks(4)).peekable(),
        batch.rejected.iter(),
    );
    for (index, payload) in payloads.iter().enumerate() {
        if let Some((record, values)) = records.next_if(|(record, _)| record.message == index) {
            assert_eq!(
                (record.partition, record.offset),
                (index as i32 % 7, index as i64)
            );
            match check_record(payload, &record.series, record.time, values) {
                true => tally.0 += 1,
                false => tally.1 += 1,
            }
        } else {
            let rejected = rejected.next().expect("neither a record nor a rejection");
            assert_eq!(rejected.message, index, "out of order");
            assert!(!rejected.detail.is_empty() && rejected.detail.len() <= Rejected::DETAIL_MAX);
            tally.2.push(rejected.reason);
        }
    }
}

#[test]
fn every_payload_is_one_record_or_one_rejection_and_records_mean_what_they_say() {
    let decoder = Decoder::new(&format());
    let mut rng = ChaCha8Rng::seed_from_u64(20_260_309);
    let mut tally = (0, 0, Vec::new());
    for _ in 0..PAYLOADS / BATCH {
        let payloads: Vec<Vec<u8>> = (0..BATCH).map(|_| payload(&mut rng)).collect();
        let message = |(index, payload)| Message {
            partition: index as i32 % 7,
            offset: index as i64,
            key: None,
            payload: Some(Vec::as_slice(payload)),
            timestamp: None,
            arrival: None,
            headers: None,
        };
        let messages: Vec<Message<'_>> = payloads.iter().enumerate().map(message).collect();
        check_batch(&payloads, &decoder.decode(&messages), &mut tally);
    }
    let (checked, unchecked, mut reasons) = tally;
    assert_eq!(checked + unchecked + reasons.len(), PAYLOADS);
    // The generator has to reach both sides of every branch, or the test proves little.
    assert!(
        checked > PAYLOADS / 4 && unchecked < PAYLOADS / 50,
        "{checked} checked, {unchecked} not"
    );
    reasons.sort_unstable();
    reasons.dedup();
    let reached = [
        RejectReason::Empty,
        RejectReason::TooLarge,
        RejectReason::NotUtf8,
        RejectReason::NotJson,
        RejectReason::NotObject,
        RejectReason::DuplicateField,
        RejectReason::WrongType,
        RejectReason::MissingKey,
        RejectReason::BadKey,
        RejectReason::MissingTime,
        RejectReason::BadTime,
    ];
    assert_eq!(reasons, reached);
}

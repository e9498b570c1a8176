//! Stored rows of a series are of the fields, time features and periods that they were read with:
//! rows of another configuration are not scored.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;
mod two_fields;

use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::{SeriesState, SeriesTable};
use outlierd::record::{Message, RecordVerdict};
use outlierd::state::codec;

/// A stream over windows of four records, with `more` settings.
fn stream(more: &[&str]) -> Arc<StreamSettings> {
    two_fields::stream(
        &[
            &["record.key=partition", "record.time=field:t", "window=4"],
            more,
        ]
        .concat(),
    )
}

/// The verdict of each of the records of `seconds`, and the state of their series after them.
fn run(
    stream: &Arc<StreamSettings>,
    stored: Option<&[u8]>,
    seconds: std::ops::Range<i64>,
) -> (Vec<RecordVerdict>, Vec<u8>) {
    let bundle = two_fields::bundle(stream, &["0"]);
    let mut pipeline = Pipeline::new(stream.clone(), Some(bundle)).unwrap();
    let mut table = SeriesTable::new(10);
    let mut load =
        |_, _: &str| Ok(stored.map(|bytes| codec::decode::<SeriesState>(bytes).unwrap()));
    let mut verdicts = Vec::new();
    for second in seconds {
        let values = two_fields::values(0, second, 0.0);
        let time = 1_767_225_600 + second;
        let payload = format!(
            r#"{{"t":{time},"x":{},"y":{},"z":{}}}"#,
            values[0], values[1], values[1]
        );
        let message = Message {
            offset: second,
            payload: Some(payload.as_bytes()),
            ..Message::default()
        };
        let output = pipeline.run(&[message], &mut table, &mut load).unwrap();
        verdicts.extend(output.outcomes.iter().map(|outcome| outcome.verdict));
    }
    let slot = table.find(0, "0").unwrap();
    let state = codec::encode(&table.get_mut(slot).unwrap().state).unwrap();
    (verdicts, state)
}

#[test]
fn a_window_continues_after_a_restart_and_not_over_a_change_of_the_rows() {
    let before = stream(&[]);
    let (verdicts, state) = run(&before, None, 2_000..2_010);
    assert_eq!(verdicts[..3], [RecordVerdict::Learning; 3]);
    assert!(!verdicts[3..].contains(&RecordVerdict::Learning));
    let first = |stream: &Arc<StreamSettings>| run(stream, Some(&state), 2_010..2_011).0[0];
    assert_ne!(first(&before), RecordVerdict::Learning);
    for (what, other) in [
        ("another field", "record.fields=[\"x\", \"z\"]"),
        ("another order", "record.fields=[\"y\", \"x\"]"),
        ("another context", "model.context=[\"time_of_day\"]"),
    ] {
        assert_eq!(first(&stream(&[other])), RecordVerdict::Learning, "{what}");
    }
}

#[test]
fn the_clock_of_a_series_outlasts_a_change_of_its_fields() {
    let (_, state) = run(&stream(&[]), None, 2_000..2_010);
    let other = stream(&["record.fields=[\"x\", \"z\"]", "gate.allowed_lateness=0s"]);
    let (verdicts, _) = run(&other, Some(&state), 2_005..2_006);
    assert_eq!(verdicts, [], "a late record stays late");
}

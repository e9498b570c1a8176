//! Series that fall silent, through the daemon's own pipeline.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::{SeriesState, SeriesTable, Slot, StoredSeries};
use outlierd::record::alert::{Alert, AlertEvent, AlertKind, CloseReason, Severity};
use outlierd::record::{Batch, EventTime, Record};
use outlierd::state::codec;

const PUMPS: usize = 10;

fn stream(more: &[&str]) -> Arc<StreamSettings> {
    let base = ["record.fields=[\"x\", \"y\", \"z\"]"];
    test_stream::stream(&[&base, more].concat())
}

/// A record: series, event time in seconds.
type Sent = (String, i64);

/// What `sends` says of each pump and second, in the order of time.
fn records(seconds: i64, sends: impl Fn(usize, i64) -> bool) -> Vec<Sent> {
    let all = (0..seconds).flat_map(|second| (0..PUMPS).map(move |pump| (pump, second)));
    all.filter(|&(pump, second)| sends(pump, second))
        .map(|(pump, second)| (name(pump), second))
        .collect()
}

fn name(pump: usize) -> String {
    format!("hall-{}/pump-{pump}", pump / 5)
}

/// Runs records in batches of that size, starting again from the encoded states after each of them
/// where asked for.
fn run(stream: &Arc<StreamSettings>, records: &[Sent], batch: usize, resumes: bool) -> Vec<Alert> {
    let mut lane = TestLane::new(stream);
    let mut alerts = Vec::new();
    for part in records.chunks(batch) {
        alerts.extend(lane.run(part));
        if resumes {
            lane.restart();
        }
    }
    alerts
}

/// What a lane does around the pipeline: it keeps states and clocks.
struct TestLane {
    stream: Arc<StreamSettings>,
    pipeline: Pipeline,
    table: SeriesTable,
    /// States, encoded.
    stored: HashMap<String, Vec<u8>>,
    /// Offset of the next record.
    next: usize,
}

impl TestLane {
    fn new(stream: &Arc<StreamSettings>) -> Self {
        let mut table = SeriesTable::new(1_000);
        table.keep_stored();
        Self {
            stream: stream.clone(),
            pipeline: Pipeline::new(stream.clone(), None).unwrap(),
            table,
            stored: HashMap::new(),
            next: 0,
        }
    }

    /// Runs a batch of partition 0; returns its alerts of missing data.
    fn run(&mut self, records: &[Sent]) -> Vec<Alert> {
        self.run_of(0, records)
    }

    fn run_of(&mut self, partition: i32, records: &[Sent]) -> Vec<Alert> {
        let mut decoded = Batch::default();
        for (index, (series, second)) in records.iter().enumerate() {
            let (offset, time) = ((self.next + index) as i64, EventTime(second * 1_000_000));
            decoded.records.push(Record {
                message: index,
                partition,
                offset,
                part: None,
                series: Cow::Borrowed(series.as_str()),
                time,
                second_time: None,
                arrival: None,
            });
            decoded
                .values
                .extend([*second as f64, (second % 17) as f64, (offset % 13) as f64]);
        }
        self.next += records.len();
        let stored = &self.stored;
        let mut load = |_, series: &str| Ok(stored.get(series).map(|b| codec::decode(b).unwrap()));
        let (pipeline, table) = (&mut self.pipeline, &mut self.table);
        let mut alerts = pipeline
            .run_decoded(decoded, table, &mut load)
            .unwrap()
            .alerts;
        alerts.retain(|alert| alert.kind == AlertKind::Silence);
        alerts
    }

    /// The partition has had no record for so many seconds, and others have.
    fn scan_silence(&mut self, seconds: i64) -> Vec<Alert> {
        let stored = &self.stored;
        let mut load = |_, series: &str| Ok(stored.get(series).map(|b| codec::decode(b).unwrap()));
        let newest = (0, self.next as i64 - 1);
        let (pipeline, table) = (&mut self.pipeline, &mut self.table);
        pipeline
            .scan_silence(newest, seconds * 1_000_000, table, &mut load)
            .unwrap()
    }

    /// Starts again from what is kept, and nothing else.
    fn restart(&mut self) {
        let clock = self.pipeline.silence.as_ref().unwrap().clock(0).cloned();
        let encoded = |slot: &Slot| (slot.series.to_string(), codec::encode(&slot.state).unwrap());
        let changed: Vec<_> = self.table.take_dirty().map(encoded).collect();
        let mut stored = std::mem::take(&mut self.stored);
        stored.extend(changed);
        let next = self.next;
        *self = Self::new(&self.stream.clone());
        (self.stored, self.next) = (stored, next);
        if let Some(clock) = clock {
            let clock = codec::decode(&codec::encode(&clock).unwrap()).unwrap();
            self.pipeline.silence.as_mut().unwrap().set_clock(0, clock);
        }
        for (series, bytes) in &self.stored {
            let state: SeriesState = codec::decode(bytes).unwrap();
            self.table.set_stored(0, series, StoredSeries::from(&state));
        }
        self.table.set_known(0, self.stored.len());
    }
}

fn told(alerts: &[Alert]) -> Vec<(&str, AlertEvent)> {
    alerts
        .iter()
        .map(|alert| (alert.series.as_str(), alert.event))
        .collect()
}

#[test]
fn a_pump_that_falls_silent_is_announced_once_and_closed_by_its_next_record() {
    let sent = records(3_000, |pump, second| {
        pump != 3 || !(1_000..2_000).contains(&second)
    });
    let alerts = run(&stream(&[]), &sent, 97, false);
    let series = name(3);
    assert_eq!(
        told(&alerts),
        [
            (series.as_str(), AlertEvent::Open),
            (series.as_str(), AlertEvent::Close)
        ]
    );
    let (open, close) = (&alerts[0], &alerts[1]);
    assert_eq!((&open.id, &open.opened_at), (&close.id, &close.opened_at));
    // A minute after its last record, which is silence.at_least.
    assert_eq!(
        (open.time.as_str(), open.severity),
        ("1970-01-01T00:17:39Z", Severity::Warning)
    );
    assert_eq!(close.closed_at.as_deref(), Some("1970-01-01T00:33:20Z"));
    assert_eq!((open.sequence, close.sequence), (0, 1));
}

#[test]
fn the_same_records_make_the_same_alerts_however_they_are_batched_or_resumed() {
    let sent = records(2_000, |pump, second| {
        (second + pump as i64) % 3 == 0 && !(pump > 7 && second > 1_000)
    });
    let whole = run(&stream(&[]), &sent, sent.len(), false);
    assert_eq!(whole.len(), 2);
    for batch in [1, 7, 500] {
        assert_eq!(
            run(&stream(&[]), &sent, batch, false),
            whole,
            "batches of {batch}"
        );
    }
    assert_eq!(run(&stream(&[]), &sent, 100, true), whole, "resumed");
}

#[test]
fn usual_rests_bursts_and_a_whole_plant_that_stops_are_no_silence() {
    let jitter = |pump: usize, second: i64| (second * 7 + pump as i64 * 13) % 5 < 2;
    let bursts = |pump: usize, second: i64| (second + 40 * pump as i64) % 400 < 10;
    let stops = |_: usize, second: i64| !(500..=50_000).contains(&second);
    assert_eq!(run(&stream(&[]), &records(5_000, jitter), 100, false), []);
    // Three bursts are needed to know of them.
    let bursts = run(&stream(&[]), &records(20_000, bursts), 100, false);
    assert!(
        bursts
            .iter()
            .all(|alert| alert.time.as_str() < "1970-01-01T00:30:00Z"),
        "{bursts:#?}"
    );
    assert_eq!(run(&stream(&[]), &records(50_600, stops), 100, false), []);
}

#[test]
fn a_source_whose_clock_is_ahead_makes_no_other_silent() {
    let mut sent = records(2_000, |_, _| true);
    for (series, second) in &mut sent {
        if *series == name(4) && *second > 1_000 {
            *second += 1_800;
        }
    }
    assert_eq!(run(&stream(&[]), &sent, 100, false), []);
}

#[test]
fn a_gateway_that_falls_silent_is_one_alert() {
    let gateways = stream(&["silence.gateway=/"]);
    let sent = records(3_000, |pump, second| {
        pump >= 5 || !(1_000..2_000).contains(&second)
    });
    let alerts = run(&gateways, &sent, 97, false);
    assert_eq!(
        told(&alerts),
        [
            ("hall-0/*", AlertEvent::Open),
            ("hall-0/*", AlertEvent::Close)
        ]
    );
    assert_eq!(
        (alerts[0].records, alerts[0].severity),
        (5, Severity::Critical)
    );
    assert_eq!(
        (&alerts[0].id, &alerts[0].opened_at),
        (&alerts[1].id, &alerts[1].opened_at)
    );
    assert_eq!(run(&gateways, &sent, 97, true), alerts, "resumed");

    // One sensor is not its gateway; and what does not come back with its gateway is told then.
    let one = records(2_000, |pump, second| pump != 2 || second < 1_000);
    assert_eq!(
        told(&run(&gateways, &one, 97, false)),
        [("hall-0/pump-2", AlertEvent::Open)]
    );
    let but_one = records(3_000, |pump, second| {
        pump >= 5 || second < 1_000 || (pump != 2 && second >= 2_000)
    });
    let expected = [
        ("hall-0/*", AlertEvent::Open),
        ("hall-0/*", AlertEvent::Close),
        ("hall-0/pump-2", AlertEvent::Open),
    ];
    assert_eq!(told(&run(&gateways, &but_one, 97, false)), expected);
}

#[test]
fn what_is_muted_or_turned_off_is_not_announced() {
    let sent = records(3_000, |pump, second| {
        pump != 3 || !(1_000..2_000).contains(&second)
    });
    assert_eq!(run(&stream(&["silence.after=0"]), &sent, 97, false), []);
    let mute =
        "mutes=[{series=\"*pump-3\", from=1970-01-01T00:10:00Z, until=1970-01-01T00:30:00Z}]";
    let alerts = run(&stream(&[mute]), &sent, 97, false);
    let series = name(3);
    assert_eq!(
        told(&alerts),
        [
            (series.as_str(), AlertEvent::Open),
            (series.as_str(), AlertEvent::Close)
        ]
    );
    // Looked at when the mute was over, and not before.
    let half_past = 1_800 * 10;
    assert!(
        alerts[0].position.offset >= half_past - 1_000,
        "{:?}",
        alerts[0]
    );
}

#[test]
fn where_one_pump_goes_on_alone_all_others_are_silent() {
    for goes_on in [0, 4] {
        let sent = records(4_000, |pump, second| {
            second < 1_000 || pump == goes_on || second > 3_500
        });
        let alerts = run(&stream(&[]), &sent, 97, false);
        let opened = alerts
            .iter()
            .filter(|alert| alert.event == AlertEvent::Open);
        let mut opened: Vec<&str> = opened.map(|alert| &*alert.series).collect();
        opened.sort_unstable();
        let others = (0..PUMPS).filter(|&pump| pump != goes_on).map(name);
        assert_eq!(opened, others.collect::<Vec<_>>());
        assert_eq!(
            alerts.len(),
            2 * (PUMPS - 1),
            "each is closed when it is back"
        );
        let late = |alert: &&Alert| &*alert.time > "1970-01-01T00:20:00Z";
        let opened = alerts
            .iter()
            .filter(|alert| alert.event == AlertEvent::Open);
        assert_eq!(opened.filter(late).count(), 0, "within minutes: {alerts:?}");
        for batch in [1, 50] {
            assert_eq!(run(&stream(&[]), &sent, batch, true), alerts, "resumed");
        }
    }
}

#[test]
fn a_source_whose_clock_leaps_ahead_makes_nobody_silent() {
    let mut sent = records(3_000, |_, _| true);
    let ahead = |(series, second): &mut Sent| {
        if *series == name(2) && *second > 1_000 {
            *second += 3_000;
        }
    };
    sent.iter_mut().for_each(ahead);
    assert_eq!(told(&run(&stream(&[]), &sent, 97, false)), []);
}

/// A partition without records for so many seconds, looked at every five of them, while others go on:
/// its alerts, with the states and the clock stored and loaded before each look where asked for.
fn alerts_without_records(
    stream: &Arc<StreamSettings>,
    sent: &[Sent],
    seconds: i64,
    resumes: bool,
) -> Vec<Alert> {
    let mut lane = TestLane::new(stream);
    lane.run(sent);
    let mut alerts = Vec::new();
    for second in (0..seconds).step_by(5) {
        if resumes {
            lane.restart();
        }
        alerts.extend(lane.scan_silence(second));
    }
    let last = sent.last().unwrap().1;
    let back: Vec<Sent> = (0..PUMPS)
        .map(|pump| (name(pump), last + seconds))
        .collect();
    alerts.extend(lane.run(&back));
    alerts
}

#[test]
fn series_of_a_partition_without_records_are_silent_where_others_go_on() {
    let sent = records(1_000, |_, _| true);
    let alerts = alerts_without_records(&stream(&[]), &sent, 600, false);
    let (opened, closed) = alerts.split_at(PUMPS);
    let names: Vec<String> = (0..PUMPS).map(name).collect();
    for (alerts, event) in [(opened, AlertEvent::Open), (closed, AlertEvent::Close)] {
        assert!(
            alerts.iter().all(|alert| alert.event == event),
            "{:?}",
            told(alerts)
        );
        let of = alerts.iter().map(|alert| alert.series.clone());
        assert_eq!(of.collect::<Vec<_>>(), names);
    }
    assert_eq!(alerts.len(), 2 * PUMPS);
    assert!(
        opened
            .iter()
            .all(|open| open.time == "1970-01-01T00:17:39Z"),
        "{opened:?}"
    );
    assert_eq!(
        opened[3].summary,
        "Series hall-0/pump-3 has sent no record since 00:16:39 UTC; a record was due by 00:17:39 UTC."
    );
    assert_eq!(
        closed[3].summary,
        "Series hall-0/pump-3 sends again; the silence lasted 10 min from 00:16:39 UTC to 00:26:39 UTC."
    );
    assert_eq!(
        alerts_without_records(&stream(&[]), &sent, 600, true),
        alerts,
        "resumed"
    );
    assert_eq!(
        alerts_without_records(&stream(&[]), &sent, 55, false),
        [],
        "not a minute"
    );
}

#[test]
fn gateways_of_a_partition_without_records_are_one_alert_each() {
    let gateways = stream(&["silence.gateway=/"]);
    // The last machine is read from another partition.
    let sent = records(1_000, |pump, _| pump < 7);
    let alerts = alerts_without_records(&gateways, &sent, 600, false);
    let opened = [
        ("hall-0/*", AlertEvent::Open),
        ("hall-1/*", AlertEvent::Open),
    ];
    assert_eq!(told(&alerts[..2]), opened);
    assert_eq!(
        alerts[0].summary,
        "Gateway hall-0 with all of its 5 series has sent no record since 00:16:39 UTC."
    );
    assert_eq!(alerts.len(), 4, "{:?}", told(&alerts));
}

#[test]
fn a_batch_that_is_followed_by_one_of_another_partition_has_ended() {
    for (follows, expected) in [(true, 0), (false, 1)] {
        let stream = stream(&[]);
        let mut lane = TestLane::new(&stream);
        let batch = |names: &[&str], begins: i64| {
            let all = (begins..begins + 400)
                .flat_map(|second| names.iter().map(move |name| ((*name).to_owned(), second)));
            all.collect::<Vec<Sent>>()
        };
        lane.run_of(1, &batch(&["other"], 0));
        lane.run(&batch(&["A"], 0));
        let next: &[&str] = if follows { &["other", "B"] } else { &["other"] };
        lane.run_of(1, &batch(next, 405));
        let opened: usize = (0..600)
            .step_by(5)
            .map(|s| lane.scan_silence(s).len())
            .sum();
        assert_eq!(opened, expected, "{next:?}");
    }
}

#[test]
fn records_that_a_gateway_kept_while_its_partition_was_silent_make_no_silence() {
    let stream = stream(&[]);
    let mut lane = TestLane::new(&stream);
    lane.run(&records(1_000, |_, _| true));
    for second in (0..50).step_by(5) {
        assert_eq!(lane.scan_silence(second), []);
    }
    // What was measured meanwhile, one machine after the other.
    let kept = (0..PUMPS).flat_map(|pump| (1_000..1_050).map(move |second| (name(pump), second)));
    assert_eq!(told(&lane.run(&kept.collect::<Vec<_>>())), []);
    let all = (1_050..1_500).flat_map(|second| (0..PUMPS).map(move |pump| (name(pump), second)));
    assert_eq!(told(&lane.run(&all.collect::<Vec<_>>())), []);
}

/// Batches of so many seconds, one after the other with a pause, each a series.
fn batches(count: i64, lasts: i64, pause: i64) -> Vec<Sent> {
    let of = |batch: i64| {
        let begins = batch * (lasts + pause);
        (begins..begins + lasts).map(move |second| (format!("B{batch}"), second))
    };
    (0..count).flat_map(of).collect()
}

#[test]
fn a_batch_that_the_next_one_follows_has_ended() {
    assert_eq!(
        told(&run(&stream(&[]), &batches(12, 400, 5), 97, false)),
        []
    );
    let silence = stream(&["silence.series_end=silence"]);
    let alerts = run(&silence, &batches(12, 400, 5), 97, false);
    // Of later ones nobody knows: sources that take turns look the same.
    assert_eq!(told(&alerts), [("B0", AlertEvent::Open)]);
}

#[test]
fn a_batch_that_the_next_one_follows_late_is_closed_then_and_later_ones_are_waited_for() {
    let sent = batches(12, 400, 200);
    let alerts = run(&stream(&[]), &sent, 97, false);
    assert!((2..=8).contains(&alerts.len()), "{:?}", told(&alerts));
    let ended = |alert: &&Alert| alert.close_reason == Some(CloseReason::Ended);
    assert_eq!(alerts.iter().filter(ended).count() * 2, alerts.len());
    assert_eq!(run(&stream(&[]), &sent, 7, true), alerts, "resumed");
}

#[test]
fn the_alert_of_a_series_that_is_forgotten_is_closed() {
    let sent = records(9_000, |pump, second| pump != 3 || second < 1_000);
    let hour = stream(&["retention.forget_after=1h"]);
    let alerts = run(&hour, &sent, 97, false);
    let [open, close] = &alerts[..] else {
        panic!("{:?}", told(&alerts))
    };
    assert_eq!(open.id, close.id);
    assert_eq!(close.close_reason, Some(CloseReason::Forgotten));
    assert!(*close.time > *"1970-01-01T01:16:39Z" && *close.time < *"1970-01-01T01:20:00Z");
    assert_eq!(run(&hour, &sent, 50, true), alerts, "resumed");
}

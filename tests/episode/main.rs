//! Episodes as the pipeline uses them: when they open and close, what is published, and what must
//! always hold.

mod flaps;
mod forgotten;
mod pauses;
mod properties;
mod published;

use std::collections::BTreeSet;
use std::time::Duration;

use outlierd::episode::{EpisodeOutput, EpisodePolicy, EpisodeState, RATIO_MAX};
use outlierd::episode::{EpisodeSettings, MuteSettings, NOfM};
use outlierd::record::alert::{Alert, AlertEvent, AlertKind, FieldShare, Severity};
use outlierd::record::format::FieldSettings;
use outlierd::record::row::{Judgement, RecordContext};
use outlierd::record::{EventTime, FaultKind, RecordVerdict, SensorFault};

const SECOND: i64 = 1_000_000;
const THRESHOLD: f64 = 2.0;

fn rules() -> EpisodeSettings {
    EpisodeSettings {
        open: NOfM { n: 2, m: 3 },
        close_ratio: 0.8,
        close_after: 3,
        cool_down: Duration::ZERO,
        update_every: Duration::ZERO,
        critical_ratio: 2.0,
        suspect_ratio: 0.9,
        top_fields: 2,
    }
}

fn plan(rules: &EpisodeSettings, mutes: &[MuteSettings]) -> EpisodePolicy {
    let field = FieldSettings::named;
    EpisodePolicy::new(
        "pumps",
        "plant.pumps",
        &[field("temp"), field("flow"), field("current")],
        rules,
        mutes,
    )
}

fn mute(series: &str, from: i64, until: i64) -> MuteSettings {
    let (from, until) = (EventTime(from * SECOND), EventTime(until * SECOND));
    MuteSettings {
        series: series.into(),
        from,
        until,
        reason: "overhaul".into(),
    }
}

fn shares() -> Vec<FieldShare> {
    let share = |name: &str, share| FieldShare {
        name: name.into(),
        unit: None,
        value: 1.0,
        expected: 0.0,
        share,
    };
    vec![
        share("temp", 0.1),
        share("flow", 0.7),
        share("current", 0.2),
    ]
}

/// One series fed one record a second; record `k` stands at offset `k`.
struct Series {
    plan: EpisodePolicy,
    state: EpisodeState,
    next: i64,
}

impl Series {
    fn new(rules: &EpisodeSettings, mutes: &[MuteSettings]) -> Self {
        Self {
            plan: plan(rules, mutes),
            state: EpisodeState::default(),
            next: 0,
        }
    }

    fn step(&mut self, letter: char) -> EpisodeOutput {
        let offset = self.next;
        self.next += 1;
        feed(&self.plan, &mut self.state, offset * SECOND, offset, letter)
    }

    /// Feeds a record for each letter; `-` for each that published nothing, else the first letter
    /// of each event (upper case: an anomaly's; lower case: a sensor fault's; `oC`: both).
    fn events(&mut self, letters: &str) -> String {
        let name = |alert: &Alert| {
            let letter = &alert.event.as_str()[..1];
            if alert.kind == AlertKind::Anomaly {
                letter.to_uppercase()
            } else {
                letter.to_owned()
            }
        };
        let mut events = |letter| {
            let alerts = self.step(letter).alerts;
            if alerts.is_empty() {
                "-".to_owned()
            } else {
                alerts.iter().map(name).collect()
            }
        };
        letters.chars().map(&mut events).collect()
    }

    fn alerts(&mut self, letters: &str) -> Vec<Alert> {
        letters
            .chars()
            .flat_map(|letter| self.step(letter).alerts)
            .collect()
    }
}

fn pretty(alert: &Alert) -> String {
    serde_json::to_string_pretty(alert).expect("an alert is JSON")
}

/// The judgements by letter: `.` normal, `s` suspect (between closing and the threshold), `O`
/// outlier, `C` critical, `F` faulty (stuck), `J` a jump, `P` the end of a spike, `L` learning.
fn feed(
    plan: &EpisodePolicy,
    state: &mut EpisodeState,
    time: i64,
    offset: i64,
    letter: char,
) -> EpisodeOutput {
    let kind = match letter {
        'J' => FaultKind::Jump,
        'P' => FaultKind::Spike,
        _ => FaultKind::Stuck,
    };
    let faults = [SensorFault {
        field: 1,
        kind,
        value: Some(7.0),
        repeats: None,
    }];
    let scored = |score| Judgement::Scored {
        score,
        threshold: THRESHOLD,
        missing: 12,
        over_budget: false,
        settled: None,
        chart: None,
        faults: &[],
    };
    let judgement = match letter {
        '.' => scored(0.5),
        's' => scored(1.9),
        'O' => scored(3.0),
        'C' => scored(4.0),
        'F' | 'J' | 'P' => Judgement::Faulty(&faults),
        'L' => Judgement::Learning,
        _ => unreachable!("no such letter"),
    };
    let record = RecordContext {
        series: "pump-7",
        time: EventTime(time),
        partition: 4,
        offset,
        bundle: "b1",
        trained_on: 400,
        ..RecordContext::default()
    };
    plan.step(state, &record, &judgement, shares)
}

#[test]
fn transitions() {
    for (why, letters, expected) in [
        ("two of three open", "O.O", "--O"),
        ("two of four do not", "O..O", "----"),
        ("one does not", "O....", "-----"),
        ("three quiet ones close", "OO...", "-O--C"),
        (
            "an outlier starts their count again",
            "OO..O...",
            "-O-----C",
        ),
        ("so does a record in between", "OO..s...", "-O-----C"),
        ("records in between do not close", "OOsssssss", "-O-------"),
        (
            "after a close, outliers count from none",
            "OO...O.OO...",
            "-O--C--O---C",
        ),
        ("worse is told once", "OOCCC", "-OU--"),
        ("better is not told", "OCOOO", "-O---"),
        ("faults: three of five", "F.F.F", "----o"),
        ("faults: three in a row", "FFF", "--o"),
        ("a single gap calls nobody", "F....F....", "----------"),
        ("a jump is no fault yet", "JJJJJ..", "-------"),
        ("one spike is enough", "JP...", "-o--c"),
        ("a jump keeps a fault open", "P..J...", "o-----c"),
        ("fit records close a fault", "FFF...", "--o--c"),
        (
            "faults neither feed nor close an anomaly",
            "OFFO.FFF..",
            "---O-o---C",
        ),
        ("learning closes a fault", "FFFLLL", "--o--c"),
        ("learning does not move an anomaly", "OOLLL...", "-O-----C"),
        ("both can be open", "OOFFF...", "-O--o--cC"),
    ] {
        assert_eq!(
            Series::new(&rules(), &[]).events(letters),
            expected,
            "{why}: {letters}"
        );
    }
}

#[test]
fn verdicts_and_alerting() {
    let mut series = Series::new(&rules(), &[]);
    let steps: Vec<_> = "L.sOO...FFF"
        .chars()
        .map(|letter| series.step(letter))
        .collect();
    let verdicts: Vec<_> = steps.iter().map(|step| step.verdict).collect();
    use RecordVerdict::{Learning, Normal, Outlier, SensorFault, Suspect};
    let expected = [
        Learning, Normal, Suspect, Outlier, Outlier, Normal, Normal, Normal,
    ];
    assert_eq!(verdicts[..8], expected);
    assert_eq!(verdicts[8..], [SensorFault; 3]);
    let alerting: Vec<_> = (0..11).filter(|i| steps[*i].alerting).collect();
    assert_eq!(alerting, [4, 5, 6, 10]);
    assert!(series.state.fault_open() && !series.state.anomaly_open());
}

#[test]
fn shares_are_asked_for_only_where_an_anomaly_is_published() {
    let plan = plan(&rules(), &[]);
    let mut state = EpisodeState::default();
    let mut asked = Vec::new();
    for offset in 0..6 {
        let judgement = Judgement::Scored {
            score: 3.0,
            threshold: THRESHOLD,
            missing: 0,
            over_budget: false,
            settled: None,
            chart: None,
            faults: &[],
        };
        let record = RecordContext {
            series: "a",
            time: EventTime(offset),
            offset,
            bundle: "b1",
            ..RecordContext::default()
        };
        plan.step(&mut state, &record, &judgement, || {
            asked.push(offset);
            shares()
        });
    }
    assert_eq!(asked, [1]);
}

#[test]
fn ids_differ_in_every_part_and_do_not_run_together() {
    let rules = EpisodeSettings {
        open: NOfM { n: 1, m: 1 },
        ..rules()
    };
    let id = |stream: &str, topic: &str, series, partition, offset, faulty: bool| {
        let plan = EpisodePolicy::new(stream, topic, &[], &rules, &[]);
        let faults = [SensorFault {
            field: 0,
            kind: FaultKind::Missing,
            value: None,
            repeats: None,
        }];
        let scored = Judgement::Scored {
            score: 3.0,
            threshold: THRESHOLD,
            missing: 0,
            over_budget: false,
            settled: None,
            chart: None,
            faults: &[],
        };
        let judgement = if faulty {
            Judgement::Faulty(&faults)
        } else {
            scored
        };
        let mut state = EpisodeState::default();
        let record = RecordContext {
            series,
            partition,
            offset,
            bundle: "b1",
            ..RecordContext::default()
        };
        let open = (0..3).find_map(|_| {
            plan.step(&mut state, &record, &judgement, Vec::new)
                .alerts
                .pop()
        });
        open.expect("opens").id
    };
    let ids = [
        id("ab", "c", "d", 1, 2, false),
        id("a", "c", "bd", 1, 2, false),
        id("ab", "d", "c", 1, 2, false),
        id("ab", "c", "d", 2, 1, false),
        id("ab", "c", "d", 1, 3, false),
        id("ab", "c", "d", 1, 2, true),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(
        ids.iter()
            .all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
    );
}

#[test]
fn a_threshold_of_zero_publishes_finite_ratios_and_closes() {
    let plan = plan(
        &EpisodeSettings {
            open: NOfM { n: 1, m: 1 },
            close_after: 1,
            ..rules()
        },
        &[],
    );
    let mut state = EpisodeState::default();
    let record = RecordContext {
        series: "a",
        bundle: "b1",
        ..RecordContext::default()
    };
    let mut step = |score| {
        let judgement = Judgement::Scored {
            score,
            threshold: 0.0,
            missing: 0,
            over_budget: false,
            settled: None,
            chart: None,
            faults: &[],
        };
        plan.step(&mut state, &record, &judgement, Vec::new)
            .alerts
            .pop()
            .expect("an event")
    };
    assert_eq!(step(1.0).ratio, Some(RATIO_MAX));
    let close = step(0.0);
    assert_eq!((close.event, close.ratio), (AlertEvent::Close, Some(1.0)));
}

#[test]
fn the_state_is_small() {
    let size = |state: &EpisodeState| postcard::to_stdvec(state).expect("encodes").len();
    assert!(size(&EpisodeState::default()) <= 9);
    let mut series = Series::new(&rules(), &[]);
    series.events("OOFFFF");
    assert!(series.state.anomaly_open() && series.state.fault_open());
    assert!(size(&series.state) <= 100, "{}", size(&series.state));
    assert!(
        size_of::<EpisodeState>() <= 96,
        "{}",
        size_of::<EpisodeState>()
    );
}

//! The episode: one run of outlier verdicts of a series, or of records with faulty sensors.
//!
//! A [`EpisodePolicy`] is made once for a stream; an [`EpisodeState`] belongs to one series.
//! [`EpisodePolicy::step`] is pure: the same records, scores and thresholds in the same order give
//! the same alerts with the same ids, live, replayed or resumed.
//!
//! A series holds three episodes of one machine, an anomaly's, a sensor fault's, and that of readings
//! outside the trained range ([`EpisodePolicy::step_outside`]); at most one of each is open.
//!
//! | | anomaly | sensor fault |
//! |---|---|---|
//! | counts towards opening | score above the threshold | a faulty sensor |
//! | opens at | `open`, N of the last M scored records | 3 of the last 5 records, or a spike |
//! | counts towards closing | score at or below `close_ratio` x threshold | no faulty sensor |
//! | closes at | `close_after` of them in a row | the same |
//! | severity | warning; critical from `critical_ratio` x threshold | warning; info for a spike |
//!
//! A record with faulty sensors is scored on the others, and may move both episodes. One of which
//! fewer than half of the fields are left is not scored and moves the anomaly's episode neither way;
//! silence closes nothing. Without a bundle it stands still as well.
//!
//! An episode starts with the record that opens it; the outliers that led up to it are not counted.
//! Opening and update events are made only by records that are outliers (or faulty) themselves, so
//! that each carries its evidence.

mod alerts;
mod machine;
mod mute;
mod settings;

pub use alerts::{AlertFactory, SilenceEvent};
pub use settings::{EpisodeSettings, MuteSettings, NOfM, series, time};

use machine::{EpisodeEvent, EpisodeInput, EpisodeMachine, EpisodeRules};
use serde::{Deserialize, Serialize};

use self::alerts::incident_text;
use crate::record::alert::{Alert, AlertEvent, AlertKind, CloseReason, FieldShare, Severity};
use crate::record::format::FieldSettings;
use crate::record::row::{Judgement, OutsideReading, RecordContext};
use crate::record::{EventTime, FaultKind, RecordVerdict, SensorFault};

/// Bound on a published ratio of score to threshold: JSON has no infinity.
pub const RATIO_MAX: f64 = 1e9;

/// Faulty records among the last ones that open a sensor fault's episode: a single gap in the
/// data should not call anybody, and a sensor that fails every other record should.
const FAULT_OPEN: NOfM = NOfM { n: 3, m: 5 };

/// Records in a row with a reading outside the trained range that open an episode: a spike is no new
/// range.
const OUTSIDE_OPEN: NOfM = NOfM { n: 20, m: 20 };

/// The rules of one stream.
#[derive(Clone, PartialEq, Debug)]
pub struct EpisodePolicy {
    alerts: AlertFactory,
    anomaly: EpisodeRules,
    fault: EpisodeRules,
    outside: EpisodeRules,
    episode: EpisodeSettings,
    mutes: Vec<mute::Mute>,
}

/// The episodes of one series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct EpisodeState {
    anomaly: EpisodeMachine,
    fault: EpisodeMachine,
    outside: EpisodeMachine,
}

impl EpisodeState {
    /// Whether an anomaly's episode is open, published or not.
    pub fn anomaly_open(&self) -> bool {
        self.anomaly.is_open()
    }

    /// Whether a sensor fault's episode is open, published or not.
    pub fn fault_open(&self) -> bool {
        self.fault.is_open()
    }

    /// Whether an anomaly's or a sensor fault's episode is open.
    pub fn is_alarming(&self) -> bool {
        self.open_episodes() > 0
    }

    /// Whether an episode is open, of any kind.
    pub fn is_open(&self) -> bool {
        self.is_alarming() || self.outside.is_open()
    }

    fn open_episodes(&self) -> u64 {
        u64::from(self.anomaly_open()) + u64::from(self.fault_open())
    }
}

/// What one record leads to.
#[derive(Clone, PartialEq, Debug)]
pub struct EpisodeOutput {
    /// The record's verdict.
    pub verdict: RecordVerdict,
    /// Whether an episode of the series is open after this record, of either kind, muted or not.
    pub alerting: bool,
    /// What is to be published: at most one event of each kind.
    pub alerts: Vec<Alert>,
    /// Episodes that this record opened while a mute covered it: their opening is not among the
    /// alerts.
    pub muted: u64,
}

impl EpisodePolicy {
    /// The rules of the stream called `stream`, read from `topic` (a file's name for a replay).
    pub fn new(
        stream: &str,
        topic: &str,
        fields: &[FieldSettings],
        episode: &EpisodeSettings,
        mutes: &[MuteSettings],
    ) -> Self {
        Self {
            alerts: AlertFactory::new(stream, topic, fields),
            anomaly: EpisodeRules::new(episode, episode.open),
            fault: EpisodeRules::new(episode, FAULT_OPEN),
            outside: EpisodeRules::new(episode, OUTSIDE_OPEN),
            episode: episode.clone(),
            mutes: mutes.iter().map(mute::Mute::new).collect(),
        }
    }

    /// Makes the stream's alerts, those without an episode too.
    pub fn alerts(&self) -> &AlertFactory {
        &self.alerts
    }

    /// How many fields, or regions of an image, an alert names at most.
    pub fn top_fields(&self) -> usize {
        self.episode.top_fields
    }

    /// Moves the series' episodes on by one record that the gate let in.
    ///
    /// `shares` gives the attribution of this record's score; it is asked only where an anomaly's
    /// event is published, and cut to the `top_fields` largest.
    ///
    /// While a mute covers the record's time nothing is published, except that an episode whose
    /// opening was published is closed: no alert stays open forever. The episodes themselves
    /// continue, and one that is open when the mute ends is published by its next outlier.
    pub fn step(
        &self,
        state: &mut EpisodeState,
        record: &RecordContext<'_>,
        judgement: &Judgement<'_>,
        shares: impl FnOnce() -> Vec<FieldShare>,
    ) -> EpisodeOutput {
        let is_muted = self.is_muted(record.series, record.time);
        let at = record.muted_by(is_muted);
        let open_before = state.open_episodes();
        let (anomaly, fault) = self.inputs(judgement);
        let mut alerts = Vec::new();
        if let Some(published) = fault.and_then(|input| state.fault.step(&self.fault, &at, input)) {
            let mut alert = self.fault_alert(record, &published, judgement);
            let leading = alert.faults.first().map(|fault| fault.name.clone());
            self.name_incident(&mut alert, &mut state.fault, leading, &published);
            alerts.push(alert);
        }
        if let Some(published) =
            anomaly.and_then(|input| state.anomaly.step(&self.anomaly, &at, input))
        {
            let mut alert = self.anomaly_alert(record, &published, judgement, shares());
            let leading = alert.fields.first().map(|field| field.name.clone());
            self.name_incident(&mut alert, &mut state.anomaly, leading, &published);
            alerts.push(alert);
        }
        EpisodeOutput {
            verdict: self.verdict(judgement),
            alerting: state.is_alarming(),
            alerts,
            muted: if is_muted {
                state.open_episodes().saturating_sub(open_before)
            } else {
                0
            },
        }
    }

    /// The opening event tells which incident an episode is of, and the later ones repeat it.
    fn name_incident(
        &self,
        alert: &mut Alert,
        machine: &mut EpisodeMachine,
        leading: Option<String>,
        published: &EpisodeEvent,
    ) {
        if published.event == AlertEvent::Open {
            let of = |field: String| {
                self.alerts
                    .incident(alert.kind, &field, published.opened_at)
            };
            let incident = leading.map(of);
            machine.set_incident(incident);
            alert.incident = incident.map(incident_text);
        }
    }

    /// Moves the episode of readings outside the trained range on by one record; returns what is to be
    /// published.
    pub fn step_outside(
        &self,
        state: &mut EpisodeState,
        record: &RecordContext<'_>,
        outside: &[OutsideReading],
    ) -> Option<Alert> {
        let at = record.muted_by(self.is_muted(record.series, record.time));
        let hit = EpisodeInput::Hit {
            ratio: 0.0,
            severity: Severity::Info,
            alone: false,
        };
        let input = match outside.is_empty() {
            true => EpisodeInput::Quiet,
            false => hit,
        };
        let published = state.outside.step(&self.outside, &at, input)?;
        let kind = AlertKind::OutOfTrainingRange;
        let mut alert = self.alerts.of_episode(record, kind, &published);
        let fields = outside.iter().map(|found| self.alerts.field_outside(found));
        alert.outside = fields.collect();
        Some(alert)
    }

    /// Closes what is open of a series that is forgotten.
    pub fn forget(&self, state: &mut EpisodeState, at: &RecordContext<'_>) -> Vec<Alert> {
        let outside = AlertKind::OutOfTrainingRange;
        let machines = [
            (outside, &mut state.outside),
            (AlertKind::SensorFault, &mut state.fault),
            (AlertKind::Anomaly, &mut state.anomaly),
        ];
        let closed = machines.into_iter().filter_map(|(kind, machine)| {
            let published = machine.close(at)?;
            let mut alert = self.alerts.of_episode(at, kind, &published);
            alert.peak_ratio = (kind == AlertKind::Anomaly).then_some(published.peak_ratio);
            alert.close_reason = Some(CloseReason::Forgotten);
            Some(alert)
        });
        closed.collect()
    }

    /// What the record means to the anomaly's machine and to the sensor fault's.
    fn inputs(&self, judgement: &Judgement<'_>) -> (Option<EpisodeInput>, Option<EpisodeInput>) {
        let anomaly = match *judgement {
            // The machine does something else: that says nothing of what is open.
            Judgement::Ignored => return (None, None),
            Judgement::Learning | Judgement::Between | Judgement::Faulty(_) => None,
            Judgement::Scored {
                settled: Some(_), ..
            } => Some(EpisodeInput::Settled),
            Judgement::Scored {
                score, threshold, ..
            } => Some(self.anomaly_input(score, threshold)),
        };
        (anomaly, Some(fault_input(judgement.faults())))
    }

    fn anomaly_input(&self, score: f64, threshold: f64) -> EpisodeInput {
        if score > threshold {
            let critical = score >= self.episode.critical_ratio * threshold;
            let severity = if critical {
                Severity::Critical
            } else {
                Severity::Warning
            };
            EpisodeInput::Hit {
                ratio: ratio(score, threshold),
                severity,
                alone: false,
            }
        } else if score <= self.episode.close_ratio * threshold {
            EpisodeInput::Quiet
        } else {
            EpisodeInput::Between
        }
    }

    fn verdict(&self, judgement: &Judgement<'_>) -> RecordVerdict {
        match *judgement {
            Judgement::Learning => RecordVerdict::Learning,
            Judgement::Between => RecordVerdict::Between,
            Judgement::Ignored => RecordVerdict::Ignored,
            Judgement::Faulty(_) => RecordVerdict::SensorFault,
            Judgement::Scored {
                score, threshold, ..
            } if score > threshold => RecordVerdict::Outlier,
            Judgement::Scored { faults, .. } if !faults.is_empty() => RecordVerdict::SensorFault,
            Judgement::Scored {
                score, threshold, ..
            } if score >= self.episode.suspect_ratio * threshold => RecordVerdict::Suspect,
            Judgement::Scored { .. } => RecordVerdict::Normal,
        }
    }

    fn anomaly_alert(
        &self,
        record: &RecordContext<'_>,
        published: &EpisodeEvent,
        judgement: &Judgement<'_>,
        mut shares: Vec<FieldShare>,
    ) -> Alert {
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares.truncate(self.episode.top_fields);
        let mut alert = self
            .alerts
            .of_episode(record, AlertKind::Anomaly, published);
        if let Judgement::Scored {
            score,
            threshold,
            missing,
            over_budget,
            settled,
            chart,
            faults: _,
        } = *judgement
        {
            alert.score = Some(score);
            alert.threshold = Some(threshold);
            alert.ratio = Some(ratio(score, threshold));
            alert.chart = chart;
            if published.event == AlertEvent::Close {
                alert.close_reason = Some(settled.unwrap_or(CloseReason::Recovered));
            }
            (alert.provisional, alert.missing_records) = (missing > 0 || over_budget, missing);
        }
        alert.peak_ratio = Some(published.peak_ratio);
        alert.fields = shares;
        alert
    }

    fn fault_alert(
        &self,
        record: &RecordContext<'_>,
        published: &EpisodeEvent,
        judgement: &Judgement<'_>,
    ) -> Alert {
        let mut alert = self
            .alerts
            .of_episode(record, AlertKind::SensorFault, published);
        let faults = judgement.faults().iter();
        alert.faults = faults.map(|fault| self.alerts.field_fault(fault)).collect();
        alert.not_scored = matches!(judgement, Judgement::Faulty(_));
        if published.event == AlertEvent::Close && !alert.faults.is_empty() {
            alert.close_reason = Some(CloseReason::CalibrationDoubtful);
        }
        alert
    }

    /// Whether alerts of a series are muted at a time.
    pub fn is_muted(&self, series: &str, time: EventTime) -> bool {
        self.mutes.iter().any(|mute| mute.covers(series, time))
    }
}

/// What the faults of a record mean to the machine of sensor faults.
fn fault_input(faults: &[SensorFault]) -> EpisodeInput {
    let is = |kind| move |fault: &SensorFault| fault.kind == kind;
    if faults.is_empty() {
        return EpisodeInput::Quiet;
    }
    if faults.iter().all(is(FaultKind::CalibrationDoubtful)) {
        return EpisodeInput::Settled;
    }
    // A jump is no fault yet.
    if faults.iter().all(is(FaultKind::Jump)) {
        return EpisodeInput::Between;
    }
    // A spike is over before it has come three times.
    let is_over = faults.iter().all(is(FaultKind::Spike));
    EpisodeInput::Hit {
        ratio: 0.0,
        severity: if is_over {
            Severity::Info
        } else {
            Severity::Warning
        },
        alone: faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Spike | FaultKind::CounterReset)),
    }
}

fn ratio(score: f64, threshold: f64) -> f64 {
    let ratio = score / threshold;
    // 0 / 0 is a score exactly at its threshold.
    if ratio.is_nan() {
        1.0
    } else {
        ratio.min(RATIO_MAX)
    }
}

//! When a stream is trained again, and what of that outlives a restart.
//!
//! All times are event times: a stream without records needs no training, and a replay trains at
//! the same times as the plant.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{DiscreteCDF, Poisson};

use crate::config::settings::RetrainSettings;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;

/// How many times in `retrain.every` drift is looked for.
const LOOKS: u32 = 16;
/// After a training, no drift calls for the next one for this part of `retrain.every`.
const REST: u32 = 4;
/// Probability of the alerts of a probation below which outlierd rolls back.
const UNLIKELY: f64 = 0.001;
/// Fewer alerts than this bring no bundle back.
const ALERTS_MIN: u64 = 3;
/// Maximum number of remembered rolled-back bundles; these are not promoted automatically again.
const AUTO_ROLLED_BACK_MAX: usize = 32;

/// Why a stream is trained again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RetrainReason {
    /// `retrain.every` has passed.
    Period,
    /// The scores of normal traffic have moved.
    Drift {
        /// How far: the Kolmogorov-Smirnov distance.
        distance: f64,
    },
    /// More alerts opened than the budget explains.
    OverBudget,
    /// An operator requested it.
    Command,
}

impl std::fmt::Display for RetrainReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Period => f.write_str("period"),
            Self::Drift { distance } => write!(f, "drift (distance {distance:.2})"),
            Self::OverBudget => f.write_str("over budget"),
            Self::Command => f.write_str("command"),
        }
    }
}

/// What outlives a restart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RetrainSchedule {
    /// When the next training is due by time; `None` before the stream has a bundle.
    pub due: Option<EventTime>,
    /// When drift is looked for next.
    pub drift_check: Option<EventTime>,
    /// Trainings so far.
    pub trainings: u64,
    /// The bundle on probation.
    pub probation: Option<Probation>,
    /// Bundles that were rolled back automatically, the latest last.
    pub auto_rolled_back: Vec<String>,
    /// When the next self-test is due.
    pub self_test: Option<EventTime>,
    /// Since when the detector is degraded.
    pub degraded_since: Option<EventTime>,
}

/// A bundle that went live a short time ago.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Probation {
    /// Its id.
    pub bundle: String,
    /// The bundle that was live before.
    pub previous: String,
    /// When it is over.
    pub until: EventTime,
    /// Predicted alerts for each one that the budget allows, at least 1.
    pub predicted: f64,
    /// Alerts since then.
    pub alerts: u64,
    /// Alerts that the budget allows for the records since then.
    pub budgeted: f64,
}

/// What a probation has come to.
pub enum ProbationStatus {
    /// There is none of the live bundle, or nothing happened.
    Unchanged,
    /// It counted alerts, or is over.
    Changed,
    /// It ended with more alerts than were predicted.
    Failed(Probation),
}

impl Probation {
    /// That of the challenger that a verdict let pass.
    pub fn of(verdict: &PromotionVerdict, until: EventTime) -> Self {
        Self {
            bundle: verdict.challenger.clone(),
            previous: verdict.champion.clone(),
            until,
            predicted: (verdict.alerts / verdict.budgeted.max(f64::MIN_POSITIVE)).max(1.0),
            alerts: 0,
            budgeted: 0.0,
        }
    }

    /// Whether so many alerts are not what was predicted: their probability is below 1 in 1,000.
    pub fn has_failed(&self) -> bool {
        let mean = (self.budgeted * self.predicted).max(1e-9);
        let as_many = |mean| {
            Poisson::new(mean).map_or(1.0, |poisson| poisson.sf(self.alerts.saturating_sub(1)))
        };
        self.alerts >= ALERTS_MIN && as_many(mean) < UNLIKELY
    }
}

impl RetrainSchedule {
    /// Whether the period is over at `now`; the first call starts it.
    pub fn period_over(&mut self, settings: &RetrainSettings, name: &str, now: EventTime) -> bool {
        let due = match self.due {
            Some(due) => due,
            None => *self.due.insert(self.next(settings, name, now)),
        };
        !settings.every.is_zero() && now >= due
    }

    /// Whether it is time to look for drift; the next time is later.
    pub fn look_for_drift(&mut self, settings: &RetrainSettings, now: EventTime) -> bool {
        let is_time = self.drift_check.is_some_and(|at| now >= at);
        if is_time || self.drift_check.is_none() {
            self.drift_check = Some(now.after(span(settings) / LOOKS));
        }
        is_time && settings.on_drift
    }

    /// A training has begun.
    pub fn began(&mut self, settings: &RetrainSettings, name: &str, now: EventTime) {
        self.trainings += 1;
        self.due = Some(self.next(settings, name, now));
        self.drift_check = Some(now.after(span(settings) / REST));
    }

    /// Counts alerts for the probation of the bundle `current`, and those that the budget allows
    /// for the same records.
    pub fn observe_probation(
        &mut self,
        current: Option<&str>,
        alerts: u64,
        budgeted: f64,
        now: EventTime,
    ) -> ProbationStatus {
        let is_current = |probation: &Probation| Some(probation.bundle.as_str()) == current;
        let Some(mut probation) = self.probation.take_if(|probation| is_current(probation)) else {
            return ProbationStatus::Unchanged;
        };
        probation.alerts += alerts;
        probation.budgeted += budgeted;
        if probation.has_failed() {
            return ProbationStatus::Failed(probation);
        }
        let is_over = now >= probation.until;
        if !is_over {
            self.probation = Some(probation);
        }
        if alerts > 0 || is_over {
            ProbationStatus::Changed
        } else {
            ProbationStatus::Unchanged
        }
    }

    /// A bundle was rolled back automatically.
    pub fn note_auto_rollback(&mut self, bundle: &str) {
        self.auto_rolled_back.push(bundle.to_owned());
        let excess = self
            .auto_rolled_back
            .len()
            .saturating_sub(AUTO_ROLLED_BACK_MAX);
        self.auto_rolled_back.drain(..excess);
    }

    /// The next time by period: later by a part of the jitter that follows from the stream's name
    /// and the training's number.
    fn next(&self, settings: &RetrainSettings, name: &str, now: EventTime) -> EventTime {
        let seed = blake3::hash(name.as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*seed.as_bytes());
        rng.set_stream(self.trainings);
        now.after(
            settings
                .every
                .mul_f64(1.0 + settings.jitter * rng.random::<f64>()),
        )
    }
}

/// Interval of drift checks without a period.
fn span(settings: &RetrainSettings) -> Duration {
    if settings.every.is_zero() {
        settings.half_life
    } else {
        settings.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_stream::three_fields;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn it_is_due_once_a_period_and_a_bit_later_each_time_by_another_bit() {
        let settings = three_fields().retrain;
        let mut schedule = RetrainSchedule::default();
        let mut due = Vec::new();
        for hour in 0..24 * 40 {
            let now = EventTime(hour * DAY / 24);
            if schedule.period_over(&settings, "pumps", now) {
                schedule.began(&settings, "pumps", now);
                due.push(now.0);
            }
        }
        let gaps: Vec<i64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            due.len() >= 4 && gaps.iter().all(|gap| (7 * DAY..8 * DAY).contains(gap)),
            "{gaps:?}"
        );
        assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "{gaps:?}");
    }

    #[test]
    fn without_a_period_nothing_is_due_by_time() {
        let settings = RetrainSettings {
            every: Duration::ZERO,
            ..three_fields().retrain
        };
        let mut schedule = RetrainSchedule::default();
        assert!((0..1_000).all(|day| !schedule.period_over(
            &settings,
            "pumps",
            EventTime(day * DAY)
        )));
    }

    #[test]
    fn drift_is_looked_for_now_and_then_and_not_right_after_a_training() {
        let settings = three_fields().retrain;
        let mut schedule = RetrainSchedule::default();
        let minutes = |range: std::ops::Range<i64>, schedule: &mut RetrainSchedule| {
            range
                .filter(|minute| schedule.look_for_drift(&settings, EventTime(minute * 60_000_000)))
                .count()
        };
        assert_eq!(minutes(0..7 * 1440, &mut schedule), 15);
        schedule.began(&settings, "pumps", EventTime(7 * DAY));
        assert_eq!(minutes(7 * 1440..7 * 1440 + 2_500, &mut schedule), 0);
    }

    #[test]
    fn only_unlikely_alerts_end_a_probation() {
        let of = |alerts, budgeted, predicted| {
            let bundle = "b".into();
            let previous = "a".into();
            let until = EventTime(0);
            Probation {
                bundle,
                previous,
                until,
                predicted,
                alerts,
                budgeted,
            }
            .has_failed()
        };
        assert!(!of(2, 0.0, 1.0), "two alerts are no series of them");
        assert!(of(3, 0.01, 1.0));
        assert!(!of(5, 2.0, 1.0));
        assert!(of(12, 2.0, 1.0));
        assert!(!of(12, 2.0, 3.0), "the proof had predicted as many");
    }
}

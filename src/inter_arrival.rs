//! Cadence: how often a series sends, and whether it is overdue.
//!
//! A [`InterArrivalStats`] is six bytes of one series: its typical gap in event time and the
//! longest usual one. [`SilencePolicy::overdue_after`] tells how long it may be silent. A gap that
//! was so long that it was announced as a silence does not count as usual at once, but its first
//! part does: a machine that rests every night is known after a few nights, and one outage of days
//! does not make the series deaf to the next one.

use std::time::Duration;

use half::bf16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::{OptionFault, none_if_empty, optional};

/// The smallest useful factor: below it, normal variation of the gaps exceeds the limit.
const AFTER_MIN: f64 = 2.0;

/// Missing-data detection: when a series, a gateway or the whole topic that stops sending raises an
/// alert.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct SilenceSettings {
    /// Multiple of its typical interval after which a series is overdue, 2 to 1000; 0: off.
    #[schemars(range(min = 0, max = 1000))]
    pub after: f64,
    /// The shortest silence that raises an alert, 1s to 30d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1m", extend("x-duration" = {"minimum": "1s", "maximum": "30d"}))]
    pub at_least: Duration,
    /// Separator that ends the gateway's name in a series' key; "" for no gateways.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "/", length(max = 16))]
    pub gateway: Option<String>,
    /// What the end of a series means: "learned" (series that others replace have ended, as batches
    /// and orders do) or "silence" (no series ends).
    pub series_end: SeriesEnd,
}

/// What the end of a series means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeriesEnd {
    /// Where others replace it, it has ended.
    #[default]
    Learned,
    /// It is a silence.
    Silence,
}

impl SilenceSettings {
    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let is_short = self.after > 0.0 && self.after < AFTER_MIN;
        let fault = format!("must be from {AFTER_MIN} to 1000, or 0 for off");
        OptionFault::when(is_short, "after", fault).into_iter()
    }
}

/// Gaps that are needed before a series can be overdue.
const GAPS_MIN: u8 = 30;
/// Weight of the newest gap in the typical one, after the first gaps.
const WEIGHT: f64 = 1.0 / 32.0;
/// Times the longest usual gap that a series may be silent.
const LONGEST: f64 = 2.0;
/// Event time in which the longest usual gap is forgotten by 1/e, in seconds.
const MEMORY_S: f64 = 30.0 * 86_400.0;

/// When series of a stream are overdue.
#[derive(Clone, PartialEq, Debug)]
pub struct SilencePolicy {
    after: f64,
    at_least_s: f64,
}

/// What is remembered of one series. Bits of bf16: two digits are enough, and every series has
/// them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct InterArrivalStats {
    /// Seconds between two records.
    typical: u16,
    /// The longest usual gap in seconds.
    longest: u16,
    /// Gaps seen, at most 255.
    gaps: u8,
    /// Whether its silence has been announced.
    pub silent: SilenceStatus,
}

/// What has been announced of a silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SilenceStatus {
    /// Nothing.
    #[default]
    No,
    /// The series' own.
    Alone,
    /// That of its gateway, which it is a part of.
    WithGateway,
    /// Nothing: another series has replaced it.
    Ended,
}

impl SilencePolicy {
    /// The rules of a stream; `None` where silence is not looked for.
    pub fn new(settings: &SilenceSettings) -> Option<Self> {
        let at_least_s = settings.at_least.as_secs_f64();
        (settings.after > 0.0).then_some(Self {
            after: settings.after,
            at_least_s,
        })
    }

    /// Microseconds of silence that are announced at least.
    pub fn at_least(&self) -> i64 {
        (self.at_least_s * 1e6) as i64
    }

    /// Microseconds of silence after which the series is overdue; `None` while its cadence is not
    /// known.
    pub fn overdue_after(&self, inter_arrival: &InterArrivalStats) -> Option<i64> {
        let typical = seconds(inter_arrival.typical);
        let longest = seconds(inter_arrival.longest);
        let limit = (self.after * typical)
            .max(LONGEST * longest)
            .max(self.at_least_s);
        (inter_arrival.gaps >= GAPS_MIN).then_some((limit * 1e6) as i64)
    }

    /// Takes note of the time since the series' last record, in microseconds.
    pub fn record(&self, inter_arrival: &mut InterArrivalStats, gap_us: i64) {
        if gap_us <= 0 {
            return;
        }
        let gap = gap_us as f64 / 1e6;
        let usual = match (inter_arrival.silent, self.overdue_after(inter_arrival)) {
            (status, Some(limit)) if status != SilenceStatus::No => gap.min(limit as f64 / 1e6),
            _ => gap,
        };
        inter_arrival.gaps = inter_arrival.gaps.saturating_add(1);
        let typical = seconds(inter_arrival.typical);
        let weight = (1.0 / f64::from(inter_arrival.gaps)).max(WEIGHT);
        inter_arrival.typical = bits(typical + weight * (usual - typical));
        let longest = seconds(inter_arrival.longest) * (1.0 - (gap / MEMORY_S).min(1.0));
        inter_arrival.longest = bits(longest.max(usual));
    }
}

impl InterArrivalStats {
    /// Forgets how often the series sends, but not what has been announced.
    pub fn reset(&mut self) {
        *self = Self {
            silent: self.silent,
            ..Self::default()
        };
    }

    /// Seconds between two records, typically; `None` before the second one.
    pub fn typical_s(&self) -> Option<f64> {
        (self.gaps > 0).then(|| seconds(self.typical))
    }
}

fn seconds(bits: u16) -> f64 {
    bf16::from_bits(bits).to_f64()
}

fn bits(seconds: f64) -> u16 {
    bf16::from_f64(seconds).to_bits()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn rules() -> SilencePolicy {
        SilencePolicy::new(&SilenceSettings {
            after: 10.0,
            at_least: Duration::from_secs(30),
            gateway: None,
            series_end: SeriesEnd::Learned,
        })
        .unwrap()
    }

    fn with(gaps: impl IntoIterator<Item = i64>) -> InterArrivalStats {
        let mut inter_arrival = InterArrivalStats::default();
        gaps.into_iter()
            .for_each(|gap| rules().record(&mut inter_arrival, gap * SECOND));
        inter_arrival
    }

    fn overdue_s(inter_arrival: &InterArrivalStats) -> i64 {
        rules().overdue_after(inter_arrival).unwrap() / SECOND
    }

    #[test]
    fn a_cadence_is_known_after_some_gaps() {
        assert_eq!(rules().overdue_after(&with([60; 29])), None);
        assert!((590..=610).contains(&overdue_s(&with([60; 300]))));
        assert_eq!(overdue_s(&with([1; 300])), 30, "not below silence.at_least");
        assert_eq!(
            SilencePolicy::new(&SilenceSettings {
                after: 0.0,
                at_least: Duration::ZERO,
                gateway: None,
                series_end: SeriesEnd::Learned
            }),
            None
        );
    }

    #[test]
    fn gaps_that_are_usual_make_no_silence() {
        // Bursts of ten records, ten minutes apart.
        let bursts = (0..400).map(|i| if i % 10 == 0 { 600 } else { 1 });
        assert!(overdue_s(&with(bursts)) >= 1_190);
        // A night's rest, and a day of records a minute.
        let days = (0..2_000).map(|i| if i % 480 == 479 { 16 * 3_600 } else { 60 });
        assert!(overdue_s(&with(days)) > 28 * 3_600);
    }

    #[test]
    fn a_cadence_that_changes_is_learned_anew() {
        let slower = with(std::iter::repeat_n(1, 1_000).chain(std::iter::repeat_n(20, 300)));
        assert!(
            (160..=230).contains(&overdue_s(&slower)),
            "{}",
            overdue_s(&slower)
        );
    }

    #[test]
    fn an_outage_does_not_make_it_deaf_and_a_rest_every_night_is_learned_in_the_end() {
        let mut inter_arrival = with([60; 300]);
        let before = overdue_s(&inter_arrival);
        let night = 16 * 3_600;
        inter_arrival.silent = SilenceStatus::Alone;
        rules().record(&mut inter_arrival, 3 * 86_400 * SECOND);
        inter_arrival.silent = SilenceStatus::No;
        assert!(
            overdue_s(&inter_arrival) <= 2 * before + 60,
            "{} {before}",
            overdue_s(&inter_arrival)
        );
        let mut nights = 0;
        while overdue_s(&inter_arrival) < night {
            nights += 1;
            inter_arrival.silent = SilenceStatus::Alone;
            rules().record(&mut inter_arrival, night * SECOND);
            inter_arrival.silent = SilenceStatus::No;
            (0..480).for_each(|_| rules().record(&mut inter_arrival, 60 * SECOND));
        }
        assert!((3..=8).contains(&nights), "{nights}");
    }
}

//! The options of the threshold: `[streams.NAME.threshold]`.

use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::options::{OptionFault, optional};

/// The kinds of threshold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdKind {
    /// Exponentially weighted mean plus a multiple of the standard deviation.
    Sigma,
    /// A streaming quantile times a margin.
    Quantile,
    /// Peaks over threshold with a generalised Pareto tail (SPOT, Siffer et al., KDD 2017).
    Spot,
    /// The same on the score minus its moving average (DSPOT).
    Dspot,
}

impl ThresholdKind {
    /// Whether the level follows from the budget; else from `level` and `margin`.
    pub fn uses_budget(self) -> bool {
        self != Self::Quantile
    }
}

/// The adaptive threshold.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ThresholdSettings {
    /// Its kind.
    pub kind: ThresholdKind,
    /// Alert budget: a number, "per series per", and an hour, a day, a week or a number of them.
    #[schemars(with = "String", example = "2 per series per week", extend("x-syntax" = "alert-budget"))]
    pub budget: AlertBudget,
    /// Time between two records of a series, 1us to 30d; "auto" takes it from the training records.
    #[serde(deserialize_with = "period")]
    #[schemars(with = "String", example = "1s", extend("x-duration" = {"minimum": "1us", "maximum": "30d", "or": "auto"}))]
    pub period: Option<Duration>,
    /// The threshold of `quantile` is this many times its quantile, above 0, at most 1000.
    #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
    pub margin: f64,
    /// The quantile of `quantile`, and the initial level of `spot` and `dspot`, above 0.5, below 1.
    #[schemars(extend("exclusiveMinimum" = 0.5, "exclusiveMaximum" = 1))]
    pub level: f64,
    /// Number of a series' own records after which its alerts are no longer provisional, 1 to
    /// 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_records: u64,
    /// Memory of the threshold in records, 10 to 1000000000.
    #[schemars(range(min = 10, max = 1_000_000_000))]
    pub memory: u64,
    /// Time for which records have to be outliers, without a break, before their level is accepted as
    /// normal, 0s to 3660d; 0s: never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "14d", extend("x-duration" = {"minimum": "0s", "maximum": "3660d"}))]
    pub level_shift_after: Duration,
}

impl ThresholdSettings {
    /// How many times the level of its kind the threshold is: the other kinds than `quantile` find
    /// their level from the budget, and a margin on top would void it.
    pub fn margin(&self) -> f64 {
        if self.kind.uses_budget() {
            1.0
        } else {
            self.margin
        }
    }

    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let span = self.budget.period.as_secs_f64();
        let most = self.period.map(|period| span / period.as_secs_f64());
        most.filter(|most| self.budget.alerts >= *most)
            .map(|most| OptionFault {
                key: "budget",
                fault: format!(
                    "allows an alert at every record: a series has {most} records in that time"
                ),
                fix: Some("lower the budget, or correct threshold.period"),
            })
            .into_iter()
    }
}

/// `None` for "auto".
fn period<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "auto" => Ok(None),
        text => humantime::parse_duration(text)
            .map(Some)
            .map_err(de::Error::custom),
    }
}

/// An alert budget: `alerts` per series per `period`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AlertBudget {
    /// How many.
    pub alerts: f64,
    /// In what time.
    pub period: Duration,
}

impl FromStr for AlertBudget {
    type Err = String;

    /// Reads `2 per series per week` or `1 per series per 30 days`.
    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            "must be a number above 0, then \"per series per\", then hour, day, week or a number of them, \
             such as \"2 per series per week\" or \"1 per series per 30 days\""
                .to_owned()
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (alerts, count, unit) = match words.as_slice() {
            [alerts, "per", "series", "per", unit] => (alerts, "1", unit),
            [alerts, "per", "series", "per", count, unit] => (alerts, *count, unit),
            _ => return Err(fault()),
        };
        let hours = match unit.strip_suffix('s').unwrap_or(unit) {
            "hour" => 1,
            "day" => 24,
            "week" => 7 * 24,
            _ => return Err(fault()),
        };
        let alerts = alerts
            .parse::<f64>()
            .ok()
            .filter(|alerts| alerts.is_finite() && *alerts > 0.0);
        match (alerts, count.parse::<u32>()) {
            (Some(alerts), Ok(count @ 1..=1000)) => Ok(Self {
                alerts,
                period: Duration::from_secs(u64::from(count) * hours * 3600),
            }),
            _ => Err(fault()),
        }
    }
}

impl<'de> Deserialize<'de> for AlertBudget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_with_their_period() {
        let read = |text: &str| {
            text.parse::<AlertBudget>()
                .map(|budget| (budget.alerts, budget.period.as_secs() / 3600))
        };
        assert_eq!(read("2 per series per week"), Ok((2.0, 168)));
        assert_eq!(read("0.5 per  series per day"), Ok((0.5, 24)));
        assert_eq!(read("1 per series per 30 days"), Ok((1.0, 720)));
        for bad in [
            "",
            "2",
            "2 per week",
            "0 per series per day",
            "NaN per series per day",
            "1 per series per 0 days",
            "-1 per series per day",
            "1 per series per month",
            "1 per series per 1.5 days",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}

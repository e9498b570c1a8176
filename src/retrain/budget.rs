//! The alerts of a stream against its budget.

use statrs::distribution::{DiscreteCDF as _, Poisson};

/// So many alerts come by chance with this probability where the budget holds.
const CHANCE: f64 = 0.999;
/// Fewer alerts than these say nothing: the first fault of a stream is no flood.
const ALERTS_MIN: u64 = 3;
/// Budgeted alerts after which a count ends.
const SPAN: f64 = 3.0;

/// Counts alerts, and what the budget allows meanwhile; begins again at each restart of the daemon.
#[derive(Debug, Default)]
pub struct BudgetWatch {
    alerts: u64,
    budgeted: f64,
    over: bool,
}

/// What a count came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BudgetStatus {
    /// More alerts came than the budget explains, and fewer did before.
    Over {
        /// Alerts.
        alerts: u64,
        /// Those that the budget allows for the same time.
        budgeted: f64,
    },
    /// A whole count was within the budget again.
    Within,
}

impl BudgetWatch {
    /// Takes alerts that opened, and those that the budget allows for the same records.
    pub fn count(&mut self, alerts: u64, budgeted: f64) -> Option<BudgetStatus> {
        self.alerts += alerts;
        self.budgeted += budgeted;
        let (alerts, budgeted) = (self.alerts, self.budgeted);
        let exceeded = exceeds(alerts, budgeted);
        if !exceeded && budgeted < SPAN {
            return None;
        }
        (self.alerts, self.budgeted) = (0, 0.0);
        match (exceeded, std::mem::replace(&mut self.over, exceeded)) {
            (true, false) => Some(BudgetStatus::Over { alerts, budgeted }),
            (false, true) => Some(BudgetStatus::Within),
            _ => None,
        }
    }
}

/// Whether a budget of so many alerts does not explain those that came.
pub(super) fn exceeds(alerts: u64, budgeted: f64) -> bool {
    alerts >= ALERTS_MIN && most_by_chance(budgeted, CHANCE).is_some_and(|most| alerts > most)
}

/// The number of alerts that is not exceeded with the probability `chance` where `budgeted` are
/// expected; `None` where that is no number.
pub(super) fn most_by_chance(budgeted: f64, chance: f64) -> Option<u64> {
    let poisson = Poisson::new(budgeted.max(1e-9)).ok()?;
    Some(poisson.inverse_cdf(chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_reported_once_and_so_is_its_end() {
        let mut watch = BudgetWatch::default();
        assert_eq!(watch.count(2, 0.001), None, "a fault of two series");
        let over = BudgetStatus::Over {
            alerts: 12,
            budgeted: 0.101,
        };
        assert_eq!(watch.count(10, 0.1), Some(over));
        assert_eq!(watch.count(10, 0.1), None, "it goes on");
        assert_eq!(watch.count(1, 2.9), None);
        assert_eq!(watch.count(1, 0.2), Some(BudgetStatus::Within));
        assert_eq!(watch.count(2, 3.1), None);
    }

    #[test]
    fn a_budget_that_is_kept_is_never_over() {
        let mut watch = BudgetWatch::default();
        for day in 0..3_650 {
            assert_eq!(watch.count(u64::from(day % 2 == 0), 0.5), None);
        }
    }
}

//! How many records were rejected, and why, in words.

use std::collections::BTreeMap;
use std::fmt;

use super::{Batch, RejectReason, Rejected};

/// A count of records, and of those among them that were rejected.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rejections {
    records: u64,
    reasons: BTreeMap<RejectReason, u64>,
    /// The detail of the newest one.
    example: Option<String>,
}

impl Rejections {
    /// Those of a decoded batch.
    pub fn of(batch: &Batch<'_>) -> Self {
        let mut rejections = Self::default();
        let records = batch.records.len() + batch.rejected.len();
        rejections.add(records, &batch.rejected);
        rejections
    }

    /// Adds a batch of so many records, of which some were rejected.
    pub fn add(&mut self, records: usize, rejected: &[Rejected]) {
        self.records += records as u64;
        for rejected in rejected {
            *self.reasons.entry(rejected.reason).or_default() += 1;
        }
        if let Some(newest) = rejected.last() {
            self.example = Some(newest.detail.clone());
        }
    }

    /// How many were rejected.
    pub fn count(&self) -> u64 {
        self.reasons.values().sum()
    }
}

impl fmt::Display for Rejections {
    /// Such as "590 of 2000 records rejected (580 late, 10 bad_time), the newest: ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} records rejected", self.count(), self.records)?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let reasons = reasons
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.as_str()));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        if let Some(example) = &self.example {
            write!(f, " ({reasons}), the newest: {example}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_many_and_why() {
        let mut rejections = Rejections::default();
        rejections.add(10, &[]);
        assert_eq!(rejections.to_string(), "0 of 10 records rejected");
        let late = Rejected::new(0, RejectReason::Late, "1 s behind");
        let bad = Rejected::new(1, RejectReason::BadTime, "ts: \"x\" is no time");
        rejections.add(5, &[bad.clone(), late.clone()]);
        rejections.add(5, &[late, bad]);
        rejections.add(5, &[Rejected::new(0, RejectReason::Late, "2 s behind")]);
        assert_eq!(rejections.count(), 5);
        let text = "5 of 25 records rejected (3 late, 2 bad_time), the newest: 2 s behind";
        assert_eq!(rejections.to_string(), text);
    }
}

//! When records of each partition arrived, and which partitions are silent while others send.
//!
//! The records of a partition move its clock of silence, so that partitions whose series all stopped
//! have none. Their time is that of the others then: from when the lane had read a partition to its
//! end, as far as the newest timestamp of the other partitions has advanced since, and never more
//! than the machine's clock. Constant differences between the clocks of sources cancel out, a source
//! whose clock jumps is bounded by the machine's clock, and a machine that sets its clock by the
//! timestamps. Records that wait make no silence: a partition that is not read to its end has no such
//! time, and a record of it ends the time.
//!
//! How long a partition usually has no record is learned, as of a series: one whose gateway sends in
//! bursts is not silent between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Newest;
use crate::inter_arrival::{InterArrivalStats, SilencePolicy, SilenceStatus};
use crate::record::EventTime;

/// The arrivals of one partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::lane) struct Arrivals {
    pub(super) newest: Newest,
    /// Between two batches with records of it, by their timestamps.
    gaps: InterArrivalStats,
    /// Since when it is read to its end; `None` where it was not since its newest record.
    end: Option<EndReached>,
}

/// When a partition was found read to its end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct EndReached {
    /// The newest timestamp of the other partitions.
    others: EventTime,
    /// The machine's clock.
    machine: EventTime,
}

/// A partition that sends nothing while others do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::lane) struct SilentPartition {
    pub(in crate::lane) partition: i32,
    /// Offset of its newest record.
    pub(in crate::lane) offset: i64,
    /// Microseconds for which it has been silent at least.
    pub(in crate::lane) silent_us: i64,
}

impl Arrivals {
    pub(super) fn new(newest: Newest) -> Self {
        Self {
            newest,
            gaps: InterArrivalStats::default(),
            end: None,
        }
    }

    /// Records of the partition came; the newest one is given.
    pub(super) fn observe(&mut self, newest: Newest, policy: &SilencePolicy) {
        let gap = newest.time.micros_since(self.newest.time);
        policy.record(&mut self.gaps, gap);
        self.gaps.silent = SilenceStatus::No;
        (self.newest, self.end) = (newest, None);
    }

    /// The partition is read to its end at the time `machine` of the machine's clock, and `others` is
    /// the newest timestamp of the others. Returns the microseconds for which it has been silent,
    /// where that is longer than usual.
    fn at_end(
        &mut self,
        others: EventTime,
        machine: EventTime,
        policy: &SilencePolicy,
    ) -> Option<i64> {
        let since = self.end.get_or_insert(EndReached { others, machine });
        let by_others = others.micros_since(since.others);
        let silent = by_others.min(machine.micros_since(since.machine));
        let is_long = silent > policy.overdue_after(&self.gaps)?;
        if is_long {
            self.gaps.silent = SilenceStatus::Alone;
        }
        is_long.then_some(silent)
    }
}

/// Of some partitions that are read to their ends, those that are silent while others send; `changed`
/// gets those whose arrivals have changed.
pub(super) fn silent_among(
    arrivals: &mut BTreeMap<i32, Arrivals>,
    ends: &[i32],
    machine: EventTime,
    policy: &SilencePolicy,
    changed: &mut Vec<i32>,
) -> Vec<SilentPartition> {
    let mut silent = Vec::new();
    for &partition in ends {
        let others = arrivals.iter().filter(|(other, _)| **other != partition);
        let Some(others) = others.map(|(_, of)| of.newest.time).max() else {
            continue;
        };
        let Some(found) = arrivals.get_mut(&partition) else {
            continue;
        };
        let before = found.clone();
        let silent_us = found.at_end(others, machine, policy);
        silent.extend(silent_us.map(|silent_us| SilentPartition {
            partition,
            offset: found.newest.offset,
            silent_us,
        }));
        if *found != before {
            changed.push(partition);
        }
    }
    silent
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::inter_arrival::{SeriesEnd, SilenceSettings};

    const SECOND: i64 = 1_000_000;

    fn policy() -> SilencePolicy {
        SilencePolicy::new(&SilenceSettings {
            after: 10.0,
            at_least: Duration::from_secs(60),
            gateway: None,
            series_end: SeriesEnd::Learned,
        })
        .unwrap()
    }

    fn newest(second: i64) -> Newest {
        Newest {
            offset: second,
            time: EventTime(second * SECOND),
        }
    }

    /// Two partitions that get a record every second until the 100th.
    fn two() -> BTreeMap<i32, Arrivals> {
        let mut arrivals = BTreeMap::new();
        for partition in [3, 4] {
            let mut of = Arrivals::new(newest(0));
            (1..=100).for_each(|second| of.observe(newest(second), &policy()));
            arrivals.insert(partition, of);
        }
        arrivals
    }

    /// The seconds for which partition 3 is silent, where it is read to its end.
    fn silent(arrivals: &mut BTreeMap<i32, Arrivals>, machine_s: i64) -> Option<i64> {
        let machine = EventTime(machine_s * SECOND);
        let found = silent_among(arrivals, &[3], machine, &policy(), &mut Vec::new());
        assert!(found.iter().all(|found| found.partition == 3));
        found.first().map(|found| found.silent_us / SECOND)
    }

    fn other(arrivals: &mut BTreeMap<i32, Arrivals>, second: i64) {
        arrivals
            .get_mut(&4)
            .unwrap()
            .observe(newest(second), &policy());
    }

    #[test]
    fn time_counts_from_the_end_of_the_partition_while_others_send() {
        let mut arrivals = two();
        // The machine's clock is of another time.
        assert_eq!(silent(&mut arrivals, 5_000), None);
        other(&mut arrivals, 150);
        assert_eq!(silent(&mut arrivals, 5_050), None, "not a minute yet");
        other(&mut arrivals, 170);
        assert_eq!(silent(&mut arrivals, 5_070), Some(70));
        // Nothing comes at all: that is a silence of the topic.
        assert_eq!(silent(&mut arrivals, 9_000), Some(70));
        arrivals
            .get_mut(&3)
            .unwrap()
            .observe(newest(171), &policy());
        other(&mut arrivals, 300);
        assert_eq!(silent(&mut arrivals, 9_500), None, "it counts from now");
    }

    #[test]
    fn clocks_that_jump_and_records_that_were_waiting_make_no_silence() {
        let mut arrivals = two();
        assert_eq!(silent(&mut arrivals, 5_000), None);
        other(&mut arrivals, 90_000);
        assert_eq!(silent(&mut arrivals, 5_010), None, "a source's clock");
        let mut arrivals = two();
        assert_eq!(silent(&mut arrivals, 5_000), None);
        other(&mut arrivals, 110);
        assert_eq!(silent(&mut arrivals, 90_000), None, "the machine's clock");
        // An hour of records of the other partition waits, and is read at once.
        let mut arrivals = two();
        assert_eq!(silent(&mut arrivals, 5_000), None);
        (0..3_600).for_each(|second| other(&mut arrivals, 100 + second));
        assert_eq!(silent(&mut arrivals, 5_005), None);
    }

    #[test]
    fn a_partition_that_gets_bursts_is_not_silent_between_them() {
        let mut arrivals = two();
        let mut opened = 0;
        for burst in 1..=12 {
            let at = 3_600 * burst;
            // An hour without a record, seen to its end, and ten records.
            other(&mut arrivals, at - 3_500);
            assert_eq!(silent(&mut arrivals, at - 3_500), None);
            other(&mut arrivals, at);
            opened += i32::from(silent(&mut arrivals, at).is_some());
            let of = arrivals.get_mut(&3).unwrap();
            (0..10).for_each(|second| of.observe(newest(at + second), &policy()));
        }
        assert!((1..=6).contains(&opened), "{opened}: it is learned");
    }

    #[test]
    fn one_partition_alone_has_no_time_but_its_own() {
        let mut arrivals = two();
        arrivals.remove(&4);
        assert_eq!(silent(&mut arrivals, 0), None);
        assert_eq!(silent(&mut arrivals, 90_000), None);
    }
}

//! How many records of a partition wait for its lane, as the statistics of librdkafka tell.

use std::collections::BTreeSet;

use rdkafka::Statistics;
use rdkafka::statistics::Partition;

use super::status::ConsumerReport;
use crate::events::LagMeasured;

/// What the statistics tell of a lane's consumer.
pub(super) struct ConsumerLag {
    /// What the lane shows of it.
    pub(super) report: ConsumerReport,
    /// Partitions that are read to their ends, of brokers that are connected.
    pub(super) drained: BTreeSet<i32>,
}

/// Measures how far a lane is behind, with a gauge for each partition.
pub(super) fn measure(stream: &str, statistics: &Statistics) -> ConsumerLag {
    let brokers = statistics.brokers.values();
    let up = brokers.filter(|broker| broker.nodeid >= 0 && broker.state == "UP");
    let up: BTreeSet<i32> = up.map(|broker| broker.nodeid).collect();
    let group = statistics.cgrp.as_ref();
    let mut report = ConsumerReport {
        is_connected: !up.is_empty(),
        answers: statistics.brokers.values().map(|broker| broker.rx).sum(),
        is_joined: group.is_some_and(|group| group.join_state == "steady"),
        is_behind: false,
    };
    let mut drained = BTreeSet::new();
    let topics = statistics.topics.values();
    for (&partition, found) in topics.flat_map(|topic| &topic.partitions) {
        let Some(records) = unread(found) else {
            continue;
        };
        LagMeasured {
            stream,
            partition,
            records,
        }
        .emit();
        report.is_behind |= records > 0;
        if records == 0 && up.contains(&found.broker) {
            drained.insert(partition);
        }
    }
    ConsumerLag { report, drained }
}

/// Records of a partition that the lane may read and has not; `None` where it does not read the
/// partition.
///
/// A transaction ends with a record that no consumer gets: where the lane has fetched all there is,
/// and nothing fetched waits for it, the offset of its last record does not matter.
fn unread(found: &Partition) -> Option<i64> {
    if found.ls_offset < 0 || found.fetch_state != "active" {
        return None;
    }
    if found.next_offset >= found.ls_offset && found.fetchq_cnt == 0 {
        return Some(0);
    }
    (found.app_offset >= 0).then(|| (found.ls_offset - found.app_offset).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that ends at offset 100, with the next offset to fetch, the number of records that
    /// were fetched and not polled, and the offset after the last one that was.
    fn partition(next_offset: i64, fetchq_cnt: i64, app_offset: i64) -> Partition {
        Partition {
            ls_offset: 100,
            next_offset,
            fetchq_cnt,
            app_offset,
            fetch_state: "active".into(),
            ..Partition::default()
        }
    }

    #[test]
    fn the_end_of_a_transaction_is_no_record_that_waits() {
        assert_eq!(unread(&partition(100, 0, 99)), Some(0));
        assert_eq!(unread(&partition(100, 0, -1_001)), Some(0), "none came yet");
        assert_eq!(
            unread(&partition(100, 7, 92)),
            Some(8),
            "it may be polled yet"
        );
        assert_eq!(unread(&partition(40, 0, 40)), Some(60));
        assert_eq!(unread(&partition(40, 0, -1_001)), None);
    }

    #[test]
    fn a_partition_that_is_not_read_has_no_lag() {
        let stopped = Partition {
            fetch_state: "stopped".into(),
            ..partition(100, 0, 100)
        };
        assert_eq!(unread(&stopped), None);
        let unknown = Partition {
            ls_offset: -1_001,
            ..partition(100, 0, 100)
        };
        assert_eq!(unread(&unknown), None);
    }
}

//! How many records of a partition wait for its lane, as the statistics of librdkafka tell.

use rdkafka::statistics::Partition;

/// Records of a partition that the lane may read and has not; `None` where it does not read the
/// partition.
///
/// A transaction ends with a record that no consumer gets: where the lane has fetched all there is,
/// and nothing fetched waits for it, the offset of its last record does not matter.
pub(super) fn unread(found: &Partition) -> Option<i64> {
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

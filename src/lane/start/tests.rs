use proptest::prelude::*;

use super::*;
use crate::state::codec;

const LOG: LogRange = LogRange {
    low: 10,
    high: 1_000,
};

/// A mark, as of the record with this checksum.
fn mark(checksum: u32) -> RecordMark {
    let bytes = codec::encode(&(Some(7_i64), checksum)).unwrap();
    codec::decode(&bytes).unwrap()
}

/// A partition with states of its own up to `noted`, and what the group has committed of it.
fn known(noted: Option<i64>, group: Option<i64>, changelog: Option<i64>) -> KnownPosition {
    let noted = noted.map(|next| NotedPosition {
        next,
        mark: Some(mark(1)),
    });
    KnownPosition {
        noted,
        stored: noted.map(|noted| noted.next),
        group: GroupOffset {
            partition: 3,
            offset: group,
            changelog,
        },
        lost_states: false,
    }
}

/// Where it starts, with the causes that are reported.
fn start(
    known: &KnownPosition,
    log: LogRange,
    found: u32,
) -> (i64, Vec<(PositionCause, i64, i64)>) {
    let (next, changes) = known.start(log, Some(mark(found))).unwrap();
    let of = |change: PositionChange| (change.cause, change.from, change.to);
    (next, changes.into_iter().map(of).collect())
}

#[test]
fn a_position_of_the_same_topic_is_continued_without_a_word() {
    let same = known(Some(500), Some(500), Some(70));
    assert_eq!(start(&same, LOG, 1), (500, vec![]));
    let unknown = same.start(LOG, None).unwrap();
    assert_eq!(unknown, (500, vec![]), "compacted away");
}

#[test]
fn another_record_before_the_position_or_an_end_before_it_is_another_topic() {
    let replaced = |to| vec![(PositionCause::TopicReplaced, 500, to)];
    for group in [None, Some(500)] {
        let known = known(Some(500), group, group.map(|_| 70));
        assert_eq!(start(&known, LOG, 2), (10, replaced(10)));
        let short = LogRange { low: 0, high: 499 };
        assert_eq!(start(&known, short, 1), (0, replaced(0)));
    }
    let chosen = known(Some(500), Some(20), None);
    assert_eq!(start(&chosen, LOG, 2), (20, replaced(20)), "by an operator");
}

#[test]
fn an_offset_that_outlierd_has_not_committed_is_an_operators() {
    let reset = |to| (to, vec![(PositionCause::OffsetsReset, 500, to)]);
    for to in [10, 499, 501, 1_000] {
        assert_eq!(start(&known(Some(500), Some(to), None), LOG, 1), reset(to));
    }
    let same = known(Some(500), Some(500), None);
    assert_eq!(start(&same, LOG, 1), (500, vec![]));
    let beyond = known(Some(500), Some(2_000), None);
    assert_eq!(start(&beyond, LOG, 1), reset(1_000), "not beyond the end");
}

#[test]
fn what_another_instance_or_an_older_outlierd_committed_is_followed() {
    let ahead = known(Some(500), Some(600), Some(70));
    assert_eq!(start(&ahead, LOG, 1), (600, vec![]));
    let mut older = known(None, Some(600), None);
    older.stored = Some(500);
    assert_eq!(start(&older, LOG, 1), (600, vec![]));
    older.stored = Some(700);
    assert_eq!(start(&older, LOG, 1), (700, vec![]));
}

#[test]
fn deleted_offsets_and_deleted_records_are_reported() {
    let missing = known(Some(500), None, None);
    let due = (PositionCause::GroupOffsetMissing, 500, 500);
    assert_eq!(start(&missing, LOG, 1), (500, vec![due]));
    let log = LogRange {
        low: 620,
        high: 1_000,
    };
    let late = known(Some(500), Some(500), Some(70));
    let due = (PositionCause::RecordsLost, 500, 620);
    assert_eq!(
        late.start(log, None),
        Some((
            620,
            vec![PositionChange {
                partition: 3,
                cause: due.0,
                from: due.1,
                to: due.2,
            }]
        ))
    );
}

#[test]
fn a_partition_that_was_never_read_has_no_position() {
    assert!(known(None, None, None).start(LOG, None).is_none());
}

#[test]
fn records_that_lost_states_had_are_run_again() {
    let mut behind = known(Some(500), Some(520), Some(70));
    assert_eq!(behind.missing_from(520, LOG), None);
    behind.lost_states = true;
    assert_eq!(behind.missing_from(520, LOG), Some(500));
    assert_eq!(behind.missing_from(10, LOG), None, "another topic");
    let low = LogRange { low: 510, ..LOG };
    assert_eq!(behind.missing_from(520, low), Some(510));
    behind.group.offset = Some(500);
    assert_eq!(behind.missing_from(500, LOG), None);
}

proptest! {
    /// Offsets of a topic, whoever wrote them.
    #[test]
    fn any_offsets_give_a_start_inside_of_the_topic(
        noted: Option<i64>,
        group: Option<i64>,
        changelog: Option<i64>,
        low in 0..=i64::MAX,
        length in 0..=i64::MAX,
        checksum in 0..3_u32,
        lost_states: bool,
    ) {
        let log = LogRange { low, high: low.saturating_add(length) };
        let known = KnownPosition { lost_states, ..known(noted, group, changelog) };
        if let Some((next, changes)) = known.start(log, Some(mark(checksum))) {
            prop_assert!((log.low..=log.high).contains(&next));
            changes.iter().for_each(|change| change.emit("s"));
            let missing = known.missing_from(next, log);
            prop_assert!(missing.is_none_or(|from| (log.low..next).contains(&from)));
        } else {
            prop_assert_eq!(known.next(), None);
        }
    }
}

//! Event times: records that are late, early, or repeated.

use super::*;

#[test]
fn a_time_too_far_ahead_of_its_arrival_is_rejected_and_forgotten() {
    let plan = GateRules::new(&gate(), &fields(1), None);
    let mut state = GateState::new(1);
    let arrival = Some(EventTime(0));
    let hour = 3600 * SECOND;
    let before = state.clone();
    let checked = plan.check(&mut state, EventTime(hour + 1), arrival, &[1.0]);
    let GateVerdict::Reject(RejectReason::Future, detail) = checked.verdict else {
        panic!("{checked:?}")
    };
    assert_eq!(
        detail,
        "event time 1970-01-01T01:00:00.000001Z lies 1h 1us ahead of its arrival, gate.max_ahead allows 1h: check the \
         clock of the source"
    );
    assert_eq!(state, before);
    assert_eq!(
        plan.check(&mut state, EventTime(hour), arrival, &[1.0])
            .verdict,
        GateVerdict::Pass
    );
    assert_eq!(
        plan.check(&mut state, EventTime(9 * hour), None, &[1.0])
            .verdict,
        GateVerdict::Pass,
        "no arrival known"
    );
}

#[test]
fn only_the_very_record_before_is_a_duplicate() {
    let mut series = Series::new(GateRules::new(&gate(), &fields(2), None), 2);
    let mut verdict = |time, values: [f64; 2]| {
        series
            .plan
            .check(&mut series.state, EventTime(time), None, &values)
            .verdict
    };
    let duplicate = |verdict| matches!(verdict, GateVerdict::Reject(RejectReason::Duplicate, _));
    assert!(!duplicate(verdict(1, [1.0, 2.0])));
    assert!(duplicate(verdict(1, [1.0, 2.0])));
    assert!(duplicate(verdict(1, [1.0, 2.0])));
    assert!(
        !duplicate(verdict(1, [1.0, 3.0])),
        "the same time with another reading"
    );
    assert!(
        !duplicate(verdict(2, [1.0, 3.0])),
        "the same readings at another time"
    );
    assert!(!duplicate(verdict(2, [1.0, MISSING])));
    assert!(duplicate(verdict(2, [1.0, MISSING])));
    assert!(!duplicate(verdict(2, [1.0, NON_FINITE])));
    assert!(duplicate(verdict(2, [1.0, NON_FINITE])));
    assert!(
        !duplicate(verdict(2, [1.0, 3.0])),
        "the gap was the record before"
    );
}

#[test]
fn late_records_are_rejected_until_the_clock_is_taken_for_set_back() {
    let mut series = Series::of(None);
    assert_eq!(series.at(100, 0.0), Ok(TimeOrder::InOrder));
    assert_eq!(
        series.at(95, 1.0),
        Ok(TimeOrder::Late { by_us: 5 * SECOND }),
        "within the allowance"
    );
    assert_eq!(series.at(94, 2.0), Err(RejectReason::Late));
    assert_eq!(series.at(94, 3.0), Err(RejectReason::Late));
    assert_eq!(
        series.at(100, 4.0),
        Ok(TimeOrder::InOrder),
        "an accepted record ends the run"
    );
    for x in 5..8 {
        assert_eq!(series.at(x, 0.0), Err(RejectReason::Late));
    }
    assert_eq!(
        series.at(8, 8.0),
        Ok(TimeOrder::SetBack { by_us: 92 * SECOND })
    );
    assert_eq!(series.at(9, 9.0), Ok(TimeOrder::InOrder));
    assert_eq!(
        series.at(9, 10.0),
        Ok(TimeOrder::InOrder),
        "the same time with another reading"
    );
}

#[test]
fn a_late_record_says_how_late_it_is() {
    let mut series = Series::of(None);
    series.at(100, 0.0).expect("the first record is accepted");
    let checked = series
        .plan
        .check(&mut series.state, EventTime(0), None, &[0.0]);
    let GateVerdict::Reject(RejectReason::Late, detail) = checked.verdict else {
        panic!("{checked:?}")
    };
    assert_eq!(
        detail,
        "event time 1970-01-01T00:00:00Z lies 1m 40s behind 1970-01-01T00:01:40Z, the newest of its series; \
         gate.allowed_lateness is 5s (late record 1 in a row; gate.late_reset 3)"
    );
}

//! What holds for every reading at every time.

use outlierd::gate::GateSettings;
use outlierd::gate::{GateRules, GateState, NormalRange};
use outlierd::record::{EventTime, GateVerdict, MISSING, NON_FINITE};
use proptest::prelude::*;

use super::{NORMAL, SECOND, Series, fields, fit, gate};

fn any_reading() -> impl Strategy<Value = f64> {
    let any = prop::num::f64::ANY;
    prop_oneof![4 => any, 4 => 90.0..110.0, 2 => Just(100.0), 1 => Just(MISSING), 1 => Just(NON_FINITE)]
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..100 * SECOND, 1 => any::<i64>()]
}

fn any_normal() -> impl Strategy<Value = NormalRange> {
    (any::<f64>(), any::<f64>(), any::<f64>(), 0..9u32).prop_map(
        |(mean, sd, movement, longest_run)| NormalRange {
            mean,
            sd,
            movement,
            longest_run,
            rest: mean,
            moving_run: longest_run / 2,
            mean_run: 0.0,
            range: [mean - sd, mean + sd],
            step: (sd > 0.0).then_some(movement),
            counter: None,
        },
    )
}

proptest! {
    #[test]
    fn no_reading_panics_and_a_stored_state_goes_on_identically(
        records in prop::collection::vec((any_time(), prop::option::of(any_time()), any_reading(), any_reading()), 0..200),
        cut in 0..200usize,
        normal in prop::option::of(prop_oneof![Just(NORMAL), any_normal()]),
        stuck_after in 0..10u32,
    ) {
        let doubt_after = std::time::Duration::from_secs(10);
        let gate = GateSettings { stuck_after, doubt_after, ..gate() };
        let normals = normal.map(|normal| [normal; 2]);
        let plan = GateRules::new(&gate, &fields(2), normals.as_ref().map(|n| n.as_slice()));
        let (mut straight, mut resumed) = (GateState::new(2), GateState::new(2));
        for (index, (time, arrival, a, b)) in records.into_iter().enumerate() {
            if index == cut {
                let bytes = postcard::to_stdvec(&resumed).expect("encodes");
                resumed = postcard::from_bytes(&bytes).expect("decodes");
            }
            let arrival = arrival.map(EventTime);
            let expected = plan.check(&mut straight, EventTime(time), arrival, &[a, b]);
            prop_assert_eq!(plan.check(&mut resumed, EventTime(time), arrival, &[a, b]), expected.clone());
            prop_assert_eq!(&resumed, &straight);
            if let GateVerdict::Pass = expected.verdict {
                prop_assert!(a.is_finite() && b.is_finite());
            }
        }
    }

    #[test]
    fn fitted_normals_are_finite(rows in prop::collection::vec(any_reading(), 0..600)) {
        let normal = fit(&rows);
        prop_assert!(normal.mean.is_finite());
        prop_assert!(normal.sd.is_finite() && normal.sd >= 0.0);
        prop_assert!(normal.movement.is_finite() && normal.movement >= 0.0);
        prop_assert!(normal.longest_run as usize <= rows.len());
        prop_assert!(normal.range.iter().all(|x| x.is_finite()) && normal.range[0] <= normal.range[1]);
        prop_assert!(normal.step.is_none_or(|step| step.is_finite() && step > 0.0));
    }

    #[test]
    fn a_constant_field_never_faults_at_rest(x in prop::num::f64::NORMAL, rows in 1..500usize) {
        let mut series = Series::of(Some(fit(&vec![x; rows])));
        prop_assert_eq!(series.first_fault(std::iter::repeat_n(x, 5_000)), None);
        let mut learning = Series::of(None);
        prop_assert_eq!(learning.first_fault(std::iter::repeat_n(x, 5_000)), None);
    }
}

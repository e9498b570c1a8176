//! Episodes of a series that is forgotten.

use outlierd::record::alert::CloseReason;
use outlierd::record::row::OutsideReading;

use super::*;

#[test]
fn what_is_open_of_a_forgotten_series_is_closed() {
    let plan = plan(&rules(), &[]);
    let mut state = EpisodeState::default();
    let record = RecordContext {
        series: "a",
        ..RecordContext::default()
    };
    let outside = [OutsideReading {
        field: 0,
        value: 9.0,
        trained: [0.0, 1.0],
    }];
    let opened = (0..20).filter_map(|_| plan.step_outside(&mut state, &record, &outside));
    let opened: Vec<Alert> = opened.collect();
    assert_eq!((opened.len(), opened[0].event), (1, AlertEvent::Open));
    assert!(state.is_open() && !state.is_alarming());
    let closed = plan.forget(&mut state, &record);
    assert_eq!(closed.len(), 1);
    assert_eq!(
        (&closed[0].id, closed[0].close_reason),
        (&opened[0].id, Some(CloseReason::Forgotten))
    );
    assert!(!state.is_open());
}

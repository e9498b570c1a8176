//! What holds for every stream of judgements, under every rule and mute.

use std::collections::BTreeSet;
use std::time::Duration;

use outlierd::episode::{EpisodeOutput, EpisodePolicy, EpisodeState};
use outlierd::episode::{EpisodeSettings, MuteSettings, NOfM};
use outlierd::record::alert::{Alert, AlertEvent, AlertKind};
use outlierd::record::{EventTime, RecordVerdict};
use proptest::prelude::*;

use super::{SECOND, feed, mute, plan, rules};

fn any_rules() -> impl Strategy<Value = EpisodeSettings> {
    ((1..=4u32, 0..=4u32), 1..5u32, 0..20u64, 0..20u64).prop_map(
        |((open_n, more), close_after, cool_down, every)| EpisodeSettings {
            open: NOfM {
                n: open_n,
                m: open_n + more,
            },
            close_after,
            cool_down: Duration::from_secs(cool_down),
            update_every: Duration::from_secs(every),
            ..rules()
        },
    )
}

fn any_letters() -> impl Strategy<Value = Vec<(i64, char)>> {
    // Runs, since single random letters seldom open anything; times mostly ahead and now and then
    // back.
    let letter = prop::sample::select(vec!['.', '.', 's', 'O', 'O', 'C', 'F', 'L']);
    let run = (letter, prop::collection::vec(-2..5i64, 1..8));
    prop::collection::vec(run, 0..30).prop_map(|runs| {
        let mut time = 0;
        let mut at = |step| {
            time += step * SECOND;
            time
        };
        runs.into_iter()
            .flat_map(|(c, steps)| steps.into_iter().map(move |step| (step, c)))
            .map(|(s, c)| (at(s), c))
            .collect()
    })
}

fn run(
    plan: &EpisodePolicy,
    letters: &[(i64, char)],
    cut: Option<usize>,
) -> (Vec<EpisodeOutput>, EpisodeState) {
    let mut state = EpisodeState::default();
    let mut steps = Vec::new();
    for (offset, (time, letter)) in (0i64..).zip(letters) {
        if cut == Some(steps.len()) {
            let bytes = postcard::to_stdvec(&state).expect("encodes");
            state = postcard::from_bytes(&bytes).expect("decodes");
        }
        steps.push(feed(plan, &mut state, *time, offset, *letter));
    }
    (steps, state)
}

proptest! {
    #[test]
    fn straight_through_and_resumed_give_the_same(
        rules in any_rules(), letters in any_letters(), cut in 0..200usize, from in 0..60i64, length in 0..60i64,
    ) {
        let plan = plan(&rules, &[mute("*", from, from + length)]);
        prop_assert_eq!(run(&plan, &letters, None), run(&plan, &letters, Some(cut)));
    }

    #[test]
    fn the_events_of_each_kind_make_whole_episodes(
        rules in any_rules(), letters in any_letters(), from in 0..60i64, length in 0..60i64,
    ) {
        let muted = mute("*", from, from + length);
        let (steps, _) = run(&plan(&rules, std::slice::from_ref(&muted)), &letters, None);
        for kind in [AlertKind::Anomaly, AlertKind::SensorFault] {
            let mut open: Option<Alert> = None;
            let mut ids = BTreeSet::new();
            for ((time, _), step) in letters.iter().zip(&steps) {
                let alerts: Vec<_> = step.alerts.iter().filter(|alert| alert.kind == kind).collect();
                prop_assert!(alerts.len() <= 1);
                let Some(alert) = alerts.first() else { continue };
                match (&open, alert.event) {
                    (None, AlertEvent::Open) => {
                        prop_assert_eq!(alert.sequence, 0);
                        prop_assert!(ids.insert(alert.id.clone()), "an id of its own");
                    }
                    (Some(before), AlertEvent::Update | AlertEvent::Close) => {
                        prop_assert_eq!(&alert.id, &before.id);
                        prop_assert_eq!(alert.sequence, before.sequence + 1);
                        prop_assert!(alert.severity >= before.severity);
                        prop_assert!(alert.records >= before.records);
                        prop_assert!(alert.peak_ratio >= before.peak_ratio);
                    }
                    (before, event) => prop_assert!(false, "{event:?} after {before:?}"),
                }
                let in_mute = (muted.from..muted.until).contains(&EventTime(*time));
                prop_assert!(!in_mute || alert.event == AlertEvent::Close);
                prop_assert_eq!(alert.closed_at.is_some(), alert.event == AlertEvent::Close);
                prop_assert!(step.alerting || alert.event == AlertEvent::Close);
                open = (alert.event != AlertEvent::Close).then(|| (*alert).clone());
            }
        }
    }

    #[test]
    fn a_mute_changes_what_is_published_and_not_the_episodes(
        rules in any_rules(), letters in any_letters(), from in 0..60i64, length in 0..60i64,
    ) {
        let alerting = |mutes: &[MuteSettings]| -> Vec<(RecordVerdict, bool)> {
            run(&plan(&rules, mutes), &letters, None).0.iter().map(|step| (step.verdict, step.alerting)).collect()
        };
        prop_assert_eq!(alerting(&[mute("*", from, from + length)]), alerting(&[]));
    }
}

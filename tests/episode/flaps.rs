//! Episodes that come and go.

use super::*;

/// A hit in each `every` records, `times` times; how many episodes opened.
fn opened(every: usize, times: usize) -> usize {
    let rules = EpisodeSettings {
        open: NOfM { n: 1, m: 1 },
        close_after: 3,
        ..rules()
    };
    let one = format!("O{}", ".".repeat(every - 1));
    let events = Series::new(&rules, &[]).events(&one.repeat(times));
    events.matches('O').count()
}

#[test]
fn an_episode_that_comes_back_again_and_again_stays_open_in_the_end() {
    let some = opened(300, 40);
    assert!((10..=17).contains(&some), "{some}");
    assert_eq!(opened(300, 80), some, "from then on it is one");
}

#[test]
fn episodes_that_are_far_apart_are_many() {
    assert_eq!(opened(1_500, 20), 20);
}

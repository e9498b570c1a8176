//! What holds alert events back: the update interval, the cool-down, and mutes.

use super::*;

#[test]
fn updates_come_at_their_interval_and_only_from_outliers() {
    let every = EpisodeSettings {
        update_every: Duration::from_secs(4),
        ..rules()
    };
    assert_eq!(Series::new(&every, &[]).events("OOOOOOOOOO"), "-O---U---U");
    assert_eq!(
        Series::new(&every, &[]).events("OOsssssOsss"),
        "-O-----U---"
    );
    assert_eq!(
        Series::new(&every, &[]).events("OOOCOOOOO"),
        "-O-U---U-",
        "each event starts the interval again"
    );
}

#[test]
fn a_cool_down_holds_openings_back_and_then_lets_them_through() {
    let cool = EpisodeSettings {
        cool_down: Duration::from_secs(5),
        ..rules()
    };
    let mut series = Series::new(&cool, &[]);
    // Closed at 4 s: until 9 s nothing opens, and the outlier at 9 s does, with those of the
    // cool-down behind it.
    assert_eq!(series.events("OO...OOOOO"), "-O--C----O");
    assert_eq!(series.events("..."), "--C");
    assert_eq!(series.events("OO........OO"), "-----------O");
    assert_eq!(series.events("...."), "--C-");
    assert_ne!(series.state, EpisodeState::default());
    series.events(&".".repeat(1_100));
    assert_eq!(
        series.state,
        EpisodeState::default(),
        "an idle series keeps nothing"
    );
}

#[test]
fn a_cool_down_ends_though_the_clock_was_set_back() {
    let cool = EpisodeSettings {
        cool_down: Duration::from_secs(5),
        open: NOfM { n: 1, m: 1 },
        close_after: 1,
        ..rules()
    };
    let plan = plan(&cool, &[]);
    let mut state = EpisodeState::default();
    let mut published = |seconds: i64, letter| {
        feed(&plan, &mut state, seconds * SECOND, 0, letter)
            .alerts
            .len()
    };
    assert_eq!(published(1_000, 'O'), 1);
    assert_eq!(published(1_001, '.'), 1);
    assert_eq!(published(998, 'O'), 0, "a little late");
    assert_eq!(published(10, 'O'), 1, "set back");
}

#[test]
fn mutes() {
    let muted =
        |letters: &str, mutes: &[MuteSettings]| Series::new(&rules(), mutes).events(letters);
    for (why, letters, expected) in [
        (
            "what opens and closes in a mute is never heard of",
            "..OO.......",
            "-----------",
        ),
        (
            "what was published before is closed in it",
            "OO...OO....",
            "-O--C------",
        ),
        (
            "what is open at its end opens at the next outlier",
            "..OOOsssssO...",
            "----------O--C",
        ),
        (
            "what fades away at its end is never heard of",
            "..OOOsss...",
            "-----------",
        ),
        (
            "what got worse in it is told after it",
            "OOCOOOOOOO",
            "-O------U-",
        ),
    ] {
        assert_eq!(
            muted(letters, &[mute("pump-*", 2, 8)]),
            expected,
            "{why}: {letters}"
        );
        let normal = muted(letters, &[mute("fan-*", 2, 8)]);
        assert_eq!(
            normal,
            muted(letters, &[]),
            "another series' mute: {letters}"
        );
    }
    let mut series = Series::new(&rules(), &[mute("pump-7", 0, 5)]);
    let open = &series.alerts("OOOOOO")[0];
    assert_eq!(
        (open.event, open.sequence, open.records),
        (AlertEvent::Open, 0, 5)
    );
    assert_eq!(
        (&*open.opened_at, &*open.time),
        ("1970-01-01T00:00:01Z", "1970-01-01T00:00:05Z")
    );
    let mut loud = Series::new(&rules(), &[]);
    assert_eq!(
        loud.alerts("OO")[0].id,
        open.id,
        "a mute does not change the id"
    );
}

//! A maintenance mute: which records it covers.

use wildmatch::WildMatchPattern;

use crate::episode::MuteSettings;
use crate::record::EventTime;

/// A mute with its pattern compiled, in which `*` stands for any characters or none; `\0` takes the
/// place of the wildcard for one character, which mutes do not have.
#[derive(Clone, PartialEq, Debug)]
pub struct Mute {
    series: WildMatchPattern<'*', '\0'>,
    from: EventTime,
    until: EventTime,
}

impl Mute {
    /// The mute of a configuration.
    pub fn new(mute: &MuteSettings) -> Self {
        Self {
            series: WildMatchPattern::new(&mute.series),
            from: mute.from,
            until: mute.until,
        }
    }

    /// Whether it covers a record of `series` at `time`.
    pub fn covers(&self, series: &str, time: EventTime) -> bool {
        (self.from..self.until).contains(&time) && self.series.matches(series)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mute(series: &str) -> Mute {
        Mute::new(&MuteSettings {
            series: series.into(),
            from: EventTime(10),
            until: EventTime(20),
            reason: String::new(),
        })
    }

    #[test]
    fn patterns_cover_the_whole_name() {
        for (pattern, name, expected) in [
            ("pump-1", "pump-1", true),
            ("pump-1", "pump-12", false),
            ("pump-*", "pump-", true),
            ("pump-*", "pump-12", true),
            ("*-1*", "pump-a-12", true),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a**b", "ab", true),
            ("a?", "ab", false),
            ("a?", "a?", true),
            ("mühle-*", "mühle-3", true),
        ] {
            assert_eq!(
                mute(pattern).covers(name, EventTime(10)),
                expected,
                "{pattern:?} on {name:?}"
            );
        }
    }

    #[test]
    fn the_end_of_a_mute_is_outside() {
        let covered = [9, 10, 19, 20].map(|time| mute("*").covers("a", EventTime(time)));
        assert_eq!(covered, [false, true, true, false]);
    }

    proptest! {
        #[test]
        fn a_name_with_parts_replaced_by_stars_matches(parts in prop::collection::vec("[ab]{0,4}", 1..5)) {
            let mute = mute(&parts.join("*"));
            prop_assert!(mute.covers(&parts.concat(), EventTime(10)));
            prop_assert!(mute.covers(&parts.join("ab"), EventTime(10)));
        }
    }
}

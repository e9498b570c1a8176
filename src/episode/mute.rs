//! A maintenance mute: which records it covers.

use crate::config::settings::MuteSettings;
use crate::record::EventTime;

/// Whether `mute` covers a record of `series` at `time`.
pub fn covers(mute: &MuteSettings, series: &str, time: EventTime) -> bool {
    (mute.from..mute.until).contains(&time) && matches(mute.series.as_bytes(), series.as_bytes())
}

/// Whether `pattern`, in which `*` stands for any bytes or none, is the whole of `name`. The last
/// `*` alone is reconsidered at a mismatch, so that no pattern takes more than |pattern| x |name|
/// steps.
fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, name));
                pattern = after;
            }
            (Some((p, after)), Some((n, rest))) if p == n => {
                pattern = after;
                name = rest;
            }
            (None, None) => return true,
            _ => {
                let Some((after, [_, rest @ ..])) = retry else {
                    return false;
                };
                retry = Some((after, rest));
                pattern = after;
                name = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern:?} on {name:?}"
            );
        }
    }

    #[test]
    fn the_end_of_a_mute_is_outside() {
        let mute = MuteSettings {
            series: "*".into(),
            from: EventTime(10),
            until: EventTime(20),
            reason: String::new(),
        };
        let covered: Vec<bool> = [9, 10, 19, 20]
            .map(|time| covers(&mute, "a", EventTime(time)))
            .to_vec();
        assert_eq!(covered, [false, true, true, false]);
    }

    proptest! {
        #[test]
        fn a_name_with_parts_replaced_by_stars_matches(parts in prop::collection::vec("[ab]{0,4}", 1..5)) {
            prop_assert!(matches(parts.join("*").as_bytes(), parts.concat().as_bytes()));
            prop_assert!(matches(parts.join("*").as_bytes(), parts.join("ab").as_bytes()));
        }
    }
}

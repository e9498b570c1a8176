//! What a piece of text means as a reading or as a series key: the rules that JSON strings and CSV
//! cells share.

use super::DecodeProblem;
use crate::record::format::States;
use crate::record::{MISSING, RejectReason};

/// Longest series key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// Most characters of a value found that are quoted in a detail.
const QUOTED_CHARS_MAX: usize = 40;

/// A reading that was written as text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum TextReading {
    /// A finite number.
    Number(f64),
    /// Nothing, or nothing but spaces.
    Blank,
    /// `NaN` or an infinity.
    NonFinite,
}

/// The index of a state written as text, [`MISSING`] for nothing but spaces; `None` where it is not one
/// of the list.
pub fn state(text: &str, states: &States) -> Option<f64> {
    match text.trim().is_empty() {
        true => Some(MISSING),
        false => states.of_text(text),
    }
}

/// What is wrong with a value that is no state.
#[cold]
pub fn no_state(found: &str, states: &States) -> String {
    let allowed: Vec<&str> = states.names().collect();
    format!("found {found}; allowed is one of {}", allowed.join(", "))
}

/// Reads a number written as text; `Err` is the fault, without the name of the field.
///
/// Spaces around it are allowed, thousands separators are not; and a comma is the decimal mark only
/// with `decimal_comma`, where a point is none: each has two meanings, and the wrong one is a factor of
/// a thousand.
pub fn reading(text: &str, decimal_comma: bool) -> Result<TextReading, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(TextReading::Blank);
    }
    if decimal_comma && trimmed.contains('.') {
        return Err(format!(
            "the text {} has a point, which is no decimal mark with record.decimal_comma",
            quoted(trimmed)
        ));
    }
    let pointed = decimal_comma && trimmed.contains(',');
    let number = if pointed {
        trimmed.replacen(',', ".", 1).parse()
    } else {
        trimmed.parse::<f64>()
    };
    match number {
        Ok(number) if number.is_finite() => Ok(TextReading::Number(number)),
        // Rust reads both "inf" and "1e999" as infinite; only the first says that the sensor gave
        // no number.
        Ok(_) if !trimmed.bytes().any(|byte| byte.is_ascii_digit()) => Ok(TextReading::NonFinite),
        Ok(_) => Err(format!(
            "the number {} is beyond the range of a 64-bit float",
            quoted(trimmed)
        )),
        Err(_) if !decimal_comma && is_decimal_comma(trimmed) => Err(format!(
            "the text {} is not a number; record.decimal_comma = true, or --decimal-comma, reads a comma as the decimal mark",
            quoted(trimmed)
        )),
        Err(_) => Err(format!("the text {} is not a number", quoted(trimmed))),
    }
}

/// Whether `text` is a number once its only comma is a point.
pub(super) fn is_decimal_comma(text: &str) -> bool {
    text.bytes().filter(|&byte| byte == b',').count() == 1
        && text.replace(',', ".").parse::<f64>().is_ok()
}

/// Refuses a record without a single reading where one came as text that is not a number, which
/// `unreadable` describes: its sensors are not faulty, the stream is configured for another form.
pub(super) fn check_readable(
    values: &[f64],
    unreadable: Option<String>,
) -> Result<(), DecodeProblem> {
    match unreadable {
        Some(detail) if !values.iter().any(|value| value.is_finite()) => {
            Err(DecodeProblem::new(RejectReason::WrongType, detail))
        }
        _ => Ok(()),
    }
}

/// Holds a series key against its bounds: 1 to [`KEY_BYTES_MAX`] bytes. `place` names where it
/// stood.
pub(super) fn check_key(key: &str, place: &str) -> Result<(), DecodeProblem> {
    if key.is_empty() {
        return Err(DecodeProblem::new(
            RejectReason::BadKey,
            format!("{place} is empty; 1 to {KEY_BYTES_MAX} bytes are allowed"),
        ));
    }
    if key.len() > KEY_BYTES_MAX {
        let detail = format!(
            "{place} {} has {} bytes; 1 to {KEY_BYTES_MAX} bytes are allowed",
            quoted(key),
            key.len()
        );
        return Err(DecodeProblem::new(RejectReason::BadKey, detail));
    }
    Ok(())
}

/// `text` in double quotes, control characters escaped, shortened so that a detail stays readable.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((cut, _)) => format!(
            "\"{}...\"",
            text.get(..cut).unwrap_or_default().escape_debug()
        ),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_with_spaces_around_them() {
        for (text, number) in [
            ("12.5", 12.5),
            (" 12.5\t", 12.5),
            ("-1e3", -1000.0),
            ("+.5", 0.5),
            ("7.", 7.0),
            ("0", 0.0),
        ] {
            assert_eq!(
                reading(text, false),
                Ok(TextReading::Number(number)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn blank_text_and_non_finite_words_have_their_own_meaning() {
        for text in ["", " ", "\t\n"] {
            assert_eq!(reading(text, false), Ok(TextReading::Blank), "{text:?}");
        }
        for text in [
            "NaN",
            "nan",
            "-NAN",
            "inf",
            "-inf",
            "+Inf",
            "Infinity",
            "-INFINITY",
            " nan ",
        ] {
            assert_eq!(reading(text, false), Ok(TextReading::NonFinite), "{text:?}");
        }
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        for text in [
            "n/a",
            "null",
            "-",
            "12,5x",
            "0x10",
            "1 2",
            "1_000",
            "1,234,567",
            "true",
            "1.#INF",
        ] {
            let detail = reading(text, false).expect_err(text);
            assert!(
                detail.contains("is not a number") && detail.contains(text),
                "{detail}"
            );
            assert!(!detail.contains("decimal mark"), "{detail}");
        }
        assert!(
            reading("12,5", false)
                .expect_err("a comma")
                .contains("decimal mark")
        );
        assert!(
            reading("1e999", false)
                .expect_err("too large")
                .contains("64-bit")
        );
    }

    #[test]
    fn a_decimal_comma_is_one_where_the_stream_says_so() {
        for (text, number) in [
            ("12,5", 12.5),
            (" -0,25 ", -0.25),
            ("7", 7.0),
            ("1,5e3", 1_500.0),
        ] {
            assert_eq!(
                reading(text, true),
                Ok(TextReading::Number(number)),
                "{text:?}"
            );
        }
        assert_eq!(reading("nan", true), Ok(TextReading::NonFinite));
        for text in ["1.234,5", "1.234", "1,2,3", "a,b"] {
            assert!(reading(text, true).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quoted_text_is_short_and_printable() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(
            quoted(&"é".repeat(41)),
            format!("\"{}...\"", "é".repeat(40))
        );
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        assert!(check_key(&"k".repeat(256), "the key").is_ok());
        assert!(check_key(&"k".repeat(257), "the key").is_err());
        assert!(check_key("", "the key").is_err());
    }

    proptest! {
        #[test]
        fn every_finite_number_reads_back_from_its_own_text(number in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            prop_assert_eq!(reading(&format!(" {number:e} "), false), Ok(TextReading::Number(number)));
        }

        #[test]
        fn no_text_panics_or_gives_a_non_finite_number(text in ".{0,80}") {
            if let Ok(TextReading::Number(number)) = reading(&text, false) {
                prop_assert!(number.is_finite());
            }
        }
    }
}

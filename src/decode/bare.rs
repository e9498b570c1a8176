//! Bare `NaN` and `Infinity` in JSON: Python's and JavaScript's libraries write them, and no JSON
//! reader takes them (RFC 8259, section 6).

/// Words that no JSON value begins with, and that mean a value which is not a number.
const WORDS: [&str; 6] = ["nan", "infinity", "inf", "-infinity", "-inf", "+infinity"];

/// The text with each bare word in quotes, as `"NaN"`; `None` where there is none. Text in quotes
/// stays as it is.
pub(super) fn quoted(text: &str) -> Option<String> {
    let mut rest = text;
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut found = false;
    while let Some(at) = rest.find(is_place) {
        let (before, here) = rest.split_at(at);
        let length = match here.starts_with('"') {
            true => string_length(here),
            false => here.find(|c: char| !is_word(c)).unwrap_or(here.len()),
        };
        let (token, after) = here.split_at(length);
        // A key is none.
        let is_bare = is_bare(token) && !after.trim_start().starts_with(':');
        quoted.push_str(before);
        quoted.push_str(if is_bare { "\"NaN\"" } else { token });
        found |= is_bare;
        rest = after;
    }
    quoted.push_str(rest);
    found.then_some(quoted)
}

/// Where text in quotes or a word begins.
fn is_place(c: char) -> bool {
    c == '"' || is_word(c)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')
}

/// Bytes of the text in quotes that begins here.
fn string_length(text: &str) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn is_bare(token: &str) -> bool {
    WORDS.iter().any(|word| token.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_quoted_and_text_is_not() {
        let text = r#"{"a": NaN, "NaN": [-Infinity,1e5,nan], "b": "say \"NaN, inf", "c":null}"#;
        let expected = r#"{"a": "NaN", "NaN": ["NaN",1e5,"NaN"], "b": "say \"NaN, inf", "c":null}"#;
        assert_eq!(quoted(text).as_deref(), Some(expected));
        for text in [
            r#"{"NaN": "NaN", "x": 1}"#,
            r#"{NaN : 1}"#,
            r#"{"x": nano}"#,
            "",
            "{\"x",
            "\"\\",
        ] {
            assert_eq!(quoted(text), None, "{text}");
        }
    }
}

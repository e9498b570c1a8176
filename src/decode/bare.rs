//! What RFC 8259, section 6, does not know in JSON: bare `NaN` and `Infinity`, which Python's and
//! JavaScript's libraries write, and numbers such as `007`, `+1`, `.5`, or beyond 64 bits, which
//! controllers and string templates do.

/// The text with each such number in quotes; `None` where there is none. Text in quotes stays as it
/// is.
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
        let is_key = after.trim_start().starts_with(':');
        let is_bare = !is_key && is_bare_number(token);
        let quote = if is_bare { "\"" } else { "" };
        found |= is_bare;
        quoted.push_str(before);
        quoted.extend([quote, token, quote]);
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

/// Whether it is a number or a word for what is not one, but no JSON reader takes it.
fn is_bare_number(token: &str) -> bool {
    token.parse::<f64>().is_ok() && serde_json::from_str::<f64>(token).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_quoted_and_text_is_not() {
        let text = r#"{"z": 007, "y": [-01.5,+2,.5,5.,1e999], "a": NaN, "NaN": [-Infinity,1e5,nan], "b": "say \"NaN, inf", "c":null}"#;
        let expected = r#"{"z": "007", "y": ["-01.5","+2",".5","5.","1e999"], "a": "NaN", "NaN": ["-Infinity",1e5,"nan"], "b": "say \"NaN, inf", "c":null}"#;
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

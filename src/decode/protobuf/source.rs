//! Where the texts of `.proto` files come from, and what they may look like.

use std::collections::HashMap;
use std::sync::Arc;

use protox::Error;
use protox::file::{File, FileResolver};

/// Most brackets inside of each other. The compiler calls itself for each.
const NESTING_MAX: usize = 64;

/// Most files that one schema imports. The compiler calls itself for each.
const IMPORTS_MAX: usize = 256;

/// What Kafka Connect's converter imports and registers nowhere: the names of its options.
const CONFLUENT_META: &str = r#"
    syntax = "proto3";
    package confluent;
    import "google/protobuf/descriptor.proto";
    message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
    extend google.protobuf.FileOptions { Meta file_meta = 1088; }
    extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
    extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
    extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
    extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"#;

/// The type of its decimals.
const CONFLUENT_DECIMAL: &str = r#"
    syntax = "proto3";
    package confluent.type;
    message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
"#;

/// Files in memory, by the names that import statements have.
pub(super) struct TextResolver(pub(super) HashMap<String, Arc<str>>);

impl FileResolver for TextResolver {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(Error::file_not_found(name)),
        }
    }
}

/// Files that no registry has, though schemas in registries import them.
pub(super) fn known_texts() -> HashMap<String, Arc<str>> {
    let known = [
        ("confluent/meta.proto", CONFLUENT_META),
        ("confluent/type/decimal.proto", CONFLUENT_DECIMAL),
    ];
    let known = known.map(|(name, text)| (name.to_owned(), Arc::from(text)));
    known.into()
}

/// Imported files that the compiler can take.
pub(super) fn texts(imports: &[(&str, &str)]) -> Result<HashMap<String, Arc<str>>, String> {
    if imports.len() > IMPORTS_MAX {
        let count = imports.len();
        return Err(format!(
            "{count} files are imported; {IMPORTS_MAX} are allowed"
        ));
    }
    let mut texts = HashMap::new();
    for (name, text) in imports {
        check_nesting(name, text)?;
        texts.insert((*name).to_owned(), Arc::from(*text));
    }
    Ok(texts)
}

/// A name for the schema itself that no import has.
pub(super) fn main_name(imports: &[(&str, &str)]) -> String {
    let mut name = "schema.proto".to_owned();
    while imports.iter().any(|(import, _)| *import == name) {
        name.insert(0, '_');
    }
    name
}

/// Refuses a text whose brackets are nested so deep that the compiler might overflow the stack.
pub(super) fn check_nesting(name: &str, text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => string_end(rest, first),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '{' | '[' | '(' | '<' => {
                depth += 1;
                1
            }
            '}' | ']' | ')' | '>' => {
                depth = depth.saturating_sub(1);
                1
            }
            first => first.len_utf8(),
        };
        if depth > NESTING_MAX {
            return Err(format!(
                "{name}: more than {NESTING_MAX} brackets are inside of each other"
            ));
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(())
}

/// The length of the string in quotes that `text` begins with.
fn string_end(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' => is_escaped = !is_escaped,
            c if (c == quote && !is_escaped) || c == '\n' => return at + c.len_utf8(),
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// The compiler's message with the file, where it names one.
pub(super) fn describe(error: &Error) -> String {
    // Its long form has the line and the cause.
    let text = format!("{error:?}");
    let text = text.trim();
    match error.file() {
        Some(file) if !text.starts_with(&format!("{file}:")) => format!("{file}: {text}"),
        _ => text.to_owned(),
    }
}

//! What is written of the keys: the schema, config/default.toml, and that any value at any key is
//! taken or named.

use outlierd::config::settings::StreamSettings;
use outlierd::config::{DEFAULT_TOML, json_schema};
use serde::Deserialize as _;
use serde_json::Value;

use super::*;

/// Every key of the schema, with its table: `defaults.input.topic`.
fn keys(schema: &Value, at: &str, found: &mut Vec<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, part) in properties.into_iter().flatten() {
        let key = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        let part = match part.get("$ref").and_then(Value::as_str) {
            Some(place) => SCHEMA
                .with(|schema| schema.pointer(place.trim_start_matches('#')).cloned())
                .unwrap(),
            None => part.clone(),
        };
        match part.get("properties") {
            Some(_) => keys(&part, &key, found),
            None => found.push(key),
        }
    }
}

thread_local! {
    static SCHEMA: Value = json_schema();
}

proptest::proptest! {
    /// Whatever stands at a key, it is taken or named: never a panic, and never a message that
    /// names no key.
    #[test]
    fn any_value_at_any_key_is_taken_or_named(place: proptest::sample::Index, value in VALUES, also in VALUES) {
        let mut found = Vec::new();
        SCHEMA.with(|schema| keys(schema, "", &mut found));
        let key = place.get(&found);
        let pairs = [format!("{key}={value}"), format!("streams.pumps.record.fields=[\"a\", {also}, {value}]")];
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        if let Err(message) = with(&[], &pairs) {
            proptest::prop_assert!(!message.contains("cannot be read"), "{message}");
            proptest::prop_assert!(message.lines().count() >= 3, "{message}");
        }
    }
}

/// One value of each kind that TOML knows, and those at the ends of what numbers can hold.
const VALUES: &str = r#"-1|0|1|2|0\.5|3\.0|1e300|-9223372036854775808|9223372036854775807|18446744073709551615|nan|-inf|true|""|"x"|"\{stream\}"|"1s"|\[\]|\[1\]|\[nan\]|\[\[\]\]|\["a", 1\]|\{\}|\{ name = 1 \}|\{ name = "b", min = nan \}|\{ x = 2 \}"#;

#[test]
fn the_manual_has_every_key_and_a_comment_for_each() {
    let mut found = Vec::new();
    SCHEMA.with(|schema| keys(schema, "", &mut found));
    assert!(found.len() > 60, "only {} keys", found.len());
    let (mut table, mut comment, mut written) = (String::new(), 0, Vec::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
            written.push(table.clone());
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(comment > 0, "{table}.{key} has no comment above it");
            written.push(format!("{table}.{key}"));
        }
        comment = if line.starts_with('#') {
            comment + 1
        } else {
            0
        };
    }
    // Of those there are as many as of the defaults.
    for key in found
        .iter()
        .filter(|key| !key.starts_with("image_defaults."))
    {
        assert!(written.contains(key), "{key} is not in config/default.toml");
    }
}

#[test]
fn the_built_in_layer_is_complete_and_fits_its_own_schema() {
    let text = config::File::from_str(DEFAULT_TOML, config::FileFormat::Toml);
    let built_in = config::Config::builder().add_source(text).build().unwrap();
    let tree: Value = built_in.clone().try_deserialize().unwrap();
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&tree)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    // Fails where a key of a stream has no value in the TOML.
    StreamSettings::deserialize(&tree["defaults"]).unwrap();
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let path = root("schemas/config.schema.json");
    let generated = format!("{:#}\n", json_schema());
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == generated,
        "schemas/config.schema.json is out of date: run the tests with UPDATE_SCHEMAS=1"
    );
}

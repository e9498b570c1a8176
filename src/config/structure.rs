//! The structure of a configuration: known keys, types, listed words and ranges of numbers, checked
//! with the JSON Schema of the [types](super::settings) and reported in plain words.

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{ValidationError, Validator};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::merged::usual_fix;
use super::problems::{ConfigProblem, KeyPath, KeyStep, nearest};
use super::settings::{Settings, StreamSettings};
use super::syntax::with_keywords;

/// The tables that hold any key of a stream.
const DEFAULTS: [&str; 2] = ["defaults", "image_defaults"];
/// Keys that are all listed where a key is not known and none is near.
const KEYS_LISTED_MAX: usize = 16;

/// The schema of a configuration file: [`Settings`] and the tables of defaults. `inline` puts every
/// part where it is used, so that a validator's paths lead into it.
pub fn schema(inline: bool) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = inline);
    let mut generator = settings.into_generator();
    let stream = generator.subschema_for::<StreamSettings>().to_value();
    let mut root = generator.into_root_schema_for::<Settings>().to_value();
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        let descriptions = [
            "Defaults of all streams: any key of a stream.",
            "Defaults of streams of images that override `defaults`: any key of a stream.",
        ];
        for (table, description) in DEFAULTS.into_iter().zip(descriptions) {
            let mut defaults = stream.clone();
            if let Some(schema) = defaults.as_object_mut() {
                schema.insert("description".into(), description.into());
            }
            properties.insert(table.into(), defaults);
        }
    }
    root
}

/// Lists of independent elements: an invalid one is replaced with null, so that the others keep
/// their positions.
const LISTS_OF_TABLES: [&str; 2] = ["fields", "mutes"];

/// Every problem of structure. Invalid values are removed from the tree, so that the rest can be
/// checked further.
pub fn check(tree: &mut Value) -> Vec<ConfigProblem> {
    let schema = schema(true);
    let validator = match with_keywords(jsonschema::options()).build(&schema) {
        Ok(validator) => validator,
        Err(error) => {
            let fault = format!("cannot be checked: the built-in schema is invalid: {error}");
            return vec![ConfigProblem::new(
                KeyPath::default(),
                fault,
                "report this as a bug of outlierd",
            )];
        }
    };
    let problems = SchemaReport::of(&validator, &schema, tree);
    prune(tree, &problems);
    problems
}

/// Position of the first index in a path.
fn list_index(path: &KeyPath) -> Option<usize> {
    path.0
        .iter()
        .position(|step| matches!(step, KeyStep::Index(_)))
}

/// Removes the invalid values from the tree: from a table by name, from a list the whole element or
/// the whole list.
pub fn prune(tree: &mut Value, problems: &[ConfigProblem]) {
    for problem in problems {
        let mut path = problem.key.clone();
        if let Some(at) = list_index(&path) {
            let is_of_tables = matches!(path.0.get(at - 1), Some(KeyStep::Key(list)) if LISTS_OF_TABLES.contains(&list.as_str()));
            path.0.truncate(if is_of_tables { at + 1 } else { at });
        }
        // A problem without a key is one of a layer as a whole; the rest of the tree is still worth
        // checking.
        if !path.0.is_empty()
            && let Some(value) = find_mut(tree, &path)
        {
            *value = Value::Null;
        }
    }
    drop_nulls(tree);
}

struct SchemaReport<'s> {
    schema: &'s Value,
    tree: &'s Value,
    problems: Vec<ConfigProblem>,
}

impl<'s> SchemaReport<'s> {
    fn of(validator: &Validator, schema: &'s Value, tree: &'s Value) -> Vec<ConfigProblem> {
        let mut report = SchemaReport {
            schema,
            tree,
            problems: Vec::new(),
        };
        for error in validator.iter_errors(tree) {
            report.add(&error);
        }
        report.problems
    }

    fn add(&mut self, error: &ValidationError<'_>) {
        let at = self.path(error.instance_path());
        let keyword = error.schema_path().as_str();
        let parent = keyword.rsplit_once('/').map_or("", |(parent, _)| parent);
        let part = self.schema.pointer(parent).unwrap_or(&Value::Null);
        let fault = match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                return unexpected
                    .iter()
                    .for_each(|key| self.unknown_key(&at, part, key));
            }
            Kind::AnyOf { context } => {
                // The branch that is meant is the one of the same type.
                let branches = part
                    .get("anyOf")
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let meant = branches
                    .iter()
                    .position(|branch| is_type(branch, error.instance()));
                return match meant.and_then(|branch| context.get(branch)) {
                    Some(errors) if !errors.is_empty() => {
                        errors.iter().for_each(|error| self.add(error))
                    }
                    _ => self.value(at, error, format!("must be {}", allowed(part))),
                };
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let example = part.pointer(&format!("/properties/{key}/examples/0"));
                let fix = format!(
                    "add {key}{}",
                    example
                        .map(|example| format!(" = {example}"))
                        .unwrap_or_default()
                );
                self.problems.push(
                    ConfigProblem::new(at, format!("has no {key}"), fix).found(error.instance()),
                );
                return;
            }
            Kind::Custom { message, .. } => message.clone(),
            Kind::MaxItems { limit } => format!("must have at most {limit} elements"),
            _ => format!("must be {}", allowed(part)),
        };
        self.value(at, error, fault);
    }

    fn value(&mut self, at: KeyPath, error: &ValidationError<'_>, fault: String) {
        let found = error.instance();
        // A whole table says less than its name.
        let is_table = found.is_object();
        let keyword = error.schema_path().as_str();
        let part = keyword
            .rsplit_once('/')
            .and_then(|(parent, _)| self.schema.pointer(parent));
        let word = found
            .as_str()
            .zip(part)
            .and_then(|(word, part)| nearest(word, words(part)));
        let fix = word.map_or_else(
            || usual_fix(&at),
            |word| format!("did you mean \"{word}\"?"),
        );
        let problem = ConfigProblem::new(
            at,
            if is_table {
                format!("is a table, and {fault}")
            } else {
                fault
            },
            fix,
        );
        self.problems.push(if is_table {
            problem
        } else {
            problem.found(found)
        });
    }

    fn unknown_key(&mut self, at: &KeyPath, part: &Value, key: &str) {
        let known: Vec<&str> = properties(part).map(|(name, _)| name).collect();
        let elsewhere = self.places(at, key);
        let fix = if let Some(place) = elsewhere.first() {
            format!("write it as {place}")
        } else if let Some(name) = nearest(key, known.iter().copied()) {
            format!("did you mean {}?", at.clone().key(name))
        } else if known.len() <= KEYS_LISTED_MAX {
            format!("remove it; known here are {}", known.join(", "))
        } else {
            "remove it".to_owned()
        };
        self.problems.push(ConfigProblem::new(
            at.clone().key(key),
            "is not a known key",
            fix,
        ));
    }

    /// Where a key that is known elsewhere in the same stream belongs: `streams.pumps.topic` is
    /// `streams.pumps.input.topic`.
    fn places(&self, at: &KeyPath, key: &str) -> Vec<KeyPath> {
        let (root, part) = match at.0.as_slice() {
            [KeyStep::Key(streams), name, ..] if streams == "streams" => {
                let root = KeyPath(vec![KeyStep::Key(streams.clone()), name.clone()]);
                (
                    root,
                    self.schema
                        .pointer("/properties/streams/additionalProperties"),
                )
            }
            [KeyStep::Key(table), ..] if DEFAULTS.contains(&table.as_str()) => (
                KeyPath::of(table),
                self.schema.pointer(&format!("/properties/{table}")),
            ),
            _ => (KeyPath::default(), Some(self.schema)),
        };
        let mut places = Vec::new();
        for (table, inner) in part.into_iter().flat_map(properties) {
            if table == key && !root.0.is_empty() {
                places.push(root.clone().key(table));
            }
            if !DEFAULTS.contains(&table) && properties(inner).any(|(name, _)| name == key) {
                places.push(root.clone().key(table).key(key));
            }
        }
        places
    }

    /// The key path of a place in the tree; list positions are told from keys by what stands there.
    fn path(&self, location: &Location) -> KeyPath {
        let mut path = KeyPath::default();
        for segment in location.segments() {
            let text = match segment {
                LocationSegment::Index(index) => index.to_string(),
                LocationSegment::Property(key) => key.into_owned(),
            };
            path = match (path.find(self.tree), text.parse()) {
                (Some(Value::Array(_)), Ok(index)) => path.index(index),
                _ => path.key(&text),
            };
        }
        path
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, part)| (name.as_str(), part))
}

/// The words that a schema lists.
fn words(schema: &Value) -> Vec<&str> {
    let listed = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let described = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let described = described.flat_map(|branch| {
        branch.get("const").into_iter().chain(
            branch
                .get("enum")
                .and_then(Value::as_array)
                .into_iter()
                .flatten(),
        )
    });
    listed.chain(described).filter_map(Value::as_str).collect()
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => Vec::new(),
    }
}

fn is_type(schema: &Value, value: &Value) -> bool {
    types(schema).into_iter().any(|name| match name {
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    })
}

/// What a schema allows, in words that follow "must be".
fn allowed(schema: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return words
            .iter()
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(" or ");
    }
    let branches = schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut kinds: Vec<String> = branches.map(allowed).collect();
    kinds.extend(types(schema).into_iter().map(|name| match name {
        "string" => "text".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "a table".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => format!("a whole number{}", range(schema)),
        _ => format!("a number{}", range(schema)),
    }));
    if kinds.iter().any(|kind| kind == "a number") {
        kinds.retain(|kind| kind != "a whole number");
    }
    let example = schema.get("examples").and_then(|examples| examples.get(0));
    kinds.join(", or ")
        + &example
            .map(|example| format!(" such as {example}"))
            .unwrap_or_default()
}

/// A range, in words that follow "a number".
fn range(schema: &Value) -> String {
    let limit = |key: &str| schema.get(key).map(Value::to_string);
    let least = limit("exclusiveMinimum").map(|least| format!("above {least}"));
    let least = least.or_else(|| limit("minimum").map(|least| format!("at least {least}")));
    let most = limit("exclusiveMaximum").map(|most| format!("below {most}"));
    let most = most.or_else(|| limit("maximum").map(|most| format!("at most {most}")));
    match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        _ => [least, most]
            .into_iter()
            .flatten()
            .fold(String::new(), |text, limit| {
                text.clone() + if text.is_empty() { " " } else { " and " } + &limit
            }),
    }
}

fn find_mut<'v>(tree: &'v mut Value, path: &KeyPath) -> Option<&'v mut Value> {
    path.0.iter().try_fold(tree, |value, step| match step {
        KeyStep::Key(key) => value.get_mut(key),
        KeyStep::Index(index) => value.get_mut(index),
    })
}

/// TOML has no null, so null can mark a removed value.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(table) => {
            table.retain(|_, item| !item.is_null());
            table.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

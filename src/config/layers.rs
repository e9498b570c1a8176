//! The layers above the built-in one, read and merged into one tree; and who set what.
//!
//! The `config` crate parses TOML and merges. Environment variables are read here, because its own
//! source lower-cases every name and cannot address a key that holds a dot, as all librdkafka
//! properties do.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::Path;

use config::{Config, ConfigError, File, FileFormat, Source, Value, ValueKind};

use super::ConfigSources;
use super::problems::{ConfigProblem, KeyPath, PROPERTY_TABLES, REGISTRY_SECRETS};

type TomlTable = config::Map<String, Value>;

/// Prefix of environment variables that set a key.
const PREFIX: &str = "OUTLIERD__";
/// What separates the keys in the name of a variable.
const SEPARATOR: &str = "__";
/// Largest configuration file: far above any real one, far below what could hurt.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The merged layers above the built-in one.
#[derive(Debug)]
pub struct ConfigLayers {
    /// Their keys and values.
    pub tree: serde_json::Value,
    /// What could not be taken over.
    pub problems: Vec<ConfigProblem>,
    /// Who set the values that do not come from the file.
    origins: BTreeMap<KeyPath, String>,
}

impl ConfigLayers {
    /// Says with each problem who set the value, where it was not the file.
    pub fn name_origins(&self, problems: &mut [ConfigProblem]) {
        for problem in problems {
            problem.origin = problem
                .origin
                .take()
                .or_else(|| self.origins.get(&problem.key).cloned());
        }
    }
}

/// Reads and merges the layers.
///
/// # Errors
/// Fatal problems: the file cannot be read, or is not valid TOML.
pub fn read(sources: &ConfigSources) -> Result<ConfigLayers, Vec<ConfigProblem>> {
    let mut problems = Vec::new();
    let mut file = match &sources.file {
        None => TomlTable::new(),
        Some(path) => parse(&text(path)?)
            .map_err(|fault| vec![whole(fault, "correct this line of the file")])?,
    };
    join_properties(&mut file);
    let environment = environment(&sources.environment, &file, &mut problems);
    let overrides = overrides(&sources.overrides, &mut problems);

    let layers = [file, environment, overrides].into_iter().map(ConfigLayer);
    let merged = layers
        .fold(Config::builder(), |builder, layer| {
            builder.add_source(layer)
        })
        .build();
    let merged = merged.and_then(|config| config.collect());
    let merged = merged.map_err(|error| vec![whole(error.to_string(), "correct the file")])?;

    let mut walk = JsonConversion {
        problems,
        origins: BTreeMap::new(),
    };
    let tree = walk.json(
        &Value::new(None, ValueKind::Table(merged)),
        &KeyPath::default(),
    );
    Ok(ConfigLayers {
        tree,
        problems: walk.problems,
        origins: walk.origins,
    })
}

fn whole(fault: impl Into<String>, fix: impl Into<String>) -> ConfigProblem {
    ConfigProblem::new(KeyPath::default(), fault, fix)
}

/// One layer, as the `config` crate takes it.
#[derive(Clone, Debug)]
struct ConfigLayer(TomlTable);

impl Source for ConfigLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<TomlTable, ConfigError> {
        Ok(self.0.clone())
    }
}

fn text(path: &Path) -> Result<String, Vec<ConfigProblem>> {
    let fail = |fault: String| vec![whole(fault, "give the path of a readable TOML file")];
    match std::fs::metadata(path) {
        Ok(data) if data.len() > FILE_BYTES_MAX => {
            return Err(fail(format!(
                "has {} bytes; at most {FILE_BYTES_MAX} are read",
                data.len()
            )));
        }
        _ => {}
    }
    std::fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))
}

/// Parses TOML; the error is one line with the place and the reason.
fn parse(text: &str) -> Result<TomlTable, String> {
    let parsed = File::from_str(text, FileFormat::Toml).collect();
    parsed.map_err(|error| match error {
        ConfigError::FileParse { cause, .. } => {
            let cause = cause.to_string();
            // The parser draws the line and a caret between its first line and its last one.
            let place = cause
                .lines()
                .next()
                .unwrap_or_default()
                .replace("TOML parse error at ", "");
            match cause
                .lines()
                .skip(1)
                .filter(|line| !line.contains('|'))
                .collect::<Vec<_>>()
                .join("; ")
            {
                reason if reason.is_empty() => format!("is not valid TOML: {place}"),
                reason => format!("is not valid TOML: {place}: {reason}"),
            }
        }
        other => format!("is not valid TOML: {other}"),
    })
}

/// Reads a value as TOML, and as plain text if that fails.
fn value(text: &str, origin: &str) -> Value {
    let kind = if text.contains('\n') {
        None
    } else {
        parse(&format!("v = {text}")).ok()
    };
    let kind = kind
        .and_then(|mut table| table.remove("v"))
        .map(|value| value.kind);
    Value::new(
        Some(&origin.to_owned()),
        kind.unwrap_or_else(|| ValueKind::String(text.to_owned())),
    )
}

fn environment(
    variables: &[(OsString, OsString)],
    file: &TomlTable,
    problems: &mut Vec<ConfigProblem>,
) -> TomlTable {
    let streams: Vec<&String> = match file.get("streams").map(|streams| &streams.kind) {
        Some(ValueKind::Table(streams)) => streams.keys().collect(),
        _ => Vec::new(),
    };
    let mut layer = TomlTable::new();
    for (name, found) in variables {
        let Some(keys) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let origin = name.to_string_lossy();
        let Some(found) = found.to_str() else {
            problems.push(whole(
                format!("{origin} is not UTF-8"),
                "set the variable to UTF-8 text, or unset it",
            ));
            continue;
        };
        let mut keys: Vec<String> = keys.split(SEPARATOR).map(str::to_lowercase).collect();
        if let [table, name, ..] = keys.as_mut_slice()
            && table == "streams"
        {
            let plain = |name: &str| name.to_lowercase().replace(['-', '.'], "_");
            if let Some(stream) = streams.iter().find(|stream| plain(stream) == *name) {
                name.clone_from(stream);
            }
        }
        if is_property(&keys) {
            keys = keys
                .into_iter()
                .enumerate()
                .map(|(i, key)| if i < 2 { key } else { key.replace('_', ".") })
                .collect();
        }
        if let Err(fault) = set(&mut layer, keys, found, &origin) {
            problems.push(whole(
                format!("{origin} {fault}"),
                "name the variable OUTLIERD__TABLE__KEY, or unset it",
            ));
        }
    }
    layer
}

fn overrides(pairs: &[String], problems: &mut Vec<ConfigProblem>) -> TomlTable {
    let mut layer = TomlTable::new();
    for pair in pairs {
        let fix = "write --set key=value, such as --set kafka.brokers=kafka-1:9092";
        let Some((key, found)) = pair.split_once('=') else {
            problems.push(whole(format!("--set {pair:?} has no \"=\""), fix));
            continue;
        };
        let done = keys(key.trim()).and_then(|keys| set(&mut layer, keys, found.trim(), "--set"));
        if let Err(fault) = done {
            // The value may be a secret.
            problems.push(whole(format!("--set {key:?} {fault}"), fix));
        }
    }
    layer
}

/// Splits a key at its dots, except inside double quotes.
fn keys(dotted: &str) -> Result<Vec<String>, String> {
    let mut keys = vec![String::new()];
    let mut is_quoted = false;
    for c in dotted.chars() {
        match (c, keys.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            ('.', _) if !is_quoted => keys.push(String::new()),
            (c, Some(key)) => key.push(c),
            (_, None) => {}
        }
    }
    match is_quoted {
        true => Err("has a quote that is not closed".into()),
        false => Ok(keys),
    }
}

/// Whether the keys lead into a table of librdkafka properties.
fn is_property(keys: &[String]) -> bool {
    matches!(keys, [kafka, table, _, ..] if kafka == "kafka" && PROPERTY_TABLES.contains(&table.as_str()))
}

/// Sets one key of a layer.
fn set(
    layer: &mut TomlTable,
    mut keys: Vec<String>,
    found: &str,
    origin: &str,
) -> Result<(), String> {
    if keys.iter().any(String::is_empty) {
        return Err("has an empty key".into());
    }
    let is_secret = matches!(keys.as_slice(), [table, key] if table == "registry" && REGISTRY_SECRETS.contains(&key.as_str()));
    let value = if is_secret && !found.starts_with(['"', '\'', '{']) {
        // A password may look like a number.
        Value::new(Some(&origin.to_owned()), found)
    } else if is_property(&keys) {
        // Passwords may look like numbers; librdkafka takes everything as text.
        let property = keys.split_off(2).join(".");
        keys.push(property);
        // Quotes that the shell left are TOML's.
        match found.starts_with(['"', '\'']) {
            true => value(found, origin),
            false => Value::new(Some(&origin.to_owned()), found),
        }
    } else {
        value(found, origin)
    };
    let Some(last) = keys.pop() else {
        return Err("has an empty key".into());
    };
    let mut table = layer;
    for key in keys {
        let next = table
            .entry(key.clone())
            .or_insert_with(|| Value::new(None, TomlTable::new()));
        match &mut next.kind {
            ValueKind::Table(inner) => table = inner,
            _ => return Err(format!("lies below {key}, which is also set to a value")),
        }
    }
    table.insert(last, value);
    Ok(())
}

/// Writes `security.protocol = "ssl"` without quotes, which TOML reads as nested tables, as one key
/// with dots.
fn join_properties(file: &mut TomlTable) {
    let Some(ValueKind::Table(kafka)) = file.get_mut("kafka").map(|kafka| &mut kafka.kind) else {
        return;
    };
    for name in PROPERTY_TABLES {
        if let Some(ValueKind::Table(properties)) = kafka.get_mut(name).map(|table| &mut table.kind)
        {
            let mut joined = TomlTable::new();
            join("", std::mem::take(properties), &mut joined);
            *properties = joined;
        }
    }
}

fn join(prefix: &str, table: TomlTable, joined: &mut TomlTable) {
    for (key, value) in table {
        match value.kind {
            ValueKind::Table(inner) => join(&format!("{prefix}{key}."), inner, joined),
            kind => _ = joined.insert(format!("{prefix}{key}"), Value::new(None, kind)),
        }
    }
}

/// Turns the merged tree into JSON, keeps who set what, and reports what JSON cannot hold.
struct JsonConversion {
    problems: Vec<ConfigProblem>,
    origins: BTreeMap<KeyPath, String>,
}

impl JsonConversion {
    fn json(&mut self, value: &Value, at: &KeyPath) -> serde_json::Value {
        if let Some(origin) = value.origin() {
            self.origins.insert(at.clone(), origin.to_owned());
        }
        match &value.kind {
            ValueKind::Nil => serde_json::Value::Null,
            ValueKind::Boolean(flag) => (*flag).into(),
            ValueKind::String(text) => text.clone().into(),
            ValueKind::I64(number) => (*number).into(),
            ValueKind::U64(number) => (*number).into(),
            ValueKind::I128(number) => self.refuse(at, number.to_string()),
            ValueKind::U128(number) => self.refuse(at, number.to_string()),
            ValueKind::Float(number) if !number.is_finite() => self.refuse(at, number.to_string()),
            // 3.0 where a whole number is due is one.
            ValueKind::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                (*number as i64).into()
            }
            ValueKind::Float(number) => (*number).into(),
            ValueKind::Array(items) => {
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| self.json(item, &at.clone().index(i)));
                serde_json::Value::Array(items.collect())
            }
            ValueKind::Table(table) => {
                let sorted: BTreeMap<_, _> = table.iter().collect();
                let entries = sorted
                    .into_iter()
                    .map(|(key, item)| (key.clone(), self.json(item, &at.clone().key(key))));
                serde_json::Value::Object(entries.collect())
            }
        }
    }

    fn refuse(&mut self, at: &KeyPath, found: String) -> serde_json::Value {
        let mut problem = ConfigProblem::new(
            at.clone(),
            "must be a finite number",
            "write a number, or leave the key out",
        );
        problem.found = Some(found);
        self.problems.push(problem);
        serde_json::Value::Null
    }
}

/// The built-in layer as JSON, with nothing above it.
pub fn built_in() -> serde_json::Value {
    let table = parse(super::DEFAULT_TOML).unwrap_or_else(|_| HashMap::new());
    JsonConversion {
        problems: Vec::new(),
        origins: BTreeMap::new(),
    }
    .json(
        &Value::new(None, ValueKind::Table(table)),
        &KeyPath::default(),
    )
}

/// Lays `above` over `below`: tables are merged key by key, everything else is replaced.
pub fn overlay(below: &mut serde_json::Value, above: &serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                overlay(
                    below.entry(key.clone()).or_insert(serde_json::Value::Null),
                    value,
                );
            }
        }
        (below, above) => *below = above.clone(),
    }
}

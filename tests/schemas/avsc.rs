//! The Avro schema of a type, from its JSON Schema.
//!
//! A field that may be absent has a default, so that it can be added or removed without a break. An enum
//! has the further symbol `unknown`, which is its default: a reader that does not know a later symbol
//! reads that.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "io.outlierd";
const UNKNOWN: &str = "unknown";

/// The Avro schema of a type that is an object.
pub fn avro_schema<T: JsonSchema>() -> Value {
    let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
    let mut converter = Converter {
        defs: schema["$defs"].clone(),
        named: BTreeSet::new(),
    };
    let mut record = converter.record(schema["title"].as_str().unwrap(), &schema);
    record["namespace"] = NAMESPACE.into();
    record
}

struct Converter {
    defs: Value,
    /// Types that were written in full: Avro then takes their names.
    named: BTreeSet<String>,
}

impl Converter {
    fn record(&mut self, name: &str, schema: &Value) -> Value {
        assert_eq!(schema["additionalProperties"], false, "{name}");
        let properties = schema["properties"].as_object().unwrap();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|keys| keys.iter().map(|key| key.as_str().unwrap()).collect())
            .unwrap_or_default();
        let optional = properties.keys().map(String::as_str);
        let optional = optional.filter(|key| !required.contains(key));
        let keys: Vec<&str> = required.iter().copied().chain(optional).collect();
        assert_eq!(keys.len(), properties.len(), "{name}");
        let fields: Vec<Value> = keys
            .into_iter()
            .map(|key| self.field(key, &properties[key], required.contains(&key)))
            .collect();
        json!({ "type": "record", "name": name, "doc": doc(schema), "fields": fields })
    }

    fn field(&mut self, name: &str, schema: &Value, is_required: bool) -> Value {
        let of = self.type_of(schema);
        let mut field = json!({ "name": name, "doc": doc(schema) });
        let default = match &of {
            Value::Array(_) => Some(Value::Null),
            _ if is_required => None,
            of => Some(match of["type"].as_str().or(of.as_str()) {
                Some("boolean") => false.into(),
                Some("int" | "long") => 0.into(),
                Some("string") => "".into(),
                Some("array") => json!([]),
                _ => panic!("{name}: {of} has no default"),
            }),
        };
        if let Some(default) = default {
            field["default"] = default;
        }
        field["type"] = of;
        field
    }

    fn type_of(&mut self, schema: &Value) -> Value {
        if let Some(path) = schema["$ref"].as_str() {
            return self.named_type(path.strip_prefix("#/$defs/").unwrap());
        }
        if let Some(branches) = schema["anyOf"].as_array() {
            assert_eq!((branches.len(), &branches[1]["type"]), (2, &json!("null")));
            return json!(["null", self.type_of(&branches[0])]);
        }
        if let Some(types) = schema["type"].as_array() {
            assert_eq!((types.len(), &types[1]), (2, &json!("null")));
            let mut inner = schema.clone();
            inner["type"] = types[0].clone();
            return json!(["null", self.type_of(&inner)]);
        }
        match schema["type"].as_str().unwrap() {
            kind @ ("string" | "boolean") => kind.into(),
            "number" => "double".into(),
            "array" => json!({ "type": "array", "items": self.type_of(&schema["items"]) }),
            "integer" => match schema["format"].as_str().unwrap() {
                "int32" => "int".into(),
                // What a 64-bit integer without a sign has beyond a long is refused when it is written.
                "uint32" | "int64" | "uint64" => "long".into(),
                format => panic!("{format}"),
            },
            kind => panic!("{kind}"),
        }
    }

    fn named_type(&mut self, name: &str) -> Value {
        if !self.named.insert(name.to_owned()) {
            return name.into();
        }
        let schema = self.defs[name].clone();
        match schema["oneOf"].as_array() {
            Some(variants) => symbols(name, &schema, variants),
            None => self.record(name, &schema),
        }
    }
}

fn symbols(name: &str, schema: &Value, variants: &[Value]) -> Value {
    let text = |variant: &Value| variant["const"].as_str().unwrap().to_owned();
    let mut symbols: Vec<String> = variants.iter().map(text).collect();
    assert!(!symbols.contains(&UNKNOWN.to_owned()), "{name}");
    symbols.push(UNKNOWN.to_owned());
    let lines = variants.iter().map(|variant| {
        let description = variant["description"].as_str().unwrap();
        format!("{}: {}", text(variant), joined(description))
    });
    let lines: Vec<String> = lines.collect();
    let doc = format!(
        "{}\n\n{}\n{UNKNOWN}: Never written; what a reader makes of a symbol of a later release.",
        doc(schema),
        lines.join("\n")
    );
    let mut of = Map::new();
    for (key, value) in [
        ("type", json!("enum")),
        ("name", name.into()),
        ("doc", doc.into()),
        ("symbols", symbols.into()),
        ("default", UNKNOWN.into()),
    ] {
        of.insert(key.to_owned(), value);
    }
    of.into()
}

/// The comment of a type or a field.
fn doc(schema: &Value) -> String {
    joined(schema["description"].as_str().unwrap())
}

/// A comment with its lines joined to paragraphs.
fn joined(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|text| text.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

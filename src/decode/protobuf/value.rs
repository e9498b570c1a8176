//! From a decoded message to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use serde_json::{Map, Number, Value as Json};

use super::FIELDS_MAX;

/// Decodes `bytes` as a message. Its decoder bounds how deep messages are inside of each other, and
/// so how deep the recursion here is.
pub(super) fn decode(message: &MessageDescriptor, bytes: &[u8]) -> Result<Json, String> {
    let decoded = DynamicMessage::decode(message.clone(), bytes);
    let decoded = decoded.map_err(|error| format!("not a {}: {error}", message.full_name()))?;
    let mut writer = MessageWriter { fields: 0 };
    writer.message(&decoded)
}

/// Whether a message is one of Google's that are something else in JSON than their fields. `Any` is
/// not: one inside of others would be decoded to any depth.
pub(super) fn has_json_form(message: &MessageDescriptor) -> bool {
    let Some(name) = message.full_name().strip_prefix("google.protobuf.") else {
        return false;
    };
    matches!(
        name,
        "Timestamp"
            | "Duration"
            | "FieldMask"
            | "Struct"
            | "Value"
            | "ListValue"
            | "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    )
}

/// Whether such a message can hold anything below it.
pub(super) fn is_open(message: &MessageDescriptor) -> bool {
    let name = message.full_name().rsplit('.').next();
    matches!(name, Some("Struct" | "Value" | "ListValue"))
}

struct MessageWriter {
    /// Fields so far.
    fields: usize,
}

impl MessageWriter {
    fn message(&mut self, message: &DynamicMessage) -> Result<Json, String> {
        let descriptor = message.descriptor();
        if has_json_form(&descriptor) {
            return Ok(json_form(message));
        }
        let mut object = Map::new();
        for field in descriptor.fields() {
            self.fields += 1;
            if self.fields > FIELDS_MAX {
                return Err(format!(
                    "the message has more than {FIELDS_MAX} fields, those with default values included"
                ));
            }
            if field.supports_presence() && !message.has_field(&field) {
                continue;
            }
            let value = self.value(&message.get_field(&field), &field)?;
            object.insert(field.name().to_owned(), value);
        }
        Ok(Json::Object(object))
    }

    /// The value of a field.
    fn value(&mut self, value: &Value, field: &FieldDescriptor) -> Result<Json, String> {
        match value {
            Value::List(values) => {
                let kind = field.kind();
                let values = values.iter().map(|value| self.scalar(value, &kind));
                values.collect::<Result<_, _>>().map(Json::Array)
            }
            Value::Map(entries) => {
                let kind = match field.kind() {
                    Kind::Message(entry) => entry.map_entry_value_field().kind(),
                    kind => kind,
                };
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((key_text(key), self.scalar(value, &kind)?)));
                entries.collect::<Result<_, _>>().map(Json::Object)
            }
            value => self.scalar(value, &field.kind()),
        }
    }

    fn scalar(&mut self, value: &Value, kind: &Kind) -> Result<Json, String> {
        Ok(match value {
            Value::Bool(value) => Json::from(*value),
            Value::I32(value) => Json::from(*value),
            Value::I64(value) => Json::from(*value),
            Value::U32(value) => Json::from(*value),
            Value::U64(value) => Json::from(*value),
            Value::F32(value) => float(f64::from(*value)),
            Value::F64(value) => float(*value),
            Value::String(value) => Json::from(value.as_str()),
            Value::Bytes(value) => Json::from(BASE64.encode(value)),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(of) => match of.get_value(*number) {
                    Some(value) => Json::from(value.name()),
                    None => Json::from(*number),
                },
                _ => Json::from(*number),
            },
            Value::Message(message) => self.message(message)?,
            // Neither is inside of a list or map.
            Value::List(_) | Value::Map(_) => Json::Null,
        })
    }
}

/// The JSON of one of Google's messages; null for one without a valid one, such as a time after
/// the year 9999.
fn json_form(message: &DynamicMessage) -> Json {
    let options = prost_reflect::SerializeOptions::new().stringify_64_bit_integers(false);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.unwrap_or_default()
}

fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => Json::from("NaN"),
        None if value > 0.0 => Json::from("Infinity"),
        None => Json::from("-Infinity"),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

//! The alerts of a topic as JSON, whatever they are written in: JSON, or Avro in the frame of a schema
//! registry. A topic may hold both: `output.format` can change.
//!
//! An Avro alert is read by the schema that it was written with. One that this release knows in full has
//! the text that `output.format = "json"` would have given it; of another release, all of its fields.

use std::marker::PhantomData;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::decode::avro::AvroSchema;
use crate::record::alert::Alert;
use crate::schema_registry::cache::{SchemaCache, SchemaLookup};
use crate::schema_registry::client::RegistryClient;
use crate::schema_registry::{RegisteredSchema, RegistrySettings, SchemaRegistryError, SchemaType};

/// How often a schema is looked for that the registry has not given yet.
const PACE: Duration = Duration::from_millis(5);
/// The first byte of a value in the frame of a registry.
const MAGIC: u8 = 0;

/// Why there is no text of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlertFault {
    /// It is not an alert: why.
    NoAlert(String),
    /// Its schema cannot be had now: why.
    NoSchema(SchemaRegistryError),
}

/// A compiled schema, or why it is of no use.
type Compiled = Result<AvroSchema, String>;

/// See the module.
pub struct AlertDecoder {
    registry: RegistrySettings,
    /// Begins with the first message in Avro.
    schemas: Option<SchemaCache<Compiled>>,
}

impl AlertDecoder {
    /// A decoder that asks a registry, which may be none, where it meets Avro.
    pub fn new(registry: &RegistrySettings) -> Self {
        Self {
            registry: registry.clone(),
            schemas: None,
        }
    }

    /// Keeps a schema that the registry need not be asked about.
    ///
    /// # Errors
    /// As [`AlertFault::NoSchema`].
    pub fn insert(&mut self, schema: &RegisteredSchema) -> Result<(), AlertFault> {
        self.schemas()?.insert(schema.id, compile(schema));
        Ok(())
    }

    /// The JSON of the value of a message, on one line. Waits at most so long for its schema.
    ///
    /// # Errors
    /// [`AlertFault`].
    pub fn line(&mut self, payload: &[u8], patience: Duration) -> Result<String, AlertFault> {
        let framed = payload.split_first_chunk::<5>();
        if let Some(([MAGIC, id @ ..], datum)) = framed {
            return self.of_avro(u32::from_be_bytes(*id), datum, patience);
        }
        one_line(payload).ok_or_else(|| AlertFault::NoAlert("it is not a JSON object".to_owned()))
    }

    fn of_avro(&mut self, id: u32, datum: &[u8], wait: Duration) -> Result<String, AlertFault> {
        let schemas = self.schemas()?;
        let began = Instant::now();
        let compiled = loop {
            match schemas.lookup(id) {
                SchemaLookup::Known(compiled) => break compiled,
                SchemaLookup::Unknown(reason) => {
                    return Err(AlertFault::NoAlert(format!("its schema {id}: {reason}")));
                }
                SchemaLookup::Pending => {}
            }
            let trouble = schemas.trouble();
            if trouble.is_some() || began.elapsed() >= wait {
                let reason = trouble.unwrap_or_else(|| "no answer yet".to_owned());
                let away = SchemaRegistryError::Unreachable(reason);
                return Err(AlertFault::NoSchema(away));
            }
            thread::sleep(PACE);
        };
        let of_schema = |fault: String| AlertFault::NoAlert(format!("by its schema {id}: {fault}"));
        let schema = compiled.as_ref().as_ref();
        let schema = schema.map_err(|fault| of_schema(fault.clone()))?;
        let value = schema.deserialize(datum, PhantomData::<Value>);
        let value = value.map_err(|fault| of_schema(fault.to_string()))?;
        if !value.is_object() {
            return Err(of_schema("it is not a record".to_owned()));
        }
        // Of another release it may have fields that this one does not know.
        let text = serde_json::from_value::<Alert>(value.clone());
        let text = text.and_then(|alert| serde_json::to_string(&alert));
        Ok(text.unwrap_or_else(|_| value.to_string()))
    }

    fn schemas(&mut self) -> Result<&SchemaCache<Compiled>, AlertFault> {
        let schemas = match self.schemas.take() {
            Some(schemas) => schemas,
            None => {
                let client = RegistryClient::open(&self.registry).map_err(AlertFault::NoSchema)?;
                SchemaCache::new(client, compile).map_err(|error| {
                    let text = format!("no thread for the registry: {error}");
                    AlertFault::NoSchema(SchemaRegistryError::Unreachable(text))
                })?
            }
        };
        Ok(self.schemas.insert(schemas))
    }
}

fn compile(schema: &RegisteredSchema) -> Compiled {
    if schema.schema_type != SchemaType::Avro {
        let found = schema.schema_type.as_str();
        return Err(format!("it is of the type {found}, and AVRO is expected"));
    }
    let references = schema.references.iter();
    let references: Vec<(&str, &str)> = references
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    AvroSchema::parse(&schema.text, &references, &|_| true)
}

/// The text of a JSON object, on one line; `None` where the bytes are not one.
fn one_line(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    // Inside of JSON's strings a line break is escaped: what is left separates tokens.
    value.is_object().then(|| text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> AlertDecoder {
        AlertDecoder::new(&RegistrySettings {
            // Nobody listens there.
            urls: vec!["http://127.0.0.1:9".to_owned()],
            username: None,
            password: None,
            token: None,
            ca_file: None,
            timeout: Duration::from_millis(500),
        })
    }

    fn schema(id: u32, schema_type: SchemaType, text: &str) -> RegisteredSchema {
        RegisteredSchema {
            id,
            schema_type,
            text: text.to_owned(),
            references: Vec::new(),
        }
    }

    fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
        [&[0][..], &id.to_be_bytes(), datum].concat()
    }

    fn no_alert(decoder: &mut AlertDecoder, payload: &[u8]) -> String {
        match decoder.line(payload, Duration::ZERO) {
            Err(AlertFault::NoAlert(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_alert_in_json_is_one_line_and_its_text_is_kept() {
        let mut decoder = decoder();
        let text = "{\"id\":\"a\",\"note\":\"one\\ntwo\",\"score\":1.50}";
        let line = decoder.line(text.as_bytes(), Duration::ZERO);
        assert_eq!(line.as_deref(), Ok(text));
        let pretty = decoder.line(b"{\r\n  \"id\": \"a\"\n}", Duration::ZERO);
        assert_eq!(pretty.as_deref(), Ok("{    \"id\": \"a\" }"));
        assert!(decoder.schemas.is_none(), "no registry is needed");
    }

    #[test]
    fn what_is_no_object_is_no_alert() {
        let mut decoder = decoder();
        for payload in ["", "not json", "[1]", "7", "{\"id\":"] {
            let reason = no_alert(&mut decoder, payload.as_bytes());
            assert!(reason.contains("JSON object"), "{payload}");
        }
        no_alert(&mut decoder, b"{\"id\":\"\xff\"}");
        no_alert(&mut decoder, b"\0\0\0");
    }

    #[test]
    fn a_record_of_an_unknown_release_keeps_all_of_its_fields() {
        let mut decoder = decoder();
        let later = r#"{"type":"record","name":"Alert","fields":[
            {"name":"id","type":"string"},{"name":"cause","type":["null","string"],"default":null},
            {"name":"level","type":"double"}]}"#;
        decoder.insert(&schema(7, SchemaType::Avro, later)).unwrap();
        let datum = [&b"\x04ab\x02\x06hot"[..], &f64::NAN.to_le_bytes()].concat();
        let line = decoder.line(&framed(7, &datum), Duration::ZERO);
        assert_eq!(
            line.as_deref(),
            Ok(r#"{"cause":"hot","id":"ab","level":null}"#)
        );
        let cut = no_alert(&mut decoder, &framed(7, &datum[..9]));
        assert!(cut.contains("schema 7") && cut.contains("level"), "{cut}");
    }

    #[test]
    fn what_its_schema_does_not_describe_as_a_record_is_no_alert() {
        let mut decoder = decoder();
        decoder.insert(&schema(1, SchemaType::Json, "{}")).unwrap();
        decoder
            .insert(&schema(2, SchemaType::Avro, "\"int\""))
            .unwrap();
        decoder.insert(&schema(3, SchemaType::Avro, "{")).unwrap();
        for (id, due) in [(1, "JSON"), (2, "not a record"), (3, "schema 3")] {
            let reason = no_alert(&mut decoder, &framed(id, &[2]));
            assert!(reason.contains(due), "{reason}");
        }
    }

    #[test]
    fn a_registry_that_is_away_or_not_configured_is_no_fault_of_the_message() {
        let mut decoder = decoder();
        let reason = decoder.line(&framed(9, &[]), Duration::from_secs(10));
        use SchemaRegistryError::{Refused, Unreachable};
        assert!(
            matches!(&reason, Err(AlertFault::NoSchema(Unreachable(text))) if text.contains("127.0.0.1:9")),
            "{reason:?}"
        );
        let none = RegistrySettings {
            urls: Vec::new(),
            ..decoder.registry.clone()
        };
        let reason = AlertDecoder::new(&none).line(&framed(9, &[]), Duration::ZERO);
        assert!(
            matches!(&reason, Err(AlertFault::NoSchema(Refused(text))) if text.contains("registry.urls"))
        );
    }
}

//! The schemas that a stream's messages are written with: compiled for what the stream reads of them,
//! from a file, or from a registry by the id in each message.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::avro::AvroSchema;
use super::protobuf::{ProtobufMessage, ProtobufSchema};
use crate::record::format::{Format, KeyFrom, Layout, RecordFormat, SchemaFormat, TimeFrom};
use crate::schema_registry::cache::{SchemaCache, SchemaLookup};
use crate::schema_registry::client::RegistryClient;
use crate::schema_registry::{RegisteredSchema, RegistrySettings, SchemaType};

/// Most names that a message lists.
const LISTED_MAX: usize = 20;

/// A schema compiled for a stream.
#[derive(Clone, Debug)]
pub enum StreamSchema {
    /// In the file of an Avro stream, or in the registry.
    Avro(AvroSchema),
    /// In the registry: the message is named in the frame of each message.
    Protobuf(ProtobufSchema),
    /// In the file of a Protobuf stream.
    Message(ProtobufMessage),
}

/// What schemas are compiled for.
#[derive(Clone, Debug)]
pub struct SchemaUse {
    format: Format,
    /// The paths of key, time and readings.
    paths: Vec<Vec<String>>,
    /// Those of the readings, as messages name them.
    fields: Vec<String>,
    /// Whether a layout or a transform is between a message and the paths: nothing is known of what
    /// they read.
    is_shaped: bool,
}

impl SchemaUse {
    /// That of a stream.
    pub fn of(format: &RecordFormat) -> Self {
        let mut paths: Vec<Vec<String>> = Vec::new();
        if let KeyFrom::Field(path) = &format.key {
            paths.push(path.clone());
        }
        if let TimeFrom::Field(path) = &format.time {
            paths.push(path.clone());
        }
        paths.extend(format.fields.iter().map(|field| field.path.clone()));
        let fields = format.fields.iter().map(|field| field.path.join("."));
        Self {
            format: format.format,
            paths,
            fields: fields.collect(),
            is_shaped: format.layout != Layout::Row || !format.transform.is_empty(),
        }
    }

    /// The format of the stream.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Compiles the schema file of a stream, where there is one.
    ///
    /// # Errors
    /// What cannot be read, what is wrong with the schema, or that it has no configured field.
    pub fn open(&self, source: &SchemaFormat) -> Result<Option<StreamSchema>, String> {
        let Some(file) = &source.file else {
            return Ok(None);
        };
        let at = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{at} cannot be read: {error}"))?;
        if self.format == Format::Protobuf {
            let message = source.message.as_deref();
            let folder = file.parent().unwrap_or(Path::new("."));
            let schema = ProtobufSchema::open(file, folder)?;
            let found = schema.message(message).ok_or_else(|| {
                let known = listed(&schema.messages());
                match message {
                    Some(name) => format!("{at} has no message {name:?}; it has {known}"),
                    None => format!("{at} has no message"),
                }
            })?;
            self.check(found.name(), &found.fields(), |path| found.has_path(path))?;
            return Ok(Some(StreamSchema::Message(found)));
        }
        let schema = self.avro(&text, &[]);
        let schema = schema.map_err(|fault| format!("{at}: {fault}"))?;
        Ok(Some(schema))
    }

    /// Compiles a schema of the registry.
    ///
    /// # Errors
    /// What is wrong with the schema, or that it is of another language than the stream, or has no
    /// configured field.
    pub fn compile(&self, schema: &RegisteredSchema) -> Result<StreamSchema, String> {
        let references = schema.references.iter();
        let references: Vec<(&str, &str)> = references
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        match (self.format, schema.schema_type) {
            (Format::Avro, SchemaType::Avro) => self.avro(&schema.text, &references),
            (Format::Protobuf, SchemaType::Protobuf) => {
                ProtobufSchema::parse(&schema.text, &references).map(StreamSchema::Protobuf)
            }
            (_, found) => Err(format!(
                "it is of the type {}; record.format expects {}",
                found.as_str(),
                if self.format == Format::Avro {
                    "AVRO"
                } else {
                    "PROTOBUF"
                }
            )),
        }
    }

    fn avro(&self, text: &str, references: &[(&str, &str)]) -> Result<StreamSchema, String> {
        let is_key = |name: &str| self.paths.iter().flatten().any(|key| key == name);
        let schema = AvroSchema::parse(text, references, &|name| self.is_shaped || is_key(name))?;
        self.check(schema.name(), schema.fields(), |path| schema.has_path(path))?;
        Ok(StreamSchema::Avro(schema))
    }

    /// Refuses a schema that no reading can come from.
    ///
    /// # Errors
    /// Its name and fields, and the configured ones.
    pub fn check(
        &self,
        name: &str,
        fields: &[String],
        has_path: impl Fn(&[String]) -> bool,
    ) -> Result<(), String> {
        let readings = self.paths.iter().rev().take(self.fields.len());
        if self.is_shaped || readings.into_iter().any(|path| has_path(path)) {
            return Ok(());
        }
        Err(format!(
            "the schema {name} has none of the configured fields {}; it has {}",
            listed(&self.fields),
            listed(fields)
        ))
    }
}

/// Names in a message, the first ones.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let shown = names.iter().take(LISTED_MAX);
    let shown: Vec<String> = shown.map(|name| format!("`{name}`")).collect();
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A registered schema, or why the stream cannot use it.
pub(super) type Compiled = Result<StreamSchema, String>;

/// The schemas of one stream in a registry. Clones share one cache, which begins with the first
/// look-up.
#[derive(Clone, Default)]
pub struct StreamSchemas {
    registry: Option<Arc<RegistrySettings>>,
    cache: Arc<OnceLock<Result<SchemaCache<Compiled>, String>>>,
}

impl PartialEq for StreamSchemas {
    fn eq(&self, other: &Self) -> bool {
        self.registry == other.registry
    }
}

impl fmt::Debug for StreamSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamSchemas")
            .field(&self.registry)
            .finish()
    }
}

impl StreamSchemas {
    /// Those in a registry.
    pub fn of(registry: &RegistrySettings) -> Self {
        Self {
            registry: Some(Arc::new(registry.clone())),
            cache: Arc::default(),
        }
    }

    /// What is known of the schema with an id, for a stream that `uses` it.
    pub(super) fn lookup(&self, id: u32, uses: &SchemaUse) -> SchemaLookup<Compiled> {
        let begin = || {
            let registry = self.registry.as_deref();
            let registry = registry.ok_or("no registry is configured")?;
            let client = RegistryClient::open(registry).map_err(|wrong| wrong.to_string())?;
            let uses = uses.clone();
            SchemaCache::new(client, move |schema| uses.compile(schema))
                .map_err(|error| format!("no thread for the registry: {error}"))
        };
        match self.cache.get_or_init(begin) {
            Ok(cache) => cache.lookup(id),
            Err(_) => SchemaLookup::Pending,
        }
    }

    /// Why the registry does not answer, while it does not.
    pub fn trouble(&self) -> Option<String> {
        match self.cache.get()? {
            Ok(cache) => cache.trouble(),
            Err(fault) => Some(fault.clone()),
        }
    }
}

//! Protobuf (proto2 and proto3): a `.proto` file is compiled once, and each message becomes a JSON
//! value.
//!
//! | Protobuf | JSON |
//! |---|---|
//! | a number of any size, bool, string | the same; NaN and infinities as the texts `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | enum | the name, or the number of a value without one |
//! | bytes | text in base64 |
//! | message, map | an object, by the names of the fields as the `.proto` file has them |
//! | repeated | an array |
//! | `google.protobuf.Timestamp`, `Duration` | text: RFC 3339, `"1.5s"` |
//! | `google.protobuf.DoubleValue` and its like, `Struct`, `Value`, `ListValue` | their value |
//!
//! A scalar of proto3 without `optional` has no presence: the wire leaves it out where it is 0, so
//! its default counts as its value. A field with presence that is not set is absent.
//!
//! Messages and schemas are from outside: nothing here panics, nesting is bounded, and a message
//! cannot become much larger than it is ([`FIELDS_MAX`]).

use std::path::Path;
use std::sync::Arc;

use prost_reflect::{DescriptorPool, FileDescriptor, Kind, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver};

mod source;
mod value;

#[cfg(test)]
mod tests;

/// Most fields, those with default values included, of one message and all messages inside of it.
pub const FIELDS_MAX: usize = 1 << 18;

/// Most indices that lead to a message inside of others, in Confluent's wire format.
const INDICES_MAX: i64 = 32;

/// A compiled `.proto` file.
#[derive(Clone, Debug)]
pub struct ProtobufSchema {
    pool: DescriptorPool,
    /// The file itself, beside those that it imports.
    file: FileDescriptor,
}

/// One message type of a schema.
#[derive(Clone, PartialEq, Debug)]
pub struct ProtobufMessage(MessageDescriptor);

impl ProtobufSchema {
    /// Compiles a `.proto` text. `imports` are the texts of what it imports, by the names in its
    /// import statements; those of `google/protobuf` need none.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str, imports: &[(&str, &str)]) -> Result<Self, String> {
        let name = source::main_name(imports);
        let mut texts = source::texts(imports)?;
        source::check_nesting(&name, text)?;
        texts.insert(name.clone(), Arc::from(text));
        let mut resolver = ChainFileResolver::new();
        resolver.add(source::TextResolver(texts));
        resolver.add(GoogleFileResolver::new());
        resolver.add(source::TextResolver(source::known_texts()));
        Self::compile(resolver, Path::new(&name))
    }

    /// Compiles a `.proto` file on disk, whose imports are looked for in `include`. It has to be in
    /// that folder itself.
    ///
    /// # Errors
    /// What cannot be read, or what is wrong with the text, and where.
    pub fn open(path: &Path, include: &Path) -> Result<Self, String> {
        let mut resolver = ChainFileResolver::new();
        resolver.add(IncludeFileResolver::new(include.to_owned()));
        resolver.add(GoogleFileResolver::new());
        resolver.add(source::TextResolver(source::known_texts()));
        Self::compile(resolver, path)
    }

    fn compile(resolver: ChainFileResolver, path: &Path) -> Result<Self, String> {
        let mut compiler = Compiler::with_file_resolver(resolver);
        let compiled = compiler.include_imports(true).open_file(path);
        compiled.map_err(|error| source::describe(&error))?;
        let pool = compiler.descriptor_pool();
        // The files are in the order of their imports.
        let file = pool.files().last().ok_or("the file has no name")?;
        Ok(Self { pool, file })
    }

    /// The full names of the messages at the top of the file.
    pub fn messages(&self) -> Vec<String> {
        let messages = self.file.messages();
        messages
            .map(|message| message.full_name().to_owned())
            .collect()
    }

    /// The message with a full name; without a name, the only one or the first at the top of the
    /// file.
    pub fn message(&self, name: Option<&str>) -> Option<ProtobufMessage> {
        let message = match name {
            Some(name) => self.pool.get_message_by_name(name),
            None => self.file.messages().next(),
        };
        message.map(ProtobufMessage)
    }

    /// The message that Confluent's wire format names, and the bytes behind the name. It is a list
    /// of indices, each inside of the message before it; a single 0 is short for the first message.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn framed<'b>(&self, bytes: &'b [u8]) -> Result<(ProtobufMessage, &'b [u8]), String> {
        let mut rest = bytes;
        let count = zigzag(&mut rest)?;
        if !(0..=INDICES_MAX).contains(&count) {
            return Err(format!(
                "{count} is no length of a list of message indices; 0 to {INDICES_MAX} are allowed"
            ));
        }
        let mut message: Option<MessageDescriptor> = None;
        for _ in 0..count.max(1) {
            let index = if count == 0 { 0 } else { zigzag(&mut rest)? };
            let at = usize::try_from(index).ok();
            let inner = match &message {
                None => at.and_then(|at| self.file.messages().nth(at)),
                // The entries of maps are messages too, but nobody has written them.
                Some(outer) => at.and_then(|at| {
                    let written = |message: &MessageDescriptor| !message.is_map_entry();
                    outer.child_messages().filter(written).nth(at)
                }),
            };
            message = Some(inner.ok_or_else(|| match &message {
                None => format!("the schema has no message with the index {index}"),
                Some(outer) => format!(
                    "{} has no message with the index {index}",
                    outer.full_name()
                ),
            })?);
        }
        let message = message.ok_or("the schema has no message")?;
        Ok((ProtobufMessage(message), rest))
    }
}

impl ProtobufMessage {
    /// The full name.
    pub fn name(&self) -> &str {
        self.0.full_name()
    }

    /// The names of the fields, by their numbers.
    pub fn fields(&self) -> Vec<String> {
        let fields = self.0.fields();
        fields.map(|field| field.name().to_owned()).collect()
    }

    /// Whether a message can hold a value at `path`, whose elements are names of fields, keys of
    /// maps, or indices of arrays.
    pub fn has_path<P: AsRef<str>>(&self, path: &[P]) -> bool {
        let mut message = Some(self.0.clone());
        let mut path = path.iter().map(AsRef::as_ref);
        while let Some(name) = path.next() {
            let Some(inside) = message else {
                return false;
            };
            if value::has_json_form(&inside) {
                return value::is_open(&inside);
            }
            let Some(field) = inside.get_field_by_name(name) else {
                return false;
            };
            let mut kind = field.kind();
            if field.is_map() {
                let Some(_) = path.next() else {
                    return true;
                };
                if let Kind::Message(entry) = &kind {
                    kind = entry.map_entry_value_field().kind();
                }
            } else if field.is_list() {
                match path.next() {
                    None => return true,
                    Some(index) if index.parse::<usize>().is_err() => return false,
                    Some(_) => {}
                }
            }
            message = match kind {
                Kind::Message(message) => Some(message),
                _ => None,
            };
        }
        true
    }

    /// The JSON of one message.
    ///
    /// # Errors
    /// Why `bytes` are no such message, or that it has more than [`FIELDS_MAX`] fields.
    pub fn decode(&self, bytes: &[u8]) -> Result<serde_json::Value, String> {
        value::decode(&self.0, bytes)
    }
}

/// A zigzag varint of at most 64 bits.
fn zigzag(rest: &mut &[u8]) -> Result<i64, String> {
    let mut value: u64 = 0;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err("the list of message indices is truncated".to_owned())
}

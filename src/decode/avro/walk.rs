//! The deserializer over a node of the schema and what is left of a record.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::read::AvroReader;
use super::{AvroError, AvroKind, AvroSchema, FieldStep, NodeId, decimal};

/// Reads all of `bytes` as the schema's type.
pub(super) fn deserialize<'de, S: DeserializeSeed<'de>>(
    schema: &AvroSchema,
    bytes: &'de [u8],
    seed: S,
) -> Result<S::Value, AvroError> {
    let mut reader = AvroReader::new(schema, bytes);
    let node = schema.root;
    let value = seed.deserialize(AvroValue {
        node,
        reader: &mut reader,
    })?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(AvroError::new(format!(
            "{left} bytes are left behind the record"
        ))),
    }
}

/// The next value, of a known type.
struct AvroValue<'w, 's, 'de> {
    node: NodeId,
    reader: &'w mut AvroReader<'s, 'de>,
}

impl<'de> Deserializer<'de> for AvroValue<'_, '_, 'de> {
    type Error = AvroError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        let Self { node, reader } = self;
        let mut kind = &reader.next(node)?.kind;
        if let AvroKind::Union(branches) = kind {
            let branch = reader.branch(branches)?;
            kind = &reader.node(branch)?.kind;
        }
        match kind {
            AvroKind::Double => visitor.visit_f64(reader.double()?),
            AvroKind::Float => visitor.visit_f64(reader.float()?),
            AvroKind::Long => visitor.visit_i64(reader.long()?),
            AvroKind::Int => visitor.visit_i64(reader.int()?),
            AvroKind::Null => visitor.visit_unit(),
            AvroKind::Boolean => visitor.visit_bool(reader.boolean()?),
            AvroKind::Text => visitor.visit_borrowed_str(reader.text()?),
            AvroKind::Enum(symbols) => visitor.visit_str(reader.symbol(symbols)?),
            AvroKind::Bytes => visitor.visit_borrowed_bytes(reader.bytes()?),
            AvroKind::Fixed(size) => visitor.visit_borrowed_bytes(reader.take(*size)?),
            AvroKind::Uuid => visitor.visit_str(&uuid(reader.take(16)?)),
            AvroKind::Decimal(divisor) => {
                visitor.visit_f64(decimal::read(reader.bytes()?, *divisor))
            }
            AvroKind::FixedDecimal(size, divisor) => {
                visitor.visit_f64(decimal::read(reader.take(*size)?, *divisor))
            }
            AvroKind::Record(steps) => nested(reader, |reader| {
                let steps = steps.iter();
                let mut fields = RecordFields {
                    steps,
                    at: None,
                    reader,
                };
                let value = visitor.visit_map(&mut fields)?;
                complete(fields.steps.len() == 0, value)
            }),
            AvroKind::Array(element) => nested(reader, |reader| {
                let mut elements = BlockElements::of(*element, reader);
                let value = visitor.visit_seq(&mut elements)?;
                complete(elements.is_done, value)
            }),
            AvroKind::Map(element) => nested(reader, |reader| {
                let mut entries = BlockElements::of(*element, reader);
                let value = visitor.visit_map(MapEntries(&mut entries))?;
                complete(entries.is_done, value)
            }),
            AvroKind::Union(_) => Err(AvroError::new("a union is the branch of a union")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        self.reader.next(self.node)?;
        self.reader.skip(self.node)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// Reads what is one level down.
fn nested<'s, 'de, T>(
    reader: &mut AvroReader<'s, 'de>,
    read: impl FnOnce(&mut AvroReader<'s, 'de>) -> Result<T, AvroError>,
) -> Result<T, AvroError> {
    reader.descend()?;
    let value = read(reader)?;
    reader.ascend();
    Ok(value)
}

/// What a visitor has returned, if it has taken all there was: what follows is read from there.
fn complete<T>(is_done: bool, value: T) -> Result<T, AvroError> {
    match is_done {
        true => Ok(value),
        false => Err(AvroError::new("the visitor has left a part of the value")),
    }
}

/// The hyphenated form of a UUID.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The wanted fields of a record.
struct RecordFields<'w, 's, 'de> {
    steps: std::slice::Iter<'s, FieldStep>,
    /// The field whose key the visitor has.
    at: Option<(&'s str, NodeId)>,
    reader: &'w mut AvroReader<'s, 'de>,
}

impl<'de> MapAccess<'de> for &mut RecordFields<'_, '_, 'de> {
    type Error = AvroError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, AvroError> {
        for step in self.steps.by_ref() {
            if let FieldStep::Visit(name, node) = step {
                self.at = Some((name, *node));
                return seed.deserialize(StrDeserializer::new(name)).map(Some);
            }
            let skipped = self.reader.step(step);
            skipped.map_err(|error| step.located(error))?;
        }
        Ok(None)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, AvroError> {
        let Some((name, node)) = self.at.take() else {
            return Err(AvroError::new("a value is read before its key"));
        };
        let reader = &mut *self.reader;
        let value = seed.deserialize(AvroValue { node, reader });
        value.map_err(|error| error.within(name))
    }
}

/// The elements of an array or map, block by block.
struct BlockElements<'w, 's, 'de> {
    element: NodeId,
    /// BlockElements left in this block.
    left: u64,
    is_done: bool,
    reader: &'w mut AvroReader<'s, 'de>,
}

impl<'w, 's, 'de> BlockElements<'w, 's, 'de> {
    fn of(element: NodeId, reader: &'w mut AvroReader<'s, 'de>) -> Self {
        Self {
            element,
            left: 0,
            is_done: false,
            reader,
        }
    }

    /// Whether another element comes.
    #[inline]
    fn advance(&mut self, has_keys: bool) -> Result<bool, AvroError> {
        if self.left == 0 && !self.is_done {
            self.left = self.reader.block(self.element, has_keys)?.count;
            self.is_done = self.left == 0;
        }
        if self.is_done {
            return Ok(false);
        }
        self.left -= 1;
        Ok(true)
    }

    fn value<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, AvroError> {
        seed.deserialize(AvroValue {
            node: self.element,
            reader: &mut *self.reader,
        })
    }
}

impl<'de> SeqAccess<'de> for &mut BlockElements<'_, '_, 'de> {
    type Error = AvroError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, AvroError> {
        match self.advance(false)? {
            true => self.value(seed).map(Some),
            false => Ok(None),
        }
    }
}

/// The same with keys.
struct MapEntries<'e, 'w, 's, 'de>(&'e mut BlockElements<'w, 's, 'de>);

impl<'de> MapAccess<'de> for MapEntries<'_, '_, '_, 'de> {
    type Error = AvroError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, AvroError> {
        match self.0.advance(true)? {
            true => {
                let key = self.0.reader.text()?;
                seed.deserialize(BorrowedStrDeserializer::new(key))
                    .map(Some)
            }
            false => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, AvroError> {
        self.0.value(seed)
    }
}

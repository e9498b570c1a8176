//! Avro (specification 1.12): a schema is compiled once, and each record is then read in one
//! streaming pass through [`serde`], without a tree of values and without an allocation that the
//! visitor does not make.
//!
//! The writer's schema is the only one: names of fields lead to the readings, and a field that the
//! writer does not have is absent, whatever its default. What a visitor gets:
//!
//! | Avro | visited as |
//! |---|---|
//! | null, boolean | `visit_unit`, `visit_bool` |
//! | int, long, and dates, times and timestamps, which stay integers in the unit of the schema | `visit_i64` |
//! | float, double | `visit_f64` |
//! | decimal (of bytes or fixed) | `visit_f64`, with its scale |
//! | string, also with `uuid` | `visit_borrowed_str` |
//! | enum, fixed with `uuid` | `visit_str` |
//! | other bytes and fixed | `visit_borrowed_bytes` |
//! | record, map | `visit_map` |
//! | array | `visit_seq` |
//! | union | as the branch |
//!
//! Data and schemas are from outside: nothing here panics, nesting is bounded by [`DEPTH_MAX`], and
//! memory does not depend on lengths that the data claims.

use std::collections::HashSet;
use std::fmt;

use serde::de::DeserializeSeed;

mod compile;
mod decimal;
mod fingerprint;
mod read;
mod walk;

#[cfg(test)]
mod tests;

/// Most values inside of each other, in a schema and in a record: what serde_json allows too.
pub const DEPTH_MAX: usize = 128;

/// Why bytes are no record of a schema: the place, then the fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AvroError {
    /// Names of fields, the innermost first.
    path: Vec<String>,
    fault: String,
}

impl AvroError {
    #[cold]
    fn new(fault: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            fault: fault.into(),
        }
    }

    /// The same error, inside of a field.
    #[cold]
    fn within(mut self, field: &str) -> Self {
        self.path.push(field.to_owned());
        self
    }
}

impl fmt::Display for AvroError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "field `{}`: ", path.join("."))?;
        }
        f.write_str(&self.fault)
    }
}

impl std::error::Error for AvroError {}

impl serde::de::Error for AvroError {
    fn custom<T: fmt::Display>(fault: T) -> Self {
        Self::new(fault.to_string())
    }
}

/// Index of a node in [`AvroSchema::nodes`].
type NodeId = u32;

/// How a value is read.
#[derive(Clone, PartialEq, Debug)]
enum AvroKind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// 16 bytes, which are given as text.
    Uuid,
    /// A decimal of bytes: what its unscaled integer is divided by.
    Decimal(f64),
    /// A decimal of so many bytes.
    FixedDecimal(usize, f64),
    Enum(Box<[Box<str>]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record(Box<[FieldStep]>),
}

/// One type of the schema.
#[derive(Clone, PartialEq, Debug)]
struct AvroNode {
    kind: AvroKind,
    /// Bytes of each value, where all have as many: values that nobody wants are then skipped at
    /// once.
    size: Option<usize>,
}

/// What to do next inside of a record.
#[derive(Clone, PartialEq, Debug)]
enum FieldStep {
    /// Give a field to the visitor.
    Visit(Box<str>, NodeId),
    /// Skip a field.
    Skip(Box<str>, NodeId),
    /// Skip so many bytes, of one or more fields, of which the first is named.
    SkipBytes(Box<str>, usize),
}

impl FieldStep {
    /// The same error, inside of the field of this step.
    #[cold]
    fn located(&self, error: AvroError) -> AvroError {
        match self {
            Self::Visit(name, _) | Self::Skip(name, _) | Self::SkipBytes(name, _) => {
                error.within(name)
            }
        }
    }
}

/// A compiled schema. Names are resolved; a type that contains itself refers to itself by index.
#[derive(Clone, PartialEq, Debug)]
pub struct AvroSchema {
    nodes: Vec<AvroNode>,
    root: NodeId,
    name: String,
    fields: Vec<String>,
    fingerprint: u64,
}

impl AvroSchema {
    /// Compiles a schema. `references` are the names and texts of schemas whose types it uses, each
    /// after those that it needs itself. A field whose name is not `wanted` is never visited, unless
    /// one of its aliases is wanted: the visitor then gets it under that alias.
    ///
    /// # Errors
    /// What is wrong with the schema, and where.
    pub fn parse(
        text: &str,
        references: &[(&str, &str)],
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Self, String> {
        compile::compile(text, references, wanted)
    }

    /// The full name of the schema's type: of a record, enum or fixed with its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the record's fields as the schema has them; of a union of records, those of all.
    /// Empty for other types.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The CRC-64-AVRO of the schema's parsing canonical form, which the single-object encoding puts
    /// (little-endian) behind its marker `C3 01`. Types of references stay names in that form.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether a record can hold a value at `path`, whose elements are names of fields (or the wanted
    /// alias of one), keys of maps, or indices of arrays.
    pub fn has_path<P: AsRef<str>>(&self, path: &[P]) -> bool {
        let mut open = vec![(self.root, 0)];
        let mut seen = HashSet::new();
        while let Some((id, depth)) = open.pop() {
            if !seen.insert((id, depth)) {
                continue;
            }
            let kind = self.nodes.get(id as usize).map(|node| &node.kind);
            if let Some(AvroKind::Union(branches)) = kind {
                open.extend(branches.iter().map(|&branch| (branch, depth)));
                continue;
            }
            let Some(key) = path.get(depth).map(AsRef::as_ref) else {
                return true;
            };
            match kind {
                Some(AvroKind::Map(inner)) => open.push((*inner, depth + 1)),
                Some(AvroKind::Array(inner)) if key.parse::<usize>().is_ok() => {
                    open.push((*inner, depth + 1));
                }
                Some(AvroKind::Record(steps)) => open.extend(steps.iter().filter_map(|step| {
                    let FieldStep::Visit(name, inner) = step else {
                        return None;
                    };
                    (name.as_ref() == key).then_some((*inner, depth + 1))
                })),
                _ => {}
            }
        }
        false
    }

    /// Reads one record, which all `bytes` belong to.
    ///
    /// # Errors
    /// What is wrong with the bytes and in which field, or the error of the seed's visitor.
    pub fn deserialize<'de, S: DeserializeSeed<'de>>(
        &self,
        bytes: &'de [u8],
        seed: S,
    ) -> Result<S::Value, AvroError> {
        walk::deserialize(self, bytes, seed)
    }
}

//! Reading and skipping of single values.

use super::{AvroError, AvroKind, AvroNode, AvroSchema, DEPTH_MAX, FieldStep, NodeId};

/// Most values without any byte (of an array of nulls, say) that a visitor gets from one record:
/// their number is the only one that the bytes do not bound.
const EMPTY_VALUES_MAX: u32 = 1 << 16;

/// What is left of a record.
pub(super) struct AvroReader<'s, 'de> {
    pub(super) schema: &'s AvroSchema,
    pub(super) rest: &'de [u8],
    /// Values that contain the current one.
    pub(super) depth: usize,
    /// Values without any byte that may still come.
    empty_values: u32,
}

/// A block of an array or map.
pub(super) struct AvroBlock {
    /// Its elements; 0 ends the array.
    pub(super) count: u64,
    /// Their bytes, where the writer has given them.
    bytes: Option<usize>,
}

#[cold]
fn truncated(needed: usize, left: usize) -> AvroError {
    AvroError::new(format!(
        "the data is truncated: {needed} bytes are needed and {left} are left"
    ))
}

impl<'s, 'de> AvroReader<'s, 'de> {
    pub(super) fn new(schema: &'s AvroSchema, bytes: &'de [u8]) -> Self {
        Self {
            schema,
            rest: bytes,
            depth: 0,
            empty_values: EMPTY_VALUES_MAX,
        }
    }

    #[inline]
    pub(super) fn node(&self, id: NodeId) -> Result<&'s AvroNode, AvroError> {
        let incomplete = || AvroError::new("the compiled schema is incomplete");
        self.schema.nodes.get(id as usize).ok_or_else(incomplete)
    }

    /// The type of the next value that a visitor gets.
    #[inline]
    pub(super) fn next(&mut self, id: NodeId) -> Result<&'s AvroNode, AvroError> {
        let node = self.node(id)?;
        if node.size == Some(0) {
            self.empty_values = self.empty_values.checked_sub(1).ok_or_else(|| {
                AvroError::new(format!("more than {EMPTY_VALUES_MAX} values without data"))
            })?;
        }
        Ok(node)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'de [u8], AvroError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(truncated(count, self.rest.len())),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], AvroError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(truncated(N, self.rest.len())),
        }
    }

    pub(super) fn boolean(&mut self) -> Result<bool, AvroError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => {
                let fault = format!("0x{byte:02X} is no boolean; 0 and 1 are allowed");
                Err(AvroError::new(fault))
            }
        }
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f64, AvroError> {
        self.array()
            .map(|bytes| f64::from(f32::from_le_bytes(bytes)))
    }

    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, AvroError> {
        self.array().map(f64::from_le_bytes)
    }

    /// A zigzag varint of at most 64 bits.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, AvroError> {
        let mut value: u64 = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            // Of the tenth byte only one bit is left.
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(match self.rest.len() {
            0..10 => truncated(self.rest.len() + 1, self.rest.len()),
            _ => AvroError::new("an integer has more than 64 bits"),
        })
    }

    pub(super) fn int(&mut self) -> Result<i64, AvroError> {
        let value = self.long()?;
        match i32::try_from(value) {
            Ok(_) => Ok(value),
            Err(_) => Err(AvroError::new(format!("the int {value} has over 32 bits"))),
        }
    }

    /// Bytes behind their length.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], AvroError> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(AvroError::new(format!("{length} is no length of data"))),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'de str, AvroError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| AvroError::new("the text is not UTF-8"))
    }

    /// The symbol of an enum.
    pub(super) fn symbol(&mut self, symbols: &'s [Box<str>]) -> Result<&'s str, AvroError> {
        let index = self.long()?;
        let symbol = usize::try_from(index)
            .ok()
            .and_then(|index| symbols.get(index));
        symbol.map(AsRef::as_ref).ok_or_else(|| {
            let count = symbols.len();
            AvroError::new(format!(
                "{index} is no symbol of the enum, which has {count}"
            ))
        })
    }

    /// The branch of a union.
    pub(super) fn branch(&mut self, branches: &[NodeId]) -> Result<NodeId, AvroError> {
        let index = self.long()?;
        let branch = usize::try_from(index)
            .ok()
            .and_then(|index| branches.get(index));
        branch.copied().ok_or_else(|| {
            let count = branches.len();
            AvroError::new(format!(
                "{index} is no branch of the union, which has {count}"
            ))
        })
    }

    /// The next block of an array, or of a map (`has_keys`), whose elements are of a type.
    pub(super) fn block(
        &mut self,
        element: NodeId,
        has_keys: bool,
    ) -> Result<AvroBlock, AvroError> {
        let count = self.long()?;
        let bytes = match count < 0 {
            true => Some(self.long()?),
            false => None,
        };
        let bytes = match bytes.map(usize::try_from) {
            None => None,
            Some(Ok(bytes)) if bytes <= self.rest.len() => Some(bytes),
            Some(_) => {
                let left = self.rest.len();
                let fault = format!("a block is longer than the {left} bytes that are left");
                return Err(AvroError::new(fault));
            }
        };
        let count = count.unsigned_abs();
        let can_be_empty = !has_keys && self.node(element)?.size == Some(0);
        if !can_be_empty && count > self.rest.len() as u64 {
            let left = self.rest.len();
            let fault = format!("{count} elements do not fit into the {left} bytes that are left");
            return Err(AvroError::new(fault));
        }
        Ok(AvroBlock { count, bytes })
    }

    /// Enters a record, array or map, until [`Self::ascend`].
    pub(super) fn descend(&mut self) -> Result<(), AvroError> {
        if self.depth >= DEPTH_MAX {
            let fault = format!("more than {DEPTH_MAX} values are inside of each other");
            return Err(AvroError::new(fault));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Skips a value.
    pub(super) fn skip(&mut self, id: NodeId) -> Result<(), AvroError> {
        let node = self.node(id)?;
        if let Some(size) = node.size {
            return self.take(size).map(drop);
        }
        match &node.kind {
            AvroKind::Int | AvroKind::Long | AvroKind::Enum(_) => self.long().map(drop),
            AvroKind::Bytes | AvroKind::Text | AvroKind::Decimal(_) => self.bytes().map(drop),
            AvroKind::Union(branches) => {
                // No branch is a union again.
                let branch = self.branch(branches)?;
                self.skip(branch)
            }
            AvroKind::Array(element) => self.skip_blocks(*element, false),
            AvroKind::Map(element) => self.skip_blocks(*element, true),
            AvroKind::Record(steps) => {
                self.descend()?;
                for step in steps {
                    self.step(step).map_err(|error| step.located(error))?;
                }
                self.ascend();
                Ok(())
            }
            // These have a size.
            AvroKind::Null
            | AvroKind::Boolean
            | AvroKind::Float
            | AvroKind::Double
            | AvroKind::Fixed(_)
            | AvroKind::Uuid
            | AvroKind::FixedDecimal(..) => Ok(()),
        }
    }

    /// Skips what a step of a record is about.
    pub(super) fn step(&mut self, step: &FieldStep) -> Result<(), AvroError> {
        match step {
            FieldStep::Visit(_, id) | FieldStep::Skip(_, id) => self.skip(*id),
            FieldStep::SkipBytes(_, bytes) => self.take(*bytes).map(drop),
        }
    }

    fn skip_blocks(&mut self, element: NodeId, has_keys: bool) -> Result<(), AvroError> {
        self.descend()?;
        loop {
            let block = self.block(element, has_keys)?;
            if block.count == 0 {
                break;
            }
            if let Some(bytes) = block.bytes {
                self.take(bytes)?;
                continue;
            }
            match self.node(element)?.size.filter(|_| !has_keys) {
                Some(size) => {
                    let count = usize::try_from(block.count).unwrap_or(usize::MAX);
                    self.take(count.saturating_mul(size))?;
                }
                None => {
                    for _ in 0..block.count {
                        if has_keys {
                            self.bytes()?;
                        }
                        self.skip(element)?;
                    }
                }
            }
        }
        self.ascend();
        Ok(())
    }
}

//! One pass over one JSON document, beside the tree of configured paths: each value that is wanted
//! goes straight into its place of the row, everything else is skipped without being built.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::DecodeProblem;
use super::text::{self, TextReading, check_key, quoted};
use super::time::TimeReader;
use super::tree::{Node, Target};
use crate::record::format::States;
use crate::record::{MISSING, NON_FINITE, ReadTime, RejectReason};

/// The allowed values of a reading, in words.
const READING_ALLOWED: &str = "a number, a number as text, true, false or null";

/// Added to the stamp of a document that is read a second time.
const SECOND_PASS: u32 = 1 << 31;

/// What stands above configured places, in words.
const OBJECT_ALLOWED: &str = "an object or array with the configured fields";

/// What one document fills in.
pub(super) struct Row<'r, 'a> {
    /// The readings, all [`MISSING`] at the start.
    pub(super) values: &'r mut [f64],
    /// By node: the stamp of the last document that held it. It lives as long as the batch, so that
    /// no document has to clear it.
    pub(super) seen: &'r mut [u32],
    /// The stamp of this document.
    pub(super) stamp: u32,
    /// The series key, if the document holds one.
    pub(super) key: Option<Cow<'a, str>>,
    /// The event time, if the document holds one.
    pub(super) time: Option<ReadTime>,
    /// What reads it.
    pub(super) times: &'r TimeReader,
    /// Whether a comma is the decimal mark of numbers in text.
    pub(super) decimal_comma: bool,
    /// The states of each field that names one.
    pub(super) states: &'r [Option<States>],
    /// Numbers that came as text.
    pub(super) coerced: u64,
    /// The first reading that came as text that is not a number, and what is wrong with it.
    pub(super) unreadable: Option<String>,
    /// Why the pass was ended by us rather than by the JSON reader.
    pub(super) problem: Option<DecodeProblem>,
}

impl<'r, 'a> Row<'r, 'a> {
    /// Forgets what the document held, to read it once more.
    pub(super) fn read_again(&mut self) {
        self.values.fill(MISSING);
        (self.stamp, self.coerced) = (self.stamp | SECOND_PASS, 0);
        (self.key, self.time) = (None, None);
        (self.unreadable, self.problem) = (None, None);
    }

    /// The problem that ended the pass where it is ours, else that of the reader.
    #[cold]
    pub(super) fn problem_or(
        &mut self,
        of_reader: impl FnOnce() -> DecodeProblem,
    ) -> DecodeProblem {
        self.problem.take().unwrap_or_else(of_reader)
    }

    /// Ends the pass. The reader's own error carries only text, so the problem travels beside it.
    #[cold]
    fn stop<E: Error>(&mut self, reason: RejectReason, detail: String) -> E {
        self.problem = Some(DecodeProblem::new(reason, detail));
        E::custom("rejected")
    }

    #[cold]
    fn misfit<E: Error>(&mut self, node: &Node, found: &str) -> E {
        let allowed = match (node.id, node.is_leaf(), node.first_target()) {
            (0, _, _) => {
                return self.stop(
                    RejectReason::NotObject,
                    format!("found {found}; an object is allowed{}", hint(found)),
                );
            }
            (_, false, _) => OBJECT_ALLOWED,
            (_, _, Some(Target::Key)) => "a string or an integer",
            (_, _, Some(Target::Time)) => &self.times.allowed(),
            _ => READING_ALLOWED,
        };
        self.stop(
            node.misfit(),
            format!("{}: found {found}; allowed is {allowed}", node.label),
        )
    }

    /// Each reading here and below is not a number, but `found`.
    #[cold]
    fn unreadable(&mut self, node: &Node, found: &str) {
        let allowed = if node.is_leaf() {
            READING_ALLOWED
        } else {
            OBJECT_ALLOWED
        };
        let detail = || format!("{}: found {found}; allowed is {allowed}", node.label);
        self.unreadable.get_or_insert_with(detail);
        let values = &mut self.values;
        node.each_reading(&mut |index| {
            if let Some(slot) = values.get_mut(index) {
                *slot = NON_FINITE;
            }
        });
    }

    fn take<E: Error>(&mut self, node: &Node, scalar: Scalar<'a, '_>) -> Result<(), E> {
        if node.id == 0 {
            return Err(self.misfit(node, &scalar.describe()));
        }
        if node.targets.is_empty() && !matches!(scalar, Scalar::Null) {
            self.unreadable(node, &scalar.describe());
        }
        for &target in &node.targets {
            match target {
                Target::Reading(index) => self.take_reading(node, index, &scalar),
                Target::State(index) => self.take_state(node, index, &scalar),
                Target::Key => self.take_key(node, &scalar)?,
                Target::Time => self.take_time(node, &scalar)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn take_reading(&mut self, node: &Node, index: usize, scalar: &Scalar<'a, '_>) {
        let value = match scalar {
            // NaN would be taken for missing.
            Scalar::Float(number) if number.is_nan() => NON_FINITE,
            Scalar::Float(number) => *number,
            Scalar::Signed(number) => *number as f64,
            Scalar::Unsigned(number) => *number as f64,
            Scalar::Bool(flag) => f64::from(u8::from(*flag)),
            Scalar::Null => MISSING,
            Scalar::Borrowed(text) | Scalar::Copied(text) => {
                match text::reading(text, self.decimal_comma) {
                    Ok(TextReading::Number(number)) => {
                        self.coerced += 1;
                        number
                    }
                    Ok(TextReading::Blank) => MISSING,
                    Ok(TextReading::NonFinite) => NON_FINITE,
                    Err(wrong) => {
                        let detail =
                            || format!("{}: {wrong}; allowed is {READING_ALLOWED}", node.label);
                        self.unreadable.get_or_insert_with(detail);
                        NON_FINITE
                    }
                }
            }
        };
        if let Some(slot) = self.values.get_mut(index) {
            *slot = value;
        }
    }

    fn take_state(&mut self, node: &Node, index: usize, scalar: &Scalar<'a, '_>) {
        let Some(states) = self.states.get(index).and_then(Option::as_ref) else {
            return;
        };
        let found = match scalar {
            Scalar::Null => Some(MISSING),
            Scalar::Float(number) => states.of_number(*number),
            Scalar::Signed(number) => states.of_number(*number as f64),
            Scalar::Unsigned(number) => states.of_number(*number as f64),
            Scalar::Bool(flag) => states.of_flag(*flag),
            Scalar::Borrowed(text) | Scalar::Copied(text) => text::state(text, states),
        };
        if found.is_none() {
            let found = scalar.describe();
            let detail = || format!("{}: {}", node.label, text::no_state(&found, states));
            self.unreadable.get_or_insert_with(detail);
        }
        if let Some(slot) = self.values.get_mut(index) {
            *slot = found.unwrap_or(NON_FINITE);
        }
    }

    fn take_key<E: Error>(&mut self, node: &Node, scalar: &Scalar<'a, '_>) -> Result<(), E> {
        let key = match scalar {
            Scalar::Borrowed(text) => Cow::Borrowed(*text),
            Scalar::Copied(text) => Cow::Owned((*text).to_owned()),
            Scalar::Signed(number) => Cow::Owned(number.to_string()),
            Scalar::Unsigned(number) => Cow::Owned(number.to_string()),
            Scalar::Null => return Ok(()),
            Scalar::Bool(_) | Scalar::Float(_) => return Err(self.misfit(node, &scalar.describe())),
        };
        if let Err(problem) = check_key(&key, &node.label) {
            return Err(self.stop(problem.reason, problem.detail));
        }
        self.key = Some(key);
        Ok(())
    }

    fn take_time<E: Error>(&mut self, node: &Node, scalar: &Scalar<'a, '_>) -> Result<(), E> {
        let times = self.times;
        let time = match scalar {
            Scalar::Signed(number) => times.read_integer(*number),
            // Saturation stays out of the allowed years in every unit.
            Scalar::Unsigned(number) => {
                times.read_integer(i64::try_from(*number).unwrap_or(i64::MAX))
            }
            Scalar::Float(number) => times.read_float(*number),
            Scalar::Borrowed(text) | Scalar::Copied(text) if text.trim().is_empty() => {
                return Ok(());
            }
            Scalar::Borrowed(text) | Scalar::Copied(text) => times.read_text(text),
            Scalar::Null => return Ok(()),
            Scalar::Bool(_) => return Err(self.misfit(node, &scalar.describe())),
        };
        match time {
            Ok(time) => self.time = Some(time),
            Err(wrong) => {
                return Err(self.stop(RejectReason::BadTime, format!("{}: {wrong}", node.label)));
            }
        }
        Ok(())
    }
}

/// The setting that reads it.
fn hint(found: &str) -> &'static str {
    match found {
        "an array" => ", an array with record.layout = \"rows\"",
        _ => "",
    }
}

/// A value that is neither object nor array.
enum Scalar<'a, 't> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    /// Text that stands in the message as it is.
    Borrowed(&'a str),
    /// Text that was written with escapes.
    Copied(&'t str),
}

impl Scalar<'_, '_> {
    #[cold]
    fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Signed(number) => format!("the number {number}"),
            Self::Unsigned(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Borrowed(text) => format!("the text {}", quoted(text)),
            Self::Copied(text) => format!("the text {}", quoted(text)),
        }
    }
}

/// The walk at one place: a seed for the reader and at the same time its visitor.
pub(super) struct RecordVisitor<'w, 'r, 'a> {
    pub(super) node: &'r Node,
    pub(super) row: &'w mut Row<'r, 'a>,
}

impl<'a> DeserializeSeed<'a> for RecordVisitor<'_, '_, 'a> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        if let Some(stamp) = self.row.seen.get_mut(self.node.id) {
            if *stamp == self.row.stamp {
                let detail = format!("{} occurs twice; expected once", self.node.label);
                return Err(self.row.stop(RejectReason::DuplicateField, detail));
            }
            *stamp = self.row.stamp;
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for RecordVisitor<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node.label)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.row.take(self.node, Scalar::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.row.take(self.node, Scalar::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.row.take(self.node, Scalar::Signed(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.row.take(self.node, Scalar::Unsigned(number))
    }

    #[inline]
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.row.take(self.node, Scalar::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<(), E> {
        self.row.take(self.node, Scalar::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.row.take(self.node, Scalar::Copied(text))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        let text = String::from_utf8_lossy(bytes);
        self.row.take(self.node, Scalar::Copied(&text))
    }

    /// MessagePack's extension types; a point in time is the only one that is read.
    fn visit_newtype_struct<D: Deserializer<'a>>(self, of: D) -> Result<(), D::Error> {
        match <(i8, ExtensionBytes)>::deserialize(of)? {
            (TIMESTAMP, ExtensionBytes(Some(nanos))) => {
                self.row.take(self.node, Scalar::Signed(nanos))
            }
            (kind, _) => {
                let text = format!("the extension type {kind}");
                self.row.take(self.node, Scalar::Copied(&text))
            }
        }
    }

    #[inline]
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { node, row } = self;
        if node.is_reading() {
            row.unreadable(node, "an object");
        } else if node.id != 0 && node.is_leaf() {
            return Err(row.misfit(node, "an object"));
        }
        // Documents of one stream mostly hold their keys in one order, the configured one.
        let mut expected = 0;
        while let Some(child) = map.next_key_seed(KeyOf { node, expected })? {
            match child {
                Some((at, node)) => {
                    expected = at + 1;
                    map.next_value_seed(RecordVisitor { node, row })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { node, row } = self;
        if node.is_reading() {
            row.unreadable(node, "an array");
        } else if node.id == 0 || node.is_leaf() {
            return Err(row.misfit(node, "an array"));
        }
        let mut wanted = node.elements().peekable();
        let mut index = 0;
        loop {
            let more = match wanted.next_if(|&(element, _)| element == index) {
                Some((_, node)) => seq
                    .next_element_seed(RecordVisitor { node, row })?
                    .is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// MessagePack's extension type of a point in time.
const TIMESTAMP: i8 = -1;

/// The bytes of an extension type as a point in time, in nanoseconds since the epoch: seconds in four
/// bytes; nanoseconds in 30 and seconds in 34 bits; or nanoseconds in four and seconds in eight bytes.
struct ExtensionBytes(Option<i64>);

impl<'de> Deserialize<'de> for ExtensionBytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Self(None))
    }
}

impl Visitor<'_> for ExtensionBytes {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self, E> {
        let number = bytes
            .iter()
            .fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let (seconds, nanos) = match bytes.len() {
            4 => (number as i64, 0),
            8 => ((number & ((1 << 34) - 1)) as i64, (number >> 34) as i64),
            12 => (number as u64 as i64, (number >> 64) as i64),
            _ => return Ok(Self(None)),
        };
        let nanos = |of: i64| of.checked_add(nanos);
        Ok(Self(seconds.checked_mul(1_000_000_000).and_then(nanos)))
    }
}

/// Finds the child that a key of an object leads to, without keeping the key.
struct KeyOf<'n> {
    node: &'n Node,
    /// Where among the children the key is looked for first.
    expected: usize,
}

impl<'a, 'n> DeserializeSeed<'a> for KeyOf<'n> {
    type Value = Option<(usize, &'n Node)>;

    #[inline]
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for KeyOf<'n> {
    type Value = Option<(usize, &'n Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.node.child(key, self.expected))
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<Self::Value, E> {
        Ok(self.node.child(&key.to_string(), self.expected))
    }
}

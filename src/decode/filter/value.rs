//! Values of JSON as those of jaq, and back.

use jaq_json::{Num, Val};
use serde_json::{Map, Value};

/// Nested arrays and objects of a result at most, as many as are read of JSON.
const DEPTH_MAX: usize = 128;
/// Values in all results of a message at most, where 16 bytes of text count as one: a line of a filter can
/// put a value twice into itself, until it has more elements than any memory.
pub(super) const SIZE_MAX: usize = 4 << 20;

/// JSON as a value of jaq.
pub(super) fn of_json(value: Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(flag) => Val::Bool(flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Val::Num(Num::from_integral(number)),
            (None, Some(number)) => Val::Num(Num::from_integral(number)),
            _ => Val::Num(Num::Float(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Val::utf8_str(text),
        Value::Array(elements) => elements.into_iter().map(of_json).collect(),
        Value::Object(members) => Val::obj(
            members
                .into_iter()
                .map(|(key, value)| (Val::utf8_str(key), of_json(value)))
                .collect(),
        ),
    }
}

/// A result as JSON; `left` is how many values there may be.
///
/// # Errors
/// It is nested too deep, or too large, or has keys that JSON does not have.
pub(super) fn to_json(value: &Val, left: &mut usize) -> Result<Value, String> {
    at_depth(value, 0, left)
}

fn at_depth(value: &Val, depth: usize, left: &mut usize) -> Result<Value, String> {
    let size = match value {
        Val::TStr(text) | Val::BStr(text) => 1 + text.len() / 16,
        _ => 1,
    };
    *left = left
        .checked_sub(size)
        .ok_or_else(|| format!("its result has more than {SIZE_MAX} values"))?;
    if depth > DEPTH_MAX {
        return Err(format!("its result is nested deeper than {DEPTH_MAX}"));
    }
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(flag) => Value::Bool(*flag),
        Val::Num(number) => number_of(number),
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).into_owned().into(),
        Val::Arr(elements) => {
            let elements = elements
                .iter()
                .map(|element| at_depth(element, depth + 1, left));
            Value::Array(elements.collect::<Result<_, _>>()?)
        }
        Val::Obj(members) => {
            let mut object = Map::new();
            for (key, value) in members.iter() {
                let Val::TStr(key) = key else {
                    return Err(format!("its result has the key {key}, which is not text"));
                };
                let key = String::from_utf8_lossy(key).into_owned();
                object.insert(key, at_depth(value, depth + 1, left)?);
            }
            Value::Object(object)
        }
    })
}

/// A number; what JSON does not know as one is text that reads the same.
fn number_of(number: &Num) -> Value {
    match number {
        Num::Int(number) => Value::from(*number as i64),
        Num::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| number.to_string().into(), Value::Number),
        other => other.to_string().into(),
    }
}

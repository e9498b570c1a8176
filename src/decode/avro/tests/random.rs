//! Random and mutated schemas and records.

use apache_avro::rabin::Rabin;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::*;

/// Makes schemas with all kinds of types, values of them, and what they are as JSON.
struct Maker {
    rng: ChaCha8Rng,
    names: usize,
}

impl Maker {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("N{}", self.names)
    }

    fn schema(&mut self, depth: usize) -> Value {
        let simple = [
            "null", "boolean", "int", "long", "float", "double", "bytes", "string",
        ];
        let branches = [json!("null"), json!("double"), json!("string")];
        match self.rng.random_range(0..if depth == 0 { 8 } else { 14 }) {
            0..8 => json!(simple.choose(&mut self.rng).unwrap()),
            8 => json!({"type": "array", "items": self.schema(depth - 1)}),
            9 => json!({"type": "map", "values": self.schema(depth - 1)}),
            10 => {
                json!({"type": "fixed", "name": self.name(), "size": self.rng.random_range(0..9)})
            }
            11 => json!({"type": "enum", "name": self.name(), "symbols": ["a", "b", "c"]}),
            12 => branches[..self.rng.random_range(1..4)].into(),
            _ => self.record(depth),
        }
    }

    fn record(&mut self, depth: usize) -> Value {
        let count = self.rng.random_range(1..6);
        let field = |maker: &mut Self, at| json!({"name": format!("f{at}"), "type": maker.schema(depth - 1)});
        let fields: Vec<Value> = (0..count).map(|at| field(self, at)).collect();
        let namespace = if self.rng.random() { "" } else { "name.space" };
        json!({"type": "record", "name": self.name(), "namespace": namespace, "fields": fields})
    }

    /// A value and what it is as JSON; `None` for bytes, which JSON does not have.
    fn value(&mut self, schema: &Value) -> (AvroValue, Value) {
        if let Some(branches) = schema.as_array() {
            let at = self.rng.random_range(0..branches.len());
            let (value, due) = self.value(&branches[at]);
            return (AvroValue::Union(at as u32, Box::new(value)), due);
        }
        let long = self.rng.random::<i64>() >> self.rng.random_range(0..64);
        let count = self.rng.random_range(0..4);
        match schema.as_str().or(schema["type"].as_str()).unwrap() {
            "null" => (AvroValue::Null, Value::Null),
            "boolean" => (AvroValue::Boolean(long > 0), json!(long > 0)),
            "int" => (AvroValue::Int(long as i32), json!(long as i32)),
            "long" => (AvroValue::Long(long), json!(long)),
            "float" => (AvroValue::Float(long as f32), json!(f64::from(long as f32))),
            "double" => (
                AvroValue::Double(long as f64 / 7.0),
                json!(long as f64 / 7.0),
            ),
            "bytes" => (AvroValue::Bytes(vec![7; count]), json!(vec![7; count])),
            "string" => (
                AvroValue::String("ü".repeat(count)),
                json!("ü".repeat(count)),
            ),
            "fixed" => {
                let size = schema["size"].as_u64().unwrap() as usize;
                (AvroValue::Fixed(size, vec![9; size]), json!(vec![9; size]))
            }
            "enum" => (AvroValue::Enum(1, "b".into()), json!("b")),
            "array" => {
                let made = (0..count).map(|_| self.value(&schema["items"]));
                let (values, due): (Vec<_>, Vec<_>) = made.unzip();
                (AvroValue::Array(values), due.into())
            }
            "map" => {
                let made = (0..count).map(|at| (format!("k{at}"), self.value(&schema["values"])));
                let (values, due) = parted(made);
                (AvroValue::Map(values.into_iter().collect()), due)
            }
            _ => {
                let fields = schema["fields"].as_array().unwrap();
                let made = fields.iter().map(|field| {
                    (
                        field["name"].as_str().unwrap().to_owned(),
                        self.value(&field["type"]),
                    )
                });
                let (values, due) = parted(made);
                (AvroValue::Record(values), due)
            }
        }
    }
}

/// A seed whose visitor takes bytes as an array of numbers, and everything else as JSON.
pub(super) struct WithBytes;

impl<'de> DeserializeSeed<'de> for WithBytes {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WithBytes {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = seq.next_element_seed(WithBytes)? {
            all.push(value);
        }
        Ok(all.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            all.insert(key, map.next_value_seed(WithBytes)?);
        }
        Ok(all.into())
    }
}

#[test]
fn records_of_another_implementation_are_read() {
    let mut maker = Maker {
        rng: ChaCha8Rng::seed_from_u64(21),
        names: 0,
    };
    for round in 0..2000 {
        let text = maker.record(4);
        let theirs = apache_avro::Schema::parse(&text).unwrap();
        let (value, due) = maker.value(&text);
        let bytes = apache_avro::to_avro_datum(&theirs, value).unwrap();
        let text = text.to_string();
        let ours = schema(&text);
        let read = ours.deserialize(&bytes, WithBytes).unwrap();
        assert_eq!(read, due, "round {round}: {text}");
        let print = theirs.fingerprint::<Rabin>().bytes;
        assert_eq!(ours.fingerprint().to_le_bytes().to_vec(), print, "{text}");
        // A part of it, the rest skipped.
        let part = AvroSchema::parse(&text, &[], &|name| name == "f1").unwrap();
        let read = part.deserialize(&bytes, WithBytes).unwrap();
        assert_eq!(read.get("f1").is_some(), due.get("f1").is_some(), "{text}");
    }
}

#[test]
fn mutated_records_give_errors_and_no_panic() {
    let mut maker = Maker {
        rng: ChaCha8Rng::seed_from_u64(5),
        names: 0,
    };
    let mut schemas: Vec<(AvroSchema, AvroSchema, Vec<u8>)> = Vec::new();
    let part = |text: &str| AvroSchema::parse(text, &[], &|name| name == "f1").unwrap();
    for _ in 0..200 {
        let text = maker.record(4);
        let theirs = apache_avro::Schema::parse(&text).unwrap();
        let bytes = apache_avro::to_avro_datum(&theirs, maker.value(&text).0).unwrap();
        let text = text.to_string();
        schemas.push((schema(&text), part(&text), bytes));
    }
    schemas.push((schema(PUMP), part(PUMP), pump_bytes()));
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut accepted = 0;
    for round in 0..100_000 {
        let (all, part, bytes) = &schemas[round % schemas.len()];
        let mut bytes = bytes.clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.insert(at, rng.random()),
                1 => bytes.truncate(at),
                2 => bytes.extend([0xFF; 9]),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = rng.random();
                    }
                }
            }
        }
        accepted += usize::from(all.deserialize(&bytes, WithBytes).is_ok());
        let _ = part.deserialize(&bytes, WithBytes);
    }
    assert!(accepted > 1000 && accepted < 99_000, "{accepted}");
}

#[test]
fn mutated_schemas_give_errors_and_no_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut bytes = PUMP.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = *br#"[]{}":,a19"#.choose(&mut rng).unwrap(),
                _ => bytes.insert(at, *br#"[]{}":,a19"#.choose(&mut rng).unwrap()),
            }
        }
        if let Ok(schema) = AvroSchema::parse(&String::from_utf8_lossy(&bytes), &[], ALL) {
            let _ = schema.deserialize(&pump_bytes(), WithBytes);
        }
    }
}

/// Named values, as Avro's writer takes them and as they should be read.
fn parted(
    made: impl Iterator<Item = (String, (AvroValue, Value))>,
) -> (Vec<(String, AvroValue)>, Value) {
    let (mut values, mut due) = (Vec::new(), serde_json::Map::new());
    for (key, (value, read)) in made {
        values.push((key.clone(), value));
        due.insert(key, read);
    }
    (values, Value::Object(due))
}

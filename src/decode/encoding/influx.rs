//! The line protocol of InfluxDB: each line of a message is a value, with its tags and fields under
//! their names, `measurement`, and `time` in nanoseconds where the line has one.

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde_json::{Map, Value};

use crate::decode::{DecodeProblem, meta};
use crate::record::RejectReason;

/// The values of a message, one for each line; a line that cannot be read is none.
///
/// # Errors
/// Bytes that are not UTF-8.
pub(super) fn values(payload: &[u8]) -> Result<Vec<Result<Value, DecodeProblem>>, DecodeProblem> {
    let text = meta::text(payload)?;
    let lines = parse_lines(text).map(|line| {
        let line = line.map_err(|error| {
            let detail = format!("not line protocol: {error}");
            DecodeProblem::new(RejectReason::NotDecodable, detail)
        })?;
        Ok(value_of(&line))
    });
    Ok(lines.collect())
}

fn value_of(line: &ParsedLine<'_>) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("measurement", line.series.measurement.as_str().into());
    for (key, value) in line.series.tag_set.iter().flatten() {
        put(key.as_str(), value.as_str().into());
    }
    if let Some(time) = line.timestamp {
        put("time", time.into());
    }
    for (key, value) in &line.field_set {
        let value = match value {
            FieldValue::I64(number) => (*number).into(),
            FieldValue::U64(number) => (*number).into(),
            FieldValue::F64(number) => (*number).into(),
            FieldValue::String(text) => text.as_str().into(),
            FieldValue::Boolean(flag) => (*flag).into(),
        };
        put(key.as_str(), value);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_an_object_of_its_tags_and_fields() {
        let text = "pump,host=p\\ 1,site=a flow=1.5,count=3i,on=t,note=\"x, y\" 1773051273000000000\n\
                    # a comment\npump flow=2\npump flow=\n";
        let found = values(text.as_bytes()).expect("text");
        let expected = json!({
            "measurement": "pump", "host": "p 1", "site": "a", "flow": 1.5, "count": 3, "on": true,
            "note": "x, y", "time": 1773051273000000000_i64,
        });
        assert_eq!(found[0], Ok(expected));
        assert_eq!(found[1], Ok(json!({"measurement": "pump", "flow": 2.0})));
        let problem = found[2].as_ref().expect_err("no value");
        assert_eq!(
            (problem.reason, found.len()),
            (RejectReason::NotDecodable, 3)
        );
        assert!(values(b"\xff").is_err());
    }
}

//! The found format as a configuration.

use std::fmt::Write as _;
use std::time::Duration;

use super::InferredFormat;
use super::places::{Place, Places, field_of};
use super::shape::Shape;
use crate::record::format::{
    FieldSettings, Format, KeyFrom, Layout, RecordFormat, States, TimeFormat, TimeFrom,
};

/// Typical periods for which a reading is held that does not come with each record.
const HELD_PERIODS: f64 = 60.0;
/// Bounds of that, in seconds.
const HELD: (f64, f64) = (60.0, 86_400.0);
/// Combinations of states at most: a sample says little of more.
const CELLS_MAX: usize = 32;

impl InferredFormat {
    pub(super) fn of_images(record: RecordFormat, notes: Vec<String>) -> Self {
        Self {
            record,
            resample_s: None,
            period_s: None,
            notes,
            ranges: Vec::new(),
            states: Vec::new(),
        }
    }

    pub(super) fn of(
        mut record: RecordFormat,
        shape: Shape,
        places: &Places,
        period_s: Option<f64>,
        mut notes: Vec<String>,
    ) -> Self {
        let found = places.readings(&record);
        record.fields = found.iter().map(|place| field_of(place, &found)).collect();
        let mut ranges: Vec<String> = found.iter().map(|place| place.seen()).collect();
        let mut states = Vec::new();
        let mut cells = 1;
        let key = record.key.clone();
        let is_key = |place: &Place| matches!(&key, KeyFrom::Field(path) if *path == place.path());
        for place in places.all().iter().filter(|place| place.is_state()) {
            // Of a message with one tag, another place says what the tag is.
            if is_key(place) || shape.is_tag {
                continue;
            }
            let found_states = place.states().filter(|s| cells * s.count() <= CELLS_MAX);
            if let Some(found_states) = found_states {
                cells *= found_states.count();
                record.fields.push(FieldSettings {
                    states: Some(found_states),
                    ..field_of(place, &[&found[..], &[place]].concat())
                });
                ranges.push("a state: context of the readings, not scored".to_owned());
            } else {
                let texts: Vec<&str> = place.texts().take(5).collect();
                states.push(format!("{}: {}", place.name(), texts.join(", ")));
            }
        }
        let is_sparse = found.iter().any(|place| place.is_sparse());
        let mut resample_s = None;
        if let Some(period) = period_s.filter(|_| is_sparse || shape.is_tag) {
            resample_s = shape.is_tag.then(|| rounded(period));
            let held = (period * HELD_PERIODS).clamp(HELD.0, HELD.1);
            record.hold = Duration::from_secs_f64(rounded(held));
            notes.push(
                "Messages leave fields out: these keep their last reading for record.hold."
                    .to_owned(),
            );
        }
        if shape.is_tag && resample_s.is_none() {
            resample_s = Some(10.0);
        }
        Self {
            record,
            resample_s,
            period_s,
            notes,
            ranges,
            states,
        }
    }

    /// The configuration of a stream that reads a topic of these brokers.
    pub fn to_toml(&self, brokers: &str, stream: &str, topic: &str) -> String {
        let record = &self.record;
        let mut text = String::from(
            "# Written by `outlierd init` from a sample of the topic: read it once before use.\n",
        );
        for note in &self.notes {
            let _ = writeln!(text, "# {note}");
        }
        if let Some(period) = self.period_s {
            let _ = writeln!(text, "# A series sends about every {}.", duration(period));
        }
        let _ = write!(
            text,
            "\n[kafka]\nbrokers = {}\n\n[streams.{stream}]\ninput.topic = {}\n",
            quoted(brokers),
            quoted(topic)
        );
        if let Some(period) = self.resample_s {
            let _ = writeln!(
                text,
                "# The tags of a series become one row in each period."
            );
            let _ = writeln!(
                text,
                "resample = {{ period = \"{}\", rule = \"last\" }}",
                duration(period)
            );
        }
        let _ = writeln!(text, "\n[streams.{stream}.record]");
        self.write_shape(&mut text);
        self.write_sources(&mut text);
        if record.decimal_comma {
            text += "decimal_comma = true\n";
        }
        if !record.hold.is_zero() {
            let _ = writeln!(
                text,
                "hold = \"{}\"",
                humantime::format_duration(record.hold)
            );
        }
        self.write_fields(&mut text);
        text
    }

    /// Where series key and event time are, and how the time is written.
    fn write_sources(&self, text: &mut String) {
        let record = &self.record;
        let (key, word) = match &record.key {
            KeyFrom::Field(path) => (Some(path), ""),
            KeyFrom::Kafka => (None, "kafka"),
            _ => (None, "partition"),
        };
        write_source(text, "key", key, word);
        let time = match &record.time {
            TimeFrom::Field(path) => Some(path),
            _ => None,
        };
        write_source(text, "time", time, "kafka");
        let format = match &record.time_format {
            TimeFormat::Pattern(pattern) => pattern,
            TimeFormat::SpreadsheetDays => "spreadsheet_days",
            _ => return,
        };
        let _ = writeln!(text, "time_format = {}", quoted(format));
    }

    fn write_shape(&self, text: &mut String) {
        let record = &self.record;
        let format = match record.format {
            Format::Msgpack => "msgpack",
            Format::Csv => "csv",
            Format::Influx => "influx",
            Format::Image => "image",
            _ => "json",
        };
        if format != "json" {
            let _ = writeln!(text, "format = \"{format}\"");
        }
        if record.format == Format::Csv {
            let columns: Vec<String> = record.columns.iter().map(|name| quoted(name)).collect();
            let _ = writeln!(text, "columns = [{}]", columns.join(", "));
            let delimiter = match record.delimiter {
                b'\t' => "tab".to_owned(),
                byte => char::from(byte).to_string(),
            };
            let _ = writeln!(text, "delimiter = {}", quoted(&delimiter));
        }
        if !record.transform.is_empty() {
            let _ = writeln!(text, "transform = {}", quoted(&record.transform));
        }
        let tags = &record.tags;
        let written = format!(
            "tags = {{ path = {}, name = {}, value = {}, quality = {} }}\n",
            path(&tags.path),
            path(&tags.name),
            path(&tags.value),
            path(&tags.quality)
        );
        match record.layout {
            Layout::Row => {}
            Layout::Rows => drop(write!(
                text,
                "layout = \"rows\"\nrows = {}\n",
                path(&record.rows)
            )),
            Layout::Tags => *text += &format!("layout = \"tags\"\n{written}"),
            Layout::Tag => *text += &format!("layout = \"tag\"\n{written}"),
        }
    }

    fn write_fields(&self, text: &mut String) {
        if self.record.format.is_image() {
            return;
        }
        *text += "# What the sample held is behind each field; give units, and the physical ranges as min and max.\nfields = [\n";
        for (field, range) in self.record.fields.iter().zip(&self.ranges) {
            let _ = writeln!(text, "  {}, # {range}", field_text(field));
        }
        *text += "]\n";
        for state in &self.states {
            let state = state.replace('\n', " ");
            let _ = writeln!(
                text,
                "# Not a reading, but context with a list of all of its `values`: {state}"
            );
        }
    }
}

fn field_text(field: &FieldSettings) -> String {
    match field.path.as_slice() {
        [only] if *only == field.name && !only.contains('.') && field.states.is_none() => {
            quoted(only)
        }
        keys => format!(
            "{{ name = {}, path = {}{} }}",
            quoted(&field.name),
            path(keys),
            field.states.as_ref().map_or(String::new(), values)
        ),
    }
}

fn values(states: &States) -> String {
    let states: Vec<String> = states.names().map(quoted).collect();
    format!(", values = [{}]", states.join(", "))
}

fn write_source(text: &mut String, key: &str, place: Option<&Vec<String>>, word: &str) {
    let _ = match place {
        Some(keys) if keys.iter().all(|key| is_plain(key)) => {
            writeln!(
                text,
                "{key} = {}",
                quoted(&format!("field:{}", keys.join(".")))
            )
        }
        Some(keys) => writeln!(text, "{key} = {}", list(keys)),
        None => writeln!(text, "{key} = \"{word}\""),
    };
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && !key.contains('.')
}

/// A path: joined by dots, or as a list where a key holds one.
fn path(keys: &[String]) -> String {
    match keys.iter().all(|key| is_plain(key)) {
        true => quoted(&keys.join(".")),
        false => list(keys),
    }
}

fn list(keys: &[String]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    format!("[{}]", keys.join(", "))
}

/// A basic string of TOML; JSON's escapes are among its own.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

/// Two digits are enough for a period.
fn rounded(seconds: f64) -> f64 {
    let mut scale = 1.0;
    while seconds * scale < 10.0 && scale < 1e6 {
        scale *= 10.0;
    }
    (seconds * scale).ceil() / scale
}

fn duration(seconds: f64) -> String {
    let millis = (rounded(seconds) * 1e3).ceil().max(1.0);
    humantime::format_duration(Duration::from_millis(millis as u64)).to_string()
}

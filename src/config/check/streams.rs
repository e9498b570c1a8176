//! Topics, groups, files, fields and mutes: of one stream, and of several.

use std::collections::BTreeMap;

use super::{FIELDS_MAX, Report};
use crate::config::problems::KeyPath;
use crate::config::settings::{DestinationSettings, OutputFormat, Settings, StreamSettings};
use crate::config::syntax;
use crate::decode::schemas::SchemaUse;
use crate::episode::MuteSettings;
use crate::model::states::{CELLS_MAX, cells};
use crate::options;
use crate::record::format::{FieldSettings, Format, Layout, StateValue, States};
use crate::schema_registry::RegistrySettings;

/// The rules of one stream.
pub(super) fn within(
    report: &mut Report<'_>,
    stream: &StreamSettings,
    registry: &RegistrySettings,
) {
    names(report, stream);
    distinct_topics(report, stream);
    if !stream.record.format.is_image() {
        fields(report, stream);
        states(report, stream);
    }
    shape(report, stream);
    schema(report, stream, registry);
    output_format(report, stream, registry);
    mutes(report, stream);
}

/// Its topics and its group have names that Kafka takes.
fn names(report: &mut Report<'_>, stream: &StreamSettings) {
    let name = &stream.name;
    let topics = stream.output.topics();
    let topics = topics.map(|(key, topic)| (format!("output.{key}"), syntax::topic(topic)));
    let mut read: Vec<_> = topics.collect();
    read.push((
        "input.group".to_owned(),
        options::name(&stream.input.group).map(drop),
    ));
    let at_topic = report.place(name, "input.topic");
    if stream.input.topic.is_empty() {
        let fix =
            "name the topic that the records come from, such as input.topic = \"plant.pumps\"";
        report.add_found(at_topic, None, "is missing", fix);
    } else {
        read.push(("input.topic".to_owned(), syntax::topic(&stream.input.topic)));
    }
    // A bad name of the stream makes bad names of topics, and has been reported itself.
    let is_named = syntax::stream_name(name).is_ok();
    for (key, read) in read {
        let place = report.place(name, &key);
        let template = report.tree.value(&place).and_then(|text| text.as_str());
        let is_own = is_named || !template.is_some_and(|text| text.contains("{stream}"));
        if let Err(fault) = read
            && is_own
        {
            report.fault(place, fault);
        }
    }
}

fn distinct_topics(report: &mut Report<'_>, stream: &StreamSettings) {
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (key, topic) in stream.output.topics() {
        if let Some((other, _)) = taken.iter().find(|(_, name)| *name == topic) {
            let at = report.place(&stream.name, &format!("output.{key}"));
            let fault = format!("is also the topic of output.{other}");
            let fix = "give each output its own topic: they hold different kinds of message";
            report.add_found(at, Some(&topic.into()), fault, fix);
        }
        taken.push((key, topic));
    }
}

/// Encoding, layout and what they need agree.
fn shape(report: &mut Report<'_>, stream: &StreamSettings) {
    let record = &stream.record;
    let mut fault = |key: &str, fault: &str, fix: &str| {
        let place = report.place(&stream.name, key);
        report.add_found(place, None, fault, fix);
    };
    if record.layout == Layout::Tag && stream.resample.period.is_zero() {
        let fix =
            "set how often a series has a row of all its tags, such as resample.period = \"10s\"";
        fault(
            "resample.period",
            "is 0s, but record.layout = \"tag\" needs it",
            fix,
        );
    }
    if record.format == Format::Csv && record.columns.is_empty() {
        let fix = "name the columns of a line, such as record.columns = [\"ts\", \"flow\"]";
        fault(
            "record.columns",
            "is missing, but record.format = \"csv\" needs it",
            fix,
        );
    }
    if record.format.is_image() && record.layout != Layout::Row {
        fault(
            "record.layout",
            "is for readings, but the records are images",
            "leave it out",
        );
    }
    if record.format.is_image() && !record.transform.is_empty() {
        fault(
            "record.transform",
            "is for readings, but the records are images",
            "leave it out",
        );
    }
}

/// Messages that are read by a schema have one.
fn schema(report: &mut Report<'_>, stream: &StreamSettings, registry: &RegistrySettings) {
    let (format, schema) = (stream.record.format, &stream.record.schema);
    let at = |key: &str| format!("record.schema.{key}");
    let mut fault = |key: &str, fault: String, fix: &str| {
        let place = report.place(&stream.name, &at(key));
        report.add_found(place, None, fault, fix);
    };
    if !format.has_schema() {
        if schema.file.is_some() {
            let wrong = "is for record.format = \"avro\" or \"protobuf\"";
            fault("file", wrong.to_owned(), "leave it out");
        }
        return;
    }
    if schema.file.is_none() && registry.urls.is_empty() {
        let wrong = "is missing: messages in Avro and Protobuf are read by a schema";
        let fix = "name the schema's file, or the registry: registry.urls = [\"https://registry-1:8081\"]";
        fault("file", wrong.to_owned(), fix);
    }
    if schema.message.is_some() && (format == Format::Avro || schema.file.is_none()) {
        let wrong = "is for a file of record.format = \"protobuf\"";
        fault("message", wrong.to_owned(), "leave it out");
    } else if let Err(wrong) = SchemaUse::of(&stream.record).open(schema) {
        let fix = "correct the schema, the message or the paths of the fields";
        fault("file", format!("cannot be used: {wrong}"), fix);
    }
}

/// Alerts in Avro need a registry for their schema.
fn output_format(report: &mut Report<'_>, stream: &StreamSettings, registry: &RegistrySettings) {
    if stream.output.format == OutputFormat::Avro && registry.urls.is_empty() {
        let place = report.place(&stream.name, "output.format");
        let fault = "needs a schema registry, and registry.urls is empty";
        let fix = "name the registry: registry.urls = [\"https://registry-1:8081\"], or set output.format = \"json\"";
        report.add(place, fault, fix);
    }
}

/// The fields are there, and no two have one name or read one place of the record.
fn fields(report: &mut Report<'_>, stream: &StreamSettings) {
    let place = report.place(&stream.name, "record.fields");
    let fields: Vec<Option<FieldSettings>> = report.list(&place);
    if fields.is_empty() {
        let fix = "list the readings of a record, such as record.fields = [\"temperature\", \"pressure\"]";
        report.add_found(place, None, "is missing", fix);
        return;
    }
    if fields.len() > FIELDS_MAX {
        let fault = format!(
            "has {} fields; at most {FIELDS_MAX} are allowed",
            fields.len()
        );
        report.add_found(place, None, fault, "split them into several streams");
        return;
    }
    let mut names = BTreeMap::new();
    let mut paths: BTreeMap<&[String], usize> = BTreeMap::new();
    let named = || {
        let fields = fields.iter().enumerate();
        fields.filter_map(|(i, field)| Some((i, field.as_ref()?)))
    };
    for (i, field) in named() {
        let at = place.clone().index(i);
        if field.min >= field.max {
            let fault = format!("must be below max, which is {}", field.max);
            let fix = "give the physical range of the sensor, or leave both out";
            report.add(at.clone().key("min"), fault, fix);
        }
        if let Some(first) = names.insert(&field.name, i) {
            let fault = format!("has the name {:?} of fields[{first}]", field.name);
            let fix = "give each field a unique name, or remove one of them";
            report.add_found(at, None, fault, fix);
        } else if let Some(first) = paths.insert(&field.path, i) {
            let fault = format!("reads the same place of the record as fields[{first}]");
            report.add_found(at, None, fault, "correct the path of one of them");
        }
    }
    for (i, field) in named() {
        let above = (1..field.path.len()).find_map(|keys| paths.get(field.path.get(..keys)?));
        if let Some(above) = above {
            let fault = format!("lies inside of fields[{above}], which is a number");
            let at = place.clone().index(i);
            report.add_found(at, None, fault, "correct the path of one of them");
        }
    }
}

/// At least one field has readings, and the states are few enough and those that are ignored exist.
fn states(report: &mut Report<'_>, stream: &StreamSettings) {
    let fields = &stream.record.fields;
    let place = report.place(&stream.name, "record.fields");
    if !fields.is_empty() && fields.iter().all(|field| field.states.is_some()) {
        let fix = "add a field without `values`";
        report.add_found(place.clone(), None, "has states only, and no readings", fix);
    }
    let counts = fields.iter().filter_map(|field| field.states.as_ref());
    let counts: Vec<usize> = counts.map(States::count).collect();
    let cells = cells(&counts);
    if cells > CELLS_MAX {
        let fault = format!("has {cells} combinations of states; at most {CELLS_MAX} are allowed");
        report.add_found(place, None, fault, "give fewer `values`");
    }
    for (name, ignored) in &stream.gate.ignore_when {
        let place = report.place(&stream.name, "gate.ignore_when").key(name);
        let field = fields.iter().find(|field| field.name == *name);
        let Some(states) = field.and_then(|field| field.states.as_ref()) else {
            let fix = "name a field of record.fields that has `values`";
            report.add_found(place, None, "is no field with `values`", fix);
            continue;
        };
        for state in ignored.iter().map(StateValue::text) {
            if states.of_text(&state).is_none() {
                let allowed: Vec<&str> = states.names().collect();
                let fault = format!("{state:?} is not in the values of {name}");
                let fix = format!("use some of {}", allowed.join(", "));
                report.add_found(place.clone(), None, fault, &fix);
            }
        }
    }
}

/// No mute ends before it begins.
fn mutes(report: &mut Report<'_>, stream: &StreamSettings) {
    let place = report.place(&stream.name, "mutes");
    let mutes: Vec<Option<MuteSettings>> = report.list(&place);
    for (i, mute) in mutes.iter().enumerate() {
        if let Some(MuteSettings { from, until, .. }) = mute
            && from >= until
        {
            let fault = format!("must be after from, which is {from}");
            let at = place.clone().index(i).key("until");
            report.add(at, fault, "exchange the two, or remove the mute");
        }
    }
}

/// What the streams ask of each other, and of the shared topics.
pub(super) fn across(report: &mut Report<'_>, settings: &Settings) {
    if settings.streams.is_empty() {
        let fix = "add a table [streams.NAME] with input.topic and record.fields; config/example.toml shows one";
        let fault = "is missing: no stream is configured";
        report.add_found(KeyPath::of("streams"), None, fault, fix);
    }
    shared_topics(report, settings);
    distinct_files(report, settings);
    let readers = distinct_readers(report, settings);
    for stream in &settings.streams {
        for (key, topic) in stream.output.topics() {
            if let Some(reader) = readers.get(topic) {
                let key = report.place(&stream.name, &format!("output.{key}"));
                let fault = format!(
                    "is the input topic of stream {reader}: it would read what outlierd writes"
                );
                report.add_found(key, Some(&topic.into()), fault, "choose another topic");
            }
        }
    }
}

/// A reader of each input topic. No two streams read one topic in one group.
fn distinct_readers<'s>(
    report: &mut Report<'_>,
    settings: &'s Settings,
) -> BTreeMap<&'s str, &'s str> {
    let mut groups = BTreeMap::new();
    let mut readers = BTreeMap::new();
    let reading = settings.streams.iter();
    for stream in reading.filter(|stream| !stream.input.topic.is_empty()) {
        let name = stream.name.as_str();
        let topic = stream.input.topic.as_str();
        let group = stream.input.group.as_str();
        readers.entry(topic).or_insert(name);
        if let Some(first) = groups.insert((topic, group), name) {
            let key = report.place(name, "input.group");
            let fault = format!(
                "lets stream {name} read topic {topic} in the group of stream {first}: each would get a part of it"
            );
            report.add_found(
                key,
                Some(&group.into()),
                fault,
                "give each stream its own group",
            );
        }
    }
    readers
}

/// No two streams write to one file.
fn distinct_files(report: &mut Report<'_>, settings: &Settings) {
    let mut writers = BTreeMap::new();
    for stream in &settings.streams {
        for destination in stream.output.destinations() {
            let DestinationSettings::File(path) = destination else {
                continue;
            };
            let found = path.display().to_string();
            if let Some(first) = writers.insert(path, &stream.name) {
                let key = report.place(&stream.name, "output.file");
                let fault = format!("is also the file of stream {first}");
                let fix = "give each stream its own file, such as \"alerts-{stream}.jsonl\"";
                report.add_found(key, Some(&found.into()), fault, fix);
            }
        }
    }
}

/// `[share]`: topics that nothing else uses.
fn shared_topics(report: &mut Report<'_>, settings: &Settings) {
    let share = &settings.share;
    let topics = [
        ("bundles", &share.bundles),
        ("control", &share.control),
        ("events", &share.events),
    ];
    let named: Vec<(&str, &str)> = topics
        .into_iter()
        .filter_map(|(key, topic)| Some((key, topic.as_deref()?)))
        .collect();
    for (i, &(key, topic)) in named.iter().enumerate() {
        let at = KeyPath::of("share").key(key);
        if let Err(fault) = syntax::topic(topic) {
            report.fault(at.clone(), fault);
        }
        let mut earlier = named.iter().take(i);
        let earlier = earlier
            .find(|(_, other)| *other == topic)
            .map(|(key, _)| format!("share.{key}"));
        if let Some(user) = earlier.or_else(|| user_of(topic, &settings.streams)) {
            let fault = format!("is also the topic of {user}");
            let fix = "give it its own topic: they hold different kinds of message";
            report.add(at, fault, fix);
        }
    }
}

/// The key of a stream that has this topic.
fn user_of(topic: &str, streams: &[StreamSettings]) -> Option<String> {
    streams.iter().find_map(|stream| {
        let mut outputs = stream.output.topics();
        let key = match outputs.find(|(_, other)| *other == topic) {
            Some((key, _)) => format!("output.{key}"),
            None if stream.input.topic == topic => "input.topic".to_owned(),
            None => return None,
        };
        Some(format!("streams.{}.{key}", stream.name))
    })
}

//! `outlierd check --connect`: what would go wrong at `run`, as the brokers, the schema registry and the
//! newest records show it. Nothing is created, committed or published.

use std::time::Duration;

use super::topic_sample::TopicReader;
use crate::config::settings::{OutputFormat, Settings, StreamSettings};
use crate::decode::records::Decoder;
use crate::record::rejections::Rejections;
use crate::record::{Batch, Message};
use crate::schema_registry::client::RegistryClient;
use crate::schema_registry::{SchemaRegistryError, SchemaType};
use crate::sink::{avro, transaction};
use crate::source::cluster::Cluster;
use crate::source::{Delivery, view};

/// Records of a stream that are looked at.
const RECORDS: usize = 100;
/// How long the schema registry may take.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(20);

/// What was found of one configuration.
#[derive(Default)]
pub(super) struct Findings {
    /// Each would stop the daemon or a stream, or leave a stream without a usable record.
    pub(super) problems: Vec<String>,
    /// What is good, or what an operator may want to know.
    pub(super) notes: Vec<String>,
}

/// Asks the brokers of a configuration.
pub(super) fn connect(settings: &Settings) -> Findings {
    let mut findings = Findings::default();
    let cluster = match Cluster::new(&settings.kafka) {
        Ok(cluster) => cluster,
        Err(error) => {
            findings
                .problems
                .push(format!("librdkafka rejects [kafka.properties]: {error}"));
            return findings;
        }
    };
    let topics = match cluster.topics() {
        Ok(topics) => topics,
        Err(error) => {
            findings.problems.push(error.to_string());
            return findings;
        }
    };
    findings
        .notes
        .push(format!("the brokers {} answer", settings.kafka.brokers));
    for stream in &settings.streams {
        check_schemas(settings, stream, &mut findings);
        check_topics(settings, stream, &cluster, &topics, &mut findings);
        check_records(settings, stream, &topics, &mut findings);
    }
    findings
}

/// Topics that are missing, and rights to those that there are.
fn check_topics(
    settings: &Settings,
    stream: &StreamSettings,
    cluster: &Cluster,
    topics: &[(String, usize)],
    findings: &mut Findings,
) {
    let name = &stream.name;
    let size = |topic: &str| {
        topics
            .iter()
            .find(|(found, _)| found == topic)
            .map(|(_, size)| *size)
    };
    let input = &stream.input.topic;
    let mut read = Vec::new();
    match size(input) {
        Some(partitions) => {
            findings.notes.push(format!("{name}: the input topic {input} has {partitions} partitions"));
            read.push(input.as_str());
        }
        None => findings.problems.push(format!(
            "{name}: the input topic {input} does not exist, or may not be read; create it, or correct input.topic"
        )),
    }
    let mut written = Vec::new();
    for (key, topic) in stream.output.topics() {
        match size(topic) {
            Some(_) => written.push(topic),
            None if settings.kafka.create_topics => {
                findings.notes.push(format!("{name}: output.{key}, topic {topic}, will be created at start"));
            }
            None => findings.problems.push(format!(
                "{name}: output.{key}, topic {topic}, does not exist; create it, or set kafka.create_topics = true"
            )),
        }
    }
    if let Err(error) = cluster.check_reads(&stream.input.group, &read) {
        findings.problems.push(format!("{name}: {error}"));
    }
    if stream.input.delivery == Delivery::ExactlyOnce {
        let id = format!("{}-check-connect", stream.input.group);
        let checked = transaction::check(&settings.kafka, stream, &id, written.iter().copied());
        if let Err(error) = checked {
            let right = error.missing_right(&settings.kafka, stream, &id);
            let text = right.map_or_else(|| error.to_string(), |right| right.to_string());
            findings.problems.push(format!("{name}: {text}"));
        }
    }
}

/// Whether the registry has the schemas of alerts and scores in Avro, or would take them.
fn check_schemas(settings: &Settings, stream: &StreamSettings, findings: &mut Findings) {
    if stream.output.format == OutputFormat::Json {
        return;
    }
    let name = &stream.name;
    for (subject, text) in avro::subjects(&stream.output) {
        let client = RegistryClient::open(&settings.registry);
        match client.and_then(|client| schema_at(&client, &subject, text)) {
            Ok(Ok(note)) => findings.notes.push(format!("{name}: {note}")),
            Ok(Err(problem)) => findings.problems.push(format!("{name}: {problem}")),
            Err(error) => findings.problems.push(format!(
                "{name}: the subject {subject:?} of the schema registry: {error}"
            )),
        }
    }
}

/// What the registry says of a schema: a note, or a problem.
fn schema_at(
    client: &RegistryClient,
    subject: &str,
    text: &str,
) -> Result<Result<String, String>, SchemaRegistryError> {
    match client.find(subject, SchemaType::Avro, text) {
        Err(SchemaRegistryError::Unknown(_)) => {}
        found => {
            return found.map(|id| Ok(format!("the subject {subject:?} has the schema, id {id}")));
        }
    }
    match client.incompatibility(subject, SchemaType::Avro, text) {
        Ok(Some(reason)) => Ok(Err(format!(
            "the subject {subject:?} has a schema that the one of outlierd is not compatible with: {reason}"
        ))),
        // Without any version everything is compatible.
        Ok(None) | Err(SchemaRegistryError::Unknown(_)) => {
            let note = format!("the schema will be registered at start as {subject:?}");
            Ok(Ok(note))
        }
        Err(error) => Err(error),
    }
}

/// What becomes of the newest records.
fn check_records(
    settings: &Settings,
    stream: &StreamSettings,
    topics: &[(String, usize)],
    findings: &mut Findings,
) {
    let (name, input) = (&stream.name, &stream.input);
    if stream.record.format.is_image() || !topics.iter().any(|(topic, _)| *topic == input.topic) {
        return;
    }
    let reader = TopicReader::open(&settings.kafka, &input.group, &input.topic, RECORDS);
    let found = reader.and_then(|mut reader| reader.sample());
    let found = match found {
        Ok(found) if found.is_empty() => {
            findings
                .notes
                .push(format!("{name}: topic {} holds no record yet", input.topic));
            return;
        }
        Ok(found) => found,
        Err(error) => {
            findings.problems.push(format!("{name}: {error:#}"));
            return;
        }
    };
    let messages: Vec<Message<'_>> = found.iter().map(view).collect();
    let batch = match decoded(stream, &messages) {
        Ok(batch) => batch,
        Err(fault) => {
            findings.problems.push(format!("{name}: {fault}"));
            return;
        }
    };
    let rejections = Rejections::of(&batch);
    match rejections.count() {
        0 => findings.notes.push(format!(
            "{name}: the newest {} records can be read",
            batch.records.len()
        )),
        _ => findings.problems.push(format!("{name}: {rejections}")),
    }
    if !batch.records.is_empty() {
        check_fields(stream, &batch, findings);
        check_times(stream, &batch, findings);
    }
}

/// The records of messages, whose schemas may be in a registry.
fn decoded<'m>(stream: &StreamSettings, messages: &[Message<'m>]) -> Result<Batch<'m>, String> {
    let mut decoder = Decoder::with_schemas(&stream.record, &stream.schemas)?;
    decoder
        .await_schemas(messages, REGISTRY_PATIENCE)
        .map_err(|reason| format!("the schema registry does not answer: {reason}"))?;
    Ok(decoder.decode(messages))
}

/// Fields that no record has.
fn check_fields(stream: &StreamSettings, batch: &Batch<'_>, findings: &mut Findings) {
    for (index, field) in stream.record.fields.iter().enumerate() {
        let values = batch
            .rows()
            .filter_map(|row| row.values.get(index).copied());
        let readings = values.filter(|value| value.is_finite());
        let (name, path) = (&stream.name, field.path.join("."));
        match readings.count() {
            0 => findings.problems.push(format!(
                "{name}: field {:?} has no reading in the newest {} records; is {path:?} its path?",
                field.name,
                batch.records.len()
            )),
            some if 2 * some < batch.records.len() && stream.record.hold.is_zero() => {
                findings.notes.push(format!(
                    "{name}: field {:?} is in {some} of {} records; record.hold keeps its last reading",
                    field.name,
                    batch.records.len()
                ));
            }
            _ => {}
        }
    }
}

/// Times that the gate rejects.
fn check_times(stream: &StreamSettings, batch: &Batch<'_>, findings: &mut Findings) {
    let ahead = stream.gate.max_ahead.as_micros();
    let is_ahead = |record: &&crate::record::Record<'_>| {
        let distance = record
            .arrival
            .map_or(0, |arrival| record.time.micros_since(arrival));
        u128::try_from(distance).is_ok_and(|distance| distance > ahead)
    };
    let early = batch.records.iter().filter(is_ahead).count();
    if early > 0 {
        findings.problems.push(format!(
            "{}: {early} of {} records have a time more than gate.max_ahead = {} after their arrival; is record.time_zone right?",
            stream.name,
            batch.records.len(),
            humantime::format_duration(stream.gate.max_ahead)
        ));
    }
}

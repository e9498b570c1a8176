//! `outlierd tap`: the decoded records of a stream, as they come.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value, json};

use super::config_args::{ConfigArgs, stream_of};
use super::topic_sample::{SampledMessage, TopicReader};
use crate::config::settings::StreamSettings;
use crate::decode::records::Decoder;
use crate::record::row::DecodedRow;
use crate::source::view;

/// How long the schema registry may take.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(60);

/// Print the records of a stream as they are decoded, one JSON object a line, and what is rejected
/// with its reason. Nothing is scored or committed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd tap --config outlierd.toml pumps\n  outlierd tap --config outlierd.toml pumps --newest 20 --stop"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The stream
    stream: String,
    /// Begin this many messages before the end of the topic
    #[arg(long, value_name = "N", default_value_t = 10)]
    newest: usize,
    /// End at the end of the topic, and wait for no further message
    #[arg(long)]
    stop: bool,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let stream = stream_of(&settings, Some(&args.stream))?;
    if stream.record.format.is_image() {
        bail!(
            "the records of {:?} are images, which tap does not print",
            args.stream
        );
    }
    let input = &stream.input;
    let mut reader = TopicReader::open(&settings.kafka, &input.group, &input.topic, args.newest)?;
    let decoder = Decoder::with_schemas(&stream.record, &stream.schemas);
    let mut decoder = decoder.map_err(|fault| anyhow!("record.schema.file: {fault}"))?;
    for message in reader.sample()? {
        print(stream, &mut decoder, &message)?;
    }
    if args.stop {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        if let Some(message) = reader.next()? {
            print(stream, &mut decoder, &message)?;
        }
    }
}

/// Prints what becomes of one message.
fn print(
    stream: &StreamSettings,
    decoder: &mut Decoder,
    message: &SampledMessage,
) -> anyhow::Result<()> {
    let view = view(message);
    decoder
        .await_schemas(&[view], REGISTRY_PATIENCE)
        .map_err(|reason| anyhow!("the schema registry does not answer: {reason}"))?;
    let batch = decoder.decode(&[view]);
    let mut out = std::io::stdout().lock();
    for row in batch.rows() {
        writeln!(out, "{}", record_of(stream, &row))?;
    }
    for rejected in &batch.rejected {
        let line = json!({
            "partition": view.partition, "offset": view.offset, "part": rejected.part,
            "rejected": rejected.reason, "detail": rejected.detail,
        });
        writeln!(out, "{line}")?;
    }
    if batch.records.is_empty() && batch.rejected.is_empty() {
        let line = json!({"partition": view.partition, "offset": view.offset, "records": 0});
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn record_of(stream: &StreamSettings, row: &DecodedRow<'_>) -> Value {
    let fields = stream.record.fields.iter().zip(row.values);
    let readings = fields.map(|(field, value)| {
        let value = match value {
            value if value.is_finite() => json!(value),
            value if value.is_nan() => Value::Null,
            _ => json!("not a number"),
        };
        (field.name.clone(), value)
    });
    let record = row.record;
    let mut line = json!({
        "partition": record.partition, "offset": record.offset, "series": record.series,
        "time": record.time.to_string(), "readings": readings.collect::<Map<_, _>>(),
    });
    if let Some(part) = record.part {
        line["part"] = part.into();
    }
    line
}

//! `outlierd init`: a configuration from the messages of a topic.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::topic_sample::{SampledMessage, TopicReader, message_of_line};
use crate::config::{ConfigSources, load};
use crate::decode::infer::infer;
use crate::decode::records::Decoder;
use crate::record::rejections::Rejections;
use crate::source::{KafkaSettings, OidcFault, SharedTokens, view};

/// Look at the newest messages of a topic, or at a file with one message a line, and write a
/// configuration that reads them: encoding, layout, series key, event time and its format, and the
/// places that hold numbers.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd init --topic plant.pumps --brokers kafka-1:9092 --out outlierd.toml\n  outlierd init --file sample.jsonl"
)]
pub(super) struct Args {
    /// The topic
    #[arg(long, value_name = "TOPIC", required_unless_present = "file")]
    topic: Option<String>,
    /// A file with one message a line, in place of a topic
    #[arg(long, value_name = "FILE", conflicts_with = "brokers")]
    file: Option<PathBuf>,
    /// Bootstrap brokers, comma-separated
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    brokers: String,
    /// A property of librdkafka for the connection: --property security.protocol=SSL (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// Name of the stream [default: that of the topic or file]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Number of messages to look at
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    messages: usize,
    /// Where the configuration goes; an existing file is not overwritten [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let found = match &args.file {
        Some(file) => lines(file, args.messages)?,
        None => sample(args)?,
    };
    let place = source_name(args);
    if found.is_empty() {
        bail!("{place} holds no message: start init again once it does");
    }
    let messages: Vec<_> = found.iter().map(view).collect();
    let inferred = infer(&messages).map_err(|wrong| anyhow::anyhow!("{place}: {wrong}"))?;
    let topic = args.topic.clone().unwrap_or_else(|| "TOPIC".to_owned());
    let stream = args.stream.clone().unwrap_or_else(|| stream_name(&place));
    let mut text = inferred.to_toml(&args.brokers, &stream, &topic);
    if !args.property.is_empty() {
        text += "\n# The properties of the connection belong here; secrets as { file = \"...\" }.\n[kafka.properties]\n";
        for (key, value) in properties(args)? {
            text += &format!("\"{key}\" = {}\n", serde_json::Value::from(value));
        }
    }
    let rejections = try_out(&text, &messages)?;
    match &args.out {
        Some(out) => write_new(out, &text)?,
        None => write!(std::io::stdout(), "{text}")?,
    }
    let _ = writeln!(
        std::io::stderr(),
        "{} messages of {place}: {rejections}",
        messages.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// Reads the messages with the new configuration.
fn try_out(text: &str, messages: &[crate::record::Message<'_>]) -> anyhow::Result<String> {
    let folder = std::env::temp_dir().join(format!("outlierd-init-{}.toml", std::process::id()));
    std::fs::write(&folder, text)
        .with_context(|| format!("{} cannot be written", folder.display()))?;
    let sources = ConfigSources {
        file: Some(folder.clone()),
        ..ConfigSources::default()
    };
    let settings = load(&sources);
    let _ = std::fs::remove_file(&folder);
    let settings = settings.context("the configuration that was found is not valid")?;
    let Some(stream) = settings.streams.first() else {
        bail!("the configuration that was found has no stream");
    };
    if stream.record.format.is_image() {
        return Ok("images".to_owned());
    }
    let batch = Decoder::new(&stream.record).decode(messages);
    let rejections = Rejections::of(&batch);
    Ok(rejections.to_string())
}

fn sample(args: &Args) -> anyhow::Result<Vec<SampledMessage>> {
    let kafka = KafkaSettings {
        brokers: args.brokers.clone(),
        properties: properties(args)?,
        consumer: BTreeMap::new(),
        producer: BTreeMap::new(),
        create_topics: false,
        replication_factor: -1,
        tokens: SharedTokens::default(),
    };
    if let Some(OidcFault { key, fault, fix }) = kafka.oidc_fault() {
        bail!("--property {key} {fault}; {fix}");
    }
    let topic = args.topic.as_deref().unwrap_or_default();
    TopicReader::open(&kafka, "outlierd-init", topic, args.messages)?.sample()
}

fn properties(args: &Args) -> anyhow::Result<BTreeMap<String, String>> {
    let of = |pair: &String| {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--property {pair}: expected KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    args.property.iter().map(of).collect()
}

fn lines(file: &Path, most: usize) -> anyhow::Result<Vec<SampledMessage>> {
    let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines
        .filter(|line| !line.trim_ascii().is_empty())
        .take(most);
    Ok((0..)
        .zip(lines)
        .map(|(number, line)| message_of_line(number, line))
        .collect())
}

fn source_name(args: &Args) -> String {
    match (&args.topic, &args.file) {
        (_, Some(file)) => file.display().to_string(),
        (Some(topic), None) => format!("topic {topic}"),
        (None, None) => String::new(),
    }
}

/// A name that a stream may have, of the last part of a topic or file.
fn stream_name(place: &str) -> String {
    let last = place.rsplit(['/', ' ']).next().unwrap_or_default();
    let last = last.split_once(".json").map_or(last, |(name, _)| name);
    let last = last.rsplit('.').next().unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = last.chars().map(plain).collect();
    match name.trim_matches('-') {
        "" => "stream".to_owned(),
        name => name.to_owned(),
    }
}

fn write_new(out: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::File::create_new(out).with_context(|| {
        format!(
            "{} cannot be created; init overwrites no file",
            out.display()
        )
    })?;
    file.write_all(text.as_bytes())?;
    let _ = writeln!(std::io::stderr(), "wrote {}", out.display());
    Ok(())
}

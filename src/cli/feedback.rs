//! `outlierd feedback`: sends operator feedback on an alert to all instances.

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::config_args::ConfigArgs;
use crate::config::settings::{Settings, StreamSettings};
use crate::destination::decoder::{AlertDecoder, AlertFault};
use crate::record::alert::{Alert, AlertEvent};
use crate::record::feedback::{Feedback, FeedbackLabel, RecordRange};
use crate::share::control::{ControlMessage, MESSAGE_BYTES_MAX};
use crate::share::message;
use crate::signature::SharingKeys;
use crate::source::rights::is_of_group;
use crate::source::{QuietClientContext, Tokens};
use crate::source::{add_from_beginning, consumer, producer_config, reader_config};

const TIMEOUT: Duration = Duration::from_secs(15);
/// How long the schema registry may take.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(60);
/// A topic that yields nothing for this long is taken to be at its end.
const QUIET: Duration = Duration::from_secs(10);

/// Send feedback on an alert: a fault, a false alarm, expected, or a new normal; or exclude a time
/// range from training.
///
/// Each instance applies it within seconds. Later feedback on the same alert replaces earlier
/// feedback. `outlierd model list` shows which bundles were trained on an excluded range.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd feedback --config outlierd.toml 3f9a77 confirmed --note \"bearing 2 changed\"\n  outlierd feedback --config outlierd.toml 3f9a77 false-alarm\n  outlierd feedback --config outlierd.toml - mark-range --stream pumps --series pump-7 \\\n      --from 2026-03-09T06:00:00Z --until 2026-03-09T14:00:00Z"
)]
pub(super) struct Args {
    /// Id of the alert, or a prefix of it; "-" for a time range without an alert
    alert: String,
    /// The label
    label: LabelArg,
    /// The stream [default: the only one, or that of the alert]
    #[arg(long)]
    stream: Option<String>,
    /// The series [default: that of the alert]
    #[arg(long)]
    series: Option<String>,
    /// Event time of the first record of the range (RFC 3339) [default: the alert's opening]
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Event time of the last record of the range (RFC 3339) [default: the alert's close]
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// A comment
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LabelArg {
    /// A fault: every new bundle must detect it
    Confirmed,
    /// A false alarm: the threshold rises above it, and its records are used for training
    FalseAlarm,
    /// Expected, such as a test run: its records are not used for training
    Expected,
    /// The machine has changed and is healthy: its present readings become the baseline
    NewNormal,
    /// Not the readings of a healthy machine: they are excluded from training
    MarkRange,
}

impl From<LabelArg> for FeedbackLabel {
    fn from(label: LabelArg) -> Self {
        match label {
            LabelArg::Confirmed => Self::Confirmed,
            LabelArg::FalseAlarm => Self::FalseAlarm,
            LabelArg::Expected => Self::Expected,
            LabelArg::NewNormal => Self::NewNormal,
            LabelArg::MarkRange => Self::MarkRange,
        }
    }
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let Some(topic) = settings.share.control.clone() else {
        bail!("share.control is \"\": feedback needs this topic; set it and restart outlierd");
    };
    let feedback = match args.alert.as_str() {
        "-" => of_range(args)?,
        id => of_alert(args, &settings, id)?,
    };
    if feedback.from > feedback.until {
        bail!(
            "--from {} is after --until {}",
            feedback.from,
            feedback.until
        );
    }
    let stream = feedback.stream.clone();
    let series = feedback.series.clone();
    let label = feedback.label.as_str();
    let from = feedback.from;
    let until = feedback.until;
    send(&settings, &topic, &ControlMessage::Feedback(feedback))?;
    println!("stream {stream}: {label}: series {series}, {from} to {until}");
    Ok(ExitCode::SUCCESS)
}

fn of_range(args: &Args) -> anyhow::Result<Feedback> {
    if !matches!(args.label, LabelArg::MarkRange) {
        bail!("only mark-range works without an alert: give the alert's id");
    }
    let stream = args.config.stream(args.stream.as_deref())?.name;
    let needed = "without an alert, --series, --from and --until are needed";
    let series = args.series.clone().context(needed)?;
    let from = args.from.context(needed)?;
    let until = args.until.context(needed)?;
    let (alert, records, peak_score, bundle) = Default::default();
    let label = FeedbackLabel::MarkRange;
    let at = Timestamp::now();
    let note = args.note.clone();
    Ok(Feedback {
        stream,
        label,
        series,
        alert,
        from,
        until,
        records,
        peak_score,
        bundle,
        at,
        note,
    })
}

/// The events of the alert whose id starts so, in their order, and the name of its stream.
fn events_of(args: &Args, settings: &Settings, id: &str) -> anyhow::Result<(String, Vec<Alert>)> {
    let named = args
        .stream
        .as_deref()
        .map(|name| args.config.stream(Some(name)))
        .transpose()?;
    let streams: Vec<&StreamSettings> = match &named {
        Some(stream) => vec![stream],
        None => settings.streams.iter().collect(),
    };
    let mut events = Vec::new();
    for stream in &streams {
        let found = alerts(settings, stream, id)?;
        events.extend(found.into_iter().map(|alert| (stream.name.clone(), alert)));
    }
    let Some((stream, first)) = events.first().cloned() else {
        let topics: Vec<&str> = streams
            .iter()
            .map(|stream| stream.output.alerts.as_str())
            .collect();
        bail!(
            "no alert in {} has an id with the prefix {id:?}",
            topics.join(", ")
        );
    };
    if let Some((_, other)) = events.iter().find(|(_, alert)| alert.id != first.id) {
        bail!(
            "{id:?} is a prefix of several ids, {} and {}: give more digits",
            first.id,
            other.id
        );
    }
    let mut events: Vec<Alert> = events.into_iter().map(|(_, alert)| alert).collect();
    events.sort_by_key(|alert| alert.sequence);
    Ok((stream, events))
}

fn of_alert(args: &Args, settings: &Settings, id: &str) -> anyhow::Result<Feedback> {
    let (stream, events) = events_of(args, settings, id)?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        bail!("the alert {id} has no events")
    };
    let time = |text: &str| {
        text.parse::<Timestamp>()
            .with_context(|| format!("alert {id} has the time {text:?}"))
    };
    let score = |alert: &Alert| {
        alert
            .peak_ratio
            .zip(alert.threshold)
            .map(|(ratio, threshold)| ratio * threshold)
    };
    let peak = events.iter().filter_map(score).max_by(f64::total_cmp);
    let opening = events
        .iter()
        .find(|alert| alert.event == AlertEvent::Open)
        .unwrap_or(first);
    let records = RecordRange {
        partition: first.position.partition,
        first: opening.position.offset,
        last: last.position.offset.max(opening.position.offset),
    };
    Ok(Feedback {
        stream,
        label: args.label.into(),
        series: args.series.clone().unwrap_or_else(|| first.series.clone()),
        alert: Some(first.id.clone()),
        from: args.from.map_or_else(|| time(&first.opened_at), Ok)?,
        until: args.until.map_or_else(|| time(&last.time), Ok)?,
        records: Some(records),
        peak_score: peak,
        bundle: Some(last.bundle.clone()).filter(|id| !id.is_empty()),
        at: Timestamp::now(),
        note: args.note.clone(),
    })
}

/// The committed alerts whose ids start so.
fn alerts(settings: &Settings, stream: &StreamSettings, id: &str) -> anyhow::Result<Vec<Alert>> {
    let topic = &stream.output.alerts;
    let kafka = &settings.kafka;
    let config = reader_config(kafka, "outlierd-feedback", &stream.input.group);
    let mut decoder = AlertDecoder::new(&settings.registry);
    let consumer = consumer(kafka, &config, QuietClientContext::of(kafka))
        .context("cannot create a consumer")?;
    let mut all = TopicPartitionList::new();
    add_from_beginning(&consumer, topic, &mut all, TIMEOUT).context("no broker answered")?;
    let mut open = all.count();
    consumer.assign(&all)?;
    let mut found = Vec::new();
    while open > 0 {
        match consumer.poll(QUIET) {
            None => break,
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) if is_of_group(&error) => {}
            Some(Err(error)) => {
                return Err(error).with_context(|| format!("topic {topic} could not be read"));
            }
            Some(Ok(message)) => {
                let line = decoder.line(message.payload().unwrap_or_default(), REGISTRY_PATIENCE);
                if let Err(AlertFault::NoSchema(reason)) = &line {
                    bail!(
                        "topic {topic}: the schema registry does not give the schema of an alert: {reason}"
                    );
                }
                let alert = line
                    .ok()
                    .and_then(|line| serde_json::from_str::<Alert>(&line).ok());
                found.extend(alert.filter(|alert| alert.id.starts_with(id)));
            }
        }
    }
    Ok(found)
}

/// Keeps why a message was not delivered: a flush counts it as done all the same.
struct Delivery {
    failed: Mutex<Option<KafkaError>>,
    tokens: Tokens,
}

impl ClientContext for Delivery {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.answer()
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }
}

fn send(settings: &Settings, topic: &str, control: &ControlMessage) -> anyhow::Result<()> {
    let share = &settings.share;
    let keys = SharingKeys::load(share.signing_key.as_deref(), &share.trusted_keys)?;
    let config = producer_config(&settings.kafka, "outlierd-feedback");
    let (failed, tokens) = (Mutex::default(), settings.kafka.tokens());
    tokens.check()?;
    let producer: ThreadedProducer<Delivery> = config
        .create_with_context(Delivery { failed, tokens })
        .context("librdkafka rejected the producer's properties")?;
    let key = control.key();
    let value = serde_json::to_vec(control)?;
    if value.len() > MESSAGE_BYTES_MAX {
        bail!(
            "the feedback has {} bytes, and at most {MESSAGE_BYTES_MAX} are allowed: shorten its note",
            value.len()
        );
    }
    let failed = || format!("cannot write to topic {topic}");
    let headers = message::headers(&keys, topic, &key, Some(&value), None);
    let record = BaseRecord::to(topic).key(&key).payload(&value);
    producer
        .send(record.headers(headers))
        .map_err(|(error, _)| error)
        .with_context(failed)?;
    producer.flush(TIMEOUT).with_context(failed)?;
    let outcome = &producer.context().failed;
    match outcome
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        Some(error) => Err(error).with_context(failed),
        None => Ok(()),
    }
}

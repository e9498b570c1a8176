//! What a stream of images asks of its tables.

use std::time::Duration;

use super::Report;
use crate::config::settings::StreamSettings;
use crate::model::INPUTS_MAX;
use crate::record::format::{ErrorMeasure, ImageFormat, ImagePayload, KeyFrom, TimeFrom};

/// Below `max.poll.interval.ms`, which is 5 minutes.
const BATCH_MAX: Duration = Duration::from_secs(240);

pub(super) fn check(report: &mut Report<'_>, stream: &StreamSettings, image: &ImageFormat) {
    if image.decode_timeout * stream.input.batch_records as u32 > BATCH_MAX {
        let longest = humantime::format_duration(BATCH_MAX);
        let fault = format!("times image.decode_timeout is longer than {longest} for a batch");
        let at = report.place(&stream.name, "input.batch_records");
        let fix = "lower one of the two: the brokers remove a lane from its group that does not poll in time";
        report.add(at, fault, fix);
    }
    if image.payload == ImagePayload::Image {
        let paths = [
            ("record.key", matches!(stream.record.key, KeyFrom::Field(_))),
            (
                "record.time",
                matches!(stream.record.time, TimeFrom::Field(_)),
            ),
        ];
        for (key, _) in paths.into_iter().filter(|(_, is_path)| *is_path) {
            let at = report.place(&stream.name, key);
            let fault = "is a path into the record, which is an image";
            let fix = "name a Kafka header (\"header:camera\"), or set image.payload to \"json\"";
            report.add_found(at, None, fault, fix);
        }
    }
    readings_only(report, stream);
    match stream.model.kind.is_of_features() {
        true => features(report, stream, image),
        false => tile(report, stream, image),
    }
}

/// What only readings have.
fn readings_only(report: &mut Report<'_>, stream: &StreamSettings) {
    let rules = [
        (
            "record.fields",
            !stream.record.fields.is_empty(),
            "is for records of readings, and the records are images",
        ),
        (
            "window",
            stream.window != 1,
            "must be 1: each image is scored on its own",
        ),
        (
            "resample.period",
            !stream.resample.period.is_zero(),
            "must be 0s: images are not resampled",
        ),
        (
            "model.context",
            !stream.model.context.is_empty(),
            "must be empty: models of images have no time features",
        ),
    ];
    for (key, _, fault) in rules.into_iter().filter(|(_, is_broken, _)| *is_broken) {
        let at = report.place(&stream.name, key);
        report.add_found(at, None, fault, "remove it");
    }
}

/// What the kinds over features ask for.
fn features(report: &mut Report<'_>, stream: &StreamSettings, image: &ImageFormat) {
    let model = &stream.model;
    let kind = model.kind.as_str();
    if image.error != ErrorMeasure::Squared {
        let fault = format!("must be \"squared\": a {kind} model compares features, not pixels");
        let at = report.place(&stream.name, "image.error");
        report.add_found(at, None, fault, "remove it");
    }
    if model
        .kind
        .code_min()
        .is_some_and(|least| model.latent < least)
    {
        let at = report.place(&stream.name, "model.latent");
        let fault = format!("must be at least 1 for a {kind} model");
        report.add(at, fault, "64 is a good initial value");
    }
}

/// The autoencoder's sizes fit the tile.
fn tile(report: &mut Report<'_>, stream: &StreamSettings, image: &ImageFormat) {
    let model = &stream.model;
    let kind = model.kind.as_str();
    let side = image.tile;
    let channels = image.channels.count();
    if !model.kind.takes_images() {
        let fault = format!("{kind:?} needs a window of records, and the records are images");
        let fix = "choose \"frame\", \"patch\", \"conv2d\", \"unet\", \"vae2d\" or \"linear\"";
        let at = report.place(&stream.name, "model.kind");
        report.add_found(at, None, fault, fix);
        return;
    }
    let inputs = side * side * channels;
    if !model.kind.is_spatial() && !model.kind.is_script() && inputs > INPUTS_MAX {
        let most = ((INPUTS_MAX / channels) as f64).sqrt() as usize;
        let fault =
            format!("makes {inputs} inputs of a {kind} model; at most {INPUTS_MAX} are allowed");
        let fix = format!("choose a tile of at most {most}, or kind \"conv2d\" or \"unet\"");
        let at = report.place(&stream.name, "image.tile");
        report.add(at, fault, fix);
        return;
    }
    let halvings = model.kind.halvings(model.hidden.len());
    let at_hidden = report.place(&stream.name, "model.hidden");
    if model.hidden.is_empty() && model.kind.is_spatial() {
        let fault = format!("is empty: a {kind} model needs hidden layers");
        let fix = "give it two or three, such as [8, 16, 32]";
        report.add_found(at_hidden.clone(), None, fault, fix);
    }
    if side >> halvings < 2 {
        let fault =
            format!("halves a tile of {side} pixels {halvings} times, which leaves no pixel");
        let fix = "give it fewer layers, or choose a larger image.tile";
        report.add_found(at_hidden, None, fault, fix);
    }
    let is_code_good = |least| (least..inputs).contains(&model.latent);
    if model
        .kind
        .code_min()
        .is_some_and(|least| !is_code_good(least))
    {
        let most = inputs - 1;
        let fault = format!("must be from 1 to {most}: below the {inputs} inputs of a tile");
        let at = report.place(&stream.name, "model.latent");
        report.add(at, fault, "32 to 128 is a good initial value");
    }
}

//! The model of a stream of readings: its sizes fit each other, and the records of a training.

use super::Report;
use crate::config::settings::StreamSettings;
use crate::model::{INPUTS_MAX, TimeFeature};

/// Windows that each fold of the training needs at least.
const FOLD_WINDOWS_MIN: usize = 64;

pub(super) fn check(report: &mut Report<'_>, stream: &StreamSettings) {
    shape(report, stream);
    training_records(report, stream);
}

/// The autoencoder's sizes fit each other.
fn shape(report: &mut Report<'_>, stream: &StreamSettings) {
    let context = TimeFeature::inputs(&stream.model.context);
    let window = stream.window;
    let fields = stream.record.fields.len();
    let at_fields = report.place(&stream.name, "record.fields");
    let at_window = report.place(&stream.name, "window");
    if fields == 0 || report.has_problem(&at_fields) || report.has_problem(&at_window) {
        return;
    }
    let kind = stream.model.kind.as_str();
    if !stream.model.kind.takes_readings() {
        let fault = format!("{kind:?} is for images, and the records are readings");
        let fix = "set model.kind to \"dense\", or record.format to \"image\"";
        let at = report.place(&stream.name, "model.kind");
        report.add_found(at, None, fault, fix);
        return;
    }
    let inputs = stream.model_inputs();
    if inputs > INPUTS_MAX {
        let fault = format!(
            "makes {inputs} inputs of the model with {fields} fields; at most {INPUTS_MAX} are allowed"
        );
        let most = INPUTS_MAX / (fields + context);
        let fix = format!("choose a window of at most {most}, or fewer fields");
        report.add(at_window, fault, fix);
        return;
    }
    if stream.stride > window {
        let at = report.place(&stream.name, "stride");
        let fault = format!(
            "must be at most the window, which is {window}: records between two windows would never be scored"
        );
        report.add(at, fault, "lower it, or raise window");
    }
    if stream.model.kind.is_windowed() && window < 2 {
        let fault =
            format!("must be 2 or more for a {kind} model, which needs a sequence of records");
        let fix = "set window to 16 or more, or model.kind to \"dense\"";
        report.add(at_window, fault, fix);
        return;
    }
    code(report, stream, inputs);
}

/// The hidden layers are there, and the code is narrower than the inputs.
fn code(report: &mut Report<'_>, stream: &StreamSettings, inputs: usize) {
    let window = stream.window;
    let fields = stream.record.fields.len();
    let model = &stream.model;
    let kind = model.kind.as_str();
    if model.hidden.is_empty() && model.kind.needs_layers() {
        let at = report.place(&stream.name, "model.hidden");
        let fault = format!("is empty: a {kind} model needs hidden layers");
        report.add_found(at, None, fault, "give it one or two, such as [16]");
    }
    let Some(least) = model.kind.code_min_of(inputs) else {
        return;
    };
    if (least..inputs).contains(&model.latent) {
        return;
    }
    let at = report.place(&stream.name, "model.latent");
    if inputs == 1 {
        let fault = "does not fit: a code has to be smaller than the model's input, which is one field of one record";
        let fix = "set window to 8 or more, or model.kind to \"dense\" and model.latent to 0";
        report.add(at, fault, fix);
    } else {
        let most = inputs - 1;
        let fault = format!(
            "must be from {least} to {most} for a {kind} model: below its {inputs} inputs (window {window} x {fields} fields)"
        );
        let quarter = (inputs / 4).clamp(least, most);
        let fix = format!("a quarter of the inputs is a good initial value: {quarter}");
        report.add(at, fault, fix);
    }
}

/// The first training has enough windows for every fold.
fn training_records(report: &mut Report<'_>, stream: &StreamSettings) {
    let folds = stream.training.folds;
    let window = stream.window;
    let least = window + stream.stride * ((4 * folds).max(FOLD_WINDOWS_MIN) - 1);
    if stream.training.records < least {
        let at = report.place(&stream.name, "training.records");
        let fault = format!("must be at least {least} for window {window} and {folds} folds");
        report.add(
            at,
            fault,
            "raise it; ten times as many train a better model",
        );
    }
}

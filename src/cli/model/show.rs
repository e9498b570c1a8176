//! `outlierd model show`: one bundle for people.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;

use super::TRAINED_ON_EXCLUDED;
use crate::cli::table;
use crate::model::bundle::Bundle;
use crate::model::registry::{Registry, learned_from};
use crate::model::shape::FeatureShape;
use crate::promotion::{InjectedFaultKind, PromotionVerdict};

pub(super) fn show(registry: &Registry, stream: &str, id: &str, json: bool) -> anyhow::Result<()> {
    let bundle = registry.load(stream, id)?;
    let verdict = PromotionVerdict::read(registry, stream, id)?;
    if json {
        let both = serde_json::json!({"manifest": bundle.manifest, "verdict": verdict});
        println!("{}", serde_json::to_string_pretty(&both)?);
        return Ok(());
    }
    print!("{}", describe(&bundle));
    for range in learned_from(&bundle.manifest, &registry.excluded_ranges(stream)?.read()?) {
        println!(
            "marked     {TRAINED_ON_EXCLUDED}: series {}, {} to {}",
            range.series, range.from, range.until
        );
    }
    match &verdict {
        None => println!("tests      none: it is the first bundle, or was trained by hand"),
        Some(verdict) => print_verdict(verdict),
    }
    Ok(())
}

/// What a model over features looks at.
fn described(features: &FeatureShape) -> String {
    let encoder = match &features.backbone {
        None => "the filter bank".to_owned(),
        Some(sha256) => format!("backbone {sha256}"),
    };
    let size = match features.input {
        [0, _] => "images at full size".to_owned(),
        [width, height] => format!("images at {width} x {height} pixels"),
    };
    format!(
        "{size}, {} features of a cell by {encoder}",
        features.channels
    )
}

fn describe(bundle: &Bundle) -> String {
    let m = &bundle.manifest;
    let times = || m.origin.learned_from.iter();
    let series: BTreeSet<&str> = times().map(|segment| segment.series.as_str()).collect();
    let span = times()
        .map(|s| s.from)
        .min()
        .zip(times().map(|s| s.until).max());
    let span = span.map_or(String::new(), |(from, until)| {
        format!(", {from} to {until}")
    });
    let loss = m
        .origin
        .metrics
        .holdout_loss
        .map_or("-".into(), |loss| format!("{loss:.4}"));
    let (input, units) = match (m.shape.tile, &m.shape.features) {
        (_, Some(features)) => (described(features), "images"),
        (0, None) => (
            format!("window {}, {} fields", m.shape.window, m.shape.fields),
            "windows",
        ),
        (side, None) => (
            format!(
                "tiles of {side} x {side} pixels, {} channels",
                m.shape.channels()
            ),
            "images",
        ),
    };
    let ratio = |of: Option<f64>| of.map_or("-".into(), |of| format!("{of:.2}"));
    let (linear, denoiser) = (
        m.origin.metrics.linear_ratio,
        m.origin.metrics.denoising_ratio,
    );
    let charted = match (&bundle.denoiser, denoiser) {
        (Some(_), _) => "the autoencoder with memory has a chart",
        (None, Some(_)) => "no chart: too little for its part of the alert budget",
        (None, None) => "not tried",
    };
    format!(
        "bundle     {}\nkind       {}, {input}, code of {}, seed {}\nlearned    {} {units} of {} series{span}\n\
         error      {loss} held out, {:.4} learned\nnetwork    {} times the held-out error of a linear model\n\
         memory     {} times the denoising error of a linear model: {charted}\ncreated    {} by outlierd {}\n",
        m.id,
        m.shape.kind.as_str(),
        m.shape.latent,
        m.origin.training.seed,
        m.origin.rows,
        series.len(),
        m.origin.metrics.train_loss,
        ratio(linear),
        ratio(denoiser),
        m.created,
        m.software
    )
}

fn print_verdict(verdict: &PromotionVerdict) {
    let outcome = if verdict.passed { "passed" } else { "failed" };
    println!(
        "tests      {outcome}, compared with {}, trained for {}",
        verdict.champion, verdict.reason
    );
    for test in &verdict.tests {
        let mark = if test.passed { "passed" } else { "FAILED" };
        println!("  {mark}   {:17} {}", test.name.as_str(), test.detail);
    }
    let twins = [
        ("linear", verdict.linear, "principal components"),
        ("none", verdict.none, "the charts alone"),
    ];
    for (name, margin, what) in twins {
        let Some(margin) = margin else { continue };
        println!(
            "{name:10} {:.2} times the error of {what}, detects {:+.1} percentage points more of the injected faults",
            margin.error_ratio,
            100.0 * margin.caught_more
        );
    }
    println!("smallest detected fault, in standard deviations of the field:");
    println!("{}", sensitivity(verdict));
}

/// A row a field, a column a kind of fault.
fn sensitivity(verdict: &PromotionVerdict) -> Table {
    let kinds = InjectedFaultKind::ALL
        .iter()
        .map(|kind| kind.as_str().replace('_', " "));
    let mut table = table(std::iter::once("field".to_owned()).chain(kinds));
    let mut fields: BTreeMap<&str, BTreeMap<InjectedFaultKind, Option<f64>>> = BTreeMap::new();
    for found in &verdict.sensitivity {
        fields
            .entry(&found.field)
            .or_default()
            .insert(found.kind, found.smallest);
    }
    for (field, found) in fields {
        let cell = |kind: &InjectedFaultKind| match (found.get(kind), kind.sizes().len()) {
            (Some(Some(_)), 1) => "detected".to_owned(),
            (Some(Some(size)), _) => size.to_string(),
            (Some(None), _) => "-".to_owned(),
            (None, _) => String::new(),
        };
        table.add_row(
            std::iter::once(field.to_owned()).chain(InjectedFaultKind::ALL.iter().map(cell)),
        );
    }
    table
}

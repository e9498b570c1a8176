//! Which test a bundle that is trained by hand has to pass before it goes live.

use std::ops::ControlFlow;

use super::compare::split;
use super::{learn_with_bar, with_bar};
use crate::cli::table;
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::model::registry::{Registry, RegistryError};
use crate::pipeline::fits;
use crate::promotion::PromotionVerdict;
use crate::retrain::challenge::{Challenge, HELD_OUT_MIN};
use crate::retrain::error::RetrainError;
use crate::retrain::first::learn_from_all;
use crate::retrain::proof::EvaluationInput;
use crate::retrain::set::TrainingRow;

/// Why a verdict was reached.
const REASON: &str = "outlierd train";

/// Trains a bundle, tests it, and makes it live where it passed. Returns whether it is live.
pub(super) fn tested(
    registry: &Registry,
    stream: &StreamSettings,
    rows: &[TrainingRow],
) -> anyhow::Result<bool> {
    let champion = match stream.image {
        Some(_) => {
            println!("not tested: there are no promotion tests for images");
            None
        }
        None => champion(registry, stream)?,
    };
    match champion {
        Some(champion) => challenge(registry, stream, champion, rows),
        None => first(registry, stream, rows).map(|()| true),
    }
}

/// The live bundle, where it can score the stream as it is configured.
fn champion(registry: &Registry, stream: &StreamSettings) -> anyhow::Result<Option<Bundle>> {
    let Some(live) = registry.load_current(&stream.name)? else {
        return Ok(None);
    };
    match fits(stream, &live) {
        Ok(()) => Ok(Some(live)),
        Err(error) => {
            println!("not compared with the live bundle {}: {error}", live.id());
            Ok(None)
        }
    }
}

/// A first bundle, of all records: there is nothing that it could be worse than.
fn first(registry: &Registry, stream: &StreamSettings, rows: &[TrainingRow]) -> anyhow::Result<()> {
    let (bundle, test) = with_bar("training", |on_progress| {
        learn_from_all(stream, rows, on_progress)
    })?;
    save(registry, &bundle)?;
    match test {
        Some(test) if test.is_failed() => {
            println!("{test}: the thresholds are raised until the series keep the budget");
        }
        Some(test) => println!("{test}"),
        None => {}
    }
    promote(
        registry,
        stream,
        bundle.id(),
        "the first one, trained by hand",
    )?;
    Ok(())
}

/// A bundle of the older records against the live one.
fn challenge(
    registry: &Registry,
    stream: &StreamSettings,
    champion: Bundle,
    rows: &[TrainingRow],
) -> anyhow::Result<bool> {
    let (all, learned, held_out) = split(rows);
    if held_out.len() < HELD_OUT_MIN || learned.is_empty() {
        anyhow::bail!(
            "{} records are too few to test a bundle against the live one: {} would be held out, {HELD_OUT_MIN} are needed; --force makes it live without a test",
            rows.len(),
            held_out.len()
        );
    }
    let challenger = learn_with_bar(stream, &learned, "training")?;
    show(registry, &challenger);
    println!(
        "testing it against the live bundle {} on the newest {} records",
        champion.id(),
        held_out.len()
    );
    let challenge = Challenge {
        registry,
        champion,
        learned: &learned,
        input: EvaluationInput {
            stream,
            all: &all,
            held_out: &held_out,
            confirmed: &[],
            reason: REASON,
            at: all.times.iter().copied().max().unwrap_or_default(),
        },
    };
    let verdict = match challenge.run(challenger, &mut || ControlFlow::Continue(())) {
        Err(error @ RetrainError::Unchanged { .. }) => {
            println!("{error}");
            return Ok(true);
        }
        verdict => verdict?,
    };
    println!("{}", results(&verdict));
    let id = &verdict.challenger;
    if verdict.passed {
        promote(
            registry,
            stream,
            id,
            "passed its promotion tests (outlierd train)",
        )?;
    } else {
        println!(
            "not promoted: it failed {}; stream {} scores with {} as before. `outlierd model promote --config FILE {} {id}` makes the new one live all the same",
            verdict.failed().join(", "),
            stream.name,
            verdict.champion,
            stream.name
        );
    }
    Ok(verdict.passed)
}

fn results(verdict: &PromotionVerdict) -> String {
    let mut table = table(["test", "result", ""]);
    for test in &verdict.tests {
        let result = if test.passed { "passed" } else { "failed" };
        table.add_row([test.name.as_str(), result, &test.detail]);
    }
    table.to_string()
}

/// Saves a bundle and shows it.
pub(super) fn save(registry: &Registry, bundle: &Bundle) -> anyhow::Result<()> {
    bundle.save(registry.root())?;
    show(registry, bundle);
    Ok(())
}

fn show(registry: &Registry, bundle: &Bundle) {
    let stream = &bundle.manifest.origin.stream;
    let folder = registry.root().join(stream).join(bundle.id());
    let metrics = &bundle.manifest.origin.metrics;
    println!("bundle {} in {}", bundle.id(), folder.display());
    println!(
        "mean square error per field (scaled): {:.4} on trained rows, {} on held-out rows",
        metrics.train_loss,
        metrics
            .holdout_loss
            .map_or("-".into(), |loss| format!("{loss:.4}"))
    );
}

/// Makes a bundle live.
pub(super) fn promote(
    registry: &Registry,
    stream: &StreamSettings,
    id: &str,
    why: &str,
) -> Result<(), RegistryError> {
    registry.promote(&stream.name, id, why)?;
    println!(
        "promoted: stream {} scores with it from now on ({why}); a running daemon switches within seconds",
        stream.name
    );
    Ok(())
}

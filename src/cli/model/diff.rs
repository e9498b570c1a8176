//! `outlierd model diff`: two bundles side by side, what is equal left out.

use crate::cli::table;
use crate::model::manifest::Manifest;
use crate::model::registry::Registry;
use crate::promotion::PromotionVerdict;

pub(super) fn diff(registry: &Registry, stream: &str, ids: &[String; 2]) -> anyhow::Result<()> {
    let mut table = table(["", ids[0].as_str(), ids[1].as_str()]);
    let [a, b] = ids.each_ref().map(|id| -> anyhow::Result<_> {
        Ok(facts(
            &registry.load(stream, id)?.manifest,
            PromotionVerdict::read(registry, stream, id)?.as_ref(),
        ))
    });
    let a = a?;
    let b = b?;
    let mut names: Vec<&String> = a.iter().map(|(name, _)| name).collect();
    names.extend(
        b.iter()
            .map(|(name, _)| name)
            .filter(|name| !a.iter().any(|(other, _)| other == *name)),
    );
    for name in names {
        let of = |facts: &[(String, String)]| {
            facts
                .iter()
                .find(|(n, _)| n == name)
                .map_or("-".into(), |f| f.1.clone())
        };
        if of(&a) != of(&b) {
            table.add_row([name.clone(), of(&a), of(&b)]);
        }
    }
    println!("{table}");
    Ok(())
}

/// What there is to compare, by name.
fn facts(m: &Manifest, verdict: Option<&PromotionVerdict>) -> Vec<(String, String)> {
    let times = || m.origin.learned_from.iter();
    let fields = m.origin.fields.iter().map(|f| f.name.as_str());
    let mut facts = vec![
        ("created".to_owned(), m.created.to_string()),
        ("software".to_owned(), m.software.clone()),
        ("kind".to_owned(), m.shape.kind.as_str().to_owned()),
        ("window".to_owned(), m.shape.window.to_string()),
        ("hidden".to_owned(), format!("{:?}", m.shape.hidden)),
        ("latent".to_owned(), m.shape.latent.to_string()),
        ("fields".to_owned(), fields.collect::<Vec<_>>().join(", ")),
        (
            "training".to_owned(),
            serde_json::to_string(&m.origin.training).unwrap_or_default(),
        ),
        ("training windows".to_owned(), m.origin.rows.to_string()),
        (
            "training data from".to_owned(),
            times()
                .map(|s| s.from)
                .min()
                .map_or("-".into(), |time| time.to_string()),
        ),
        (
            "training data until".to_owned(),
            times()
                .map(|s| s.until)
                .max()
                .map_or("-".into(), |time| time.to_string()),
        ),
        (
            "error, learned".to_owned(),
            format!("{:.4}", m.origin.metrics.train_loss),
        ),
        (
            "error, held out".to_owned(),
            m.origin
                .metrics
                .holdout_loss
                .map_or("-".into(), |loss| format!("{loss:.4}")),
        ),
    ];
    facts.extend(verdict.into_iter().flat_map(proofs));
    facts
}

/// What a verdict adds.
fn proofs(verdict: &PromotionVerdict) -> Vec<(String, String)> {
    let spaced = |name: &str| name.replace('_', " ");
    let tests = verdict.tests.iter().map(|test| {
        let reached = format!("{:.4}", test.challenger);
        (spaced(test.name.as_str()), reached)
    });
    let smallest = verdict.sensitivity.iter().map(|s| {
        let size = s.smallest.map_or("none".into(), |size| size.to_string());
        let kind = spaced(s.kind.as_str());
        (format!("smallest {kind} of {}", s.field), size)
    });
    tests.chain(smallest).collect()
}

//! The settings of the charts that matter most, tried on the kind of model that was chosen.

use super::{Contender, EvaluationInput, MARGIN, StreamSettings, TrainingSet, contend};

/// A setting of `score`, and how it is set.
type Setting = (&'static str, f64, fn(&mut StreamSettings, f64));

/// What is tried: each alone, a smaller and a larger value of the setting.
const SETTINGS: [Setting; 6] = [
    ("score.ewma_weight", 0.02, |s, x| s.score.ewma_weight = x),
    ("score.ewma_weight", 0.15, |s, x| s.score.ewma_weight = x),
    ("score.clip_sigma", 5.0, |s, x| s.score.clip_sigma = x),
    ("score.clip_sigma", 45.0, |s, x| s.score.clip_sigma = x),
    ("score.shrinkage", 0.003, |s, x| s.score.shrinkage = x),
    ("score.shrinkage", 0.2, |s, x| s.score.shrinkage = x),
];

/// Trains the kind of `chosen` with each of [`SETTINGS`].
pub(super) fn tried(
    stream: &StreamSettings,
    chosen: &Contender,
    learned: &TrainingSet,
    held_out: &TrainingSet,
    case: &EvaluationInput<'_>,
) -> anyhow::Result<Vec<Contender>> {
    let mut found = Vec::with_capacity(SETTINGS.len());
    for (key, value, set) in SETTINGS {
        let mut other = stream.clone();
        set(&mut other, value);
        let contender = contend(&other, chosen.kind, learned, held_out, case)?;
        found.push(Contender {
            name: format!("{key} = {value}"),
            ..contender
        });
    }
    Ok(found)
}

/// The setting that detects more than the chosen kind by the margin, within the alert budget.
pub(super) fn better<'c>(chosen: &Contender, tried: &'c [Contender]) -> Option<&'c Contender> {
    let bar = chosen.measured.caught_part() + MARGIN;
    let more = tried
        .iter()
        .filter(|one| one.measured.keeps_budget() && one.measured.caught_part() > bar);
    more.max_by(|a, b| a.measured.caught.cmp(&b.measured.caught))
}

//! What the order of the scores is worth, whatever the threshold.

/// Area under the ROC curve of `(score, is an anomaly)`: the chance that an anomaly scores higher
/// than a normal record, ties counting half (the statistic of Mann and Whitney, Annals of
/// Mathematical Statistics 18(1), 1947; Hanley and McNeil, Radiology 143(1), 1982). `None` where
/// either kind is missing. Sorts `ranked`.
pub fn roc_auc(ranked: &mut [(f64, bool)]) -> Option<f64> {
    let (positives, negatives) = kinds(ranked)?;
    let mut below = 0.0;
    let mut wins = 0.0;
    for ties in falling(ranked).rev() {
        let own = ties.iter().filter(|(_, anomaly)| *anomaly).count() as f64;
        let normal = ties.len() as f64 - own;
        wins += own * (below + normal / 2.0);
        below += normal;
    }
    Some(wins / (positives * negatives))
}

/// Average precision of `(score, is an anomaly)`: precision at each threshold, weighted by what it
/// adds to the recall, without interpolation. `None` where either kind is missing. Sorts `ranked`.
pub fn average_precision(ranked: &mut [(f64, bool)]) -> Option<f64> {
    let (positives, _) = kinds(ranked)?;
    let mut flagged = 0.0;
    let mut found = 0.0;
    let mut sum = 0.0;
    for ties in falling(ranked) {
        let own = ties.iter().filter(|(_, anomaly)| *anomaly).count() as f64;
        flagged += ties.len() as f64;
        found += own;
        sum += own * found / flagged;
    }
    Some(sum / positives)
}

/// Sorts by falling score and gives the groups of equal ones.
fn falling(ranked: &mut [(f64, bool)]) -> impl DoubleEndedIterator<Item = &[(f64, bool)]> {
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    ranked.chunk_by(|a, b| a.0 == b.0)
}

/// How many anomalies and normal records there are, where there are both.
fn kinds(ranked: &[(f64, bool)]) -> Option<(f64, f64)> {
    let positives = ranked.iter().filter(|(_, anomaly)| *anomaly).count();
    let negatives = ranked.len() - positives;
    (positives > 0 && negatives > 0).then_some((positives as f64, negatives as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rankings_have_their_figures() {
        let of = |scores: &[(f64, bool)]| {
            let mut ranked = scores.to_vec();
            (
                roc_auc(&mut ranked).unwrap(),
                average_precision(&mut ranked).unwrap(),
            )
        };
        assert_eq!(of(&[(0.1, false), (0.9, true)]), (1.0, 1.0));
        assert_eq!(of(&[(0.9, false), (0.1, true)]), (0.0, 0.5));
        assert_eq!(of(&[(0.5, false), (0.5, true)]), (0.5, 0.5));
        // Three of four pairs in the right order; precision 1 at recall 1/2, 2/3 at recall 1.
        let (auc, ap) = of(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]);
        assert!(
            (auc - 0.75).abs() < 1e-12 && (ap - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12,
            "{auc} {ap}"
        );
    }

    #[test]
    fn one_kind_alone_has_no_ranking() {
        assert_eq!(roc_auc(&mut [(0.5, true)]), None);
        assert_eq!(average_precision(&mut [(0.5, false)]), None);
    }
}

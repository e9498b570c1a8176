//! Spikes: readings that jump out of their range and come back.

use outlierd::gate::GateRules;
use outlierd::gate::GateSettings;
use outlierd::record::FaultKind;

use super::{NORMAL, Series, fields, fit, gate, walk};

#[test]
fn a_spike_is_told_when_it_is_over() {
    let mut series = Series::of(Some(NORMAL));
    assert_eq!(series.kinds(&[101.0]), []);
    assert_eq!(series.kinds(&[114.0]), [FaultKind::Jump]);
    assert_eq!(series.kinds(&[113.0]), [FaultKind::Jump], "still out there");
    assert_eq!(series.kinds(&[101.5]), [FaultKind::Spike], "and back");
    assert_eq!(series.kinds(&[101.0]), []);
    assert_eq!(series.kinds(&[87.0]), [FaultKind::Jump], "either way");
}

#[test]
fn what_stays_outside_is_for_the_model_to_judge() {
    let mut series = Series::of(Some(NORMAL));
    let mut readings = vec![100.0];
    readings.extend((0..8).map(|i| 114.0 + 0.1 * f64::from(i)));
    let told: Vec<usize> = readings.iter().map(|&x| series.kinds(&[x]).len()).collect();
    assert_eq!(told, [0, 1, 1, 1, 1, 1, 0, 0, 0], "five records");
}

#[test]
fn only_a_jump_out_of_the_normal_range_is_a_spike() {
    let walks_out = (0..60).map(|i| 100.0 + 0.5 * f64::from(i));
    assert_eq!(
        Series::of(Some(NORMAL)).first_fault(walks_out),
        None,
        "it went there step by step"
    );
    assert_eq!(
        Series::of(Some(NORMAL)).first_fault([97.0, 103.0, 97.0, 103.0]),
        None,
        "a jump within the range"
    );
    assert_eq!(
        Series::of(Some(NORMAL)).first_fault([114.0, 100.0]),
        None,
        "nothing is known of what was before"
    );
    let gate = GateSettings {
        spike: false,
        ..gate()
    };
    let mut off = Series::new(GateRules::new(&gate, &fields(1), Some(&[NORMAL])), 1);
    assert_eq!(off.first_fault([100.0, 114.0]), None, "switched off");
    assert_eq!(
        Series::of(None).first_fault([100.0, 1e9, 100.0]),
        None,
        "without a bundle nothing is normal"
    );
}

#[test]
fn a_signal_with_spikes_of_its_own_has_none_that_count() {
    let quiet: Vec<f64> = walk(3).take(2_000).collect();
    let mut spiky = quiet.clone();
    spiky
        .iter_mut()
        .step_by(400)
        .skip(1)
        .for_each(|x| *x += 20.0);
    let first = |normal: &[f64]| Series::of(Some(fit(normal))).first_fault([100.0, 120.0, 100.0]);
    assert_eq!(first(&quiet), Some((2, FaultKind::Jump)));
    assert_eq!(first(&spiky), None);
}

#[test]
fn a_long_normal_walk_has_no_spikes() {
    for seed in 0..20 {
        let normal = fit(&walk(seed).take(400).collect::<Vec<_>>());
        assert_eq!(
            Series::of(Some(normal)).first_fault(walk(100 + seed).take(50_000)),
            None,
            "seed {seed}"
        );
    }
}

use super::*;

/// It came twice as large.
fn image(width: usize, height: usize, pixel: impl Fn(usize, usize) -> f32) -> Image {
    Image {
        original: [2 * width, 2 * height],
        ..Image::grey(width, height, pixel)
    }
}

fn scaler() -> Scaler {
    Scaler {
        mean: vec![0.5],
        sd: vec![0.1],
    }
}

#[test]
fn errors_are_what_the_formulas_say() {
    let picture = image(9, 5, |x, y| if (x, y) == (4, 2) { 0.8 } else { 0.5 });
    let map = ErrorMap::of(&picture, &[0.0; 45], &scaler(), ErrorMeasure::Squared);
    assert!((map.raw_error() - (9.0f64 / 45.0).sqrt()).abs() < 1e-5);
    let peaks = map.peaks(&[3, 7]);
    assert_eq!(peaks.len(), 3, "boxes of 3 and 7, and the whole image");
    assert!((peaks[0] - (9.0f64 / 9.0).ln()).abs() < 1e-5);
    assert!(
        (peaks[1] - (9.0f64 / 35.0).ln()).abs() < 1e-5,
        "of a box of 7 there are 7 x 5 pixels: {}",
        peaks[1].exp()
    );
    assert!((peaks[2] - (9.0f64 / 45.0).ln()).abs() < 1e-5);
    let peaks = [vec![-1.0, -3.0, -3.0], vec![-2.0, -5.0, -3.0]];
    let normal = normal_peaks(&peaks, ErrorMeasure::Squared).unwrap();
    assert_eq!(normal.sd[2], SD_MIN);
    let expected = (0.0 + 1.5) / 0.5f64.sqrt();
    assert!((score(&normal, &[0.0, -3.0, -3.0]) - expected).abs() < 1e-12);
    assert_eq!(score(&normal, &[-9.0, -9.0, -9.0]), 0.0);
}

#[test]
fn a_left_out_score_is_that_against_the_others() {
    let peaks: Vec<Vec<f64>> = (0..9)
        .map(|i| vec![f64::from(i * i) / 9.0, f64::from(7 * i % 5)])
        .collect();
    let found = left_out_scores(&peaks, ErrorMeasure::Squared);
    for (at, own) in peaks.iter().enumerate() {
        let others: Vec<_> = peaks
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at)
            .map(|(_, p)| p.clone())
            .collect();
        let expected = score(&normal_peaks(&others, ErrorMeasure::Squared).unwrap(), own);
        assert!(
            (found[at] - expected).abs() < 1e-9,
            "{at}: {} {expected}",
            found[at]
        );
    }
    assert_eq!(normal_peaks(&peaks[..1], ErrorMeasure::Squared), None);
}

#[test]
fn ssim_is_0_of_the_same_and_high_of_another_structure() {
    let stripes = image(32, 32, |x, _| if x % 4 < 2 { 0.3 } else { 0.7 });
    let scaled = |shift: usize| -> Vec<f32> {
        image(32, 32, |x, _| if (x + shift) % 4 < 2 { -2.0 } else { 2.0 }).pixels
    };
    let same = ErrorMap::of(&stripes, &scaled(0), &scaler(), ErrorMeasure::Ssim);
    let other = ErrorMap::of(&stripes, &scaled(2), &scaler(), ErrorMeasure::Ssim);
    assert!(same.mean() < 1e-6, "{}", same.mean());
    assert!(other.mean() > 0.9, "{}", other.mean());
}

#[test]
fn regions_are_the_parts_that_stand_out() {
    let picture = image(40, 30, |_, _| 0.5);
    let mut deviations = vec![0.1f32; 1200];
    for (left, top, side, height) in [(5, 5, 4, 8.0), (30, 20, 2, 6.0)] {
        (0..side * side).for_each(|i| deviations[(top + i / side) * 40 + left + i % side] = height);
    }
    deviations[29 * 40 + 39] = 3.0;
    let found = regions(&deviations, &picture);
    assert_eq!(found.len(), 2, "{found:?}");
    // The image came twice as large.
    assert_eq!(
        (found[0].x, found[0].y, found[0].width, found[0].height),
        (10, 10, 8, 8)
    );
    assert_eq!(
        (found[1].x, found[1].y, found[1].width, found[1].height),
        (60, 40, 4, 4)
    );
    assert!((found[0].share - 128.0 / 152.0).abs() < 1e-6);
    assert_eq!(regions(&[0.0; 1200], &picture), []);
}

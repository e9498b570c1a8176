use super::*;

fn noise(x: usize, y: usize) -> f32 {
    0.3 + 0.4 * ((x * 7919 + y * 104_729 + x * y * 1_299_709) % 1009) as f32 / 1009.0
}

#[test]
fn cells_cover_the_image_and_nothing_else() {
    let bank = Encoder::new(None).unwrap();
    let own = bank.features(&Image::grey(100, 70, noise), [0, 0]).unwrap();
    assert_eq!(
        (own.cells, own.channels, own.cell),
        ([7, 5], 52, [16.0, 16.0])
    );
    assert_eq!(own.values.len(), 7 * 5 * 52);
    let resized = bank
        .features(&Image::grey(100, 70, noise), [256, 256])
        .unwrap();
    assert_eq!(resized.cells, [16, 16]);
    assert_eq!(resized.cell, [6.25, 4.375]);
}

#[test]
fn half_the_light_takes_at_most_the_logarithm_of_2_off_all_energies() {
    let bank = Encoder::new(None).unwrap();
    let bright = bank.features(&Image::grey(64, 64, noise), [0, 0]).unwrap();
    let dark = Image::grey(64, 64, |x, y| 0.5 * noise(x, y));
    let dark = bank.features(&dark, [0, 0]).unwrap();
    let cells = 16;
    for (channel, (a, b)) in bright
        .values
        .chunks(cells)
        .zip(dark.values.chunks(cells))
        .enumerate()
        .skip(4)
    {
        let moved = a[5] - b[5];
        // The floor lets weak energies move by less.
        assert!((0.2..=0.694).contains(&moved), "channel {channel}: {moved}");
    }
}

#[test]
fn an_orientation_answers_to_its_own_lines() {
    let bank = Encoder::new(None).unwrap();
    // A wave of 4 pixels along x is the first orientation of the first octave.
    let lines = Image::grey(64, 64, |x, _| if x % 4 < 2 { 0.3 } else { 0.7 });
    let found = bank.features(&lines, [0, 0]).unwrap();
    let mean_energy = |orientation: usize| found.values[(4 + orientation) * 16 + 5];
    assert!(mean_energy(0) > mean_energy(1) + 0.7);
    assert!(mean_energy(0) > mean_energy(2) + 1.5);
}

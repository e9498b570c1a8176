use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn values(rng: &mut ChaCha8Rng, count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|_| rng.random_range(-scale..scale))
        .collect()
}

fn affine(rng: &mut ChaCha8Rng, inputs: usize, outputs: usize) -> Layer {
    let weight = values(rng, inputs * outputs, 0.7);
    Layer::Affine(Affine::new(weight, values(rng, outputs, 0.5), inputs))
}

/// Affine maps, a convolution, memory, and codes that are drawn, of odd sizes.
fn programs(rng: &mut ChaCha8Rng) -> Vec<Program> {
    let convolution = |rng: &mut ChaCha8Rng, channels, outputs, stride| Layer::Convolution {
        map: Affine::new(
            values(rng, 3 * channels * outputs, 0.5),
            values(rng, outputs, 0.5),
            3 * channels,
        ),
        channels,
        stride,
    };
    let lstm = |rng: &mut ChaCha8Rng, inputs, width, last| Layer::Lstm {
        gates: Affine::new(
            values(rng, 4 * width * (inputs + width), 0.5),
            values(rng, 4 * width, 0.5),
            inputs + width,
        ),
        width,
        last,
    };
    vec![
        Program {
            inputs: 10,
            encoder: vec![
                Layer::Subtract(values(rng, 10, 1.0)),
                affine(rng, 10, 7),
                Layer::Tanh,
                affine(rng, 7, 6),
            ],
            draws: Some(Draws {
                latent: 3,
                values: values(rng, 15, 2.0),
            }),
            decoder: vec![affine(rng, 3, 9), Layer::Tanh],
            output: vec![affine(rng, 9, 10)],
        },
        Program {
            inputs: 10,
            encoder: vec![convolution(rng, 2, 5, 2), Layer::Tanh, affine(rng, 15, 3)],
            decoder: vec![affine(rng, 3, 15), Layer::Tanh],
            output: vec![
                Layer::Stretch {
                    channels: 5,
                    length: 5,
                },
                convolution(rng, 5, 2, 1),
            ],
            draws: None,
        },
        Program {
            inputs: 10,
            encoder: vec![
                lstm(rng, 2, 6, false),
                lstm(rng, 6, 3, true),
                affine(rng, 3, 2),
            ],
            decoder: vec![Layer::Repeat(5), lstm(rng, 2, 5, false)],
            output: vec![affine(rng, 5, 2)],
            draws: None,
        },
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Where a machine has only one instruction set, the comparison between them compares one with
/// itself; that between batches stays.
#[test]
fn results_have_the_same_bits_on_every_instruction_set_and_in_every_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (number, program) in programs(&mut rng).into_iter().enumerate() {
        let rows = values(&mut rng, 10 * 103, 3.0);
        let whole = bits(&program.on(Arch::Scalar, &rows, true, 10));
        assert_eq!(whole.len(), rows.len());
        assert!(whole.iter().any(|&bits| bits != whole[0]), "{number}");
        assert_eq!(bits(&program.reconstruct(&rows)), whole, "{number}");
        for batch in [1, 7, 15, 16, 17, 100] {
            let parts = rows.chunks(10 * batch);
            let parts: Vec<f32> = parts.flat_map(|part| program.reconstruct(part)).collect();
            assert_eq!(bits(&parts), whole, "{number}, batches of {batch}");
        }
    }
}

#[test]
fn a_sum_begins_with_the_bias_and_adds_the_products_in_their_order() {
    // In any other order, or with fused products, other bits come out.
    let inputs = [1.0e8f32, 1.0, -1.0e8, 0.1];
    let weight = [1.000_000_1f32, 0.3, 1.0, 0.7];
    let map = Affine::new(weight.repeat(5), vec![0.5; 5], 4);
    let program = Program {
        inputs: 4,
        output: vec![Layer::Affine(map)],
        ..Program::default()
    };
    let mut sum = 0.5f32;
    for (x, w) in inputs.iter().zip(weight) {
        let product = w * x;
        sum += product;
    }
    let found = program.on(Arch::new(), &inputs, true, 5);
    assert_eq!(bits(&found), vec![sum.to_bits(); 5]);
}

#[test]
fn tanh_is_as_exact_as_its_documentation_says() {
    for step in -2_000_000..=2_000_000 {
        let x = step as f32 * 5e-6;
        let found = f64::from(tanh(x));
        let exact = f64::from(x).tanh();
        assert!(
            (found - exact).abs() <= 4e-7 * exact.abs(),
            "tanh({x}) = {found}, not {exact}"
        );
    }
    assert_eq!(tanh(f32::INFINITY), tanh(9.01));
    assert_eq!(tanh(-1e30), -tanh(9.01));
    assert!(tanh(f32::NAN).is_nan());
}

#[test]
fn values_that_are_not_finite_stay_in_their_row() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for program in programs(&mut rng) {
        let mut rows = values(&mut rng, 10 * 20, 3.0);
        let plain = program.reconstruct(&rows);
        rows[35] = f32::NAN;
        rows[78] = f32::INFINITY;
        let found = program.reconstruct(&rows);
        for row in (0..20).filter(|row| ![3, 7].contains(row)) {
            let row = row * 10..(row + 1) * 10;
            assert_eq!(bits(&found[row.clone()]), bits(&plain[row]));
        }
    }
}

#[test]
fn no_rows_give_no_rows() {
    for program in programs(&mut ChaCha8Rng::seed_from_u64(3)) {
        assert!(program.reconstruct(&[]).is_empty());
    }
}

//! Training and running the autoencoders, seen from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

use std::ops::ControlFlow;
use std::thread;

use outlierd::model::shape::ModelShape;
use outlierd::model::train::{Epoch, TrainError, Trained, TrainingWindows, fit};
use outlierd::model::weights;
use outlierd::model::{Autoencoder, ModelError, from_weights, use_one_thread};
use outlierd::model::{ModelKind, TrainingSettings};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

const FIELDS: usize = 8;

fn settings() -> TrainingSettings {
    TrainingSettings {
        effective_records: 5,
        records_max: 40_000,
        span_max: std::time::Duration::from_secs(86_400),
        records: 0,
        seed: 7,
        epochs: 40,
        batch: 32,
        learning_rate: 3e-3,
        weight_decay: 1e-2,
        noise: 0.1,
        patience: 40,
        trim: 0.0,
        tiles: 256,
        masks: 0,
        folds: 4,
    }
}

fn dense(window: usize) -> ModelShape {
    ModelShape::new(ModelKind::Dense, window, FIELDS, &[16], 2)
}

fn linear(latent: usize) -> ModelShape {
    ModelShape::new(ModelKind::Linear, 1, FIELDS, &[], latent)
}

/// Rows on a closed, bent curve in 8 dimensions with a little noise; each field has mean 0 and sd
/// about 1.
fn curve(rows: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(rows * FIELDS);
    for _ in 0..rows {
        let t: f32 = rng.random_range(0.0..std::f32::consts::TAU);
        for field in 0..FIELDS {
            let noise: f32 = StandardNormal.sample(&mut rng);
            let harmonic = (1 + field % 2) as f32;
            values.push(
                std::f32::consts::SQRT_2 * (harmonic * t + field as f32).sin() + 0.05 * noise,
            );
        }
    }
    values
}

/// Where the rows of `inputs` values begin; the last fifth is held out.
fn split(rows: &[f32], inputs: usize) -> (Vec<usize>, Vec<usize>) {
    let mut train: Vec<usize> = (0..rows.len() / inputs).map(|row| row * inputs).collect();
    let held_out = train.split_off(train.len() - train.len() / 5);
    (train, held_out)
}

/// Where each row of one record begins, the last one whole or not.
fn starts(rows: &[f32]) -> Vec<usize> {
    (0..rows.len()).step_by(FIELDS).collect()
}

fn train(rows: &[f32], shape: &ModelShape, settings: &TrainingSettings) -> Trained {
    let (train, held_out) = split(rows, shape.inputs());
    let rows = TrainingWindows {
        values: rows,
        train: &train,
        held_out: &held_out,
    };
    fit(rows, shape, None, settings, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

fn mean_square_error(model: &dyn Autoencoder, rows: &[f32]) -> f64 {
    let found = model.reconstruct(rows).unwrap();
    let squares = found
        .iter()
        .zip(rows)
        .map(|(y, x)| f64::from(y - x).powi(2));
    squares.sum::<f64>() / rows.len() as f64
}

fn bytes(model: &dyn Autoencoder) -> Vec<u8> {
    weights::encode(&model.weights()).unwrap()
}

#[test]
fn dense_learns_a_curve_better_than_the_mean_and_than_two_components() {
    let (rows, fresh) = (curve(2000, 1), curve(500, 2));
    let dense = train(&rows, &dense(1), &settings());
    let error = mean_square_error(dense.model.as_ref(), &fresh);
    let of_mean = mean_square_error(train(&rows, &linear(0), &settings()).model.as_ref(), &fresh);
    let of_two = mean_square_error(train(&rows, &linear(2), &settings()).model.as_ref(), &fresh);
    assert!(error < 0.2 * of_mean, "dense {error}, mean {of_mean}");
    assert!(
        error < 0.5 * of_two,
        "dense {error}, two components {of_two}"
    );
    let reported = dense.holdout_loss.unwrap();
    assert!(
        (0.5..2.0).contains(&(error / reported)),
        "on new rows {error}, reported {reported}"
    );
}

#[test]
fn same_rows_settings_and_seed_give_the_same_bytes_beside_other_trainings() {
    let rows = curve(300, 3);
    let settings = TrainingSettings {
        epochs: 5,
        trim: 0.05,
        ..settings()
    };
    let other = TrainingSettings {
        seed: 8,
        ..settings.clone()
    };
    for shape in [dense(1), dense(3), linear(3)] {
        let alone = bytes(train(&rows, &shape, &settings).model.as_ref());
        let together: Vec<Vec<u8>> = thread::scope(|scope| {
            let workers: Vec<_> = [&settings, &other, &settings]
                .map(|settings| {
                    scope.spawn(|| bytes(train(&rows, &shape, settings).model.as_ref()))
                })
                .into_iter()
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        assert_eq!(together[0], alone, "{shape:?}");
        assert_eq!(together[2], alone, "{shape:?}");
        assert_eq!(
            together[1] == alone,
            shape.kind == ModelKind::Linear,
            "only a network depends on the seed"
        );
    }
}

#[test]
fn a_row_is_reconstructed_the_same_in_any_batch() {
    use_one_thread();
    let wide = ModelShape::new(ModelKind::Dense, 25, FIELDS, &[64, 20], 3);
    let windowed = |kind| ModelShape::new(kind, 9, FIELDS, &[6, 5], 3);
    let shapes = [
        dense(1),
        wide,
        linear(3),
        linear(0),
        windowed(ModelKind::Conv),
        windowed(ModelKind::Lstm),
        windowed(ModelKind::Vae),
        windowed(ModelKind::ConvVae),
    ];
    for shape in shapes {
        let rows = curve(150 * shape.window, 4);
        let model = train(
            &rows,
            &shape,
            &TrainingSettings {
                epochs: 1,
                ..settings()
            },
        )
        .model;
        let (inputs, latent) = (shape.inputs(), shape.latent);
        let (whole, codes) = (
            model.reconstruct(&rows).unwrap(),
            model.encode(&rows).unwrap(),
        );
        for size in (1..=40).chain([63, 64, 65, 100, 149]) {
            for start in [0, 1] {
                let part = &rows[start * inputs..(start + size) * inputs];
                assert_eq!(
                    model.reconstruct(part).unwrap(),
                    whole[start * inputs..(start + size) * inputs],
                    "{shape:?} {start} {size}"
                );
                assert_eq!(
                    model.encode(part).unwrap(),
                    codes[start * latent..(start + size) * latent],
                    "{shape:?} {start} {size}"
                );
            }
        }
        assert!(model.reconstruct(&[]).unwrap().is_empty());
    }
}

#[test]
fn five_percent_of_contamination_hardly_harms_a_trimmed_training() {
    let clean = curve(2000, 5);
    let mut dirty = clean.clone();
    // Anomalies that are alike and therefore can be learned: every field stuck at 6 standard
    // deviations.
    for row in dirty.chunks_exact_mut(FIELDS).step_by(20) {
        row.fill(6.0);
    }
    let fresh = curve(500, 6);
    let anomaly = vec![6.0f32; FIELDS];
    for (shape, ratio_max) in [(dense(1), 1.5), (linear(4), 1.1)] {
        let trimmed = TrainingSettings {
            trim: 0.1,
            ..settings()
        };
        let reference = mean_square_error(train(&clean, &shape, &trimmed).model.as_ref(), &fresh);
        let robust = train(&dirty, &shape, &trimmed).model;
        let fragile = train(&dirty, &shape, &settings()).model;
        let error = mean_square_error(robust.as_ref(), &fresh);
        assert!(
            error < ratio_max * reference,
            "{shape:?}: {error} after contamination, {reference} without"
        );
        let (seen, missed) = (
            mean_square_error(robust.as_ref(), &anomaly),
            mean_square_error(fragile.as_ref(), &anomaly),
        );
        assert!(
            seen > 10.0 * missed,
            "{shape:?}: the anomaly's error is {seen} trimmed, {missed} untrimmed"
        );
    }
}

#[test]
fn training_stops_early_and_keeps_the_best_epoch() {
    let rows = curve(400, 9);
    let settings = TrainingSettings {
        epochs: 200,
        patience: 3,
        learning_rate: 2e-2,
        ..settings()
    };
    let mut losses = Vec::new();
    let (train, held_out) = split(&rows, FIELDS);
    let all = TrainingWindows {
        values: &rows,
        train: &train,
        held_out: &held_out,
    };
    let trained = fit(all, &dense(1), None, &settings, &mut |epoch: &Epoch| {
        losses.push(epoch.holdout_loss.unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(trained.epochs < 200, "ran to the end");
    assert_eq!(trained.epochs, losses.len());
    assert_eq!(trained.epochs, trained.best_epoch + 3);
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(trained.holdout_loss, Some(least));
    assert_eq!(losses[trained.best_epoch - 1], least);
    // The kept weights are those of that epoch.
    assert!(
        (mean_square_error(trained.model.as_ref(), &rows[held_out[0]..]) - least).abs()
            < 1e-6 * least
    );
}

#[test]
fn without_held_out_rows_every_epoch_is_run() {
    let (rows, settings) = (
        curve(100, 1),
        TrainingSettings {
            epochs: 6,
            patience: 1,
            ..settings()
        },
    );
    let starts = starts(&rows);
    let rows = TrainingWindows {
        values: &rows,
        train: &starts,
        held_out: &[],
    };
    let trained = fit(rows, &dense(1), None, &settings, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(
        (trained.epochs, trained.best_epoch, trained.holdout_loss),
        (6, 6, None)
    );
}

#[test]
fn a_break_cancels() {
    let mut seen = 0;
    let rows = curve(100, 1);
    let starts = starts(&rows);
    let rows = TrainingWindows {
        values: &rows,
        train: &starts,
        held_out: &[],
    };
    let result = fit(rows, &dense(1), None, &settings(), &mut |epoch| {
        seen = epoch.number;
        if epoch.number == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(
        result.err(),
        Some(TrainError::Cancelled { epoch: 3 })
    ));
    assert_eq!(seen, 3);
}

#[test]
fn rows_and_settings_that_cannot_be_trained_say_why() {
    let refuse = |rows: &[f32], settings: &TrainingSettings| {
        let starts = starts(rows);
        let rows = TrainingWindows {
            values: rows,
            train: &starts,
            held_out: &[],
        };
        fit(rows, &dense(1), None, settings, &mut |_| {
            ControlFlow::Continue(())
        })
        .err()
        .expect("accepted")
    };
    assert!(matches!(
        refuse(&[], &settings()),
        TrainError::TooFewRows { rows: 0 }
    ));
    assert!(matches!(
        refuse(&[0.0; 15 * FIELDS], &settings()),
        TrainError::TooFewRows { rows: 15 }
    ));
    assert!(matches!(
        refuse(&[0.0; 20 * FIELDS + 1], &settings()),
        TrainError::Model(ModelError::Rows {
            values: 1,
            inputs: 8
        })
    ));
    let mut rows = curve(100, 1);
    rows[5 * FIELDS + 3] = f32::NAN;
    assert!(matches!(
        refuse(&rows, &settings()),
        TrainError::NotFinite { row: 5 }
    ));
    let error = refuse(
        &curve(100, 1),
        &TrainingSettings {
            learning_rate: 1e30,
            ..settings()
        },
    );
    assert!(matches!(error, TrainError::Diverged { .. }));
    assert!(
        error.to_string().contains("lower training.learning_rate"),
        "{error}"
    );
    // A single step, after which no loss is taken.
    let one_step = TrainingSettings {
        epochs: 1,
        batch: 1000,
        learning_rate: 1e30,
        ..settings()
    };
    assert!(matches!(
        refuse(&curve(100, 1), &one_step),
        TrainError::Diverged { epoch: 1, .. }
    ));
}

#[test]
fn values_that_are_not_whole_rows_are_refused() {
    for shape in [linear(2), dense(1)] {
        let model = train(&curve(100, 1), &shape, &settings()).model;
        for values in [7, 9, 21] {
            let values = vec![0.0; values];
            let refused = |result| matches!(result, Err(ModelError::Rows { inputs: 8, .. }));
            assert!(refused(model.reconstruct(&values)));
            assert!(refused(model.encode(&values)));
        }
    }
}

#[test]
fn weights_that_do_not_fit_the_shape_are_named() {
    let model = train(
        &curve(100, 1),
        &dense(1),
        &TrainingSettings {
            epochs: 1,
            ..settings()
        },
    )
    .model;
    let fresh = || weights::decode(&bytes(model.as_ref())).unwrap();
    assert!(from_weights(&dense(1), fresh()).is_ok());

    let refuse = |weights| {
        from_weights(&dense(1), weights)
            .err()
            .map(|error| error.to_string())
            .unwrap()
    };
    let mut missing = fresh();
    missing.remove("decoder.1.bias");
    assert_eq!(refuse(missing), "weight decoder.1.bias is missing");
    let mut unknown = fresh();
    unknown.insert("extra".to_owned(), Tensor::from_slice(&[1.0f32]));
    assert_eq!(
        refuse(unknown),
        "weight extra does not belong to a dense model"
    );
    let mut infinite = fresh();
    infinite.insert(
        "encoder.1.bias".to_owned(),
        Tensor::from_slice(&[0.0, f32::INFINITY]),
    );
    assert_eq!(
        refuse(infinite),
        "weight encoder.1.bias has a number that is not finite"
    );
    let mut short = fresh();
    short.insert("encoder.1.bias".to_owned(), Tensor::from_slice(&[0.0f32]));
    assert_eq!(
        refuse(short),
        "weight encoder.1.bias has size [1], but the shape needs [2]"
    );
}

//! The numbers of `tests/golden`, which PyTorch computed, and what a seed fixes.

use rand::SeedableRng;

use super::*;
use crate::model::ModelKind;
use crate::model::weights;

/// As in `tests/golden/networks.py`.
fn shape(kind: ModelKind) -> ModelShape {
    let mut shape = match kind {
        ModelKind::Conv2d => tiles(kind, 3, &[4, 6]),
        ModelKind::Unet => tiles(kind, 1, &[4, 5, 6]),
        ModelKind::Vae2d => tiles(kind, 1, &[4, 6]),
        _ => ModelShape::new(kind, 7, 3, &[6, 4], 2),
    };
    shape.kernel = shape.kernel.min(3);
    shape.samples = shape.samples.min(4);
    shape
}

fn tiles(kind: ModelKind, channels: usize, hidden: &[usize]) -> ModelShape {
    let tile = 10;
    ModelShape {
        tile,
        ..ModelShape::new(kind, 1, tile * tile * channels, hidden, 2)
    }
}

/// Takes the entries whose names begin with `prefix`, without it.
fn take(golden: &mut NamedTensors, prefix: &str) -> NamedTensors {
    let rest = golden.split_off(prefix);
    let (own, others): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .partition(|(name, _)| name.starts_with(prefix));
    golden.extend(others);
    own.into_iter()
        .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
        .collect()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Codes and reconstructions by libtorch, as training computes them, and by the model that scores.
fn gives_the_golden_results(network: Network, x: &Tensor, golden: &NamedTensors) -> Network {
    let kind = network.shape.kind;
    let close = |found: &Tensor, name: &str, by: &str| {
        assert!(
            largest_difference(found, &golden[name]) < 2e-6,
            "{kind:?} {name} by {by}"
        );
    };
    let model = network
        .map_weights(|weight| Ok(weight.shallow_clone()))
        .unwrap()
        .into_model()
        .unwrap();
    let rows = Vec::<f32>::try_from(x.view(-1)).unwrap();
    let as_tensor =
        |values: Vec<f32>, like: &str| Tensor::from_slice(&values).view_as(&golden[like]);
    if kind.has_code() {
        close(&network.code(x).unwrap(), "code", "libtorch");
        close(
            &as_tensor(model.encode(&rows).unwrap(), "code"),
            "code",
            "the model",
        );
    }
    close(&network.forward(x).unwrap(), "y", "libtorch");
    close(
        &as_tensor(model.reconstruct(&rows).unwrap(), "y"),
        "y",
        "the model",
    );
    network
}

fn gives_the_golden_numbers(kind: ModelKind, file: &[u8]) {
    let mut golden = weights::decode(file).unwrap();
    let mut own = take(&mut golden, "weights.");
    let gradients = take(&mut golden, "gradients.");
    let network = Network::from_weights(&shape(kind), &mut own).unwrap();
    assert!(own.is_empty(), "{:?}", own.keys());
    let x = &golden["x"];
    let network = gives_the_golden_results(network, x, &golden)
        .map_weights(|weight| Ok(weight.set_requires_grad(true)))
        .unwrap();
    let normal = |n: usize| {
        let drawn = Vec::<f32>::try_from(golden["normal"].view(-1)).unwrap();
        assert_eq!(drawn.len(), n);
        drawn
    };
    let losses = network.row_losses(x, x, normal).unwrap();
    assert!(
        largest_difference(&losses, &golden["losses"]) < 2e-6,
        "{kind:?} losses"
    );
    losses.mean(Kind::Float).backward();
    let mut compared = 0;
    for (name, weight) in network
        .named_weights()
        .into_iter()
        .filter(|(name, _)| name != DRAWS)
    {
        assert!(
            largest_difference(&weight.grad(), &gradients[&name]) < 2e-6,
            "{kind:?} gradient of {name}"
        );
        compared += 1;
    }
    assert_eq!(compared, gradients.len());
}

#[test]
fn every_kind_gives_the_golden_numbers() {
    gives_the_golden_numbers(
        ModelKind::Dense,
        include_bytes!("../../../tests/golden/dense.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Conv,
        include_bytes!("../../../tests/golden/conv.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Lstm,
        include_bytes!("../../../tests/golden/lstm.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Vae,
        include_bytes!("../../../tests/golden/vae.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::ConvVae,
        include_bytes!("../../../tests/golden/conv_vae.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Conv2d,
        include_bytes!("../../../tests/golden/conv2d.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Unet,
        include_bytes!("../../../tests/golden/unet.safetensors"),
    );
    gives_the_golden_numbers(
        ModelKind::Vae2d,
        include_bytes!("../../../tests/golden/vae2d.safetensors"),
    );
}

#[test]
fn a_network_survives_its_weights_bit_for_bit() {
    let of_windows = [
        ModelKind::Dense,
        ModelKind::Conv,
        ModelKind::Lstm,
        ModelKind::Vae,
        ModelKind::ConvVae,
    ];
    let of_tiles = [ModelKind::Conv2d, ModelKind::Unet, ModelKind::Vae2d];
    for kind in of_windows.into_iter().chain(of_tiles) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let shape = shape(kind);
        let model = Network::initialised(&shape, &mut rng)
            .and_then(Network::into_model)
            .unwrap();
        let bytes = weights::encode(&model.weights()).unwrap();
        let again = crate::model::from_weights(&shape, weights::decode(&bytes).unwrap()).unwrap();
        let x: Vec<f32> = (0..20 * shape.inputs())
            .map(|i| (i as f32 * 0.37).sin())
            .collect();
        assert_eq!(
            model.reconstruct(&x).unwrap(),
            again.reconstruct(&x).unwrap(),
            "{kind:?}"
        );
    }
}

#[test]
fn initial_weights_follow_the_seed_and_stay_in_their_bounds() {
    let shape = ModelShape::new(ModelKind::Dense, 2, 8, &[16], 2);
    let weights = |seed| {
        Network::initialised(&shape, &mut ChaCha8Rng::seed_from_u64(seed))
            .unwrap()
            .named_weights()
    };
    let a = weights(1);
    let b = weights(1);
    let c = weights(2);
    assert!(a.iter().zip(&b).all(|(a, b)| a == b));
    assert_ne!(a[0].1, c[0].1);
    let largest = a[0].1.abs().max().double_value(&[]);
    let bound = (6.0f64 / 32.0).sqrt();
    assert!(
        largest <= bound && largest > 0.9 * bound,
        "{largest} of {bound}"
    );
}

#[test]
fn draws_come_in_pairs_of_opposite_sign() {
    let shape = ModelShape {
        samples: 5,
        ..ModelShape::new(ModelKind::Vae, 1, 8, &[16], 3)
    };
    let draws = draws(&shape, &mut ChaCha8Rng::seed_from_u64(5)).unwrap();
    let drawn = Vec::<f32>::try_from(draws.view(-1)).unwrap();
    let pair = |at: usize| {
        drawn[at..at + 6]
            .iter()
            .take(3)
            .zip(&drawn[at + 3..at + 6])
            .all(|(a, b)| a == &-b)
    };
    assert_eq!(drawn.len(), 15);
    assert!(pair(0) && pair(6));
    assert_ne!(drawn[0], drawn[6]);
}

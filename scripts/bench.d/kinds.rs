//! `bench-kinds`: windows a second that one kind of network reconstructs, or images a second of
//! which a kind over tiles or over the filter bank's features finds error map and peaks, on two
//! threads as two lanes do.
//!
//! usage: bench-kinds KIND SECONDS; prints one number. The sizes are those of `kinds_peer.py`,
//! which runs the same network in PyTorch.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;
use outlierd::model::encoder::Encoder;
use outlierd::model::network::Network;
use outlierd::model::scaler::Scaler;
use outlierd::model::shape::{FeatureShape, ModelShape};
use outlierd::model::{Autoencoder, ModelKind, ModelSettings, from_weights, use_one_thread};
use outlierd::record::Image;
use outlierd::record::format::ErrorMeasure;
use outlierd::score::cells;
use outlierd::score::error_map::boxes;
use outlierd::score::inspect::error_maps;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// As outlierd has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WINDOW: usize = 16;
const FIELDS: usize = 8;
const HIDDEN: [usize; 1] = [32];
const LATENT: usize = 8;
const BATCH: usize = 1_024;

/// Side of a picture, of its tiles, and by how much they overlap; the model is that of
/// `[image_defaults]`.
const PICTURE: usize = 512;
const TILE: usize = 64;
const OVERLAP: usize = 16;
const CHANNELS: [usize; 4] = [8, 16, 32, 32];
const TILE_LATENT: usize = 64;
const KERNEL: usize = 3;
const SAMPLES: usize = 8;
/// Features of a cell by the filter bank.
const FEATURES: usize = 52;

const LANES: usize = 2;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, seconds] = arguments.as_slice() else {
        bail!("usage: bench-kinds KIND SECONDS")
    };
    let kind: ModelKind = serde_json::from_value(kind.as_str().into()).context("KIND")?;
    let length = Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
    use_one_thread();
    let start = Barrier::new(LANES);
    let rates = thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| scope.spawn(|| lane(kind, length, &start)))
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked")))
            .collect()
    })?;
    println!("{:.2}", rates.iter().sum::<f64>());
    Ok(())
}

/// What is done over and over.
type Work = Box<dyn Fn() -> anyhow::Result<()>>;

fn lane(kind: ModelKind, length: Duration, start: &Barrier) -> anyhow::Result<f64> {
    let (work, of) = if !kind.takes_readings() {
        (image(kind)?, 1)
    } else {
        (windows(kind)?, BATCH)
    };
    for _ in 0..3 {
        work()?;
    }
    start.wait();
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < length {
        work()?;
        done += of;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// Reconstructs a batch of windows.
fn windows(kind: ModelKind) -> anyhow::Result<Work> {
    let shape = ModelShape::new(kind, WINDOW, FIELDS, &HIDDEN, LATENT);
    let model = Network::initialised(&shape, &mut ChaCha8Rng::seed_from_u64(1))?.into_model()?;
    let values: Vec<f32> = (0..BATCH * shape.inputs())
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    Ok(Box::new(move || {
        drop(black_box(model.reconstruct(&values)?));
        Ok(())
    }))
}

/// Takes a decoded image to the peaks of its error map.
fn image(kind: ModelKind) -> anyhow::Result<Work> {
    let (hidden, latent, context, time_zone) =
        (CHANNELS.to_vec(), TILE_LATENT, Vec::new(), TimeZone::UTC);
    let sizes = ModelSettings {
        kind,
        linear_unless_better: false,
        hidden,
        latent,
        kernel: KERNEL,
        samples: SAMPLES,
        context,
        time_zone,
        holidays: Vec::new(),
        script: None,
        sha256: String::new(),
        input: 256,
        backbone: None,
        backbone_sha256: String::new(),
    };
    let model = match kind.is_of_features() {
        true => of_features(&sizes)?,
        false => Network::initialised(
            &ModelShape::of_tiles(&sizes, TILE, 1),
            &mut ChaCha8Rng::seed_from_u64(1),
        )?
        .into_model()?,
    };
    let channels = model.shape().channels();
    let scaler = Scaler {
        mean: vec![0.5; channels],
        sd: vec![0.25; channels],
    };
    let pixels = (0..PICTURE * PICTURE)
        .map(|i| 0.5 + 0.5 * (i as f32 * 0.37).sin())
        .collect();
    let image = Image {
        width: PICTURE,
        height: PICTURE,
        channels: 1,
        pixels,
        original: [PICTURE; 2],
        file: Arc::from([]),
    };
    let boxes = boxes(model.shape());
    let encoder = Encoder::of(model.shape())?;
    Ok(Box::new(move || {
        match &encoder {
            Some(encoder) => {
                for errors in cells::error_maps(encoder, &*model, &scaler, &[&image])? {
                    black_box(errors.map.peaks(&boxes));
                }
            }
            None => {
                let squared = ErrorMeasure::Squared;
                for map in error_maps(&*model, &scaler, squared, OVERLAP, &[&image])? {
                    black_box(map.peaks(&boxes));
                }
            }
        }
        Ok(())
    }))
}

/// A model of the features of the filter bank.
fn of_features(sizes: &ModelSettings) -> anyhow::Result<Box<dyn Autoencoder>> {
    let side = sizes.input / 16;
    let cells = if sizes.kind.has_code() { side } else { 1 };
    let features = FeatureShape {
        input: [sizes.input; 2],
        colours: 1,
        backbone: None,
        channels: FEATURES,
        cells: [cells; 2],
    };
    let shape = ModelShape::of_features(sizes, features);
    let (inputs, features) = (shape.inputs() as i64, FEATURES as i64);
    let other = match sizes.kind {
        ModelKind::Frame => ("components", [shape.latent as i64, inputs]),
        _ => ("whitening", [features, features]),
    };
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let weights = [("mean", zeros(&[inputs])), (other.0, zeros(&other.1))];
    let weights = weights.map(|(name, tensor)| (name.to_owned(), tensor));
    Ok(from_weights(&shape, weights.into_iter().collect())?)
}

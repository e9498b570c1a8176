//! `bench-kinds`: windows a second that one kind of network reconstructs, on two threads as two lanes do.
//!
//! usage: bench-kinds KIND SECONDS; prints one number. The sizes are those of `kinds_peer.py`, which runs the same module in
//! PyTorch.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use outlierd::config::settings::ModelKind;
use outlierd::model::network::Network;
use outlierd::model::shape::ModelShape;
use outlierd::model::{Autoencoder as _, rows_tensor, use_one_thread};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// As outlierd has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WINDOW: usize = 16;
const FIELDS: usize = 8;
const HIDDEN: [usize; 1] = [32];
const LATENT: usize = 8;
const BATCH: usize = 1_024;
const LANES: usize = 2;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, seconds] = arguments.as_slice() else { bail!("usage: bench-kinds KIND SECONDS") };
    let kind: ModelKind = serde_json::from_value(kind.as_str().into()).context("KIND")?;
    let length = Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
    use_one_thread();
    let start = Barrier::new(LANES);
    let rates = thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(kind, length, &start))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked"))).collect()
    })?;
    println!("{:.0}", rates.iter().sum::<f64>());
    Ok(())
}

fn lane(kind: ModelKind, length: Duration, start: &Barrier) -> anyhow::Result<f64> {
    let shape = ModelShape::new(kind, WINDOW, FIELDS, &HIDDEN, LATENT);
    let model = Network::initialised(&shape, &mut ChaCha8Rng::seed_from_u64(1))?;
    let values: Vec<f32> = (0..BATCH * shape.inputs()).map(|i| (i as f32 * 0.37).sin()).collect();
    let x = rows_tensor(&values, shape.inputs())?;
    for _ in 0..3 {
        let _ = model.reconstruct(&x)?;
    }
    start.wait();
    let (began, mut windows) = (Instant::now(), 0);
    while began.elapsed() < length {
        let _ = model.reconstruct(&x)?;
        windows += BATCH;
    }
    Ok(windows as f64 / began.elapsed().as_secs_f64())
}

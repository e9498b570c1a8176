//! Records of a simulated fleet: the fields of a series move together, so that an autoencoder has
//! something to learn, and each record is cheap to make.

use std::io::Write as _;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// How far a shifted field is off, in its standard deviations: strange, and not so far that it is a
/// sensor's spike.
const SHIFT: f64 = 6.0;
/// One field in so many is shifted.
const SHIFTED: usize = 4;

/// A source of records.
pub struct Plant {
    random: ChaCha8Rng,
    fields: usize,
}

impl Plant {
    /// The same seed gives the same readings.
    pub fn new(fields: usize, seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            fields,
        }
    }

    /// Writes one record of a series: a JSON object with its name, its event time and its readings,
    /// in that order.
    pub fn write(&mut self, out: &mut Vec<u8>, series: &str, micros: i64, shifted: bool) {
        out.clear();
        // A vector takes whatever is written.
        let _ = write!(out, "{{\"series\":\"{series}\",\"ts\":{micros}");
        let (load, weather) = (self.normal(), self.normal());
        for field in 0..self.fields {
            // Three parts load to one to three parts weather; the rest is the field's own.
            let common = (3.0 * load + (1 + field % 3) as f64 * weather) / 4.0;
            let off = if shifted && field % SHIFTED == 0 {
                SHIFT
            } else {
                0.0
            };
            let z = 0.9 * common + 0.3 * self.normal() + off;
            let _ = write!(
                out,
                ",\"f{field}\":{:.5}",
                10.0 * (1 + field % 7) as f64 + z * (1 + field % 5) as f64
            );
        }
        out.push(b'}');
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.random)
    }
}

/// Name of a series.
pub fn name(series: usize) -> String {
    format!("s{series:07}")
}

//! Surfaces under a camera: seeded textures with planted defects whose places are known.
//!
//! Contract: the same seed and number give the same picture. A picture is grey, 8 bit; no two have
//! the same lighting, phase or grain. Defects are drawn with 3 to 40 pixels across, evenly over the
//! logarithm of the size, so that small ones are as frequent as large ones, and with a contrast
//! that a person sees: 4 to 8 standard deviations of the texture. Half of them are darker than the
//! surface and half brighter; holes are dark.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// Width and height of a picture in pixels.
pub const SIDE: usize = 512;
/// Least and largest size of a defect in pixels.
pub const SIZES: [f64; 2] = [3.0, 40.0];

/// What a surface is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Texture {
    /// Brushed metal: grain along one direction.
    Metal,
    /// Plain weave: two sets of threads with their own irregularities.
    Fabric,
    /// Cast or stone: grain of several sizes without a direction.
    Stone,
}

impl_as_str!(Texture);

impl Texture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metal, Self::Fabric, Self::Stone];
}

/// What can be wrong with a surface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DefectKind {
    /// A thin line, 1 to 3 pixels wide.
    Scratch,
    /// A disc with a sharp edge.
    Hole,
    /// A patch with a soft edge.
    Stain,
}

impl_as_str!(DefectKind);

impl DefectKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scratch, Self::Hole, Self::Stain];
}

/// A picture of a surface.
#[derive(Clone, PartialEq, Debug)]
pub struct Surface {
    /// Grey values, row-major, [`SIDE`] x [`SIDE`].
    pub pixels: Vec<u8>,
    /// Whether each pixel belongs to the defect.
    pub defective: Vec<bool>,
}

/// The `number`-th picture of a surface, with a defect or without.
pub fn picture(texture: Texture, defect: Option<DefectKind>, seed: u64, number: u64) -> Surface {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number * 16 + texture as u64 * 4 + defect.map_or(0, |kind| kind as u64 + 1));
    let (grain, contrast) = grain(texture, &mut rng);
    let light = rng.random_range(0.47..0.53);
    let tilt = [rng.random_range(-0.02..0.02), rng.random_range(-0.02..0.02)];
    let marks = defect.map(|kind| mark(kind, contrast, [SIDE, SIDE], &mut rng));
    let (mut pixels, mut defective) = (Vec::with_capacity(grain.len()), vec![false; grain.len()]);
    for (at, grain) in grain.iter().enumerate() {
        let x = (at % SIDE) as f64;
        let y = (at / SIDE) as f64;
        let place = |v: f64| 2.0 * v / SIDE as f64 - 1.0;
        let mut value = light + tilt[0] * place(x) + tilt[1] * place(y) + grain;
        if let Some(mark) = &marks {
            let depth = mark.depth(x, y);
            value += mark.contrast * depth;
            defective[at] = depth > 0.3;
        }
        let noise: f64 = rng.sample(StandardNormal);
        pixels.push((255.0 * value + 1.5 * noise).round().clamp(0.0, 255.0) as u8);
    }
    Surface { pixels, defective }
}

/// Draws a defect of any kind into a picture (`[channels, height, width]`, 0 to 1), of 4 to 8
/// standard deviations of its pixels.
pub fn deface(pixels: &mut [f32], width: usize, height: usize, rng: &mut ChaCha8Rng) {
    let count = pixels.len().max(1) as f64;
    let mean = pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let sd = (pixels
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / count)
        .sqrt();
    let kind = DefectKind::ALL[rng.random_range(0..DefectKind::ALL.len())];
    let mark = mark(kind, sd, [width, height], rng);
    for plane in pixels.chunks_exact_mut((width * height).max(1)) {
        for (at, value) in plane.iter_mut().enumerate() {
            let depth = mark.depth((at % width) as f64, (at / width) as f64);
            *value = (*value + (mark.contrast * depth) as f32).clamp(0.0, 1.0);
        }
    }
}

/// The grain of a texture around 0, and its standard deviation.
fn grain(texture: Texture, rng: &mut ChaCha8Rng) -> (Vec<f64>, f64) {
    let mut grain = match texture {
        Texture::Metal => sum(&[(1.0, noise(rng, 60.0, 1.5)), (0.6, noise(rng, 180.0, 3.0))]),
        Texture::Stone => sum(&[
            (1.0, noise(rng, 2.5, 2.5)),
            (0.8, noise(rng, 6.0, 6.0)),
            (0.6, noise(rng, 14.0, 14.0)),
        ]),
        Texture::Fabric => weave(rng),
    };
    let power = grain.iter().map(|value| value * value).sum::<f64>() / grain.len() as f64;
    let contrast = 0.045;
    grain
        .iter_mut()
        .for_each(|value| *value *= contrast / power.sqrt());
    (grain, contrast)
}

/// Threads across and along, 8 pixels apart, over and under each other, each a little out of its
/// place.
fn weave(rng: &mut ChaCha8Rng) -> Vec<f64> {
    const PITCH: f64 = 8.0;
    let [across, along, uneven] = [
        noise(rng, 40.0, 40.0),
        noise(rng, 40.0, 40.0),
        noise(rng, 3.0, 3.0),
    ];
    let phase = [rng.random_range(0.0..PITCH), rng.random_range(0.0..PITCH)];
    let value = |at: usize| {
        let x = (at % SIDE) as f64 + phase[0] + 0.5 * across[at];
        let y = (at / SIDE) as f64 + phase[1] + 0.5 * along[at];
        let wave = |v: f64| (std::f64::consts::PI * v / PITCH).sin();
        let over = ((x / PITCH).floor() + (y / PITCH).floor()).rem_euclid(2.0) < 1.0;
        let thread = if over { wave(y).abs() } else { wave(x).abs() };
        thread - 0.64 + 0.15 * uneven[at]
    };
    (0..SIDE * SIDE).map(value).collect()
}

fn sum(parts: &[(f64, Vec<f64>)]) -> Vec<f64> {
    (0..SIDE * SIDE)
        .map(|at| parts.iter().map(|(weight, part)| weight * part[at]).sum())
        .collect()
}

/// Value noise (a lattice of normal numbers, smoothly interpolated: Perlin, SIGGRAPH 1985, the
/// value variant) whose cells are `width` x `height` pixels.
fn noise(rng: &mut ChaCha8Rng, width: f64, height: f64) -> Vec<f64> {
    let columns = (SIDE as f64 / width).ceil() as usize + 2;
    let rows = (SIDE as f64 / height).ceil() as usize + 2;
    let lattice: Vec<f64> = (0..columns * rows)
        .map(|_| rng.sample(StandardNormal))
        .collect();
    let shift = [rng.random_range(0.0..1.0), rng.random_range(0.0..1.0)];
    let split = |v: f64| {
        let part = v.fract();
        (v as usize, part * part * (3.0 - 2.0 * part))
    };
    let value = |at: usize| {
        let (column, right) = split((at % SIDE) as f64 / width + shift[0]);
        let (row, down) = split((at / SIDE) as f64 / height + shift[1]);
        let node = |dx: usize, dy: usize| lattice[(row + dy) * columns + column + dx];
        let above = mix(node(0, 0), node(1, 0), right);
        let below = mix(node(0, 1), node(1, 1), right);
        mix(above, below, down)
    };
    (0..SIDE * SIDE).map(value).collect()
}

fn mix(a: f64, b: f64, part: f64) -> f64 {
    a + (b - a) * part
}

/// A defect on its surface.
struct Mark {
    kind: DefectKind,
    x: f64,
    y: f64,
    /// Half of the size; of a scratch half of its length.
    reach: f64,
    /// Half of the width of a scratch; of the others, by how much they are longer than wide.
    other: f64,
    /// Direction, as cosine and sine.
    turn: [f64; 2],
    contrast: f64,
}

/// A defect on a picture of those sides, as far from its edges as it may be large (or in its
/// middle).
fn mark(kind: DefectKind, contrast: f64, sides: [usize; 2], rng: &mut ChaCha8Rng) -> Mark {
    let size = (SIZES[0].ln() + (SIZES[1] / SIZES[0]).ln() * rng.random_range(0.0..=1.0)).exp();
    let [x, y] = sides.map(|side| {
        let edge = SIZES[1].min(side as f64 / 2.0);
        rng.random_range(edge..=side as f64 - edge)
    });
    let angle = rng.random_range(0.0..std::f64::consts::PI);
    let sign = if kind == DefectKind::Hole || rng.random_bool(0.5) {
        -1.0
    } else {
        1.0
    };
    let times = rng.random_range(4.0..8.0);
    let other = match kind {
        DefectKind::Scratch => rng.random_range(0.5..1.5),
        DefectKind::Hole | DefectKind::Stain => rng.random_range(0.7..1.0),
    };
    Mark {
        kind,
        x,
        y,
        reach: size / 2.0,
        other,
        turn: [angle.cos(), angle.sin()],
        contrast: sign * times * contrast,
    }
}

impl Mark {
    /// How much of the defect a pixel has, 0 to 1.
    fn depth(&self, x: f64, y: f64) -> f64 {
        let dx = x - self.x;
        let dy = y - self.y;
        let along = dx * self.turn[0] + dy * self.turn[1];
        let aside = dy * self.turn[0] - dx * self.turn[1];
        let edge = |inside: f64| (inside + 0.5).clamp(0.0, 1.0);
        match self.kind {
            DefectKind::Scratch => edge(self.reach - along.abs()) * edge(self.other - aside.abs()),
            DefectKind::Hole => edge(self.reach - along.hypot(aside / self.other)),
            DefectKind::Stain => {
                let from = along.hypot(aside / self.other) / self.reach;
                // Flat inside, soft in the outer half.
                ((1.0 - from) * 2.0).clamp(0.0, 1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_changes_only_its_place_and_has_its_size() {
        for kind in DefectKind::ALL {
            for number in 0..20 {
                let surface = picture(Texture::Stone, Some(kind), 7, number);
                let places: Vec<usize> = (0..SIDE * SIDE)
                    .filter(|&at| surface.defective[at])
                    .collect();
                let span = |of: fn(usize) -> usize| {
                    let all = || places.iter().map(|&at| of(at));
                    all().max().unwrap() - all().min().unwrap() + 1
                };
                let width = span(|at| at % SIDE);
                let height = span(|at| at / SIDE);
                assert!(
                    !places.is_empty() && width <= 42 && height <= 42,
                    "{kind:?} {number}: {width} x {height}"
                );
            }
        }
    }

    #[test]
    fn pictures_are_alike_and_never_the_same() {
        for texture in Texture::ALL {
            let [a, b] = [picture(texture, None, 1, 0), picture(texture, None, 1, 1)];
            assert_ne!(a.pixels, b.pixels);
            assert_eq!(a, picture(texture, None, 1, 0));
            let mean = |s: &Surface| {
                s.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / s.pixels.len() as f64
            };
            assert!((mean(&a) - mean(&b)).abs() < 25.0 && a.defective.iter().all(|&d| !d));
        }
    }
}

//! The forward pass of models over rows of readings, in arithmetic of fixed order.
//!
//! Contract: the result of a row has the same bits in every batch and on every processor. libtorch
//! cannot promise that: its products choose kernels by the number of rows and by the instruction
//! set, and each rounds in its own way. Here every sum starts with the bias and adds the products
//! in the order of the inputs, each operation is one of IEEE 754 binary32, no product is fused with
//! a sum, and `tanh` and `exp` are made of these operations too.
//!
//! Sixteen rows go through together, each in a lane of its own: a compiler makes vector
//! instructions of that for any width of layer, and no lane sees another.

use pulp::Arch;

/// Rows that go through together.
const LANES: usize = 16;

/// One value of each of the rows that go through together.
type SimdLanes = [f32; LANES];

/// The logarithm of a code's variance stays within this of 0, in training too.
pub(super) const LOG_VARIANCE_MAX: f32 = 10.0;

/// One step of a forward pass. Windows lie record by record: value `c` of record `t` is at
/// `t * channels + c`.
#[derive(Clone, Debug)]
pub(super) enum Layer {
    /// Takes a vector off each row.
    Subtract(Vec<f32>),
    /// An affine map of each `inputs` values in a row.
    Affine(Affine),
    /// The hyperbolic tangent of each value.
    Tanh,
    /// A convolution along the window, with zeros around it.
    Convolution {
        /// The map of one position: `kernel x channels` inputs, record by record.
        map: Affine,
        /// Values of a record.
        channels: usize,
        /// Records between two positions.
        stride: usize,
    },
    /// Repeats records until there are `length` (nearest neighbour).
    Stretch {
        /// Values of a record.
        channels: usize,
        /// Records afterwards.
        length: usize,
    },
    /// The whole row, once for each of so many records.
    Repeat(usize),
    /// A layer of long short-term memory over the records.
    Lstm {
        /// From the values of a record and the layer's last output to its four gates, in the order
        /// input, forget, cell, output.
        gates: Affine,
        /// Values that the layer gives for each record.
        width: usize,
        /// Whether only what it gives for the last record is kept.
        last: bool,
    },
}

/// An affine map.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    /// `[outputs, inputs]`, row-major.
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Affine {
    /// The map of a weight `[outputs, inputs]` and a bias `[outputs]`.
    pub(super) fn new(weight: Vec<f32>, bias: Vec<f32>, inputs: usize) -> Self {
        debug_assert_eq!(weight.len(), inputs * bias.len());
        Self {
            weight,
            bias,
            inputs,
        }
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Applies the map to `x`, its inputs.
    #[inline(always)]
    fn apply(&self, x: &[SimdLanes], y: &mut [SimdLanes]) {
        let n = self.inputs;
        let mut from = 0;
        // Four outputs at once: a sum waits for its last addition, four sums fill that time.
        for (bias, y) in self.bias.chunks(4).zip(y.chunks_mut(4)) {
            let weight = &self.weight[from * n..(from + bias.len()) * n];
            if let (&[a, b, c, d], Ok(y)) = (bias, <&mut [SimdLanes; 4]>::try_from(&mut *y)) {
                *y = four_sums([a, b, c, d], weight, &x[..n]);
            } else {
                for (at, (&bias, y)) in bias.iter().zip(y).enumerate() {
                    *y = one_sum(bias, &weight[at * n..(at + 1) * n], &x[..n]);
                }
            }
            from += bias.len();
        }
    }
}

/// `bias + sum of weight x`, from the first input to the last.
#[inline(always)]
fn one_sum(bias: f32, weight: &[f32], x: &[SimdLanes]) -> SimdLanes {
    let mut sum = [bias; LANES];
    for (&w, x) in weight.iter().zip(x) {
        for lane in 0..LANES {
            sum[lane] += w * x[lane];
        }
    }
    sum
}

/// [`one_sum`] of four outputs, whose weights follow each other.
#[inline(always)]
fn four_sums(bias: [f32; 4], weight: &[f32], x: &[SimdLanes]) -> [SimdLanes; 4] {
    let (a, rest) = weight.split_at(x.len());
    let (b, rest) = rest.split_at(x.len());
    let (c, d) = rest.split_at(x.len());
    let mut sums = bias.map(|bias| [bias; LANES]);
    for ((((x, &a), &b), &c), &d) in x.iter().zip(a).zip(b).zip(c).zip(d) {
        for (sum, w) in sums.iter_mut().zip([a, b, c, d]) {
            for lane in 0..LANES {
                sum[lane] += w * x[lane];
            }
        }
    }
    sums
}

/// The hyperbolic tangent, within 4e-7 of the true one relative to it.
///
/// `x P(x^2) / Q(x^2)` with both polynomials of degree 4, fitted for the smallest largest relative
/// error up to 9.01, where the tangent rounds to 1 (Lawson's weights on a linearised rational fit:
/// Lawson 1961; Sanathanan and Koerner, IEEE Transactions on Automatic Control 8(1), 1963).
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const ROUNDS_TO_1: f32 = 9.01;
    const P: [f32; 5] = [
        1.0,
        0.133_803_71,
        0.003_494_811,
        2.059_627_3e-5,
        1.333_684_7e-8,
    ];
    const Q: [f32; 5] = [
        1.0,
        0.467_136_86,
        0.025_874_026,
        3.284_363_2e-4,
        7.769_283e-7,
    ];
    let x = x.clamp(-ROUNDS_TO_1, ROUNDS_TO_1);
    let s = x * x;
    let p = P[0] + s * (P[1] + s * (P[2] + s * (P[3] + s * P[4])));
    let q = Q[0] + s * (Q[1] + s * (Q[2] + s * (Q[3] + s * Q[4])));
    (x * p / q).clamp(-1.0, 1.0)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    0.5 + 0.5 * tanh(0.5 * x)
}

impl Layer {
    /// Writes what the layer makes of `x` into `y`; `spare` is a buffer for it.
    #[inline(always)]
    fn apply(&self, x: &[SimdLanes], y: &mut Vec<SimdLanes>, spare: &mut Vec<SimdLanes>) {
        y.clear();
        match self {
            Self::Subtract(vector) => {
                y.extend(x.iter().zip(vector).map(|(x, v)| x.map(|x| x - v)));
            }
            Self::Affine(map) => {
                // A map without inputs gives its bias, once; one without outputs gives nothing.
                let times = x.len().checked_div(map.inputs).unwrap_or(1);
                y.resize(times * map.outputs(), [0.0; LANES]);
                for (at, y) in y.chunks_exact_mut(map.outputs().max(1)).enumerate() {
                    map.apply(&x[at * map.inputs..], y);
                }
            }
            Self::Tanh => {
                y.resize(x.len(), [0.0; LANES]);
                for (x, y) in x.iter().zip(y) {
                    for lane in 0..LANES {
                        y[lane] = tanh(x[lane]);
                    }
                }
            }
            Self::Convolution {
                map,
                channels,
                stride,
            } => convolve(map, *channels, *stride, x, y, spare),
            Self::Stretch { channels, length } => {
                let records = x.len() / channels;
                for t in 0..*length {
                    let from = t * records / length * channels;
                    y.extend_from_slice(&x[from..from + channels]);
                }
            }
            Self::Repeat(times) => (0..*times).for_each(|_| y.extend_from_slice(x)),
            Self::Lstm { gates, width, last } => lstm(gates, *width, *last, x, y, spare),
        }
    }
}

#[inline(always)]
fn convolve(
    map: &Affine,
    channels: usize,
    stride: usize,
    x: &[SimdLanes],
    y: &mut Vec<SimdLanes>,
    padded: &mut Vec<SimdLanes>,
) {
    // A kernel spans an odd number of records, as many before its middle as behind it.
    let margin = map.inputs / channels / 2 * channels;
    padded.clear();
    padded.resize(margin, [0.0; LANES]);
    padded.extend_from_slice(x);
    padded.resize(padded.len() + margin, [0.0; LANES]);
    let positions = (x.len() / channels).div_ceil(stride);
    y.resize(positions * map.outputs(), [0.0; LANES]);
    for (position, y) in y.chunks_exact_mut(map.outputs()).enumerate() {
        map.apply(&padded[position * stride * channels..], y);
    }
}

#[inline(always)]
fn lstm(
    gates: &Affine,
    width: usize,
    last: bool,
    x: &[SimdLanes],
    y: &mut Vec<SimdLanes>,
    spare: &mut Vec<SimdLanes>,
) {
    let inputs = gates.inputs - width;
    // The values of a record and the last output, the four gates, the cell.
    spare.clear();
    spare.resize(gates.inputs + 5 * width, [0.0; LANES]);
    let (seen, rest) = spare.split_at_mut(gates.inputs);
    let (opened, cell) = rest.split_at_mut(4 * width);
    for record in x.chunks_exact(inputs) {
        seen[..inputs].copy_from_slice(record);
        gates.apply(seen, opened);
        for unit in 0..width {
            let [input, forget, new, output] = [0, 1, 2, 3].map(|gate| opened[gate * width + unit]);
            let cell = &mut cell[unit];
            let out = &mut seen[inputs + unit];
            for lane in 0..LANES {
                let kept = sigmoid(forget[lane]) * cell[lane];
                cell[lane] = kept + sigmoid(input[lane]) * tanh(new[lane]);
                out[lane] = sigmoid(output[lane]) * tanh(cell[lane]);
            }
        }
        if last {
            y.clear();
        }
        y.extend_from_slice(&seen[inputs..]);
    }
}

/// The forward pass of a model: from rows to codes and back.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// Values of a row.
    pub(super) inputs: usize,
    /// From a row to its code.
    pub(super) encoder: Vec<Layer>,
    /// Of a variational model, whose encoder gives mean and logarithm of the variance of each code.
    pub(super) draws: Option<Draws>,
    /// From each code that is drawn to the values whose mean the output layers take.
    pub(super) decoder: Vec<Layer>,
    /// From there to the reconstruction.
    pub(super) output: Vec<Layer>,
}

/// Where codes are drawn, in units of each code's distribution.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    /// Values of a code.
    pub(super) latent: usize,
    /// `[draws, latent]`.
    pub(super) values: Vec<f32>,
}

/// The values between the layers of a forward pass.
#[derive(Default)]
struct Buffers {
    /// What the last layer gave.
    now: Vec<SimdLanes>,
    next: Vec<SimdLanes>,
    spare: Vec<SimdLanes>,
    /// Of a variational model: what its encoder gave, and the sum over the draws.
    encoded: Vec<SimdLanes>,
    sum: Vec<SimdLanes>,
}

impl Buffers {
    #[inline(always)]
    fn through(&mut self, layers: &[Layer]) {
        for layer in layers {
            layer.apply(&self.now, &mut self.next, &mut self.spare);
            std::mem::swap(&mut self.now, &mut self.next);
        }
    }

    /// The rows, at most [`LANES`], one in each lane; the lanes behind them are 0.
    #[inline(always)]
    fn fill(&mut self, rows: &[f32], inputs: usize) {
        self.now.clear();
        self.now.resize(inputs, [0.0; LANES]);
        for (lane, row) in rows.chunks_exact(inputs).enumerate() {
            for (lanes, &value) in self.now.iter_mut().zip(row) {
                lanes[lane] = value;
            }
        }
    }

    /// Appends `rows` rows, whose values are the first `width` of what the last layer gave.
    #[inline(always)]
    fn take(&self, rows: usize, width: usize, out: &mut Vec<f32>) {
        for lane in 0..rows {
            out.extend(self.now[..width].iter().map(|lanes| lanes[lane]));
        }
    }
}

impl Draws {
    /// From the mean and the logarithm of the variance of the codes to what `decoder` makes of the
    /// drawn ones, in the mean.
    #[inline(always)]
    fn through(&self, buffers: &mut Buffers, decoder: &[Layer]) {
        std::mem::swap(&mut buffers.now, &mut buffers.encoded);
        for lanes in &mut buffers.encoded[self.latent..] {
            *lanes = lanes.map(|x| libm::expf(0.5 * x.clamp(-LOG_VARIANCE_MAX, LOG_VARIANCE_MAX)));
        }
        buffers.sum.clear();
        for draw in self.values.chunks_exact(self.latent) {
            buffers.now.clear();
            let distribution = buffers.encoded.iter().zip(&buffers.encoded[self.latent..]);
            buffers.now.extend(
                distribution
                    .zip(draw)
                    .map(|((mean, sd), draw)| -> SimdLanes {
                        std::array::from_fn(|lane| mean[lane] + sd[lane] * draw)
                    }),
            );
            buffers.through(decoder);
            buffers.sum.resize(buffers.now.len(), [0.0; LANES]);
            for (sum, now) in buffers.sum.iter_mut().zip(&buffers.now) {
                for lane in 0..LANES {
                    sum[lane] += now[lane];
                }
            }
        }
        let draws = (self.values.len() / self.latent) as f32;
        buffers.now.clear();
        let mean = buffers.sum.iter().map(|sum| sum.map(|sum| sum / draws));
        buffers.now.extend(mean);
    }
}

impl Program {
    /// The reconstructions of `rows` (row-major, n x inputs), row-major.
    pub(super) fn reconstruct(&self, rows: &[f32]) -> Vec<f32> {
        self.on(Arch::new(), rows, true, self.inputs)
    }

    /// The codes of `rows`, row-major, n x `latent`; of a variational model their means.
    pub(super) fn encode(&self, rows: &[f32], latent: usize) -> Vec<f32> {
        self.on(Arch::new(), rows, false, latent)
    }

    /// The forward pass compiled for the instruction set `arch`: the same bits on each.
    fn on(&self, arch: Arch, rows: &[f32], whole: bool, width: usize) -> Vec<f32> {
        let count = rows.len() / self.inputs.max(1);
        let mut out = Vec::with_capacity(count * width);
        let mut buffers = Buffers::default();
        arch.dispatch(
            #[inline(always)]
            || {
                for rows in rows.chunks(LANES * self.inputs.max(1)) {
                    buffers.fill(rows, self.inputs);
                    buffers.through(&self.encoder);
                    if whole {
                        match &self.draws {
                            Some(draws) => draws.through(&mut buffers, &self.decoder),
                            None => buffers.through(&self.decoder),
                        }
                        buffers.through(&self.output);
                    }
                    buffers.take(rows.len() / self.inputs, width, &mut out);
                }
            },
        );
        out
    }
}

#[cfg(test)]
mod tests;

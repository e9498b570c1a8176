//! What the kinds of network have in common: the trait that each of them is, and the parts that
//! they are built of.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use super::kernels::{Affine, Program};

/// What sets one kind of network apart: its weights, and the way through them.
pub(super) trait Architecture: Send + Sync + std::fmt::Debug {
    /// Its weights, in the order in which the other calls get them.
    fn parameters(&self) -> Vec<Parameter>;

    /// The forward pass of a trained model over rows of readings, up to what becomes the code and
    /// from the code on; `None` for the kinds over tiles only, which score through libtorch.
    fn program(&self, _weights: &mut WeightValues) -> Option<Program> {
        None
    }

    /// From `x`, `[n, inputs]`, to what tanh makes a code of, `[n, codes]`; asked only of kinds
    /// with a code.
    fn encode(&self, _weights: &[Tensor], _x: &Tensor) -> Result<Tensor, TchError> {
        Err(TchError::Shape("a network without a code".to_owned()))
    }

    /// From codes, `[n x draws, latent]`, to the reconstruction, `[n, inputs]`, of each `draws`
    /// codes in a row their mean; asked only of kinds with a code. The last layer is affine: it
    /// gives the same mean, of the mean of what comes before it.
    fn decode(
        &self,
        _weights: &[Tensor],
        _code: &Tensor,
        _draws: usize,
    ) -> Result<Tensor, TchError> {
        Err(TchError::Shape("a network without a code".to_owned()))
    }

    /// From `x`, `[n, inputs]`, to the reconstruction of a network that draws no code.
    fn reconstruct(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        self.decode(weights, &self.encode(weights, x)?.f_tanh()?, 1)
    }
}

/// One weight of an architecture.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) size: Vec<usize>,
    start: ParameterInit,
}

/// What a weight is before training.
#[derive(Clone, Copy)]
enum ParameterInit {
    /// Uniform on +- this bound.
    Uniform(f32),
    Zero,
    /// 1 for the forget gate, the second quarter, 0 for the others: a memory that keeps what it has
    /// at first (Gers, Schmidhuber, Cummins, Neural Computation 12(10), 2000).
    Forget,
}

impl Parameter {
    /// A weight that connects `inputs` with `outputs`: uniform on +-sqrt(6 / (inputs + outputs))
    /// (Glorot and Bengio, AISTATS 2010, which keeps tanh layers out of saturation).
    pub(super) fn glorot(name: String, size: &[usize], inputs: usize, outputs: usize) -> Self {
        let bound = (6.0 / (inputs + outputs) as f64).sqrt() as f32;
        Self {
            name,
            size: size.to_vec(),
            start: ParameterInit::Uniform(bound),
        }
    }

    /// A weight of a layer that a rectifier follows: uniform on +-sqrt(6 / inputs) (He, Zhang, Ren,
    /// Sun, ICCV 2015).
    pub(super) fn rectified(name: String, size: &[usize], inputs: usize) -> Self {
        Self::uniform(name, size, (6.0 / inputs as f64).sqrt() as f32)
    }

    /// A weight that begins uniform on +- `bound`.
    pub(super) fn uniform(name: String, size: &[usize], bound: f32) -> Self {
        Self {
            name,
            size: size.to_vec(),
            start: ParameterInit::Uniform(bound),
        }
    }

    /// A bias.
    pub(super) fn zero(name: String, size: usize) -> Self {
        Self {
            name,
            size: vec![size],
            start: ParameterInit::Zero,
        }
    }

    /// The bias of the four gates of a memory.
    pub(super) fn forget(name: String, size: usize) -> Self {
        Self {
            name,
            size: vec![size],
            start: ParameterInit::Forget,
        }
    }

    /// Weight and bias of an affine map.
    pub(super) fn affine(part: &str, inputs: usize, outputs: usize) -> [Self; 2] {
        [
            Self::glorot(
                format!("{part}.weight"),
                &[outputs, inputs],
                inputs,
                outputs,
            ),
            Self::zero(format!("{part}.bias"), outputs),
        ]
    }

    /// Its values before training; the same `rng` gives the same ones.
    pub(super) fn initialised(&self, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
        let count: usize = self.size.iter().product();
        let values: Vec<f32> = match self.start {
            ParameterInit::Uniform(bound) => (0..count)
                .map(|_| rng.random_range(-bound..=bound))
                .collect(),
            ParameterInit::Zero => vec![0.0; count],
            ParameterInit::Forget => (0..count)
                .map(|i| if i * 4 / count == 1 { 1.0 } else { 0.0 })
                .collect(),
        };
        Tensor::f_from_slice(&values)?.f_view(sizes(&self.size).as_slice())
    }
}

/// The affine map whose weight and bias are `weights[at]` and `weights[at + 1]`.
pub(super) fn affine(weights: &[Tensor], at: usize, x: &Tensor) -> Result<Tensor, TchError> {
    x.f_linear(&weights[at], Some(&weights[at + 1]))
}

/// The mean of each `draws` rows of `h`, `[n x draws, ...]`, in a row.
pub(super) fn mean_of(h: Tensor, draws: usize) -> Result<Tensor, TchError> {
    if draws == 1 {
        return Ok(h);
    }
    let mut size = h.size();
    size.splice(..1, [-1, draws as i64]);
    h.f_reshape(size.as_slice())?
        .f_mean_dim([1i64].as_slice(), false, None::<Kind>)
}

fn sizes(size: &[usize]) -> Vec<i64> {
    size.iter().map(|&n| n as i64).collect()
}

/// The values of a network's weights, one weight after the other.
pub(super) struct WeightValues(std::vec::IntoIter<Vec<f32>>);

impl WeightValues {
    /// All weights of a network, in the order of its parameters.
    pub(super) fn new(weights: Vec<Vec<f32>>) -> Self {
        Self(weights.into_iter())
    }

    /// The next weight.
    pub(super) fn one(&mut self) -> Vec<f32> {
        let next = self.0.next();
        debug_assert!(next.is_some(), "an architecture reads the weights it names");
        next.unwrap_or_default()
    }

    /// The next two, as an affine map.
    pub(super) fn affine(&mut self, inputs: usize) -> Affine {
        let weight = self.one();
        Affine::new(weight, self.one(), inputs)
    }
}

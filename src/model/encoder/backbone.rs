//! A backbone: the trunk of a network that was trained elsewhere, as a TorchScript module.
//!
//! Contract: it takes `[n, 3, height, width]` f32 from 0 to 1, sides multiples of 32, and gives a
//! tuple of f32 maps `[n, channels, height / stride, width / stride]`. The cells are those of the
//! first map; finer maps are averaged over them, coarser ones interpolated. What it gives for a row
//! must not depend on the other rows; a trial pass at each load sees to that. Like any module it
//! runs only if its SHA-256 is named in the configuration ([`crate::model::script::allow`]).

use std::path::PathBuf;

use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::SIDES;
use crate::model::script::{BACKBONE, ScriptError, agrees, load_allowed};

/// Rows of the trial pass.
const TRIAL_ROWS: i64 = 2;
/// Width and height of its images.
const TRIAL_SIZE: [i64; 2] = [3 * SIDES as i64, 2 * SIDES as i64];
/// Results of one row in two batches may differ by this part of their largest value.
const TRIAL_TOLERANCE: f64 = 1e-4;

/// See the module.
#[derive(Debug)]
pub struct Backbone {
    sha256: String,
    path: PathBuf,
    module: CModule,
}

impl Backbone {
    /// Loads the backbone with this SHA-256, and tries it.
    pub(super) fn load(sha256: &str) -> Result<Self, ScriptError> {
        let (path, module) = load_allowed(sha256, BACKBONE)?;
        let backbone = Self {
            sha256: sha256.to_owned(),
            path,
            module,
        };
        backbone.try_out()?;
        Ok(backbone)
    }

    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// From `[1, 1 or 3, height, width]` to `[1, channels, rows, columns]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, ScriptError> {
        let joined = || -> Result<Tensor, TchError> {
            let maps = self.maps(&x.f_expand([-1, 3, -1, -1], false)?)?;
            let Some(first) = maps.first() else {
                return Err(TchError::Shape("a backbone without maps".to_owned()));
            };
            let (_, _, rows, columns) = first.size4()?;
            let to_cells = |map: &Tensor| -> Result<Tensor, TchError> {
                let (_, _, height, _) = map.size4()?;
                match height >= rows {
                    true => map.f_adaptive_avg_pool2d([rows, columns]),
                    false => map.f_upsample_bilinear2d([rows, columns], false, None, None),
                }
            };
            let maps = maps.iter().map(to_cells).collect::<Result<Vec<_>, _>>()?;
            Tensor::f_cat(&maps, 1)
        };
        joined().map_err(|source| self.failed(source))
    }

    /// What the module returns; nothing where that is no tuple of tensors.
    fn maps(&self, x: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let given = IValue::Tensor(x.f_contiguous()?);
        let tensor = |value| match value {
            IValue::Tensor(tensor) => Some(tensor),
            _ => None,
        };
        Ok(match self.module.forward_is(&[given])? {
            IValue::Tuple(values) => values
                .into_iter()
                .map(tensor)
                .collect::<Option<Vec<_>>>()
                .unwrap_or_default(),
            _ => Vec::new(),
        })
    }

    fn failed(&self, source: TchError) -> ScriptError {
        ScriptError::Module {
            keys: BACKBONE,
            path: self.path.clone(),
            source,
        }
    }

    fn try_out(&self) -> Result<(), ScriptError> {
        let path = self.path.clone();
        let [width, height] = TRIAL_SIZE;
        let given = vec![TRIAL_ROWS, 3, height, width];
        let tried = tch::no_grad(|| -> Result<_, TchError> {
            // Grey values from 0 to 1, and other rows behind them.
            let count = 2 * TRIAL_ROWS * 3 * height * width;
            let x = Tensor::f_arange(count, (Kind::Float, tch::Device::Cpu))?
                .f_sin()?
                .f_add_scalar(1.0)?
                .f_mul_scalar(0.5)?
                .f_view([2 * TRIAL_ROWS, 3, height, width])?;
            Ok((self.maps(&x.f_narrow(0, 0, TRIAL_ROWS)?)?, self.maps(&x)?))
        });
        let (alone, together) = tried.map_err(|source| self.failed(source))?;
        if !are_maps(&alone, TRIAL_ROWS) || !are_maps(&together, 2 * TRIAL_ROWS) {
            let found = described(&alone);
            return Err(ScriptError::Maps { path, given, found });
        }
        for (alone, together) in alone.iter().zip(&together) {
            let difference = difference(alone, together).map_err(|source| self.failed(source))?;
            agrees(difference, TRIAL_TOLERANCE, path.clone())?;
        }
        Ok(())
    }
}

/// How far the first rows of `together` are from `alone`, as a part of its largest value.
fn difference(alone: &Tensor, together: &Tensor) -> Result<f64, TchError> {
    let largest = |x: &Tensor| x.f_abs()?.f_max()?.f_double_value(&[]);
    let rows = together.f_narrow(0, 0, TRIAL_ROWS)?;
    Ok(largest(&alone.f_sub(&rows)?)? / largest(alone)?.max(f64::from(f32::MIN_POSITIVE)))
}

/// Whether these are maps of so many rows, whose sides are whole parts of the trial's.
fn are_maps(maps: &[Tensor], rows: i64) -> bool {
    let [width, height] = TRIAL_SIZE;
    let is_map = |map: &Tensor| match map.size()[..] {
        [n, channels, h, w] => {
            map.kind() == Kind::Float
                && n == rows
                && channels > 0
                && h > 0
                && w > 0
                && height % h == 0
                && w * (height / h) == width
        }
        _ => false,
    };
    !maps.is_empty() && maps.iter().all(is_map)
}

fn described(maps: &[Tensor]) -> String {
    if maps.is_empty() {
        return "no tuple of tensors".to_owned();
    }
    let each = maps
        .iter()
        .map(|map| format!("{:?} {:?}", map.kind(), map.size()));
    each.collect::<Vec<_>>().join(", ")
}

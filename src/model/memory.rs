//! Memory: what the models of a series know of its past records.

use serde::{Deserialize, Serialize};

/// Past records that are kept.
pub const LAGS: usize = 3;
/// Mean ages, in records, of the running means.
pub const SPANS: [f32; 3] = [10.0, 50.0, 200.0];
/// Readings enter cut at this many standard deviations: one wild reading spoils no mean.
pub const CLIP: f32 = 6.0;
/// Values that are kept of a field.
pub const PAST: usize = LAGS + SPANS.len();
/// Values of a field at the newest record: its reading and the means that it is part of.
pub const NOW: usize = 1 + SPANS.len();

/// The last records of a series and their running means, in scaled units.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// `LAGS` records, the newest first, then one mean for each of `SPANS`; each k values.
    values: Box<[f32]>,
    /// Records seen, at most the longest of `SPANS`: until then a mean is a plain one.
    seen: u16,
    /// Records since the last gap, at most `LAGS`.
    whole: u8,
    /// Records that are missing since the newest one.
    missing: u8,
}

impl Memory {
    /// Everything that is kept, `PAST` x k; `None` before `LAGS` records without a gap.
    pub fn past(&self) -> Option<&[f32]> {
        (usize::from(self.whole) >= LAGS).then_some(&*self.values)
    }

    /// So many records are missing before the next one: those before them do not foretell it, and
    /// where they are more than the shortest mean holds, the means begin again.
    pub fn interrupt(&mut self, missing: u64) {
        self.whole = 0;
        let missing = u8::try_from(missing).unwrap_or(u8::MAX);
        self.missing = self.missing.saturating_add(missing);
    }

    /// The newest record; `None` before the first, and after a gap.
    pub fn newest(&self) -> Option<&[f32]> {
        (self.whole > 0).then(|| &self.values[..self.values.len() / PAST])
    }

    /// The running means, `SPANS` x k; `None` before as many records as the longest one holds.
    pub fn means(&self) -> Option<&[f32]> {
        let is_whole = f32::from(self.seen) >= SPANS[SPANS.len() - 1];
        is_whole.then(|| &self.values[self.values.len() / PAST * LAGS..])
    }

    /// The same records for a model with another scaler: each field times its factor, plus its
    /// shift. Void where these are those of another number of fields.
    pub fn rescaled(&self, by: &[(f64, f64)]) -> Self {
        if self.values.len() != PAST * by.len() {
            return Self::default();
        }
        let fields = self.values.iter().zip(by.iter().cycle());
        let values = fields.map(|(&z, (factor, shift))| (f64::from(z) * factor + shift) as f32);
        Self {
            values: values.map(|z| z.clamp(-CLIP, CLIP)).collect(),
            ..self.clone()
        }
    }

    /// Takes a record (length k), and with `means` into the longer running means too. A reading that is no
    /// number counts as 0, the mean of all.
    pub fn take(&mut self, record: &[f32], means: bool) {
        let k = record.len();
        if self.values.len() != PAST * k {
            *self = Self {
                values: vec![0.0; PAST * k].into(),
                ..Self::default()
            };
        }
        if f32::from(self.missing) >= SPANS[0] {
            self.seen = 0;
        }
        self.missing = 0;
        self.whole = (self.whole + 1).min(LAGS as u8);
        self.values.copy_within(0..(LAGS - 1) * k, k);
        for (kept, &z) in self.values.iter_mut().zip(record) {
            *kept = if z.is_finite() {
                z.clamp(-CLIP, CLIP)
            } else {
                0.0
            };
        }
        self.seen = (self.seen + u16::from(means)).min(SPANS[SPANS.len() - 1] as u16);
        let (lags, kept) = self.values.split_at_mut(LAGS * k);
        for (mean, span) in kept.chunks_exact_mut(k.max(1)).zip(SPANS) {
            if !means && span > SPANS[0] {
                continue;
            }
            let weight = (1.0 / span).max(1.0 / f32::from(self.seen));
            for (mean, &z) in mean.iter_mut().zip(&*lags) {
                *mean += weight * (z - *mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_and_their_means_are_kept() {
        let mut memory = Memory::default();
        assert_eq!((memory.newest(), memory.past()), (None, None));
        for i in 1..=4u8 {
            memory.take(&[f32::from(i), 100.0], true);
        }
        let expected = [4.0, 6.0, 3.0, 6.0, 2.0, 6.0];
        assert_eq!(memory.past().unwrap()[..6], expected);
        assert_eq!(memory.past().unwrap()[6..], [2.5, 6.0, 2.5, 6.0, 2.5, 6.0]);
        assert_eq!(memory.means(), None);
        memory.interrupt(1);
        memory.take(&[0.0, 0.0], true);
        assert_eq!(
            (memory.newest(), memory.past()),
            (Some(&[0.0, 0.0][..]), None)
        );
        memory.interrupt(100);
        memory.take(&[3.0, 0.0], true);
        (0..10_000).for_each(|_| memory.take(&[0.0, f32::NAN], true));
        let means = memory.means().unwrap();
        assert!(means.iter().all(|mean| mean.abs() < 1e-6), "{means:?}");
    }
}

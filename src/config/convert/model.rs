//! `[streams.NAME.model]`, `training`, `retrain` and `score`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{ConfigReader, DAY, YEAR};
use crate::config::raw;
use crate::config::settings::{
    ModelSettings, RetrainSettings, ScoreSettings, ScriptSettings, TrainingSettings,
};

impl ConfigReader<'_> {
    pub(super) fn model(&mut self, stream: &str, raw: &raw::ModelConfig) -> Option<ModelSettings> {
        let kernel = match raw.kernel {
            even if even.is_multiple_of(2) => Err("must be odd: a kernel has a centre".to_owned()),
            odd => Ok(odd),
        };
        let place = self.place(stream, "model.kernel");
        let kernel = self.take(place, &raw.kernel, kernel);
        let time_zone = TimeZone::get(&raw.time_zone)
            .map_err(|fault| format!("is not a known time zone: {fault}"));
        let place = self.place(stream, "model.time_zone");
        let time_zone = self.take(place, &raw.time_zone, time_zone);
        let script = self.script(stream, raw);
        let mut context = raw.context.clone();
        context.dedup();
        Some(ModelSettings {
            kind: raw.kind,
            hidden: raw.hidden.clone(),
            latent: raw.latent,
            kernel: kernel?,
            samples: raw.samples,
            context,
            time_zone: time_zone?,
            script: script?,
        })
    }

    fn script(&mut self, stream: &str, raw: &raw::ModelConfig) -> Option<Option<ScriptSettings>> {
        let wanted = raw.kind.is_script();
        let place = self.place(stream, "model.script");
        let script = match raw.script.is_empty() {
            true if wanted => Err("is missing: a torchscript model needs a file".to_owned()),
            false if !wanted => Err(format!(
                "is for kind \"torchscript\", and model.kind is {:?}",
                raw.kind.as_str()
            )),
            _ => Ok(PathBuf::from(&raw.script)),
        };
        let path = self.take(place, &raw.script, script);
        let sha256 = raw.sha256.to_lowercase();
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        let read = match is_digest || (!wanted && sha256.is_empty()) {
            true => Ok(sha256),
            false => Err(
                "must be the 64 hexadecimal digits that sha256sum prints for model.script"
                    .to_owned(),
            ),
        };
        let place = self.place(stream, "model.sha256");
        let sha256 = self.take(place, &raw.sha256, read);
        let path = path?;
        let sha256 = sha256?;
        Some(wanted.then_some(ScriptSettings { path, sha256 }))
    }

    pub(super) fn retrain(
        &mut self,
        stream: &str,
        raw: &raw::RetrainConfig,
    ) -> Option<RetrainSettings> {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        let every = self.span_or_never(stream, "retrain.every", &raw.every, minute);
        let half_life = self.span(
            stream,
            "retrain.half_life",
            &raw.half_life,
            minute,
            10 * YEAR,
        );
        let guard = self.span(stream, "retrain.guard", &raw.guard, Duration::ZERO, YEAR);
        let time_limit = self.span(
            stream,
            "retrain.time_limit",
            &raw.time_limit,
            second,
            30 * DAY,
        );
        let probation = self.span(
            stream,
            "retrain.probation",
            &raw.probation,
            Duration::ZERO,
            YEAR,
        );
        let self_test = self.span_or_never(stream, "retrain.self_test", &raw.self_test, minute);
        Some(RetrainSettings {
            every: every?,
            jitter: raw.jitter,
            on_drift: raw.on_drift,
            initial_weights: raw.initial_weights,
            records: raw.records,
            half_life: half_life?,
            guard: guard?,
            hold_out: raw.hold_out,
            time_limit: time_limit?,
            promote: raw.promote,
            probation: probation?,
            self_test: self_test?,
        })
    }
}

pub(super) fn training(raw: &raw::TrainingConfig) -> TrainingSettings {
    TrainingSettings {
        records: raw.records,
        seed: raw.seed,
        epochs: raw.epochs,
        batch: raw.batch,
        learning_rate: raw.learning_rate,
        weight_decay: raw.weight_decay,
        noise: raw.noise,
        patience: raw.patience,
        trim: raw.trim,
        tiles: raw.tiles,
        masks: raw.masks,
        folds: raw.folds,
    }
}

pub(super) fn score(raw: &raw::ScoreConfig) -> ScoreSettings {
    ScoreSettings {
        scope: raw.scope,
        ewma_weight: raw.ewma_weight,
        baseline_weight: raw.baseline_weight,
        baseline_alarm_factor: raw.baseline_alarm_factor,
        clip_sigma: raw.clip_sigma,
        shrinkage: raw.shrinkage,
    }
}

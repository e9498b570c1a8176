//! `[streams.NAME]`: one table of it after the other. Rules between its values are in
//! [`super::rules`].

use std::time::Duration;

use super::image::brightness;
use super::model::{score, training};
use super::{ConfigReader, DAY, YEAR};
use crate::config::problems::{ConfigProblem, KeyPath};
use crate::config::settings::{
    EpisodeSettings, FieldSettings, GateSettings, InputSettings, MuteSettings, OutputSettings,
    RecordFormat, ResampleSettings, RetentionSettings, StreamSettings, ThresholdSettings,
};
use crate::config::{raw, text};

/// No two gaps are alike: below this, each is missing something.
const GAP_AFTER_MIN: f64 = 1.5;

/// Replaces `{stream}` with the stream's name.
pub(super) fn named(template: &str, stream: &str) -> String {
    template.replace("{stream}", stream)
}

impl ConfigReader<'_> {
    pub(super) fn stream(&mut self, name: &str, raw: &raw::StreamConfig) -> Option<StreamSettings> {
        let at = KeyPath::of("streams").key(name);
        if let Err(fault) = text::stream_name(name) {
            self.note(ConfigProblem::new(at, fault, "choose another name"));
        }
        let input = self.input(name, &raw.input);
        let output = self.output(name, &raw.output);
        let record = self.record(name, &raw.record);
        let image = self.image(name, raw);
        let retention = self.retention(name, &raw.retention);
        let resample = self.resample(name, &raw.resample);
        let gate = self.gate(name, &raw.gate);
        let silence = self.silence(name, &raw.silence);
        let model = self.model(name, &raw.model);
        let retrain = self.retrain(name, &raw.retrain);
        let threshold = self.threshold(name, &raw.threshold);
        let episode = self.episode(name, &raw.episode);
        let mutes = self.mutes(name, &raw.mutes);
        self.within_stream(name, raw, threshold.as_ref());
        Some(StreamSettings {
            name: name.to_owned(),
            input: input?,
            output: output?,
            record: record?,
            image: image?,
            retention: retention?,
            resample: resample?,
            gate: gate?,
            silence: silence?,
            window: raw.window,
            stride: raw.stride,
            model: model?,
            training: training(&raw.training),
            retrain: retrain?,
            score: score(&raw.score),
            threshold: threshold?,
            episode: episode?,
            mutes: mutes?,
        })
    }

    /// A duration of a stream.
    pub(super) fn span(
        &mut self,
        stream: &str,
        key: &str,
        raw: &String,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let place = self.place(stream, key);
        self.take(place, raw, text::duration(raw, least..=most))
    }

    /// The name of a topic or group of a stream.
    fn name_of(
        &mut self,
        stream: &str,
        key: &str,
        raw: &String,
        read: fn(&str) -> Result<String, String>,
    ) -> Option<String> {
        let place = self.place(stream, key);
        // A bad name of the stream has been reported already.
        let stream = if text::stream_name(stream).is_ok() {
            stream
        } else {
            "NAME"
        };
        self.take(place, raw, read(&named(raw, stream)))
    }

    fn input(&mut self, stream: &str, raw: &raw::InputConfig) -> Option<InputSettings> {
        let topic = if raw.topic.is_empty() {
            let fix =
                "name the topic that the records come from, such as input.topic = \"plant.pumps\"";
            self.note(ConfigProblem::new(
                self.place(stream, "input.topic"),
                "is missing",
                fix,
            ));
            None
        } else {
            self.name_of(stream, "input.topic", &raw.topic, text::topic)
        };
        let group = self.name_of(stream, "input.group", &raw.group, text::name);
        let place = self.place(stream, "input.batch_bytes");
        let batch_bytes = self.take(
            place,
            &raw.batch_bytes,
            text::size(&raw.batch_bytes, 1 << 10..=256 << 20),
        );
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        let batch_wait = self.span(stream, "input.batch_wait", &raw.batch_wait, ms(1), s(10));
        let commit_interval = self.span(
            stream,
            "input.commit_interval",
            &raw.commit_interval,
            ms(10),
            s(300),
        );
        let warm_up = self.span(stream, "input.warm_up", &raw.warm_up, Duration::ZERO, YEAR);
        Some(InputSettings {
            topic: topic?,
            group: group?,
            start: raw.start,
            warm_up: warm_up?,
            lanes: raw.lanes,
            batch_records: raw.batch_records,
            batch_bytes: batch_bytes?,
            batch_wait: batch_wait?,
            commit_interval: commit_interval?,
            delivery: raw.delivery,
        })
    }

    fn output(&mut self, stream: &str, raw: &raw::OutputConfig) -> Option<OutputSettings> {
        let alerts = self.name_of(stream, "output.alerts", &raw.alerts, text::topic);
        let dead_letters = self.name_of(
            stream,
            "output.dead_letters",
            &raw.dead_letters,
            text::topic,
        );
        let scores = self.optional_topic(stream, "output.scores", &raw.scores);
        let heat_maps = self.optional_topic(stream, "output.heat_maps", &raw.heat_maps);
        let states = self.name_of(stream, "output.states", &raw.states, text::topic);
        Some(OutputSettings {
            alerts: alerts?,
            states: states?,
            dead_letters: dead_letters?,
            scores: scores?,
            heat_maps: heat_maps?,
            destinations: self.destinations(stream, raw),
        })
    }

    /// A topic, or "" for none.
    fn optional_topic(&mut self, stream: &str, key: &str, raw: &String) -> Option<Option<String>> {
        match raw.is_empty() {
            true => Some(None),
            false => self.name_of(stream, key, raw, text::topic).map(Some),
        }
    }

    fn record(&mut self, stream: &str, raw: &raw::RecordConfig) -> Option<RecordFormat> {
        let place = self.place(stream, "record.key");
        let key = self.take(place, &raw.key, text::key_from(&raw.key));
        let place = self.place(stream, "record.time");
        let time = self.take(
            place,
            &raw.time,
            text::time_from(&raw.time, raw.time_format),
        );
        let place = self.place(stream, "record.max_payload_bytes");
        let size = text::size(&raw.max_payload_bytes, 16..=64 << 20);
        let max_payload_bytes = self.take(place, &raw.max_payload_bytes, size);
        let fields = if raw.format.is_image() {
            Some(vec![brightness()])
        } else {
            self.fields(stream, &raw.fields)
        };
        Some(RecordFormat {
            format: raw.format,
            key: key?,
            time: time?,
            fields: fields?,
            max_payload_bytes: max_payload_bytes?,
            max_series: raw.max_series,
        })
    }

    fn fields(
        &mut self,
        stream: &str,
        raw: &[Option<raw::FieldConfig>],
    ) -> Option<Vec<FieldSettings>> {
        let place = self.place(stream, "record.fields");
        let mut fields = Vec::new();
        for (i, field) in raw.iter().enumerate() {
            let at = place.clone().index(i);
            fields.push(match field {
                None => None,
                Some(raw::FieldConfig::Path(path)) => {
                    let keys = text::path(&raw::KeyWords::Text(path.clone()));
                    let read = text::name(path).and(keys);
                    self.take(at, path, read).map(|keys| FieldSettings {
                        name: path.clone(),
                        path: keys,
                        unit: None,
                        min: f64::NEG_INFINITY,
                        max: f64::INFINITY,
                        resample: None,
                    })
                }
                Some(raw::FieldConfig::Table(table)) => self.field(at, table),
            });
        }
        self.distinct_fields(&place, &fields);
        if raw.is_empty() {
            let fix = "list the readings of a record, such as record.fields = [\"temperature\", \"pressure\"]";
            self.note(ConfigProblem::new(place, "is missing", fix));
            return None;
        }
        if raw.len() > 1024 {
            let fault = format!("has {} fields; at most 1024 are allowed", raw.len());
            self.note(ConfigProblem::new(
                place,
                fault,
                "split them into several streams",
            ));
            return None;
        }
        fields.into_iter().collect()
    }

    fn field(&mut self, at: KeyPath, raw: &raw::FieldTableConfig) -> Option<FieldSettings> {
        let name = self.take(at.clone().key("name"), &raw.name, text::name(&raw.name));
        let path = match &raw.path {
            Some(path) => self.take(at.clone().key("path"), path, text::path(path)),
            None => {
                let keys = text::path(&raw::KeyWords::Text(raw.name.clone()));
                name.as_ref()
                    .and_then(|_| self.take(at.clone().key("name"), &raw.name, keys))
            }
        };
        let min = raw.min.unwrap_or(f64::NEG_INFINITY);
        let max = raw.max.unwrap_or(f64::INFINITY);
        if min >= max {
            let fault = format!("must be below max, which is {max}");
            let fix = "give the physical range of the sensor, or leave both out";
            self.note(ConfigProblem::new(at.key("min"), fault, fix).found(&min.into()));
        }
        let unit = raw.unit.clone();
        let resample = raw.resample;
        Some(FieldSettings {
            name: name?,
            path: path?,
            unit,
            min,
            max,
            resample,
        })
    }

    fn retention(&mut self, stream: &str, raw: &raw::RetentionConfig) -> Option<RetentionSettings> {
        let evict_after = self.span(
            stream,
            "retention.evict_after",
            &raw.evict_after,
            Duration::from_secs(1),
            YEAR,
        );
        let forget_after = self.span_or_never(
            stream,
            "retention.forget_after",
            &raw.forget_after,
            Duration::from_secs(1),
        );
        Some(RetentionSettings {
            max_series_in_memory: raw.max_series_in_memory,
            evict_after: evict_after?,
            forget_after: forget_after?,
        })
    }

    /// A duration of at least `least`, or 0s for never.
    pub(super) fn span_or_never(
        &mut self,
        stream: &str,
        key: &str,
        raw: &String,
        least: Duration,
    ) -> Option<Duration> {
        let place = self.place(stream, key);
        let read = match text::duration(raw, Duration::ZERO..=10 * YEAR) {
            Ok(span) if !span.is_zero() && span < least => Err(format!(
                "must be at least {}, or 0s for never",
                humantime::format_duration(least)
            )),
            read => read,
        };
        self.take(place, raw, read)
    }

    fn resample(&mut self, stream: &str, raw: &raw::ResampleConfig) -> Option<ResampleSettings> {
        let zero = Duration::ZERO;
        let most = 30 * DAY;
        let least = Duration::from_millis(1);
        let read = match text::duration(&raw.period, zero..=most) {
            Ok(period) if !period.is_zero() && period < least => {
                Err("must be at least 1ms, or 0s for off".to_owned())
            }
            read => read,
        };
        let place = self.place(stream, "resample.period");
        Some(ResampleSettings {
            period: self.take(place, &raw.period, read)?,
            rule: raw.rule,
        })
    }

    fn gate(&mut self, stream: &str, raw: &raw::GateConfig) -> Option<GateSettings> {
        let lateness = self.span(
            stream,
            "gate.allowed_lateness",
            &raw.allowed_lateness,
            Duration::ZERO,
            30 * DAY,
        );
        let max_ahead = self.span(
            stream,
            "gate.max_ahead",
            &raw.max_ahead,
            Duration::ZERO,
            YEAR,
        );
        let place = self.place(stream, "gate.stuck_after");
        let stuck = match raw.stuck_after {
            1 => Err("must be at least 2 equal readings, or 0 for off".to_owned()),
            after => Ok(after),
        };
        let stuck_after = self.take(place, &raw.stuck_after, stuck);
        let gap_after = match raw.gap_after {
            after if after > 0.0 && after < GAP_AFTER_MIN => Err(format!(
                "must be from {GAP_AFTER_MIN} to 1000000, or 0 for never"
            )),
            after => Ok(after),
        };
        let place = self.place(stream, "gate.gap_after");
        let gap_after = self.take(place, &raw.gap_after, gap_after);
        Some(GateSettings {
            allowed_lateness: lateness?,
            max_ahead: max_ahead?,
            late_reset: raw.late_reset,
            stuck_after: stuck_after?,
            flat_ratio: raw.flat_ratio,
            scale_jump: raw.scale_jump,
            spike: raw.spike,
            gap_after: gap_after?,
        })
    }

    fn threshold(&mut self, stream: &str, raw: &raw::ThresholdConfig) -> Option<ThresholdSettings> {
        let place = self.place(stream, "threshold.budget");
        let budget = self.take(place, &raw.budget, text::budget(&raw.budget));
        let period = match raw.period.as_str() {
            "auto" => Some(None),
            _ => {
                let read = text::duration(&raw.period, Duration::from_micros(1)..=30 * DAY);
                let read = read.map(Some).map_err(|fault| fault + ", or \"auto\"");
                let place = self.place(stream, "threshold.period");
                self.take(place, &raw.period, read)
            }
        };
        Some(ThresholdSettings {
            kind: raw.kind,
            budget: budget?,
            period: period?,
            // The other kinds find their level from the budget: a margin on top would void it.
            margin: if raw.kind.uses_budget() {
                1.0
            } else {
                raw.margin
            },
            level: raw.level,
            min_records: raw.min_records,
            memory: raw.memory,
            level_shift_after: raw.level_shift_after,
        })
    }

    fn episode(&mut self, stream: &str, raw: &raw::EpisodeConfig) -> Option<EpisodeSettings> {
        let place = self.place(stream, "episode.open");
        let open = self.take(place, &raw.open, text::n_of_m(&raw.open));
        let cool_down = self.span(
            stream,
            "episode.cool_down",
            &raw.cool_down,
            Duration::ZERO,
            YEAR,
        );
        let update_every = self.span(
            stream,
            "episode.update_every",
            &raw.update_every,
            Duration::ZERO,
            YEAR,
        );
        let (open_n, open_m) = open?;
        Some(EpisodeSettings {
            open_n,
            open_m,
            close_ratio: raw.close_ratio,
            close_after: raw.close_after,
            cool_down: cool_down?,
            update_every: update_every?,
            critical_ratio: raw.critical_ratio,
            suspect_ratio: raw.suspect_ratio,
            top_fields: raw.top_fields,
        })
    }

    fn mutes(
        &mut self,
        stream: &str,
        raw: &[Option<raw::MuteConfig>],
    ) -> Option<Vec<MuteSettings>> {
        let place = self.place(stream, "mutes");
        let mut mutes = Vec::new();
        for (i, mute) in raw.iter().enumerate() {
            let at = place.clone().index(i);
            mutes.push(mute.as_ref().and_then(|mute| self.mute(&at, mute)));
        }
        mutes.into_iter().collect()
    }

    fn mute(&mut self, at: &KeyPath, raw: &raw::MuteConfig) -> Option<MuteSettings> {
        let series = match raw.series.is_empty() {
            true => {
                Err("must be the name of a series, or a pattern such as \"pump-1*\"".to_owned())
            }
            false => Ok(raw.series.clone()),
        };
        let series = self.take(at.clone().key("series"), &raw.series, series);
        let from = self.take(at.clone().key("from"), &raw.from, text::time(&raw.from));
        let until = self.take(at.clone().key("until"), &raw.until, text::time(&raw.until));
        let from = from?;
        let until = until?;
        if from >= until {
            let fault = format!("must be after from, which is {from}");
            let fix = "exchange the two, or remove the mute";
            self.note(
                ConfigProblem::new(at.clone().key("until"), fault, fix)
                    .found(&raw.until.as_str().into()),
            );
        }
        Some(MuteSettings {
            series: series?,
            from,
            until,
            reason: raw.reason.clone(),
        })
    }
}

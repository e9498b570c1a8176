//! Which changes of a configuration a running daemon takes over, and which need a restart.
//!
//! Live are the keys that no stored state, no model and no client of Kafka was built with:
//!
//! | key | from when on |
//! |---|---|
//! | `service.log_filter` | the next log line |
//! | `service.drain_timeout` | the next stop |
//! | `streams.*.episode` | the next batch; the new rules apply to an open episode |
//! | `streams.*.mutes` | the next batch |
//!
//! All others need a restart: addresses and topics, because clients hold them; `record`, `window`,
//! `model`, `training` and `score`, because the bundle in use was trained with them; `gate` and
//! `threshold`, because the states of the series were built with them, and a replay must give the
//! same alerts.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::{Settings, StreamSettings};

/// Puts the live keys of `new` in force: `running` then has all settings that the daemon runs with,
/// and keeps its value of every other key until a restart.
pub fn apply_live(running: &mut Settings, new: &Settings) {
    running
        .service
        .log_filter
        .clone_from(&new.service.log_filter);
    running.service.drain_timeout = new.service.drain_timeout;
    for stream in &mut running.streams {
        if let Some(new) = new.streams.iter().find(|new| new.name == stream.name) {
            stream.episode = new.episode.clone();
            stream.mutes = new.mutes.clone();
        }
    }
}

/// The keys that differ between two configurations and need a restart, such as
/// `streams.pumps.window`; empty where a running daemon can take over every change. A table is
/// listed by its own key.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let mut keys = process(old, new);
    let by_name = |settings: &Settings| -> BTreeMap<String, StreamSettings> {
        settings
            .streams
            .iter()
            .map(|stream| (stream.name.clone(), stream.clone()))
            .collect()
    };
    let old = by_name(old);
    let new = by_name(new);
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => keys.extend(stream(old, new)),
            _ => keys.push(format!("streams.{name}")),
        }
    }
    keys
}

fn process(old: &Settings, new: &Settings) -> Vec<String> {
    let a = &old.service;
    let b = &new.service;
    let changed = [
        ("service.state_dir", a.state_dir != b.state_dir),
        ("service.model_dir", a.model_dir != b.model_dir),
        ("service.state_format", a.state_format != b.state_format),
        ("service.http_listen", a.http_listen != b.http_listen),
        ("service.log_format", a.log_format != b.log_format),
        ("kafka", old.kafka != new.kafka),
        ("registry", old.registry != new.registry),
        ("share", old.share != new.share),
    ];
    changed
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| key.to_owned())
        .collect()
}

fn stream(old: &StreamSettings, new: &StreamSettings) -> Vec<String> {
    // Taken apart, so that a new setting has to be sorted into one of the two groups.
    let StreamSettings {
        name,
        input,
        output,
        record,
        schemas: _of_the_registry,
        image,
        retention,
        resample,
        gate,
        silence,
        window,
        stride,
        model,
        training,
        retrain,
        score,
        threshold,
        episode: _live,
        mutes: _also_live,
    } = old;
    let changed = [
        ("input", *input != new.input),
        ("output", *output != new.output),
        ("record", *record != new.record),
        ("image", *image != new.image),
        ("retention", *retention != new.retention),
        ("resample", *resample != new.resample),
        ("gate", *gate != new.gate),
        ("silence", *silence != new.silence),
        ("window", *window != new.window),
        ("stride", *stride != new.stride),
        ("model", *model != new.model),
        ("training", *training != new.training),
        ("retrain", *retrain != new.retrain),
        ("score", *score != new.score),
        ("threshold", *threshold != new.threshold),
    ];
    changed
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| format!("streams.{name}.{key}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSources, load};

    fn settings(overrides: &[&str]) -> Settings {
        let base = [
            "streams.a.input.topic=t",
            "streams.a.record.fields=[\"x\", \"y\", \"z\"]",
        ];
        let overrides = base
            .iter()
            .chain(overrides)
            .map(|&pair| pair.to_owned())
            .collect();
        load(&ConfigSources {
            overrides,
            ..ConfigSources::default()
        })
        .unwrap()
    }

    #[test]
    fn live_keys_need_no_restart() {
        let new = settings(&[
            "service.log_filter=debug",
            "service.drain_timeout=5s",
            "streams.a.episode.open=2 of 3",
            "streams.a.mutes=[{series=\"*\", from=2026-01-01T00:00:00Z, until=2026-01-02T00:00:00Z}]",
        ]);
        assert_ne!(settings(&[]), new);
        assert_eq!(needs_restart(&settings(&[]), &new), Vec::<String>::new());
    }

    #[test]
    fn the_others_are_named() {
        let new = settings(&[
            "service.http_listen=",
            "kafka.brokers=b:1",
            "streams.a.window=2",
            "streams.a.threshold.level=0.98",
            "streams.b.input.topic=u",
            "streams.b.record.fields=[\"x\", \"y\", \"z\"]",
        ]);
        let keys = [
            "service.http_listen",
            "kafka",
            "streams.a.window",
            "streams.a.threshold",
            "streams.b",
        ];
        assert_eq!(needs_restart(&settings(&[]), &new), keys);
        assert_eq!(needs_restart(&new, &settings(&[])), keys);
    }

    #[test]
    fn the_others_keep_their_value_until_a_restart() {
        let started = settings(&["streams.a.window=8"]);
        let mut running = started.clone();
        let new = settings(&[
            "service.drain_timeout=5s",
            "streams.a.window=4",
            "streams.a.record.fields=[\"x\", \"y\", \"z\", \"one more\"]",
            "streams.a.episode.open=2 of 3",
        ]);
        // The second time too: the file is compared with what runs, not with the last file.
        for _ in 0..2 {
            let keys = ["streams.a.record", "streams.a.window"];
            assert_eq!(needs_restart(&running, &new), keys);
            apply_live(&mut running, &new);
        }
        assert_ne!(running, started);
        assert_eq!(running.streams[0].window, 8);
        assert_eq!(running.streams[0].record, started.streams[0].record);
        assert_eq!(running.streams[0].episode, new.streams[0].episode);
        assert_eq!(running.service.drain_timeout, new.service.drain_timeout);
        // What was changed back is as it runs.
        assert_eq!(needs_restart(&running, &started), Vec::<String>::new());
    }
}

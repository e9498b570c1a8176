//! The configuration as its user meets it: layers, the manual, and the message of every rule that
//! can be broken.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "config/manual.rs"]
mod manual;
#[path = "config/registry.rs"]
mod registry;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outlierd::config::settings::{DestinationSettings, OutputFormat, Settings};
use outlierd::config::{ConfigSources, load};
use outlierd::model::ModelKind;
use outlierd::record::format::{KeyFrom, TimeFrom};
use outlierd::threshold::ThresholdKind;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A small good configuration, with more layers above it.
fn with(environment: &[(&str, &str)], overrides: &[&str]) -> Result<Settings, String> {
    let base = [
        "streams.pumps.input.topic=plant.pumps",
        "streams.pumps.record.fields=[\"a\", \"b\", \"c\"]",
    ];
    let sources = ConfigSources {
        file: None,
        environment: environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        overrides: base
            .iter()
            .chain(overrides)
            .map(|&pair| pair.to_owned())
            .collect(),
    };
    load(&sources).map_err(|problems| problems.to_string())
}

fn file(text: &str, environment: &[(&str, &str)], overrides: &[&str]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outlierd.toml");
    std::fs::write(&path, text).unwrap();
    let sources = ConfigSources {
        file: Some(path),
        environment: environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        overrides: overrides.iter().map(|&pair| pair.to_owned()).collect(),
    };
    load(&sources).map_err(|problems| problems.to_string())
}

#[test]
fn every_broken_rule_has_its_message() {
    let mut paths: Vec<_> = std::fs::read_dir(root("tests/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    assert!(paths.len() >= 35, "only {} files", paths.len());
    let mut messages = String::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let loaded = load(&ConfigSources {
            file: Some(path.clone()),
            ..ConfigSources::default()
        });
        let mut problems = loaded.expect_err(&format!("{name} was accepted"));
        problems.file = Some(PathBuf::from(name));
        let why = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        for problem in &problems.list {
            assert!(
                problem.to_string().lines().count() <= 2,
                "more than two lines: {problem}"
            );
        }
        writeln!(messages, "{why}\n{problems}\n").unwrap();
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("config");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("messages", messages));
}

#[test]
fn a_stream_of_images_has_defaults_of_its_own() {
    let sources = ConfigSources {
        file: Some(root("config/example-images.toml")),
        ..ConfigSources::default()
    };
    let settings = load(&sources).unwrap();
    let [surface] = settings.streams.as_slice() else {
        panic!("{:?}", settings.streams)
    };
    let image = surface.image.as_ref().unwrap();
    assert_eq!((image.tile, image.overlap, image.reduce_to), (64, 16, 0));
    assert_eq!(
        (surface.model.kind, surface.model.latent),
        (ModelKind::Conv2d, 64)
    );
    assert_eq!(
        (
            surface.episode.open.n,
            surface.episode.open.m,
            surface.episode.close_after
        ),
        (1, 1, 1)
    );
    assert_eq!(surface.record.fields[0].name, "brightness");
    let of = |overrides: &[&str]| {
        let overrides = overrides.iter().map(|&pair| pair.to_owned()).collect();
        load(&ConfigSources {
            overrides,
            ..ConfigSources::default()
        })
        .unwrap()
        .streams
        .remove(0)
    };
    let base = ["streams.s.input.topic=t", "streams.s.record.format=image"];
    // The stream's own word wins over the images', and that over [defaults].
    let own = of(&[
        base[0],
        base[1],
        "defaults.model.latent=3",
        "image_defaults.model.hidden=[4]",
        "streams.s.model.kernel=5",
    ]);
    assert_eq!(
        (
            own.model.latent,
            own.model.hidden.as_slice(),
            own.model.kernel
        ),
        (64, [4].as_slice(), 5)
    );
    let all = of(&[base[0], "defaults.record.format=image"]);
    assert!(all.image.is_some(), "a default of all streams");
}

#[test]
fn the_example_loads() {
    let sources = ConfigSources {
        file: Some(root("config/example.toml")),
        ..ConfigSources::default()
    };
    let settings = load(&sources).unwrap();
    let [pumps] = settings.streams.as_slice() else {
        panic!("{:?}", settings.streams)
    };
    assert_eq!(pumps.input.group, "outlierd-pumps");
    assert_eq!(pumps.output.alerts, "outlierd.pumps.alerts");
    assert_eq!(pumps.output.dead_letters, "outlierd.pumps.dead-letters");
    assert_eq!(pumps.output.scores, None);
    assert_eq!(pumps.record.time, TimeFrom::Field(vec!["ts".into()]));
    let temperature = &pumps.record.fields[2];
    assert_eq!(
        (temperature.name.as_str(), temperature.path.join("/")),
        ("temperature", "sensors/temp".into())
    );
    assert_eq!(
        (
            temperature.unit.as_deref(),
            temperature.min,
            temperature.max
        ),
        (Some("°C"), -20.0, 150.0)
    );
    assert_eq!((pumps.episode.open.n, pumps.episode.open.m), (3, 5));
    assert_eq!(
        (
            pumps.threshold.budget.alerts,
            pumps.threshold.budget.period.as_secs()
        ),
        (1.0, 7 * 86_400)
    );
}

#[test]
fn the_built_in_values_are_those_of_the_manual() {
    let settings = with(&[], &[]).unwrap();
    // Few of them, typed anew: a unit that is read wrongly would show here.
    assert_eq!(settings.service.drain_timeout, Duration::from_secs(20));
    assert_eq!(
        settings.service.http_listen,
        Some("127.0.0.1:9464".parse().unwrap())
    );
    let pumps = &settings.streams[0];
    assert_eq!(
        (pumps.input.batch_bytes, pumps.record.max_payload_bytes),
        (8 << 20, 1 << 20)
    );
    assert_eq!(
        (
            pumps.input.batch_wait,
            pumps.input.commit_interval.as_millis()
        ),
        (Duration::from_millis(20), 1000)
    );
    assert_eq!(
        (pumps.record.key.clone(), pumps.record.time.clone()),
        (KeyFrom::Kafka, TimeFrom::Kafka)
    );
    assert_eq!(
        (
            pumps.model.kind,
            pumps.model.hidden.as_slice(),
            pumps.model.latent
        ),
        (ModelKind::Dense, &[16][..], 2)
    );
    assert_eq!(
        (
            pumps.threshold.kind,
            pumps.threshold.period,
            pumps.threshold.level
        ),
        (ThresholdKind::Spot, None, 0.99)
    );
    assert_eq!(
        (
            pumps.episode.open.n,
            pumps.episode.open.m,
            pumps.episode.update_every.as_secs()
        ),
        (1, 1, 300)
    );
    assert!(pumps.mutes.is_empty());
}

#[test]
fn alerts_go_to_a_file_or_the_standard_output_where_a_stream_says_so() {
    let of = |overrides: &[&str]| with(&[], overrides).map(|mut s| s.streams.remove(0).output);
    assert_eq!(of(&[]).unwrap().destinations().collect::<Vec<_>>(), []);
    let own = of(&["defaults.output.file=/var/log/{stream}.jsonl"]).unwrap();
    let path = "/var/log/pumps.jsonl".into();
    assert_eq!(
        own.destinations().collect::<Vec<_>>(),
        [DestinationSettings::File(path)]
    );
    let stdout = of(&["streams.pumps.output.file=-"]).unwrap();
    assert_eq!(
        stdout.destinations().collect::<Vec<_>>(),
        [DestinationSettings::Stdout]
    );
    let second = [
        "streams.fans.input.topic=plant.fans",
        "streams.fans.record.fields=[\"a\", \"b\", \"c\"]",
    ];
    let shared = of(&[second[0], second[1], "defaults.output.file=alerts.jsonl"]).unwrap_err();
    assert!(
        shared.contains("defaults.output.file") && shared.contains("the file of stream fans"),
        "{shared}"
    );
    of(&[second[0], second[1], "defaults.output.file=-"]).unwrap();
}

#[test]
fn alerts_in_avro_need_a_registry() {
    let avro = "streams.pumps.output.format=avro";
    let fault = with(&[], &[avro]).unwrap_err();
    assert!(
        fault.contains("streams.pumps.output.format") && fault.contains("registry.urls is empty"),
        "{fault}"
    );
    let settings = with(&[], &[avro, "registry.urls=[\"http://registry:8081\"]"]).unwrap();
    assert_eq!(settings.streams[0].output.format, OutputFormat::Avro);
    assert_eq!(
        with(&[], &[]).unwrap().streams[0].output.format,
        OutputFormat::Json
    );
}

#[test]
fn later_layers_win() {
    let text = "[kafka]\nbrokers = \"file:1\"\n[streams.Pump-A]\ninput.topic = \"t\"\nwindow = 2\n\
                record.fields = [\"a\", \"b\", \"c\"]\n[defaults]\nwindow = 3\nmodel.latent = 1";
    let settings = file(text, &[], &[]).unwrap();
    assert_eq!(
        (settings.kafka.brokers.as_str(), settings.streams[0].window),
        ("file:1", 2)
    );
    assert_eq!(
        (
            settings.streams[0].model.latent,
            settings.streams[0].model.hidden.as_slice()
        ),
        (1, &[16][..])
    );
    // A stream is found by its name in capitals, with `_` for what a variable cannot hold.
    let environment = [
        ("OUTLIERD__KAFKA__BROKERS", "env:1"),
        ("OUTLIERD__STREAMS__PUMP_A__WINDOW", "4"),
        ("HOME", "/"),
    ];
    let settings = file(text, &environment, &[]).unwrap();
    assert_eq!(
        (settings.kafka.brokers.as_str(), settings.streams[0].window),
        ("env:1", 4)
    );
    let settings = file(
        text,
        &environment,
        &["kafka.brokers=set:1", "streams.Pump-A.window=5"],
    )
    .unwrap();
    assert_eq!(
        (settings.kafka.brokers.as_str(), settings.streams[0].window),
        ("set:1", 5)
    );
    assert_eq!(settings.streams[0].name, "Pump-A");
}

#[test]
fn librdkafka_properties_keep_their_dots_and_their_text() {
    let text = "[kafka.properties]\n\"security.protocol\" = \"ssl\"\nssl.ca.location = \"/etc/ca.pem\"\n\
                socket.timeout.ms = 30000\nsocket.keepalive.enable = true\n\"sasl.password\" = \"file\"\n\
                [streams.a]\ninput.topic = \"t\"\nrecord.fields = [\"a\", \"b\", \"c\"]";
    let environment = [("OUTLIERD__KAFKA__PROPERTIES__SASL_PASSWORD", "0x10 # \"")];
    let settings = file(
        text,
        &environment,
        &[
            "kafka.consumer.fetch.wait.max.ms=1e2",
            "kafka.producer.\"linger.ms\"=7",
        ],
    )
    .unwrap();
    let properties: Vec<_> = settings
        .kafka
        .properties
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("sasl.password", "0x10 # \""),
        ("security.protocol", "ssl"),
        ("socket.keepalive.enable", "true"),
        ("socket.timeout.ms", "30000"),
        ("ssl.ca.location", "/etc/ca.pem"),
    ];
    assert_eq!(properties, expected);
    assert_eq!(
        settings
            .kafka
            .consumer
            .get("fetch.wait.max.ms")
            .map(String::as_str),
        Some("1e2")
    );
    assert_eq!(
        settings.kafka.producer.get("linger.ms").map(String::as_str),
        Some("7")
    );
}

#[test]
fn a_librdkafka_property_is_read_from_a_file_or_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "of the file\n").unwrap();
    let path = path.to_str().unwrap();
    let rest = "[streams.a]\ninput.topic = \"t\"\nrecord.fields = [\"a\", \"b\", \"c\"]";
    let password = |table: &str, environment: &[(&str, &str)]| {
        let settings = file(
            &format!("[kafka.properties]\n{table}\n{rest}"),
            environment,
            &[],
        );
        settings.unwrap().kafka.properties["sasl.password"].clone()
    };
    let credentials = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];
    let variable = [("OUTLIERD__KAFKA__PROPERTIES__SASL_PASSWORD_FILE", path)];
    for (table, environment) in [
        (format!("sasl.password = {{ file = {path:?} }}"), &[][..]),
        (format!("\"sasl.password\" = {{ file = {path:?} }}"), &[]),
        (
            "sasl.password = { credential = \"password\" }".into(),
            &credentials,
        ),
        (String::new(), &variable),
    ] {
        assert_eq!(password(&table, environment), "of the file", "{table}");
    }
}

#[test]
fn variables_and_flags_are_named_where_they_are_at_fault() {
    let environment = [
        ("OUTLIERD__SERVICE__DRAIN_TIMEOUT", "20"),
        ("OUTLIERD__KAFKA__BROKER", "k:1"),
        ("OUTLIERD____X", "1"),
    ];
    let overrides = [
        "streams.pumps.window=8 records",
        "streams.pumps.gate.\"x=1",
        "nothing",
        "=1",
        "window.a=1",
    ];
    insta::assert_snapshot!(with(&environment, &overrides).unwrap_err(), @r#"
    8 problems in the configuration:
      OUTLIERD____X has an empty key
        fix: name the variable OUTLIERD__TABLE__KEY, or unset it
      --set "streams.pumps.gate.\"x" has a quote that is not closed
        fix: write --set key=value, such as --set kafka.brokers=kafka-1:9092
      --set "nothing" has no "="
        fix: write --set key=value, such as --set kafka.brokers=kafka-1:9092
      --set "" has an empty key
        fix: write --set key=value, such as --set kafka.brokers=kafka-1:9092
      kafka.broker (set by OUTLIERD__KAFKA__BROKER) is not a known key
        fix: did you mean kafka.brokers?
      service.drain_timeout = 20 (set by OUTLIERD__SERVICE__DRAIN_TIMEOUT) must be text such as "20s"
        fix: correct it, or remove it for the default "20s"
      streams.pumps.window = "8 records" (set by --set) must be a whole number from 1 to 4096
        fix: correct it, or remove it for the default 1
      window is not a known key
        fix: remove it; known here are defaults, image_defaults, kafka, registry, service, share, streams
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let sources = ConfigSources {
        file: Some("no/such/outlierd.toml".into()),
        ..ConfigSources::default()
    };
    insta::assert_snapshot!(load(&sources).unwrap_err().to_string(), @r"
    1 problem in the configuration no/such/outlierd.toml:
      cannot be read: No such file or directory (os error 2)
        fix: give the path of a readable TOML file
    ");
}

#[test]
fn a_secret_is_never_echoed() {
    let text = "[kafka]\nconsumer = \"hunter2\"\n[kafka.properties]\n\"sasl.password\" = [\"hunter2\"]\n\
                [kafka.producer]\n\"group.id\" = \"hunter2\"";
    let message = file(text, &[], &["kafka.properties.\"sasl.password=hunter2"]).unwrap_err();
    assert!(
        message.contains("sasl.password") && !message.contains("hunter2"),
        "{message}"
    );
}

#[test]
fn a_linear_model_without_a_code_is_a_chart() {
    let settings = with(
        &[],
        &[
            "streams.pumps.model.kind=linear",
            "streams.pumps.model.latent=0",
        ],
    )
    .unwrap();
    assert_eq!(
        (
            settings.streams[0].model.kind,
            settings.streams[0].model.latent
        ),
        (ModelKind::Linear, 0)
    );
    assert!(
        with(&[], &["streams.pumps.model.latent=0"])
            .unwrap_err()
            .contains("must be from 1 to 2 for a dense model")
    );
}

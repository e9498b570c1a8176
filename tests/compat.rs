//! What releases have written is read for as long as docs/upgrading.md says: the files of each format
//! in tests/compat.
//!
//! A new format adds a folder, made by a daemon of the last release before the change: the states
//! with `outlierd state export`, and what changed of the others.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::model::bundle::Bundle;
use outlierd::model::registry::Registry;
use outlierd::pipeline::series::SeriesState;
use outlierd::record::EventTime;
use outlierd::retrain::engine::RetrainEngine;
use outlierd::share::archive::{ArchiveHeader, ChunkAssembler};
use outlierd::share::control::ControlMessage;
use outlierd::state::memory::MemoryStore;
use outlierd::state::release::check_release;
use outlierd::state::{Store, codec, transfer};

/// The bundle of the stream `rig` in the files.
const BUNDLE: &str = "d66116c629dabc4f953357a343c1a405";
/// The newest event time of the series `a` in both streams.
const NEWEST: &str = "2026-01-01T00:06:39Z";

fn file(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/compat").join(name)
}

fn stream(name: &str) -> Arc<StreamSettings> {
    let fields = "record.fields=[\"x\", \"y\", \"z\"]";
    Arc::new(test_stream::named(name, &[fields]))
}

/// A store with the states of a format.
fn stored(format: u8) -> Arc<dyn Store> {
    let text = fs::read(file(&format!("format-{format}/states.jsonl"))).unwrap();
    let store = MemoryStore::default();
    let is_state = |bytes: &[u8]| codec::decode::<SeriesState>(bytes).map(drop);
    transfer::import(&store, &mut text.as_slice(), is_state).unwrap();
    Arc::new(store)
}

fn states(format: u8, stream: &str) -> BTreeMap<String, Vec<u8>> {
    let states = stored(format).states(stream, 0, None, 10).unwrap();
    states.into_iter().collect()
}

#[test]
fn states_of_each_format_are_read_and_written_again_bit_for_bit() {
    for format in [7, 8] {
        for stream in ["rig", "win"] {
            let states = states(format, stream);
            assert_eq!(states.len(), 3);
            for (series, bytes) in &states {
                assert_eq!(bytes[0], format, "{stream} {series}");
                let state: SeriesState = codec::decode(bytes).unwrap();
                assert_eq!(&codec::encode_in(format, &state).unwrap(), bytes);
                assert!(state.scoring.is_some());
                assert_eq!(
                    state.since().is_some(),
                    format > 7,
                    "8 has the first record"
                );
                for (part, is_there) in [
                    ("window", state.window.is_some()),
                    ("resample", state.resample.is_some()),
                ] {
                    assert_eq!(is_there, stream == "win", "{part} of {stream} {series}");
                }
            }
            let state: SeriesState = codec::decode(&states["a"]).unwrap();
            assert_eq!(state.gate.newest().unwrap().to_string(), NEWEST);
            let state: SeriesState = codec::decode(&states["b"]).unwrap();
            assert!(state.episode.anomaly_open(), "the alert of b is open");
        }
    }
}

#[test]
fn a_state_is_the_same_in_both_formats() {
    for (series, bytes) in states(7, "win") {
        let state: SeriesState = codec::decode(&bytes).unwrap();
        let newer = codec::encode_in(8, &state).unwrap();
        assert_eq!(newer[0], 8);
        let read: SeriesState = codec::decode(&newer).unwrap();
        assert_eq!(read, state, "{series}");
        assert_eq!(codec::encode_in(7, &read).unwrap(), bytes, "{series}");
    }
}

#[test]
fn notes_of_each_format_are_read() {
    for format in [7, 8] {
        let store = stored(format);
        for stream in ["rig", "win"] {
            check_release(&*store, stream).unwrap();
            assert_eq!(store.position(stream, 0).unwrap(), Some(1_195));
        }
        let folder = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(folder.path()).unwrap());
        let engine = RetrainEngine::open(stream("rig"), registry, store.clone()).unwrap();
        let runs: Vec<_> = engine.buffer().runs().collect();
        assert_eq!((runs.len(), runs[0].series.as_str()), (1, "b"));
        assert!(runs[0].labeled_normal, "from feedback");
        assert!(engine.schedule().self_test.is_some());
        let notes = store.notes("rig", "").unwrap();
        let has = |prefix: &str| notes.iter().any(|(key, _)| key.starts_with(prefix));
        for prefix in ["confirmed/", "applied/", "partition/0/feedback/", "share/"] {
            assert!(has(prefix), "{prefix}");
        }
    }
}

#[test]
fn the_model_folder_of_format_2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let from = file("format-7/model");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&from, &folder.path().join("rig")])
        .status();
    assert!(copied.unwrap().success());
    let bundle = registry.load_current("rig").unwrap().unwrap();
    assert_eq!((bundle.id(), bundle.manifest.format), (BUNDLE, 2));
    assert!(registry.flags("rig").unwrap().is_pinned());
    let history = registry.history("rig").unwrap().entries().unwrap();
    assert_eq!(history[0].bundle, BUNDLE);
    let excluded = registry.excluded_ranges("rig").unwrap().read().unwrap();
    assert_eq!((excluded.len(), excluded[0].series.as_str()), (1, "a"));
    assert!(excluded[0].from > EventTime(0));
}

#[test]
fn an_archive_of_format_7_is_put_together() {
    let bytes = fs::read(file("format-7/archive.bin")).unwrap();
    let header = ArchiveHeader {
        hash: "191284b227cade87b072370b1f5bec996ad7764b3d7fd6cb0c3e8508e5e0da0d".into(),
        bytes: bytes.len(),
    };
    let mut assembler = ChunkAssembler::new(header).unwrap();
    assembler.take(0, &bytes);
    let archive = assembler.open().unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    registry
        .import_bundle("rig", BUNDLE, &archive.files)
        .unwrap();
    let path = folder.path().join("rig").join(BUNDLE);
    assert_eq!(Bundle::load(&path).unwrap().id(), BUNDLE);
    // Older instances read what this one packs.
    let (header, parts) = archive.pack().unwrap();
    assert_eq!((header.bytes, &parts[0]), (bytes.len(), &bytes));
}

#[test]
fn control_messages_are_read() {
    let text = fs::read_to_string(file("format-7/control.jsonl")).unwrap();
    let messages: Vec<ControlMessage> = text
        .lines()
        .map(|line| ControlMessage::parse(line.as_bytes()).unwrap())
        .collect();
    let keys: Vec<String> = messages.iter().map(ControlMessage::key).collect();
    assert_eq!(
        keys,
        [
            "live/rig",
            "feedback/rig/37da31ed3cdf30af87ab40df151f8986",
            "feedback/rig/64c66aa22928f4914b38322a749bfd81",
            "feedback/rig/1767225610000000/1767225620000000/a",
            "pin/rig"
        ]
    );
    for (message, line) in messages.iter().zip(text.lines()) {
        assert_eq!(serde_json::to_string(message).unwrap(), line);
    }
}

//! The configurations of docs/messages.md read the messages that are beside them.

use outlierd::config::{ConfigSources, load};
use outlierd::decode::records::Decoder;
use outlierd::record::{EventTime, Message};

const MANUAL: &str = include_str!("../docs/messages.md");

/// A block of a section: its language and its text.
type Block<'a> = (&'a str, &'a str);

/// The sources, each with its blocks.
fn sources() -> Vec<(&'static str, Vec<Block<'static>>)> {
    let (_, sources) = MANUAL.split_once("\n## Sources\n").expect("sources");
    let (sources, _) = sources.split_once("\n## ").expect("another part");
    let sections = sources.split("\n### ").skip(1);
    let blocks = |section: &'static str| {
        let (name, text) = section.split_once('\n').expect("a text");
        let blocks = text.split("```").skip(1).step_by(2);
        let blocks = blocks.map(|block| block.split_once('\n').expect("a block"));
        (name, blocks.collect())
    };
    sections.map(blocks).collect()
}

/// Reads the messages with the configuration behind them: none is rejected, and each field has a
/// reading.
fn check(name: &str, messages: &[&str], config: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("outlierd.toml");
    std::fs::write(&file, config).expect("a file");
    let sources = ConfigSources {
        file: Some(file),
        environment: Vec::new(),
        overrides: Vec::new(),
    };
    let settings = load(&sources).unwrap_or_else(|problems| panic!("{name}: {problems}"));
    let stream = settings.streams.first().expect("a stream");
    let messages: Vec<Message<'_>> = (0..)
        .zip(messages)
        .map(|(offset, text)| Message {
            offset,
            key: Some(b"a key"),
            payload: Some(text.trim_end().as_bytes()),
            timestamp: Some(EventTime(1_773_051_273_000_000)),
            ..Message::default()
        })
        .collect();
    let batch = Decoder::new(&stream.record).decode(&messages);
    assert_eq!(batch.rejected, [], "{name}");
    for (index, field) in stream.record.fields.iter().enumerate() {
        let has_reading = batch.rows().any(|row| row.values[index].is_finite());
        assert!(has_reading, "{name}: {} has no reading", field.name);
    }
    // 2026-03-09T10:14:33Z and the minute behind it, whatever the zone and format.
    for record in &batch.records {
        let since = record.time.0 - 1_773_051_273_000_000;
        assert!((0..60_000_000).contains(&since), "{name}: {}", record.time);
    }
}

#[test]
fn each_source_of_the_manual_is_read_with_its_configuration() {
    let sources = sources();
    assert!(sources.len() >= 10, "{} sources", sources.len());
    for (name, blocks) in sources {
        let mut messages = Vec::new();
        let mut configurations = 0;
        for (language, text) in blocks {
            match language {
                "toml" => {
                    check(name, &messages, text);
                    messages.clear();
                    configurations += 1;
                }
                _ => messages.push(text),
            }
        }
        assert!(configurations > 0, "{name} has no configuration");
    }
}

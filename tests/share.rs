//! What machines share: model folders that are kept alike by two topics, here kept in memory.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;
mod two_fields;

use std::ops::ControlFlow;
use std::sync::Arc;

use outlierd::model::bundle::Bundle;
use outlierd::model::registry::Registry;
use outlierd::record::EventTime;
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use outlierd::share::archive::{ArchiveHeader, BYTES_MAX};
use outlierd::share::sync::{OutgoingMessage, RegistrySync};
use outlierd::state::Store;
use outlierd::state::memory::MemoryStore;
use proptest::prelude::*;

/// A bundle of its own for each number.
fn bundle(number: usize) -> Bundle {
    let row = |i: usize| {
        let x = ((i * 37 + number) % 101) as f64;
        TrainingRow {
            series: "a".into(),
            time: EventTime(i as i64 * 1_000_000),
            values: vec![x, 2.0 * x + (i % 7) as f64],
            image: None,
        }
    };
    let set = TrainingSet::new((0..400).map(row));
    learn(&two_fields::stream(&[]), &set, None, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

/// What was sent, by all machines.
#[derive(Default)]
struct Topics(Vec<OutgoingMessage>);

struct Machine {
    _models: tempfile::TempDir,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    sync: RegistrySync,
    /// How much of the topics it has read.
    read: usize,
}

impl Machine {
    fn new() -> Self {
        let models = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(models.path()).unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let sync =
            RegistrySync::open(registry.clone(), store.clone(), [two_fields::stream(&[])]).unwrap();
        Self {
            _models: models,
            registry,
            store,
            sync,
            read: 0,
        }
    }

    /// Starts again with the same folders.
    fn restart(&mut self) {
        self.sync = RegistrySync::open(
            self.registry.clone(),
            self.store.clone(),
            [two_fields::stream(&[])],
        )
        .unwrap();
        self.read = 0;
    }

    fn promote(&self, bundle: &Bundle, why: &str) {
        bundle.save(self.registry.root()).unwrap();
        self.registry.promote("s", bundle.id(), why).unwrap();
    }

    /// Reads what is new, and tells what has changed here.
    fn turn(&mut self, topics: &mut Topics, is_trainer: bool) {
        for message in &topics.0[self.read..] {
            match message {
                OutgoingMessage::Control(key, value) => {
                    let value = value
                        .as_ref()
                        .map(|value| serde_json::to_vec(value).unwrap());
                    assert_eq!(
                        self.sync.take_control("control", key, value.as_deref()),
                        None
                    );
                }
                OutgoingMessage::Part(key, part) => {
                    let part = part
                        .as_ref()
                        .map(|(label, bytes)| (label.clone(), bytes.as_slice()));
                    self.sync.take_part("bundles", key, part);
                }
            }
        }
        topics
            .0
            .extend(self.sync.reconcile(|_| is_trainer).unwrap());
        self.read = topics.0.len();
    }

    fn live(&self) -> Option<String> {
        self.registry.current("s").unwrap()
    }
}

/// Lets both read and tell until neither has anything to tell any more; the first one leads.
fn reconcile(topics: &mut Topics, machines: &mut [&mut Machine]) {
    for round in 0.. {
        let before = topics.0.len();
        for (number, machine) in machines.iter_mut().enumerate() {
            machine.turn(topics, number == 0);
        }
        if topics.0.len() == before && machines.iter().all(|machine| machine.read == before) {
            return;
        }
        assert!(
            round < 20,
            "they tell each other for ever: {:?}",
            topics.0.len()
        );
    }
}

#[test]
fn a_late_joiner_starts_with_what_is_live_and_keeps_up() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    let [first, second] = [bundle(1), bundle(2)];
    a.promote(&first, "the first one");
    a.turn(&mut topics, true);
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(b.live().as_deref(), Some(first.id()));
    b.registry.load_current("s").unwrap();

    a.promote(&second, "proved itself");
    a.registry
        .attach("s", second.id(), "verdict.json", b"{}")
        .unwrap();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(b.live().as_deref(), Some(second.id()));
    assert!(
        b.registry
            .attached("s", second.id(), "verdict.json")
            .unwrap()
            .is_some()
    );
    assert!(
        b.registry
            .history("s")
            .unwrap()
            .entries()
            .unwrap()
            .last()
            .unwrap()
            .why
            .contains("proved itself, on another instance")
    );
    // The other way round: a command on the second machine.
    b.registry
        .promote("s", first.id(), "rolled back by hand")
        .unwrap();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(
        [a.live(), b.live()],
        [Some(first.id().to_owned()), Some(first.id().to_owned())]
    );
}

#[test]
fn what_changed_while_a_machine_was_away_is_told_apart() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    let [first, second, third] = [bundle(1), bundle(2), bundle(3)];
    a.promote(&first, "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    // The others have another one meanwhile.
    a.promote(&second, "proved itself");
    a.turn(&mut topics, true);
    b.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(b.live().as_deref(), Some(second.id()));
    // Somebody has chosen one on the machine that was down.
    b.promote(&third, "promoted by hand");
    b.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(
        [a.live(), b.live()],
        [Some(third.id().to_owned()), Some(third.id().to_owned())]
    );
    // Both have: the later one counts.
    a.registry.promote("s", first.id(), "by hand").unwrap();
    a.turn(&mut topics, true);
    b.registry
        .promote("s", second.id(), "by hand, later")
        .unwrap();
    b.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(
        [a.live(), b.live()],
        [Some(second.id().to_owned()), Some(second.id().to_owned())]
    );
}

#[test]
fn two_first_models_become_one() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    a.promote(&bundle(1), "the first one");
    b.promote(&bundle(2), "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(a.live(), b.live());
    assert_eq!(a.registry.ids("s").unwrap().len(), 2, "and neither is lost");
}

#[test]
fn a_damaged_bundle_is_refused_and_what_is_live_stays() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    a.promote(&bundle(1), "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    let live = b.live();
    let sent = topics.0.len();
    a.promote(&bundle(2), "proved itself");
    a.turn(&mut topics, true);
    for message in &mut topics.0[sent..] {
        if let OutgoingMessage::Part(_, Some((_, bytes))) = message {
            bytes[40] ^= 1;
        }
    }
    b.turn(&mut topics, false);
    assert_eq!(b.live(), live);
    assert_eq!(b.registry.ids("s").unwrap().len(), 1);
}

#[test]
fn a_bundle_that_is_damaged_or_lost_on_one_machine_comes_back_from_the_others() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    a.promote(&bundle(1), "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    let folder = b.registry.root().join("s").join(b.live().unwrap());
    std::fs::write(folder.join("weights.safetensors"), b"damaged").unwrap();
    assert!(b.registry.load_current("s").is_err());
    b.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert!(b.registry.load_current("s").unwrap().is_some());
    std::fs::remove_dir_all(&folder).unwrap();
    b.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert!(b.registry.load_current("s").unwrap().is_some());
}

#[test]
fn a_pin_and_a_training_that_is_asked_for_reach_the_one_who_trains() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    a.promote(&bundle(1), "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    b.registry.flags("s").unwrap().pin(true).unwrap();
    b.registry.flags("s").unwrap().request_training().unwrap();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert!(a.registry.flags("s").unwrap().is_pinned());
    assert!(
        a.registry.flags("s").unwrap().take_training_request(),
        "once"
    );
    b.restart();
    a.restart();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert!(
        !a.registry.flags("s").unwrap().take_training_request(),
        "and not again at every start"
    );
    a.registry.flags("s").unwrap().pin(false).unwrap();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert!(!b.registry.flags("s").unwrap().is_pinned());
}

#[test]
fn the_topic_holds_the_newest_bundles_only() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    for number in 0..20 {
        let bundle = bundle(number);
        a.promote(&bundle, "another one");
        reconcile(&mut topics, &mut [&mut a, &mut b]);
    }
    let removed = topics
        .0
        .iter()
        .filter(|message| matches!(message, OutgoingMessage::Part(_, None)))
        .count();
    assert!((3..=4).contains(&removed), "{removed}");
    a.restart();
    b.restart();
    let before = topics.0.len();
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(
        topics.0.len(),
        before,
        "and nobody sends the old ones again"
    );
    // Whoever trains removes old bundles from the topic: not as many parts as a forged size has.
    let (old, hash) = (bundle(0), String::new());
    for bytes in [usize::MAX, BYTES_MAX + 1] {
        let header = ArchiveHeader {
            hash: hash.clone(),
            bytes,
        };
        let key = format!("s/{}/0", old.id());
        (a.sync).take_part("bundles", &key, Some((header, b"x")));
        assert_eq!(a.sync.reconcile(|_| true).unwrap(), []);
    }
}

#[test]
fn a_message_of_a_newer_release_is_left_as_it_is() {
    let (mut topics, mut a, mut b) = (Topics::default(), Machine::new(), Machine::new());
    let [first, second, third] = [bundle(1), bundle(2), bundle(3)];
    a.promote(&first, "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    let newer = |kind: &str| format!(r#"{{"type":"{kind}","stream":"s","of_a_newer_release":1}}"#);
    for key in ["live", "pin"] {
        let (value, key) = (newer(key), format!("{key}/s"));
        let taken = (a.sync).take_control("control", &key, Some(value.as_bytes()));
        assert_eq!(taken, None);
    }
    a.registry.flags("s").unwrap().pin(true).unwrap();
    a.promote(&second, "by hand");
    let sent = a.sync.reconcile(|_| true).unwrap();
    let controls = sent
        .iter()
        .filter(|m| matches!(m, OutgoingMessage::Control(..)));
    assert_eq!(controls.count(), 0, "neither is replaced: {sent:?}");
    assert_eq!(
        a.live().as_deref(),
        Some(second.id()),
        "the command holds here"
    );
    // The operator of the newer release promotes one that this release reads.
    let readable = format!(
        r#"{{"type":"live","stream":"s","bundle":"{}","why":"x","at":"2099-01-01T00:00:00Z"}}"#,
        third.id()
    );
    third.save(a.registry.root()).unwrap();
    (a.sync).take_control("control", "live/s", Some(readable.as_bytes()));
    a.sync.reconcile(|_| true).unwrap();
    assert_eq!(a.live().as_deref(), Some(third.id()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_message_of_a_topic_ends_the_sharing(
        seconds in prop::collection::vec(-377_705_023_201_i64..=253_402_207_200, 4),
        offsets: [i64; 2],
        partition: i32,
        peak: f64,
        bytes: usize,
        number: usize,
        key in "(s/)?[a-f0-9/]{0,40}",
        rest: Vec<u8>,
    ) {
        let mut a = Machine::new();
        let at = |i: usize| jiff::Timestamp::from_second(seconds[i]).unwrap().to_string();
        let live = serde_json::json!({
            "type": "live", "stream": "s", "bundle": "0".repeat(32), "why": "x", "at": at(0)
        });
        let feedback = serde_json::json!({
            "type": "feedback", "stream": "s", "label": "confirmed", "series": "a",
            "from": at(1), "until": at(2), "at": at(3), "peak_score": peak,
            "records": { "partition": partition, "first": offsets[0], "last": offsets[1] }
        });
        for value in [live, feedback] {
            let value = serde_json::to_vec(&value).unwrap();
            let feedback = a.sync.take_control("control", &key, Some(&value));
            if let Some(feedback) = feedback {
                feedback.subject();
                feedback.is_about("a", EventTime(offsets[0]));
            }
        }
        a.sync.take_control("control", "live/s", Some(&rest));
        a.sync.take_control("control", &key, None);
        for key in [key.clone(), format!("s/{}/{number}", "0".repeat(32))] {
            let header = ArchiveHeader { hash: "0".into(), bytes };
            a.sync.take_part("bundles", &key, Some((header, &rest)));
            a.sync.take_part("bundles", &key, None);
        }
        prop_assert!(a.sync.reconcile(|_| true).unwrap().len() < 10);
    }
}

#[test]
fn a_live_message_of_the_last_time_there_is_ends_nothing() {
    let mut topics = Topics::default();
    let mut a = Machine::new();
    let mut b = Machine::new();
    let (first, second) = (bundle(1), bundle(2));
    a.promote(&first, "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    let forged = format!(
        r#"{{"type":"live","stream":"s","bundle":"{}","why":"x","at":"9999-12-30T22:00:00.999999999Z"}}"#,
        first.id()
    );
    for machine in [&mut a, &mut b] {
        let taken = (machine.sync).take_control("control", "live/s", Some(forged.as_bytes()));
        assert_eq!(taken, None);
    }
    a.promote(&second, "promoted by hand");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(a.live().as_deref(), Some(second.id()));
    assert_eq!(b.live().as_deref(), Some(second.id()));
}

#[test]
fn a_bundle_that_does_not_fit_is_refused_and_the_live_one_stays() {
    let mut topics = Topics::default();
    let mut a = Machine::new();
    let mut b = Machine::new();
    let first = bundle(1);
    a.promote(&first, "the first one");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    let other = two_fields::bundle(&two_fields::stream(&["window=4"]), &["a"]);
    a.promote(&other, "of windows, by hand");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(b.live().as_deref(), Some(first.id()));
    let second = bundle(2);
    a.promote(&second, "by hand");
    reconcile(&mut topics, &mut [&mut a, &mut b]);
    assert_eq!(b.live().as_deref(), Some(second.id()));
}

//! Bundles and commands of the shared topics that carry no signature of a trusted key.

use std::fs;
use std::path::Path;

use crate::share::{command, live, start, stream};
use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Read, produce, program, wait_for};

const NORMAL: usize = 1_600;

fn openssl(arguments: &[&str]) -> String {
    let out = program("openssl").args(arguments).output().unwrap();
    assert!(out.status.success(), "{arguments:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// Makes a private key, and returns its public key as outlierd has it.
fn generate_key(path: &Path) -> String {
    let path = path.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", path]);
    let public = openssl(&["pkey", "-in", path, "-pubout"]);
    public.lines().nth(1).unwrap().to_owned()
}

/// Sends a message as somebody who has a right to the topic, and no key.
fn forge(stream: &Stream, ending: &str, key: &str, value: &str) {
    let topic = format!("{}.{ending}", stream.topic);
    produce(
        &stream.broker,
        &topic,
        format!("{key}\t{value}\n").as_bytes(),
        &["-K", "\t"],
    );
}

#[test]
fn a_bundle_or_command_without_a_trusted_signature_is_ignored() {
    let stream = stream("signed");
    let key = stream.folder.path().join("key.pem");
    let public = generate_key(&key);
    let text = fs::read_to_string(&stream.config).unwrap();
    let keys = format!("[share]\nsigning_key = {key:?}\ntrusted_keys = [{public:?}]\n");
    fs::write(&stream.config, text.replace("[share]\n", &keys)).unwrap();
    let normal: Vec<String> = (0..TRAIN + NORMAL).map(|i| steady(i, 0.0)).collect();
    stream.send(&normal);
    let a = start(&stream, "a");
    stream.await_scores(normal.len());
    let first = live(&stream, "a").unwrap();

    forge(
        &stream,
        "control",
        "pin/rig",
        r#"{"type":"pin","stream":"rig","pinned":true}"#,
    );
    let other = r#"{"type":"live","stream":"rig","bundle":"0badc0de","why":"w","at":"2100-01-01T00:00:00Z"}"#;
    forge(&stream, "control", "live/rig", other);
    forge(
        &stream,
        "control",
        "challenge/rig",
        r#"{"type":"challenge","stream":"rig"}"#,
    );
    forge(&stream, "bundles", "rig/0badc0de/0", "weights");
    let is_live =
        |read: &Read| read.key == "live/rig" && read.headers.contains_key("outlierd-signature");
    assert!(
        stream.read("control").iter().any(is_live),
        "the live bundle is signed"
    );
    let refused = "outlierd_shared_messages_refused_total";
    a.await_metric(refused, "reason=\"unsigned\"", 4.0);
    assert!(
        a.log().contains("message ignored: no signature"),
        "{}",
        a.log()
    );
    assert_eq!(live(&stream, "a").as_ref(), Some(&first));
    assert!(!command(&stream, "a", &["model", "show", "rig"]).contains("pinned     yes"));
    assert_eq!(
        a.metric("outlierd_trainings_total", ""),
        0.0,
        "no one asked for one"
    );

    // A machine that joins imports what is signed, and its commands are followed.
    let b = start(&stream, "b");
    wait_for("the bundle on b", || {
        (live(&stream, "b")? == first).then_some(())
    });
    b.await_metric(refused, "reason=\"unsigned\"", 3.0);
    command(&stream, "b", &["model", "challenge", "rig"]);
    let second = wait_for("a new bundle on b", || {
        live(&stream, "b").filter(|id| *id != first)
    });
    wait_for("the same on a", || {
        (live(&stream, "a")? == second).then_some(())
    });
}

//! Images from a topic: learned from, scored exactly once across kills, alerts and heat maps out,
//! bombs to the dead letters.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    Daemon, Read, broker, consume, create_topic, outlierd, program, unique, wait_for, write_config,
};
use crate::test_images::{LEARNED, QUICK, pictures};

const CAMERA: &str = "camera-1";

/// A topic of images, and the configuration of a daemon that reads it.
struct Cameras {
    folder: tempfile::TempDir,
    topic: String,
    config: PathBuf,
}

impl Cameras {
    fn new(name: &str, more: &str) -> Self {
        let (broker, topic, folder) = (broker(), unique(name), tempfile::tempdir().unwrap());
        create_topic(&broker, &topic, 1);
        let quick: String = QUICK
            .map(|setting| setting.replace("format=image", "format=\"image\"") + "\n")
            .concat();
        let text = format!(
            "service.http_listen = \"\"\n\
             [share]\nbundles = \"{topic}.bundles\"\ncontrol = \"{topic}.control\"\nevents = \"{topic}.events\"\n\
             [streams.cameras]\ninput = {{ topic = {topic:?}, group = {topic:?}, commit_interval = \"200ms\" }}\n\
             output = {{ alerts = \"{topic}.alerts\", dead_letters = \"{topic}.dead\", states = \"{topic}.states\", \
             scores = \"{topic}.scores\", heat_maps = \"{topic}.maps\" }}\n{quick}training.epochs = 4\n{more}",
        );
        let config = write_config(folder.path(), &broker, &text);
        Self {
            folder,
            topic,
            config,
        }
    }

    /// Writes files, whose names keep their order.
    fn files(&self, folder: &str, files: &[Vec<u8>]) -> Vec<PathBuf> {
        let folder = self.folder.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let write = |(at, bytes): (usize, &Vec<u8>)| {
            let path = folder.join(format!("{at:03}.png"));
            fs::write(&path, bytes).unwrap();
            path
        };
        files.iter().enumerate().map(write).collect()
    }

    /// Sends each file as one message.
    fn send(&self, files: &[PathBuf], flags: &[&str]) {
        let key = [
            "-P",
            "-q",
            "-b",
            &broker(),
            "-t",
            &self.topic,
            "-k",
            CAMERA,
            "-X",
            "message.max.bytes=12000000",
        ];
        let sent = program("kcat")
            .args(key)
            .args(flags)
            .args(files)
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn read(&self, ending: &str) -> Vec<Read> {
        consume(&broker(), &format!("{}.{ending}", self.topic))
    }

    fn json(&self, ending: &str) -> Vec<Value> {
        self.read(ending)
            .into_iter()
            .map(|read| serde_json::from_slice(&read.value.unwrap()).unwrap())
            .collect()
    }

    fn await_scores(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} scores"), || {
            let exists = program("kcat")
                .args([
                    "-L",
                    "-b",
                    &broker(),
                    "-t",
                    &format!("{}.scores", self.topic),
                ])
                .output()
                .unwrap();
            if String::from_utf8_lossy(&exists.stdout).contains("Unknown topic") {
                return None;
            }
            let scores = self.json("scores");
            (scores.len() >= count).then_some(scores)
        })
    }
}

#[test]
fn images_are_learned_scored_once_and_pointed_at() {
    let cameras = Cameras::new("images", "");
    let all = pictures(LEARNED + 40, |number| number >= LEARNED && number % 9 == 4);
    let files = cameras.files("all", &all);
    let mut bomb = all[0].clone();
    // The header claims 60000 x 60000 pixels.
    bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let checksum = crc32fast::hash(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let bad = cameras.files("bad", &[bomb, b"GIF89a no picture that is read".to_vec()]);

    cameras.send(&files[..LEARNED], &[]);
    let mut daemon = Daemon::start(&cameras.config, "daemon-0");
    cameras.await_scores(LEARNED);
    cameras.send(&files[LEARNED..LEARNED + 10], &[]);
    cameras.await_scores(LEARNED + 5);
    daemon.signal("KILL");
    daemon.wait();
    cameras.send(&bad, &[]);
    cameras.send(&files[LEARNED + 10..], &[]);
    let mut daemon = Daemon::start(&cameras.config, "daemon-1");
    let scores = cameras.await_scores(all.len());
    daemon.stop();

    assert_eq!(scores.len(), all.len(), "each image has one score");
    let dead: Vec<String> = cameras
        .read("dead")
        .iter()
        .map(|read| read.headers["outlierd-reason"].clone())
        .collect();
    assert_eq!(dead, ["image_too_large", "bad_image"]);
    let alerts = cameras.json("alerts");
    let opened: Vec<&Value> = alerts
        .iter()
        .filter(|alert| alert["event"] == "open")
        .collect();
    assert!(opened.len() >= 4, "{alerts:?}");
    assert!(
        opened
            .iter()
            .all(|alert| alert["regions"][0]["share"].as_f64().unwrap() > 0.0)
    );
    let maps = cameras.read("maps");
    for alert in &opened {
        let map = maps
            .iter()
            .find(|map| map.key == alert["id"].as_str().unwrap())
            .expect("a heat map of each alert");
        assert!(map.value.as_ref().unwrap().starts_with(b"\x89PNG"));
    }
    same_as_replay(&cameras, &files, &scores);
}

/// The scores are those that a replay of the same files gives with the same bundle.
fn same_as_replay(cameras: &Cameras, files: &[PathBuf], scores: &[Value]) {
    let (folder, config) = (cameras.folder.path(), cameras.config.to_str().unwrap());
    let id = fs::read_to_string(folder.join("models/cameras/current")).unwrap();
    let bundle = folder.join("models/cameras").join(id.trim());
    let out = folder.join("scores.csv");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let scored = folder.join("scored");
    fs::create_dir_all(&scored).unwrap();
    files[LEARNED..]
        .iter()
        .for_each(|path| _ = fs::copy(path, scored.join(path.file_name().unwrap())).unwrap());
    outlierd(&[
        "replay",
        "--config",
        config,
        "--stream",
        "cameras",
        &text(&scored),
        "--bundle",
        &text(&bundle),
        "--out",
        &text(&out),
    ]);
    let replayed = fs::read_to_string(out).unwrap();
    let column = |line: &str| line.split(',').nth(1).unwrap().to_owned();
    let replayed: Vec<String> = replayed.lines().skip(1).map(column).collect();
    let live: Vec<String> = scores[LEARNED..]
        .iter()
        .map(|score| score["score"].as_f64().unwrap().to_string())
        .collect();
    assert_eq!(live, replayed);
}

#[test]
fn an_envelope_holds_or_names_an_image() {
    let cameras = Cameras::new("envelope", "");
    let root = cameras.folder.path().join("pictures");
    let config = fs::read_to_string(&cameras.config).unwrap();
    let envelope = format!(
        "image.payload = \"json\"\nimage.root = {root:?}\nrecord.key = \"field:camera\"\nrecord.time = \"header:taken-at\"\n"
    );
    fs::write(&cameras.config, config + &envelope).unwrap();
    let all = pictures(4, |_| false);
    cameras.files("pictures", &all);
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(&all[0]);
    let objects = [
        serde_json::json!({ "camera": "a", "image": text }),
        serde_json::json!({ "camera": "a", "file": "001.png" }),
        serde_json::json!({ "camera": "a", "file": "../outlierd.toml" }),
    ];
    let objects: Vec<Vec<u8>> = objects
        .iter()
        .map(|object| object.to_string().into_bytes())
        .collect();
    let files = cameras.files("objects", &objects);
    for (second, file) in files.iter().enumerate() {
        cameras.send(
            std::slice::from_ref(file),
            &["-H", &format!("taken-at={}", 1_700_000_000 + second)],
        );
    }
    let mut daemon = Daemon::start(&cameras.config, "daemon");
    let scores = cameras.await_scores(2);
    let dead = wait_for("the dead letter", || {
        Some(cameras.read("dead")).filter(|dead| !dead.is_empty())
    });
    daemon.stop();
    assert!(
        scores
            .iter()
            .all(|score| score["series"] == "a" && score["verdict"] == "learning"),
        "{scores:?}"
    );
    assert_eq!(scores[1]["time"], "2023-11-14T22:13:21Z");
    assert_eq!(dead[0].headers["outlierd-reason"], "bad_file");
}

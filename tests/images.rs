//! Images through the pipeline and the commands: learned from, scored, alerts that point at the
//! defect, and what is not an image.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_images;
mod test_stream;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::model::bundle::Bundle;
use outlierd::model::script;
use outlierd::pipeline::series::SeriesTable;
use outlierd::pipeline::{BatchOutput, Pipeline};
use outlierd::record::alert::AlertEvent;
use outlierd::record::feedback::{Feedback, FeedbackEffect, FeedbackLabel};
use outlierd::record::image::Region;
use outlierd::record::{EventTime, Message, RecordVerdict, RejectReason};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::TrainingSet;
use outlierd::state::codec;

use sha2::{Digest, Sha256};

use test_images::{HOLE, LEARNED, pictures, stream};

fn message(number: usize, file: &[u8]) -> Message<'_> {
    let (offset, timestamp) = (number as i64, Some(EventTime(number as i64 * 1_000_000)));
    Message {
        partition: 0,
        offset,
        key: Some(b"camera"),
        payload: Some(file),
        timestamp,
        arrival: timestamp,
        headers: None,
    }
}

fn messages(files: &[Vec<u8>]) -> Vec<Message<'_>> {
    files
        .iter()
        .enumerate()
        .map(|(number, file)| message(number, file))
        .collect()
}

/// A bundle that has learned what the stream's pipeline made of good pictures.
fn trained(stream: &Arc<StreamSettings>) -> Bundle {
    let files = pictures(LEARNED, |_| false);
    let mut pipeline = Pipeline::new(stream.clone(), None).unwrap();
    let done = pipeline
        .run(&messages(&files), &mut SeriesTable::new(9), &mut |_, _| {
            Ok(None)
        })
        .unwrap();
    assert_eq!(done.training_rows().count(), LEARNED);
    let set = TrainingSet::new(done.training_rows().map(|(_, row)| row));
    learn(stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn run(stream: &Arc<StreamSettings>, bundle: Bundle, files: &[Vec<u8>]) -> BatchOutput {
    let mut pipeline = Pipeline::new(stream.clone(), Some(bundle)).unwrap();
    pipeline
        .run(&messages(files), &mut SeriesTable::new(9), &mut |_, _| {
            Ok(None)
        })
        .unwrap()
}

fn overlaps(region: &Region) -> bool {
    let [x, y, width, height] = HOLE;
    region.x < x + width
        && x < region.x + region.width
        && region.y < y + height
        && y < region.y + region.height
}

#[test]
fn a_new_normal_takes_back_what_a_false_alarm_raised() {
    let stream = stream(&["model.kind=linear", "model.latent=8"]);
    let bundle = trained(&stream);
    let mut pipeline = Pipeline::new(stream.clone(), Some(bundle)).unwrap();
    let mut table = SeriesTable::new(9);
    let mut load = |_: i32, _: &str| Ok(None);
    let files = pictures(LEARNED + 6, |_| false);
    let files = messages(&files);
    let mut next = files[LEARNED..].chunks_exact(1);
    let mut threshold_after = |label: Option<FeedbackLabel>| {
        let mut run = |table: &mut SeriesTable| {
            let done = pipeline.run(next.next().unwrap(), table, &mut load);
            done.unwrap().outcomes[0].threshold.unwrap()
        };
        let before = run(&mut table);
        if let Some(label) = label {
            let slot = table.known_slot(0, "camera", &mut |_, _| Ok(None));
            let slot = slot.unwrap().unwrap();
            let state = &mut table.get_mut(slot).unwrap().state;
            let said = Feedback {
                stream: "s".into(),
                label,
                series: "camera".into(),
                alert: None,
                from: jiff::Timestamp::UNIX_EPOCH,
                until: jiff::Timestamp::UNIX_EPOCH,
                records: None,
                peak_score: Some(2.0 * before),
                bundle: pipeline.detector.bundle_id().map(ToString::to_string),
                at: jiff::Timestamp::UNIX_EPOCH,
                note: None,
            };
            let done = pipeline.detector.apply_feedback(state, &said);
            assert_eq!(done, FeedbackEffect::Applied);
        }
        let after = pipeline.run(next.next().unwrap(), &mut table, &mut load);
        after.unwrap().outcomes[0].threshold.unwrap()
    };
    let calibrated = threshold_after(None);
    assert!(threshold_after(Some(FeedbackLabel::FalseAlarm)) > 2.0 * calibrated);
    let again = threshold_after(Some(FeedbackLabel::NewNormal));
    assert!(
        (again / calibrated - 1.0).abs() < 0.05,
        "{again} {calibrated}"
    );
}

#[test]
fn every_kind_points_at_the_hole_and_at_nothing_else() {
    let files = pictures(96, |number| number >= LEARNED && number % 8 == 3);
    for kind in ["conv2d", "unet", "vae2d", "linear", "frame", "patch"] {
        let kind_of = format!("model.kind={kind}");
        let small = if kind == "linear" {
            "model.latent=8"
        } else {
            "model.latent=16"
        };
        let stream = stream(&[&kind_of, small, "output.heat_maps=maps"]);
        let done = run(&stream, trained(&stream), &files);
        let opened: Vec<_> = done
            .alerts
            .iter()
            .filter(|alert| alert.event == AlertEvent::Open)
            .collect();
        let found: Vec<i64> = opened
            .iter()
            .map(|alert| alert.position.offset)
            .filter(|&at| at >= 64)
            .collect();
        assert_eq!(found, [67, 75, 83, 91], "{kind}: {:?}", scores(&done));
        for alert in opened.iter().filter(|alert| alert.position.offset >= 64) {
            assert!(overlaps(&alert.regions[0]), "{kind}: {alert:?}");
            assert!(
                (alert.regions.iter().map(|region| region.share).sum::<f64>() - 1.0).abs() < 0.5,
                "{kind}"
            );
            let (_, png) = done
                .heat_maps
                .iter()
                .find(|(id, _)| *id == alert.id)
                .unwrap();
            let map = image::load_from_memory(png).unwrap().to_rgb8();
            assert_eq!((map.width(), map.height()), (96, 80));
            let [red, green, _] = map.get_pixel(HOLE[0] + 5, HOLE[1] + 5).0;
            assert!(
                red > 100 && green < 60,
                "{kind}: the hole is red, found {red} {green}"
            );
        }
        assert!(
            done.alerts
                .iter()
                .all(|alert| alert.event != AlertEvent::Close || alert.regions.is_empty())
        );
        assert!(done.alerts.iter().all(|alert| alert.fields.is_empty()));
    }
}

#[test]
fn a_module_of_tiles_scores_images() {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/blur.pt");
    let sha256 = hex::encode(Sha256::digest(fs::read(&module).unwrap()));
    let (file, digest) = (
        format!("model.script={}", module.display()),
        format!("model.sha256={sha256}"),
    );
    let stream = stream(&["model.kind=torchscript", &file, &digest]);
    script::allow([&stream.model]);
    let done = run(
        &stream,
        trained(&stream),
        &pictures(LEARNED + 8, |number| number == LEARNED + 5),
    );
    let at: Vec<usize> = (LEARNED..LEARNED + 8)
        .filter(|&n| done.outcomes[n].verdict == RecordVerdict::Outlier)
        .collect();
    assert_eq!(at, [LEARNED + 5], "{:?}", scores(&done));
    assert!(
        done.alerts
            .iter()
            .any(|alert| alert.regions.first().is_some_and(overlaps))
    );
}

#[test]
fn a_backbone_takes_the_place_of_the_filter_bank() {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pyramid.pt");
    let sha256 = hex::encode(Sha256::digest(fs::read(&module).unwrap()));
    let (file, digest) = (
        format!("model.backbone={}", module.display()),
        format!("model.backbone_sha256={sha256}"),
    );
    for kind in ["model.kind=frame", "model.kind=patch"] {
        let stream = stream(&[kind, &file, &digest]);
        script::allow([&stream.model]);
        let bundle = trained(&stream);
        let features = bundle.manifest.shape.features.as_ref().unwrap();
        assert_eq!(
            (features.backbone.as_deref(), features.channels),
            (Some(&*sha256), 6)
        );
        let done = run(
            &stream,
            bundle,
            &pictures(LEARNED + 8, |number| number == LEARNED + 5),
        );
        let score = |number: usize| done.outcomes[number].scored.as_ref().unwrap().score;
        let others = (0..8).filter(|&at| at != 5).map(|at| score(LEARNED + at));
        assert!(score(LEARNED + 5) > others.fold(0.0, f64::max), "{kind}");
    }
}

#[test]
fn images_of_any_size_go_through_patch_at_their_own_size() {
    let stream = stream(&["model.kind=patch", "model.input=0"]);
    let bundle = trained(&stream);
    let mut files = pictures(LEARNED + 2, |number| number == LEARNED + 1);
    // A corner of a picture, without the hole.
    let corner = image::load_from_memory(&files[LEARNED])
        .unwrap()
        .crop_imm(0, 0, 41, 57);
    let mut file = std::io::Cursor::new(Vec::new());
    corner.write_to(&mut file, image::ImageFormat::Png).unwrap();
    files[LEARNED] = file.into_inner();
    let done = run(&stream, bundle, &files);
    let score = |number: usize| done.outcomes[number].scored.as_ref().unwrap().score;
    assert!(
        score(LEARNED + 1) > 2.0 * score(LEARNED),
        "{:?}",
        scores(&done)
    );
    assert!(
        done.alerts
            .iter()
            .any(|alert| alert.regions.first().is_some_and(overlaps))
    );
}

fn scores(done: &BatchOutput) -> Vec<(f64, f64)> {
    let pair = |o: &outlierd::record::RecordOutcome| Some((o.scored.as_ref()?.score, o.threshold?));
    done.outcomes.iter().filter_map(pair).collect()
}

#[test]
fn ssim_finds_a_hole_too() {
    let stream = stream(&["image.error=ssim", "training.epochs=8", "model.kind=unet"]);
    let done = run(
        &stream,
        trained(&stream),
        &pictures(LEARNED + 4, |number| number == LEARNED + 2),
    );
    let score = |number: usize| done.outcomes[number].scored.as_ref().unwrap().score;
    let others = [0, 1, 3]
        .map(|at| score(LEARNED + at))
        .into_iter()
        .fold(0.0, f64::max);
    assert!(
        score(LEARNED + 2) > others,
        "{} and {others}",
        score(LEARNED + 2)
    );
}

#[test]
fn the_same_pictures_give_the_same_however_they_were_batched_and_resumed() {
    for kind in ["conv2d", "frame", "patch"] {
        gives_the_same(&stream(&[&format!("model.kind={kind}")]));
    }
}

fn gives_the_same(stream: &Arc<StreamSettings>) {
    let folder = tempfile::tempdir().unwrap();
    let saved = trained(stream).save(folder.path()).unwrap();
    assert_eq!(
        Bundle::load(&saved).unwrap().id(),
        trained(stream).id(),
        "the same pictures, the same bundle"
    );
    let mut files = pictures(90, |number| number % 7 == 5);
    files[70] = b"no picture".to_vec();
    let whole = run(stream, Bundle::load(&saved).unwrap(), &files);
    for (batch, resume) in [(1, 90), (7, 20), (90, 13)] {
        let mut stored: HashMap<String, Vec<u8>> = HashMap::new();
        let (mut outcomes, mut alerts) = (Vec::new(), Vec::new());
        for (part, files) in files.chunks(resume).enumerate() {
            let mut pipeline =
                Pipeline::new(stream.clone(), Some(Bundle::load(&saved).unwrap())).unwrap();
            let mut table = SeriesTable::new(9);
            for (at, files) in files.chunks(batch).enumerate() {
                let first = part * resume + at * batch;
                let messages: Vec<_> = files
                    .iter()
                    .zip(first..)
                    .map(|(file, n)| message(n, file))
                    .collect();
                let mut load = |_, series: &str| {
                    let bytes = stored.get(series);
                    Ok(bytes.map(|bytes| codec::decode(bytes).unwrap()))
                };
                let done = pipeline.run(&messages, &mut table, &mut load).unwrap();
                outcomes.extend(
                    done.outcomes
                        .into_iter()
                        .map(|o| (o.time, o.scored, o.threshold, o.verdict)),
                );
                alerts.extend(done.alerts);
            }
            stored = table
                .take_dirty()
                .map(|slot| (slot.series.to_string(), codec::encode(&slot.state).unwrap()))
                .collect();
        }
        let expected: Vec<_> = whole
            .outcomes
            .iter()
            .cloned()
            .map(|o| (o.time, o.scored, o.threshold, o.verdict))
            .collect();
        assert_eq!(
            outcomes, expected,
            "batches of {batch}, resumed after {resume}"
        );
        assert_eq!(alerts, whole.alerts);
    }
}

#[test]
fn a_camera_that_stands_still_is_a_fault_and_a_broken_picture_a_dead_letter() {
    let stream = stream(&["gate.stuck_after=5"]);
    let mut files = pictures(10, |_| false);
    files.extend((0..40).map(|_| files[9].clone()).collect::<Vec<_>>());
    files.push(files[0][..200].to_vec());
    let done = run(&stream, trained(&stream), &files);
    assert_eq!(
        done.outcomes.last().unwrap().verdict,
        RecordVerdict::SensorFault
    );
    let rejected: Vec<_> = done
        .rejected
        .iter()
        .map(|rejected| (rejected.message, rejected.reason))
        .collect();
    assert_eq!(rejected, [(50, RejectReason::BadImage)]);
}

fn outlierd(args: &[&str], folder: &Path) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

fn write(folder: &Path, files: &[Vec<u8>]) {
    fs::create_dir_all(folder).unwrap();
    files
        .iter()
        .enumerate()
        .for_each(|(at, file)| fs::write(folder.join(format!("{at:03}.png")), file).unwrap());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn the_commands_learn_replay_and_judge_folders_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join("stone").join(path);
    let all = pictures(96, |number| number >= 80);
    write(&at("train/good"), &all[..LEARNED]);
    write(&at("test/good"), &all[LEARNED..80]);
    write(&at("test/hole"), &all[80..]);
    let mask = image::GrayImage::from_fn(96, 80, |x, y| {
        let [left, top, width, height] = HOLE;
        let inside = (left..left + width).contains(&x) && (top..top + height).contains(&y);
        image::Luma([if inside { 255 } else { 0 }])
    });
    fs::create_dir_all(at("ground_truth/hole")).unwrap();
    (0..16).for_each(|n| {
        mask.save(at(&format!("ground_truth/hole/{n:03}_mask.png")))
            .unwrap()
    });
    let quick = test_images::QUICK.map(|setting| format!("streams.s.{setting}"));
    let flags: Vec<String> = quick
        .iter()
        .flat_map(|setting| {
            [
                "--set".into(),
                setting.replace("streams.s", "image_defaults"),
            ]
        })
        .collect();
    let mut args = vec![
        "evaluate",
        "--images",
        "stone",
        "--out",
        "out",
        "--set",
        "image_defaults.training.epochs=4",
    ];
    args.extend(flags.iter().map(String::as_str));
    let text = outlierd(&args, folder.path());
    let figures: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("out/figures.json")).unwrap())
            .unwrap();
    assert_eq!(
        (
            figures["all"]["records"].as_u64(),
            figures["all"]["anomalous"].as_u64()
        ),
        (Some(32), Some(16)),
        "{text}"
    );
    assert!(figures["all"]["roc_auc"].as_f64().unwrap() > 0.97, "{text}");
    let located = &figures["all"]["located"];
    assert!(
        located["caught"].as_u64().unwrap() > 12 && located["caught"] == located["overlapping"],
        "{text}"
    );
    let report = fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(report.contains("data:image/png;base64,") && report.contains("hole/0"));

    let config = "service.model_dir = \"models\"\nservice.state_dir = \"state\"\n[streams.s]\ninput.topic = \"t\"\ntraining.epochs = 4\n";
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let mut args = vec!["train", "--config", "c.toml", "stone/train/good"];
    let flags: Vec<String> = quick
        .iter()
        .flat_map(|setting| ["--set".into(), setting.clone()])
        .collect();
    args.extend(flags.iter().map(String::as_str));
    let text = outlierd(&args, folder.path());
    assert!(
        text.contains("64 training records") && text.contains("promoted"),
        "{text}"
    );
    let id = fs::read_to_string(folder.path().join("models/s/current")).unwrap();
    let bundle = format!("models/s/{}", id.trim());
    let mut args = vec![
        "replay",
        "--config",
        "c.toml",
        "--stream",
        "s",
        "stone/test/hole",
        "--bundle",
        &bundle,
        "--out",
        "hole.csv",
    ];
    args.extend(flags.iter().map(String::as_str));
    outlierd(&args, folder.path());
    let scores = fs::read_to_string(folder.path().join("hole.csv")).unwrap();
    assert!(
        scores
            .lines()
            .filter(|line| line.contains(",outlier,"))
            .count()
            > 12,
        "{scores}"
    );
}

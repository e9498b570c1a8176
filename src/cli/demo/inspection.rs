//! `outlierd demo --images`: cameras over simulated metal, whose pictures go through Kafka to the
//! daemon, unchanged, as the pumps' records do; planted defects, and an honest count of what it
//! found and where.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use image::{GrayImage, ImageFormat};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::daemon::{self, Daemon, Phase};
use super::feed::Feed;
use super::screen::Screen;
use super::{Args, Stage};
use crate::cli::table;
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::sim::surface::{DefectKind, SIDE, Surface, Texture, picture};

/// Number of training images.
const LEARNED: u64 = 96;
/// Pictures with a defect of each kind, at three pictures without one for each.
const DEFECTS: usize = 8;
/// Cameras, which take turns.
const CAMERAS: usize = 2;
/// How often the daemon is asked where it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The stream's settings: a small training, so that the demonstration is over in minutes. Nothing
/// is tuned to the defects.
fn overrides(seed: u32) -> Vec<String> {
    let stream = |key: &str, value: String| format!("streams.{}.{key}={value}", daemon::STREAM);
    vec![
        stream("record.format", "\"image\"".into()),
        stream("training.records", LEARNED.to_string()),
        stream("training.tiles", "2048".into()),
        stream("training.epochs", "15".into()),
        stream("training.seed", seed.to_string()),
    ]
}

/// What came of the pictures of one kind.
#[derive(Clone, Copy, Default, Serialize)]
struct Count {
    pictures: usize,
    /// Pictures whose score raised an alert.
    alerts: usize,
    /// Alerts whose first region overlaps the defect.
    located: usize,
}

/// The summary as JSON.
#[derive(Serialize)]
struct Summary {
    bundle: String,
    learned_pictures: u64,
    dead_letters: i64,
    training_seconds: f64,
    pictures_per_second: f64,
    /// By kind of defect; `good` has none.
    found: BTreeMap<&'static str, Count>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut stage = Stage::start(args, "surfaces", overrides(args.seed))?;
    let stop = &*stage.stop;
    let screen = &stage.screen;
    let feed = Feed::new(&stage.settings, &stage.topics)?;
    let mut line = Line {
        feed,
        seed: args.seed.into(),
        next: 0,
        stop,
        screen,
    };
    let began = line.learn(&mut stage.daemon)?;
    let (bundle, training) = stage.daemon.await_model(screen, stop, began)?;
    let live = Instant::now();
    let sent = line.inspect(&mut stage.daemon)?;
    screen.clear();
    let rate = sent.len() as f64 / live.elapsed().as_secs_f64();
    let dead_letters = line.feed.dead_letters()?;
    drop(line);
    let alerts = stage.finish()?;
    let summary = Summary {
        bundle,
        learned_pictures: LEARNED,
        dead_letters,
        training_seconds: training.as_secs_f64(),
        pictures_per_second: rate,
        found: counts(&sent, &alerts),
    };
    show(&summary);
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&summary)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture that was sent, by its place in the topic.
type Sent = BTreeMap<(i32, i64), (Option<DefectKind>, Surface)>;

/// The cameras.
struct Line<'a> {
    feed: Feed,
    seed: u64,
    /// Number of the next picture.
    next: u64,
    stop: &'a AtomicBool,
    screen: &'a Screen,
}

impl Line<'_> {
    fn send(&mut self, defect: Option<DefectKind>) -> anyhow::Result<((i32, i64), Surface)> {
        let surface = picture(Texture::Metal, defect, self.seed, self.next);
        let camera = self.next as usize % CAMERAS;
        self.next += 1;
        let side = SIDE as u32;
        let grey = GrayImage::from_raw(side, side, surface.pixels.clone())
            .context("a picture has its size")?;
        let mut file = Cursor::new(Vec::new());
        grey.write_to(&mut file, ImageFormat::Png)?;
        let at = self.feed.send(
            camera,
            &format!("camera-{}", camera + 1),
            &file.into_inner(),
        )?;
        while !self.feed.has_room() {
            self.feed.wait()?;
        }
        Ok((at, surface))
    }

    /// Sends the training images. Returns when the training started.
    fn learn(&mut self, daemon: &mut Daemon) -> anyhow::Result<Instant> {
        self.screen.begin("learning", LEARNED);
        for number in 0..LEARNED {
            self.send(None)?;
            self.screen.progress(number + 1, "pictures".into());
            if self.stop.load(Ordering::Acquire) {
                bail!("stopped before the model was live: no record was scored");
            }
        }
        while !matches!(daemon.phase()?, Phase::Training | Phase::Live { .. }) {
            self.feed.wait()?;
            std::thread::sleep(ASK_EVERY);
        }
        self.screen.done(
            "learning",
            &format!("{LEARNED} images of {SIDE} x {SIDE} pixels from {CAMERAS} cameras"),
        );
        Ok(Instant::now())
    }

    /// Sends pictures with and without defects, and waits until all are worked off.
    fn inspect(&mut self, daemon: &mut Daemon) -> anyhow::Result<Sent> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut defects: Vec<DefectKind> = DefectKind::ALL.repeat(DEFECTS);
        defects.shuffle(&mut rng);
        let mut sent = Sent::new();
        self.feed.restart_clock();
        self.screen.begin("live", 4 * defects.len() as u64);
        'all: for defect in defects {
            // An episode ends with a good picture of its camera, so that nearly each defect gets an
            // alert of its own.
            let place = rng.random_range(0..4usize);
            for at in 0..4 {
                let defect = (at == place).then_some(defect);
                let (position, surface) = self.send(defect)?;
                sent.insert(position, (defect, surface));
                if self.stop.load(Ordering::Acquire) {
                    break 'all;
                }
            }
            daemon.phase()?;
            self.screen.progress(
                (sent.len() as u64).saturating_sub(self.feed.backlog()),
                "pictures".into(),
            );
        }
        while self.feed.backlog() > 0 {
            self.feed.wait()?;
        }
        Ok(sent)
    }
}

fn counts(sent: &Sent, alerts: &[Alert]) -> BTreeMap<&'static str, Count> {
    let mut found: BTreeMap<&'static str, Count> = BTreeMap::new();
    for (defect, _) in sent.values() {
        found
            .entry(defect.map_or("good", DefectKind::as_str))
            .or_default()
            .pictures += 1;
    }
    let opened =
        |alert: &&Alert| alert.kind == AlertKind::Anomaly && alert.event == AlertEvent::Open;
    for alert in alerts.iter().filter(opened) {
        let Some((defect, surface)) = sent.get(&(alert.position.partition, alert.position.offset))
        else {
            continue;
        };
        let count = found
            .entry(defect.map_or("good", DefectKind::as_str))
            .or_default();
        count.alerts += 1;
        count.located += usize::from(alert.regions.first().is_some_and(|region| {
            region.any(|x, y| surface.defective.get(y as usize * SIDE + x as usize) == Some(&true))
        }));
    }
    found
}

fn show(summary: &Summary) {
    let mut table = table([
        "images with",
        "pictures",
        "alerts",
        "first region on the defect",
    ]);
    for (name, count) in &summary.found {
        let located = if *name == "good" {
            "-".to_owned()
        } else {
            format!("{} of {}", count.located, count.alerts)
        };
        table.add_row([
            (*name).to_owned(),
            count.pictures.to_string(),
            count.alerts.to_string(),
            located,
        ]);
    }
    println!("\n{table}");
    let defects = || {
        summary
            .found
            .iter()
            .filter(|(name, _)| **name != "good")
            .map(|(_, count)| count)
    };
    let of = |part: fn(&Count) -> usize| defects().map(part).sum::<usize>();
    println!(
        "{} of {} defects detected, {} false alarms on {} normal images; {} dead letters; {:.1} images/s",
        of(|count| count.alerts),
        of(|count| count.pictures),
        summary.found.get("good").map_or(0, |count| count.alerts),
        summary.found.get("good").map_or(0, |count| count.pictures),
        summary.dead_letters,
        summary.pictures_per_second
    );
}

//! `[streams.NAME.image]`, and what a stream of images asks of the other tables.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigReader;
use crate::config::problems::ConfigProblem;
use crate::config::settings::{FieldSettings, INPUTS_MAX, ImageFormat, ImagePayload, ImageSource};
use crate::config::{raw, text};

/// Below `max.poll.interval.ms`, which is 5 minutes.
const BATCH_MAX: Duration = Duration::from_secs(240);

/// What the gate sees of an image: how bright it is on average, 0 (black) to 1 (white).
pub(super) fn brightness() -> FieldSettings {
    let name = "brightness".to_owned();
    let unit = None;
    FieldSettings {
        path: vec![name.clone()],
        name,
        unit,
        min: 0.0,
        max: 1.0,
        resample: None,
    }
}

impl ConfigReader<'_> {
    /// `None` where something is wrong; `Some(None)` where records are readings.
    pub(super) fn image(
        &mut self,
        stream: &str,
        raw: &raw::StreamConfig,
    ) -> Option<Option<ImageFormat>> {
        if !raw.record.format.is_image() {
            return Some(None);
        }
        let image = &raw.image;
        let at = |reader: &Self, key: &str| reader.place(stream, &format!("image.{key}"));
        let place = at(self, "max_file_bytes");
        let max_file_bytes = self.take(
            place,
            &image.max_file_bytes,
            text::size(&image.max_file_bytes, 16..=1 << 30),
        );
        let least = Duration::from_millis(10);
        let most = Duration::from_secs(60);
        let decode_timeout = self.span(
            stream,
            "image.decode_timeout",
            &image.decode_timeout,
            least,
            most,
        );
        let reduce_to = match image.reduce_to {
            0 => Ok(None),
            side @ 8.. => Ok(Some(side)),
            _ => Err("must be at least 8 pixels, or 0 for full size".to_owned()),
        };
        let place = at(self, "reduce_to");
        let reduce_to = self.take(place, &image.reduce_to, reduce_to);
        let overlap = match image.overlap {
            overlap if 2 * overlap > image.tile => Err(format!(
                "must be at most half of image.tile, which is {}",
                image.tile
            )),
            overlap => Ok(overlap),
        };
        let place = at(self, "overlap");
        let overlap = self.take(place, &image.overlap, overlap);
        if let Some(timeout) = decode_timeout
            && timeout * raw.input.batch_records as u32 > BATCH_MAX
        {
            let longest = humantime::format_duration(BATCH_MAX);
            let fault = format!("times image.decode_timeout is longer than {longest} for a batch");
            let key = self.place(stream, "input.batch_records");
            let fix = "lower one of the two: the brokers remove a lane from its group that does not poll in time";
            self.note(ConfigProblem::new(key, fault, fix).found(&raw.input.batch_records.into()));
        }
        let source = self.image_source(stream, raw);
        self.readings_only(stream, raw);
        Some(Some(ImageFormat {
            source: source?,
            channels: image.channels,
            max_pixels: image.max_pixels,
            max_file_bytes: max_file_bytes?,
            decode_timeout: decode_timeout?,
            reduce_to: reduce_to?,
            tile: image.tile,
            overlap: overlap?,
            error: image.error,
        }))
    }

    fn image_source(&mut self, stream: &str, raw: &raw::StreamConfig) -> Option<ImageSource> {
        let image = &raw.image;
        if image.payload == ImagePayload::Image {
            for (key, words) in [
                ("record.key", &raw.record.key),
                ("record.time", &raw.record.time),
            ] {
                let is_path = match words {
                    raw::KeyWords::Text(text) => text.starts_with("field:"),
                    raw::KeyWords::Keys(_) => true,
                };
                if is_path {
                    let fault = "is a path into the record, which is an image";
                    let fix =
                        "name a Kafka header (\"header:camera\"), or set image.payload to \"json\"";
                    self.note(ConfigProblem::new(self.place(stream, key), fault, fix));
                }
            }
            return Some(ImageSource::Payload);
        }
        let mut path = |key: &str, words: &String| {
            let place = self.place(stream, &format!("image.{key}"));
            self.take(
                place,
                words,
                text::path(&raw::KeyWords::Text(words.clone())),
            )
        };
        let data = path("data", &image.data);
        let file = path("file", &image.file);
        let root = (!image.root.is_empty()).then(|| PathBuf::from(&image.root));
        Some(ImageSource::Json {
            data: data?,
            file: file?,
            root,
        })
    }

    /// What only readings have.
    fn readings_only(&mut self, stream: &str, raw: &raw::StreamConfig) {
        let is_resampled = !matches!(
            text::duration(&raw.resample.period, Duration::ZERO..=Duration::MAX),
            Ok(Duration::ZERO)
        );
        let rules = [
            (
                "record.fields",
                !raw.record.fields.is_empty(),
                "is for records of readings, and the records are images",
                "remove it",
            ),
            (
                "window",
                raw.window != 1,
                "must be 1: each image is scored on its own",
                "remove it",
            ),
            (
                "resample.period",
                is_resampled,
                "must be 0s: images are not resampled",
                "remove it",
            ),
            (
                "model.context",
                !raw.model.context.is_empty(),
                "must be empty: models of images have no time features",
                "remove it",
            ),
        ];
        for (key, is_broken, fault, fix) in rules {
            if is_broken {
                self.note(ConfigProblem::new(self.place(stream, key), fault, fix));
            }
        }
    }

    /// The autoencoder's sizes fit the tile.
    pub(super) fn tile(&mut self, stream: &str, raw: &raw::StreamConfig) {
        let kind = raw.model.kind;
        let side = raw.image.tile;
        let channels = raw.image.channels.count();
        let kind_at = self.place(stream, "model.kind");
        let tile_at = self.place(stream, "image.tile");
        if !kind.takes_images() {
            let fault = format!(
                "{:?} needs a window of records, and the records are images",
                kind.as_str()
            );
            self.note(ConfigProblem::new(
                kind_at,
                fault,
                "choose \"conv2d\", \"unet\", \"vae2d\" or \"linear\"",
            ));
            return;
        }
        let inputs = side * side * channels;
        if !kind.is_spatial() && !kind.is_script() && inputs > INPUTS_MAX {
            let most = ((INPUTS_MAX / channels) as f64).sqrt() as usize;
            let fault = format!(
                "makes {inputs} inputs of a {} model; at most {} are allowed",
                kind.as_str(),
                INPUTS_MAX
            );
            let fix = format!("choose a tile of at most {most}, or kind \"conv2d\" or \"unet\"");
            self.note(ConfigProblem::new(tile_at, fault, fix).found(&side.into()));
            return;
        }
        let hidden = &raw.model.hidden;
        let halvings = kind.halvings(raw.model.hidden.len());
        if hidden.is_empty() && kind.is_spatial() {
            let fault = format!("is empty: a {} model needs hidden layers", kind.as_str());
            self.note(ConfigProblem::new(
                self.place(stream, "model.hidden"),
                fault,
                "give it two or three, such as [8, 16, 32]",
            ));
        }
        if side >> halvings < 2 {
            let fault =
                format!("halves a tile of {side} pixels {halvings} times, which leaves no pixel");
            let fix = "give it fewer layers, or choose a larger image.tile";
            self.note(ConfigProblem::new(
                self.place(stream, "model.hidden"),
                fault,
                fix,
            ));
        }
        self.tile_code(stream, raw, inputs);
    }

    /// The code is smaller than a tile of `inputs` values.
    fn tile_code(&mut self, stream: &str, raw: &raw::StreamConfig, inputs: usize) {
        let kind = raw.model.kind;
        if kind
            .code_min()
            .is_some_and(|least| !(least..inputs).contains(&raw.model.latent))
        {
            let fault = format!(
                "must be from 1 to {}: below the {inputs} inputs of a tile",
                inputs - 1
            );
            let key = self.place(stream, "model.latent");
            self.note(
                ConfigProblem::new(key, fault, "32 to 128 is a good initial value")
                    .found(&raw.model.latent.into()),
            );
        }
    }
}

//! Small pictures of stone under a camera, with and without a hole, and a stream with a quick model
//! for them.

use std::io::Cursor;
use std::sync::Arc;

use image::{GrayImage, ImageFormat};
use outlierd::config::settings::StreamSettings;
use outlierd::sim::surface::{SIDE, Texture, picture};

use crate::test_stream;

/// Sides of a picture in pixels.
pub const WIDTH: usize = 96;
pub const HEIGHT: usize = 80;
/// Where the hole of a bad one is: left, top, width and height.
pub const HOLE: [u32; 4] = [50, 20, 12, 12];
/// Pictures to learn from.
pub const LEARNED: usize = 64;

/// What makes a model of these pictures quick to train.
pub const QUICK: [&str; 7] = [
    "record.format=image",
    "image.tile=32",
    "image.overlap=8",
    "model.hidden=[8, 16]",
    "model.latent=16",
    "training.records=64",
    "training.tiles=512",
];

/// The stream `s` of pictures, with `more` settings of its own.
pub fn stream(more: &[&str]) -> Arc<StreamSettings> {
    test_stream::stream(&[&QUICK, ["training.epochs=4"].as_slice(), more].concat())
}

/// The first `count` pictures, as PNG files; those for whose number `is_bad` have a hole.
pub fn pictures(count: usize, is_bad: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
    let (columns, rows) = (SIDE / WIDTH, SIDE / HEIGHT);
    let mut files = Vec::with_capacity(count);
    for number in 0..count.div_ceil(columns * rows) {
        let whole = picture(Texture::Stone, None, 5, number as u64);
        for part in 0..(columns * rows).min(count - files.len()) {
            let (left, top) = (part % columns * WIDTH, part / columns * HEIGHT);
            let row = |y: usize| &whole.pixels[(top + y) * SIDE + left..][..WIDTH];
            let pixels = (0..HEIGHT).flat_map(row).copied().collect();
            let mut grey = GrayImage::from_raw(WIDTH as u32, HEIGHT as u32, pixels).unwrap();
            if is_bad(files.len()) {
                let [x, y, width, height] = HOLE;
                (0..width * height)
                    .for_each(|i| grey.get_pixel_mut(x + i % width, y + i / width).0 = [20]);
            }
            let mut file = Cursor::new(Vec::new());
            grey.write_to(&mut file, ImageFormat::Png).unwrap();
            files.push(file.into_inner());
        }
    }
    files
}

//! Heat maps: an image in grey with its deviations in red over it, as a PNG file.

use std::io::Cursor;

use image::imageops::{FilterType, resize};
use image::{ImageFormat, Rgb, RgbImage};

use crate::record::Image;

/// Longer side of a heat map, in pixels.
const SIDE_MAX: u32 = 1024;

/// The heat map of an image; `deviations` are those of its pixels, and `full` the one that is drawn
/// in plain red, > 0.
pub fn png(picture: &Image, deviations: &[f32], full: f64) -> Vec<u8> {
    let area = picture.width * picture.height;
    let grey = |at: usize| {
        picture
            .pixels
            .iter()
            .skip(at)
            .step_by(area.max(1))
            .sum::<f32>()
            / picture.channels as f32
    };
    let mut map = RgbImage::new(picture.width as u32, picture.height as u32);
    for (at, (pixel, deviation)) in map.pixels_mut().zip(deviations).enumerate() {
        let heat = (f64::from(*deviation) / full).clamp(0.0, 1.0) as f32;
        // What is below half of the full colour is the noise of any normal image.
        let heat = (2.0 * heat - 1.0).max(0.0) * 0.8;
        let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0)).round() as u8;
        let plain = grey(at) * (1.0 - heat);
        *pixel = Rgb([byte(plain + heat), byte(plain), byte(plain)]);
    }
    let longer = map.width().max(map.height());
    if longer > SIDE_MAX {
        let side = |of: u32| (of * SIDE_MAX / longer).max(1);
        map = resize(
            &map,
            side(map.width()),
            side(map.height()),
            FilterType::Triangle,
        );
    }
    let mut file = Cursor::new(Vec::new());
    // Nothing is in the way of writing to memory.
    let _ = map.write_to(&mut file, ImageFormat::Png);
    file.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_out_is_red() {
        let picture = Image::grey(2000, 20, |_, _| 0.5);
        let deviations: Vec<f32> = (0..40_000)
            .map(|at| if at % 2000 < 1000 { 9.0 } else { 1.0 })
            .collect();
        let map = image::load_from_memory(&png(&picture, &deviations, 4.0))
            .unwrap()
            .to_rgb8();
        assert_eq!((map.width(), map.height()), (1024, 10));
        assert_eq!(map.get_pixel(10, 5).0, [230, 25, 25]);
        assert_eq!(map.get_pixel(1000, 5).0, [128, 128, 128]);
    }
}

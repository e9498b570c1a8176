//! One test for each defined outcome of the image decoder.

mod limits;
mod places;

use std::io::Cursor;
use std::time::Duration;

use ::image::ImageFormat::{Jpeg, Png};
use ::image::{DynamicImage, GrayImage, ImageBuffer, Luma, RgbImage};
use base64::engine::general_purpose::STANDARD;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;

use super::*;
use crate::decode::fixtures;
use crate::record::EventTime;
use crate::record::Headers;
use crate::record::RejectReason::{
    BadFile, BadImage, ImageTooLarge, MissingKey, MissingTime, TooLarge,
};
use crate::record::format::{Channels, ErrorMeasure};

const AT: EventTime = EventTime(1_773_051_273_000_000);

fn format() -> ImageFormat {
    ImageFormat {
        payload: ImagePayload::Image,
        data: vec!["image".into()],
        file: vec!["file".into()],
        root: None,
        channels: Channels::Grey,
        max_pixels: 1 << 24,
        max_file_bytes: 32 << 20,
        decode_timeout: Duration::from_secs(60),
        reduce_to: 0,
        tile: 64,
        overlap: 8,
        error: ErrorMeasure::Squared,
    }
}

/// Images in objects: base64 at `img.data`, names of files at `img.file`.
fn enveloped(root: Option<&Path>) -> ImageFormat {
    let path = |key: &str| vec!["img".to_owned(), key.to_owned()];
    ImageFormat {
        payload: ImagePayload::Json,
        data: path("data"),
        file: path("file"),
        root: root.map(Path::to_owned),
        ..format()
    }
}

fn record_format() -> RecordFormat {
    RecordFormat {
        max_payload_bytes: 32 << 20,
        ..fixtures::format(&[("brightness", "brightness")])
    }
}

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        partition: 3,
        offset: 41,
        key: Some(b"c1"),
        payload: Some(payload),
        timestamp: Some(AT),
        arrival: Some(AT),
        headers: None,
    }
}

impl Headers for Vec<(&str, &str)> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .rev()
            .find(|(told, _)| *told == name)
            .map(|(_, value)| value.as_bytes())
    }
}

fn with<'a>(headers: &'a dyn Headers, payload: &'a [u8]) -> Message<'a> {
    Message {
        headers: Some(headers),
        ..message(payload)
    }
}

/// A part of the headers `width`, `height` and `bits`.
fn sized(numbers: &str) -> Vec<(&str, &str)> {
    ["width", "height", "bits"]
        .into_iter()
        .zip(numbers.split(' '))
        .filter(|(_, number)| *number != "-")
        .collect()
}

/// What one message gives: a record with an image and its brightness, or a rejection.
fn decode_one<'a>(record: &RecordFormat, format: &ImageFormat, message: Message<'a>) -> Batch<'a> {
    let (batch, after) = ImageDecoder::new(record, format).decode(&[message], 0);
    assert_eq!((after, outcomes(&batch).len()), (1, 1));
    batch
}

/// The messages that were decoded, and whether they are records.
fn outcomes(batch: &Batch<'_>) -> Vec<(usize, bool)> {
    assert_eq!(
        (batch.values.len(), batch.images.len()),
        (batch.records.len(), batch.records.len())
    );
    let records = batch.records.iter().map(|record| (record.message, true));
    let mut all: Vec<_> = records
        .chain(
            batch
                .rejected
                .iter()
                .map(|rejected| (rejected.message, false)),
        )
        .collect();
    all.sort_unstable();
    all
}

/// The image of a message, which must be a record.
#[track_caller]
fn image_of(format: &ImageFormat, message: Message<'_>) -> Image {
    let mut batch = decode_one(&record_format(), format, message);
    assert_eq!(batch.rejected, []);
    let image = batch.images.pop().expect("an image");
    assert_eq!(batch.values, [image.brightness()]);
    assert_eq!(
        image.pixels.len(),
        image.channels * image.height * image.width
    );
    assert!(
        decode_file(&image.file, format).as_ref() == Ok(&image),
        "its file holds the same image"
    );
    image
}

#[track_caller]
fn assert_rejected(format: &ImageFormat, message: Message<'_>, reason: RejectReason, says: &str) {
    assert_refused(&decode_one(&record_format(), format, message), reason, says);
}

#[track_caller]
fn assert_refused(batch: &Batch<'_>, reason: RejectReason, says: &str) {
    let Rejected {
        message,
        reason: found,
        detail,
        ..
    } = batch.rejected.first().expect("a rejection");
    assert_eq!((*message, *found), (0, reason), "{detail}");
    assert!(detail.contains(says), "{detail:?} does not say {says:?}");
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= tolerance;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "{found:?} is not {expected:?}"
    );
}

fn written(picture: impl Into<DynamicImage>, format: ::image::ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).expect("a file");
    file.into_inner()
}

fn slope(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([(5 * x + 3 * y) as u8]))
}

fn levels(values: &[u8]) -> Vec<f32> {
    values
        .iter()
        .map(|&value| f32::from(value) / 255.0)
        .collect()
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    [
        &(body.len() as u32).to_be_bytes()[..],
        &named[..],
        &crc32fast::hash(&named).to_be_bytes()[..],
    ]
    .concat()
}

/// A grey PNG that claims a size, with `extra` chunks before `packed`, its pixels.
fn png_of(width: u32, height: u32, extra: &[u8], packed: &[u8]) -> Vec<u8> {
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes()[..],
        &[8_u8, 0, 0, 0, 0][..],
    ]
    .concat();
    let header = chunk(b"IHDR", &header);
    let pixels = chunk(b"IDAT", packed);
    let end = chunk(b"IEND", b"");
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &header[..],
        extra,
        &pixels[..],
        &end[..],
    ]
    .concat()
}

/// A zlib stream without an end: fixed codes, a literal 0, and in each period of 13 bytes eight
/// matches of 258 zeros.
fn zeros(periods: usize) -> Vec<u8> {
    let bits = format!("11000110000{}", "1100010100000".repeat(24)).into_bytes();
    let byte = |bits: &[u8]| {
        bits.iter()
            .rev()
            .fold(0, |byte: u8, bit| byte * 2 + (bit - b'0'))
    };
    let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
    [
        &[0x78_u8, 0x01][..],
        &bytes[..2],
        &bytes[2..15].repeat(periods)[..],
    ]
    .concat()
}

#[test]
fn greys_are_what_the_file_holds_and_colours_luminance_or_planes() {
    let values = [0, 1, 127, 128, 254, 255];
    let picture = GrayImage::from_raw(3, 2, values.to_vec()).expect("a picture");
    let image = image_of(&format(), message(&written(picture, Png)));
    assert_eq!(
        (image.width, image.height, image.channels, image.original),
        (3, 2, 1, [3, 2])
    );
    assert_eq!(image.pixels, levels(&values));
    let values: [u16; 6] = [0, 1, 1000, 1001, 65534, 65535];
    let picture = ImageBuffer::<Luma<u16>, _>::from_raw(2, 3, values.to_vec()).expect("a picture");
    let image = image_of(&format(), message(&written(picture, Png)));
    assert_eq!(image.pixels, values.map(|value| f32::from(value) / 65535.0));
    let coloured = ImageFormat {
        channels: Channels::Rgb,
        ..format()
    };
    let file = written(
        RgbImage::from_raw(2, 1, vec![255, 0, 0, 10, 20, 30]).expect("a picture"),
        Png,
    );
    let luminance = (10.0 * 0.2126 + 20.0 * 0.7152 + 30.0 * 0.0722) / 255.0;
    assert_close(
        &image_of(&format(), message(&file)).pixels,
        &[0.2126, luminance],
        2e-3,
    );
    let image = image_of(&coloured, message(&file));
    assert_eq!((image.channels, image.width, image.height), (3, 2, 1));
    assert_close(&image.pixels, &levels(&[255, 10, 0, 20, 0, 30]), 1e-6);
    let image = image_of(&format(), message(&written(slope(32, 16), Jpeg)));
    assert_close(&image.pixels, &levels(slope(32, 16).as_raw()), 0.05);
    let file = written(
        RgbImage::from_pixel(16, 8, ::image::Rgb([200, 100, 50])),
        Jpeg,
    );
    let expected = levels(&[[200_u8; 128], [100; 128], [50; 128]].concat());
    assert_close(&image_of(&coloured, message(&file)).pixels, &expected, 0.05);
}

#[test]
fn raw_pixels_are_what_headers_or_an_object_say() {
    let bytes = [0, 1, 2, 100, 254, 255];
    let image = image_of(&format(), with(&sized("3 2 8"), &bytes));
    assert_eq!(
        (image.original, image.channels, &image.pixels),
        ([3, 2], 1, &levels(&bytes))
    );
    let object =
        json!({"img": {"data": STANDARD.encode(bytes)}, "width": 3, "height": 2, "bits": 8})
            .to_string();
    assert!(image_of(&enveloped(None), message(object.as_bytes())) == image);
    let image = image_of(
        &format(),
        with(&sized("1 3 16"), &[0x34, 0x12, 1, 0, 0xff, 0xff]),
    );
    assert_eq!(image.pixels, [4660.0_f32 / 65535.0, 1.0 / 65535.0, 1.0]);
    for (numbers, reason, says) in [
        ("3 2 12", BadImage, "8 and 16 are allowed"),
        ("- 2 8", BadImage, "need their width"),
        ("99999999999 2 8", BadImage, "need their width"),
        ("3px 2 8", BadImage, "\"width\" is \"3px\""),
        ("3 2 16", BadImage, "which are 12"),
        (
            "4294967295 4294967295 16",
            ImageTooLarge,
            "image.max_pixels",
        ),
    ] {
        assert_rejected(&format(), with(&sized(numbers), &bytes), reason, says);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_no_png_or_jpeg_is_rejected_with_what_it_is() {
    assert_rejected(
        &format(),
        Message {
            payload: None,
            ..message(b"")
        },
        RejectReason::Empty,
        "tombstone",
    );
    assert_rejected(&format(), message(b""), RejectReason::Empty, "empty");
    let record = RecordFormat {
        max_payload_bytes: 9,
        ..record_format()
    };
    assert_refused(
        &decode_one(&record, &format(), message(b"123456789")),
        BadImage,
        "starts with 31 32",
    );
    assert_refused(
        &decode_one(&record, &format(), message(b"1234567890")),
        TooLarge,
        "record.max_payload_bytes",
    );
    let cases: [(&[u8], &str); 4] = [
        (
            b"hello, image",
            "starts with 68 65 6c 6c 6f 2c 20 69; PNG and JPEG are allowed",
        ),
        (
            b"GIF89a\x01\0\x01\0",
            "a Gif file; PNG and JPEG are allowed",
        ),
        (b"II*\0", "a Tiff file; PNG and JPEG are allowed"),
        (b"\x89PNG\r\n\x1a\n and then nothing of it", ""),
    ];
    for (payload, says) in cases {
        assert_rejected(&format(), message(payload), BadImage, says);
        assert!(
            decode_file(payload, &format())
                .expect_err("no image")
                .contains(says)
        );
    }
    let noise = || GrayImage::from_fn(32, 32, |x, y| Luma([(71 * x + 137 * y + 29 * x * y) as u8]));
    let files = [written(noise(), Png), written(noise(), Jpeg)];
    for (file, tenth) in files
        .iter()
        .flat_map(|file| (1..10).map(move |tenth| (file, tenth)))
    {
        let batch = decode_one(
            &record_format(),
            &format(),
            message(&file[..file.len() * tenth / 10]),
        );
        assert!(batch.images.iter().all(|image| image.original == [32, 32]));
        assert!(
            batch
                .rejected
                .iter()
                .all(|rejected| rejected.reason == BadImage && !rejected.detail.is_empty())
        );
    }
}

proptest! {
    #[test]
    fn each_message_is_one_record_or_one_rejection(changes in vec((any::<bool>(), any::<Index>(), any::<u8>()), 1..6)) {
        let files = [written(slope(16, 9), Png), written(slope(16, 9), Jpeg)];
        let payloads = changes.iter().map(|(which, at, byte)| {
            let file = &files[usize::from(*which)];
            let at = at.index(file.len());
            [&file[..at], &[*byte][..], &file[at + 1..]].concat()
        }).collect::<Vec<_>>();
        let messages: Vec<_> = payloads.iter().map(|payload| message(payload)).collect();
        let small = ImageFormat { max_pixels: 1 << 12, ..format() };
        let (batch, after) = ImageDecoder::new(&record_format(), &small).decode(&messages, 0);
        prop_assert_eq!(after, messages.len());
        prop_assert!(outcomes(&batch).iter().map(|(message, _)| *message).eq(0..messages.len()));
    }
}

//! What an image may cost: pixels, memory and time.

use super::*;

#[test]
fn nothing_is_unpacked_of_an_image_that_claims_too_many_pixels() {
    let mut wide = written(slope(16, 16), Jpeg);
    let at = wide
        .windows(2)
        .position(|two| two == [0xff, 0xc0])
        .expect("a frame");
    wide[at + 5..at + 9].fill(0xff);
    let six = ImageFormat {
        max_pixels: 6,
        ..format()
    };
    for (file, says) in [
        (
            png_of(60_000, 60_000, &[], &zeros(1)),
            "60000 x 60000 are 3600000000 pixels, 6 are allowed",
        ),
        (png_of(2_000_000_000, 2, &[], &zeros(1)), "2000000000 x 2"),
        (written(slope(7, 1), Png), "image.max_pixels"),
        (wide, "65535 x 65535"),
    ] {
        assert_rejected(&six, message(&file), ImageTooLarge, says);
    }
    assert_eq!(
        image_of(&six, message(&written(slope(3, 2), Png))).original,
        [3, 2]
    );
}

#[test]
fn a_png_that_would_unpack_to_400_mb_takes_no_such_memory() {
    // Of the whole process, where the system tells.
    fn peak_kib() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    }
    let bomb = zeros(200_000);
    let few = zeros(1);
    let before = peak_kib();
    let held = |name, start: &[u8]| png_of(4, 4, &chunk(name, &[start, &bomb[..]].concat()), &few);
    let text = held(b"zTXt", b"x\0\0");
    let itext = held(b"iTXt", b"x\0\x01\0\0\0");
    for file in [
        png_of(4, 4, &[], &bomb),
        text,
        itext,
        held(b"iCCP", b"x\0\0"),
    ] {
        let batch = decode_one(&record_format(), &format(), message(&file));
        assert!(
            batch
                .rejected
                .iter()
                .all(|rejected| matches!(rejected.reason, BadImage | ImageTooLarge)),
            "{batch:?}"
        );
        assert!(
            batch
                .images
                .iter()
                .all(|image| image.original == [4, 4] && image.pixels == [0.0; 16]),
            "{batch:?}"
        );
    }
    let grown = before
        .zip(peak_kib())
        .map_or(0, |(before, after)| after - before);
    assert!(grown < 200 << 10, "{grown} KiB");
}

#[test]
fn images_that_take_too_long_are_rejected_one_after_the_other() {
    let slow = ImageFormat {
        decode_timeout: Duration::from_nanos(1),
        ..format()
    };
    for file in [
        written(slope(700, 700), Png),
        written(slope(700, 700), Jpeg),
    ] {
        let (batch, after) =
            ImageDecoder::new(&record_format(), &slow).decode(&[message(&file); 8], 0);
        assert_eq!((after, batch.records.len() + batch.rejected.len()), (8, 8));
        assert!(
            !batch.rejected.is_empty(),
            "one may be done before the clock is looked at, but not all"
        );
        for Rejected { reason, detail, .. } in batch.rejected {
            assert!(
                reason == BadImage && detail.contains("image.decode_timeout"),
                "{detail}"
            );
        }
        assert_eq!(
            image_of(&format(), message(&file)).original,
            [700, 700],
            "those left behind stop nothing"
        );
    }
}

#[test]
fn larger_images_are_reduced_in_proportion_and_smaller_ones_are_not() {
    let reduced = ImageFormat {
        reduce_to: 100,
        ..format()
    };
    let half = |width, height| {
        GrayImage::from_fn(width, height, |x, _| {
            Luma([if x < width / 2 { 51 } else { 153 }])
        })
    };
    for (from, to) in [
        ([400, 100], [100, 25]),
        ([100, 400], [25, 100]),
        ([400, 1], [100, 1]),
        ([100, 60], [100, 60]),
    ] {
        let image = image_of(&reduced, message(&written(half(from[0], from[1]), Png)));
        assert_eq!(
            ([image.width, image.height], image.original),
            (to, from.map(|side| side as usize))
        );
        assert_close(
            &[image.pixels[0], image.pixels[image.width - 1]],
            &[0.2, 0.6],
            0.01,
        );
    }
}

#[test]
fn a_batch_ends_after_enough_pixels_and_the_next_one_goes_on_there() {
    let large = written(GrayImage::new(1500, 1500), Png);
    let messages = [
        message(&large),
        message(b"no image"),
        message(&large),
        message(&large),
        message(b""),
    ];
    let mut decoder = ImageDecoder::new(&record_format(), &format());
    for (first, end, all) in [
        (0, 3, vec![(0, true), (1, false), (2, true)]),
        (3, 5, vec![(3, true), (4, false)]),
    ] {
        let (batch, after) = decoder.decode(&messages, first);
        assert_eq!((after, outcomes(&batch)), (end, all));
    }
}

use super::*;
use proptest::prelude::*;

/// 2026-03-09T10:14:33Z
const SECONDS: i64 = 1_773_051_273;
const AT: EventTime = EventTime(SECONDS * 1_000_000);

fn reader(format: TimeFormat) -> TimeReader {
    TimeReader::new(format, TimeZone::UTC)
}

fn pattern(pattern: &str) -> TimeFormat {
    TimeFormat::try_from(pattern.to_owned()).expect(pattern)
}

fn from_text(text: &str, format: TimeFormat) -> Result<EventTime, String> {
    reader(format).read_text(text).map(|read| read.time)
}

fn from_integer(number: i64, format: TimeFormat) -> Result<EventTime, String> {
    reader(format).read_integer(number).map(|read| read.time)
}

fn from_float(number: f64, format: TimeFormat) -> Result<EventTime, String> {
    reader(format).read_float(number).map(|read| read.time)
}

#[test]
fn rfc_3339_text_is_read_with_its_usual_liberties() {
    for text in [
        "2026-03-09T10:14:33Z",
        "2026-03-09T10:14:33z",
        "2026-03-09t10:14:33z",
        "2026-03-09 10:14:33Z",
        "2026-03-09 10:14:33",
        "2026-03-09T10:14:33",
        " 2026-03-09T10:14:33+00:00 ",
        "2026-03-09T11:14:33+01:00",
        "2026-03-09T04:44:33-05:30",
        "2026-03-09T10:14:33.000000999Z",
    ] {
        assert_eq!(from_text(text, TimeFormat::Auto), Ok(AT), "{text}");
        assert_eq!(from_text(text, TimeFormat::Rfc3339), Ok(AT), "{text}");
        assert!(
            from_text(text, TimeFormat::EpochS)
                .expect_err(text)
                .contains("seconds"),
            "{text}"
        );
    }
    assert_eq!(
        from_text("2026-03-09 10:14:33.25", TimeFormat::Auto),
        Ok(EventTime(AT.0 + 250_000))
    );
    assert_eq!(
        from_text("1970-01-02", TimeFormat::Rfc3339),
        Ok(EventTime(86_400_000_000))
    );
}

#[test]
fn numbers_are_read_in_the_unit_of_the_format() {
    for (format, factor) in [
        (TimeFormat::EpochS, 1),
        (TimeFormat::EpochMs, 1_000),
        (TimeFormat::EpochUs, 1_000_000),
        (TimeFormat::EpochNs, 1_000_000_000),
    ] {
        let number = SECONDS * factor;
        for format in [format, TimeFormat::Auto] {
            assert_eq!(from_integer(number, format.clone()), Ok(AT));
            assert_eq!(from_float(number as f64, format.clone()), Ok(AT));
            assert_eq!(from_text(&number.to_string(), format), Ok(AT));
        }
        assert!(from_integer(number, TimeFormat::Rfc3339).is_err());
    }
    assert_eq!(
        from_float(SECONDS as f64 + 0.123_456, TimeFormat::Auto),
        Ok(EventTime(AT.0 + 123_456))
    );
    assert_eq!(
        from_text("1773051273.5", TimeFormat::Auto),
        Ok(EventTime(AT.0 + 500_000))
    );
    assert_eq!(from_text("1.773051273e9", TimeFormat::EpochS), Ok(AT));
}

#[test]
fn auto_takes_no_form_for_another() {
    for (number, micros) in [
        (946_684_800, AUTO_BEGIN_US),
        (7_258_118_399, END_US - 1_000_000),
        (946_684_800_000, AUTO_BEGIN_US),
        (946_684_800_000_000, AUTO_BEGIN_US),
        (946_684_800_000_000_000, AUTO_BEGIN_US),
        (20_260_309_101_433, AT.0),
        (20_260_309_101_433_250, AT.0 + 250_000),
    ] {
        assert_eq!(
            from_integer(number, TimeFormat::Auto),
            Ok(EventTime(micros)),
            "{number}"
        );
        assert_eq!(
            from_text(&number.to_string(), TimeFormat::Auto),
            Ok(EventTime(micros))
        );
    }
    assert_eq!(
        from_text("20260309101433.250", TimeFormat::Auto),
        Ok(EventTime(AT.0 + 250_000))
    );
    assert!(
        from_integer(9_999_999_999, TimeFormat::Auto).is_err(),
        "seconds in the year 2286"
    );
    for (text, setting) in [
        (
            "260309101433",
            "\"%y%m%d%H%M%S\" reads 2026-03-09T10:14:33Z",
        ),
        ("20260309", "\"%Y%m%d\" reads 2026-03-09T00:00:00Z"),
        ("46090.5", "\"spreadsheet_days\" reads 2026-03-09T12:00:00Z"),
        ("46090", "\"spreadsheet_days\" reads 2026-03-09T00:00:00Z"),
        ("0", "check the clock and the unit"),
        ("946684799", "check the clock and the unit"),
        ("20261309101433", "check the clock and the unit"),
        ("1999-12-31T23:59:59Z", "check the clock and the unit"),
    ] {
        let fault = from_text(text, TimeFormat::Auto).expect_err(text);
        assert!(fault.contains(setting), "{fault}");
    }
}

#[test]
fn patterns_and_spreadsheets_are_read() {
    for (format, text) in [
        ("%d.%m.%Y %H:%M:%S", "09.03.2026 10:14:33"),
        ("%m/%d/%Y %I:%M:%S %p", "03/09/2026 10:14:33 AM"),
        ("%y%m%d%H%M%S", "260309101433"),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-03-09T11:14:33+0100"),
        ("%s", "1773051273"),
    ] {
        assert_eq!(from_text(text, pattern(format)), Ok(AT), "{format}");
    }
    assert_eq!(
        from_integer(260_309_101_433, pattern("%y%m%d%H%M%S")),
        Ok(AT)
    );
    // A number has lost its zero.
    let early = EventTime(AT.0 - 20 * 31_557_600 * 1_000_000);
    let read = from_integer(60_309_101_433, pattern("%y%m%d%H%M%S")).expect("2006");
    assert!(
        (read.0 - early.0).abs() < 86_400_000_000 && read.to_string().starts_with("2006-03-09")
    );
    assert_eq!(
        from_text("09.03.2026", pattern("%d.%m.%Y")),
        Ok(EventTime(1_773_014_400_000_000))
    );
    let fault = from_text("2026-03-09", pattern("%d.%m.%Y")).expect_err("another form");
    assert!(fault.contains("\"%d.%m.%Y\" such as 09.03.2026"), "{fault}");
    assert!(from_float(1.5, pattern("%d.%m.%Y")).is_err());
    for (bad, fault) in [
        ("%H:%M:%S", "year, month and day"),
        ("%d.%m.%Y %!", "strftime"),
        ("iso", "\"auto\""),
    ] {
        let found = TimeFormat::try_from(bad.to_owned()).expect_err(bad);
        assert!(found.contains(fault), "{found}");
    }
    let days = |number| from_float(number, TimeFormat::SpreadsheetDays);
    assert_eq!(days(25_569.0), Ok(EventTime(0)));
    assert_eq!(
        days(46_090.0 + (SECONDS % 86_400) as f64 / 86_400.0),
        Ok(AT)
    );
    assert_eq!(
        from_integer(46_090, TimeFormat::SpreadsheetDays),
        Ok(EventTime(AT.0 - SECONDS % 86_400 * 1_000_000))
    );
    for bad in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        assert!(days(bad).is_err());
    }
}

#[test]
fn local_times_have_a_zone_and_an_hour_that_comes_twice_two_times() {
    let berlin = TimeReader::new(
        TimeFormat::Auto,
        TimeZone::get("Europe/Berlin").expect("a zone"),
    );
    let read = |text: &str| {
        let read = berlin.read_text(text).expect(text);
        (
            read.time.to_string(),
            read.second.map(|time| time.to_string()),
        )
    };
    let one = |text: &str| (text.to_owned(), None);
    assert_eq!(read("2026-07-01 12:00:00"), one("2026-07-01T10:00:00Z"));
    assert_eq!(read("20260701120000"), one("2026-07-01T10:00:00Z"));
    assert_eq!(read("2026-07-01T12:00:00Z"), one("2026-07-01T12:00:00Z"));
    assert_eq!(
        read("2026-03-29 02:30:00"),
        one("2026-03-29T01:30:00Z"),
        "an hour that is skipped"
    );
    let second = Some("2026-10-25T01:30:00Z".to_owned());
    assert_eq!(
        read("2026-10-25 02:30:00"),
        ("2026-10-25T00:30:00Z".to_owned(), second)
    );
}

#[test]
fn auto_refuses_times_that_are_far_from_the_arrival_of_the_message() {
    let near = |years: i64, format| {
        let arrival = EventTime(AT.0 + years * 31_557_600 * 1_000_000);
        reader(format).near(AT.into(), Some(arrival))
    };
    assert_eq!(near(9, TimeFormat::Auto), Ok(AT.into()));
    assert_eq!(near(-9, TimeFormat::Auto), Ok(AT.into()));
    assert!(
        near(11, TimeFormat::Auto)
            .expect_err("far")
            .contains("ten years")
    );
    assert_eq!(near(11, TimeFormat::EpochS), Ok(AT.into()));
}

#[test]
fn times_outside_the_range_and_other_text_are_refused() {
    for text in ["1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "-1", "1e30"] {
        assert!(
            from_text(text, TimeFormat::Auto)
                .expect_err(text)
                .contains("1970 to 2199"),
            "{text}"
        );
    }
    assert!(from_text("2199-12-31T23:59:59.999999Z", TimeFormat::Auto).is_ok());
    for text in [
        "yesterday",
        "09.03.2026 10:14",
        "2026-13-01T00:00:00Z",
        "2026-03-09T25:00:00Z",
        "NaN",
        "",
        "10:14:33",
    ] {
        assert!(
            from_text(text, TimeFormat::Auto)
                .expect_err(text)
                .contains("RFC 3339"),
            "{text}"
        );
    }
    for number in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN] {
        assert!(from_float(number, TimeFormat::EpochNs).is_err(), "{number}");
    }
    assert!(from_integer(i64::MAX, TimeFormat::EpochS).is_err());
}

proptest! {
    #[test]
    fn every_event_time_reads_back_from_its_own_text(micros in 0..END_US) {
        let time = EventTime(micros);
        prop_assert_eq!(from_text(&time.to_string(), TimeFormat::Rfc3339), Ok(time));
        prop_assert_eq!(from_integer(micros, TimeFormat::EpochUs), Ok(time));
    }

    #[test]
    fn no_text_panics_or_leaves_the_range(text in ".{0,40}") {
        if let Ok(time) = from_text(&text, TimeFormat::Auto) {
            prop_assert!((0..END_US).contains(&time.0));
        }
    }
}

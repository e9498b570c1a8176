//! Where an image, its series and its time stand.

use super::*;

#[test]
fn a_file_whose_headers_say_its_size_too_is_a_file() {
    let file = written(slope(3, 2), Png);
    for numbers in ["9 9", "9", "9px auto"] {
        assert_eq!(
            image_of(&format(), with(&sized(numbers), &file)).original,
            [3, 2],
            "{numbers}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn an_object_holds_its_image_series_and_time() {
    let key = KeyFrom::Field(vec!["cam".into(), "id".into()]);
    let time = TimeFrom::Field(vec!["ts".into()]);
    let record = RecordFormat {
        key,
        time,
        ..record_format()
    };
    let format = enveloped(None);
    let data = STANDARD.encode(written(slope(3, 2), Png));
    let object = |id: Value, ts: Value| {
        json!({"cam": {"id": id}, "ts": ts, "img": {"data": data}}).to_string()
    };
    for (id, ts, series) in [
        (json!("c7"), json!("2026-03-09T10:14:33Z"), "c7"),
        (json!(-7), json!(1773051273), "-7"),
    ] {
        let payload = object(id, ts);
        let batch = decode_one(&record, &format, message(payload.as_bytes()));
        let expected = Record {
            message: 0,
            partition: 3,
            offset: 41,
            part: None,
            series: Cow::Borrowed(series),
            time: AT,
            second_time: None,
            arrival: Some(AT),
        };
        assert_eq!(
            (batch.records, batch.images[0].original),
            (vec![expected], [3, 2])
        );
    }
    for (object, reason, says) in [
        (
            object(Value::Null, json!(1773051273)),
            MissingKey,
            "`cam.id`",
        ),
        (
            object(json!(1.5), json!(1773051273)),
            RejectReason::BadKey,
            "`cam.id`",
        ),
        (object(json!("c7"), json!(" ")), MissingTime, "`ts`"),
        (
            object(json!("c7"), json!("soon")),
            RejectReason::BadTime,
            "`ts`",
        ),
        ("{\"img\":".into(), RejectReason::NotJson, "not JSON"),
        ("[1]".into(), RejectReason::NotObject, "JSON object"),
        (
            json!({"data": data, "img": {}}).to_string(),
            BadImage,
            "neither `img.data`",
        ),
        (
            json!({"img": {"data": data, "file": "a.png"}}).to_string(),
            BadImage,
            "both `img.data`",
        ),
        (
            json!({"img": {"data": "n/a!"}}).to_string(),
            BadImage,
            "`img.data` is not base64",
        ),
        (
            json!({"img": {"file": ["a"]}}).to_string(),
            RejectReason::WrongType,
            "`img.file`",
        ),
    ] {
        assert_refused(
            &decode_one(&record, &format, message(object.as_bytes())),
            reason,
            says,
        );
    }
    let spaced = json!({"img": {"data": format!(" {data}\n"), "file": null}}).to_string();
    assert_eq!(
        image_of(&format, message(spaced.as_bytes())).original,
        [3, 2]
    );
}

#[test]
fn only_files_below_the_root_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    let file = written(slope(3, 2), Png);
    std::fs::create_dir_all(root.join("cam")).expect("a folder");
    std::fs::write(root.join("cam/a.png"), &file).expect("a file");
    std::fs::write(dir.path().join("secret.png"), &file).expect("a file");
    for (to, link) in [
        ("cam/a.png", "in.png"),
        ("../secret.png", "out.png"),
        ("..", "up"),
        ("nothing", "broken.png"),
    ] {
        std::os::unix::fs::symlink(to, root.join(link)).expect("a link");
    }
    let object = |name: &str| json!({"img": {"file": name}}).to_string();
    let format = enveloped(Some(&root));
    for name in ["cam/a.png", "./cam/./a.png", "in.png"] {
        assert_eq!(
            *image_of(&format, message(object(name).as_bytes())).file,
            file[..],
            "{name}"
        );
    }
    let inside = root.join("cam/a.png").display().to_string();
    for (name, says) in [
        ("../secret.png", "without \"..\""),
        (inside.as_str(), "without a leading \"/\""),
        ("out.png", "link"),
        ("up/secret.png", "link"),
        ("broken.png", "file \"broken.png\""),
        ("a\0b", "file \"a"),
        ("cam", "not a regular file"),
        ("", "not a regular file"),
    ] {
        assert_rejected(&format, message(object(name).as_bytes()), BadFile, says);
    }
    let named = object("cam/a.png");
    for root in [None, Some(dir.path().join("absent"))] {
        let format = enveloped(root.as_deref());
        assert_rejected(&format, message(named.as_bytes()), BadFile, "`image.root`");
    }
    let held = json!({"img": {"data": STANDARD.encode(&file)}}).to_string();
    for (format, payload) in [
        (&format, named.as_bytes()),
        (&format, held.as_bytes()),
        (&self::format(), &file[..]),
    ] {
        let small = ImageFormat {
            max_file_bytes: file.len() - 1,
            ..format.clone()
        };
        assert_rejected(
            &small,
            message(payload),
            ImageTooLarge,
            "image.max_file_bytes",
        );
    }
}

#[test]
fn series_and_time_may_be_headers() {
    let key = KeyFrom::Header("cam".into());
    let time = TimeFrom::Header("taken".into());
    let record = RecordFormat {
        key,
        time,
        ..record_format()
    };
    let file = written(slope(3, 2), Png);
    let headers = vec![
        ("cam", "c0"),
        ("cam", "c9"),
        ("taken", "2026-03-09T10:14:33Z"),
    ];
    let batch = decode_one(&record, &format(), with(&headers, &file));
    assert_eq!(
        (batch.records[0].series.as_ref(), batch.records[0].time),
        ("c9", AT),
        "the last one of a name counts"
    );
    for (headers, reason, says) in [
        (vec![("taken", "1773051273")], MissingKey, "\"cam\""),
        (
            vec![("cam", ""), ("taken", "1773051273")],
            RejectReason::BadKey,
            "\"cam\"",
        ),
        (vec![("cam", "c9")], MissingTime, "\"taken\""),
        (
            vec![("cam", "c9"), ("taken", "soon")],
            RejectReason::BadTime,
            "\"taken\"",
        ),
    ] {
        assert_refused(
            &decode_one(&record, &format(), with(&headers, &file)),
            reason,
            says,
        );
    }
    assert_refused(
        &decode_one(&record, &format(), message(&file)),
        MissingKey,
        "\"cam\"",
    );
}

//! The forms of a table, and everything that can be wrong with one.

use jiff::tz::TimeZone;

use super::*;
use crate::decode::fixtures::example;
use crate::decode::records::Decoder;
use crate::record::Message;
use crate::record::format::TimeFormat;

fn options(delimiter: u8) -> TableOptions {
    let columns = Columns::Except(Vec::new());
    TableOptions {
        delimiter,
        decimal_comma: false,
        time: None,
        key: None,
        series: "rig".to_owned(),
        columns,
        states: HashMap::new(),
    }
}

fn open(
    content: &[u8],
    options: &TableOptions,
) -> Result<CsvTable<io::Cursor<Vec<u8>>>, ReadError> {
    CsvTable::from_reader("rig.csv", io::Cursor::new(content.to_vec()), options)
}

/// The fields and all rows of a table in one chunk.
fn read(content: &[u8], options: &TableOptions) -> (Vec<String>, Batch<'static>) {
    let mut table = open(content, options).expect("a table");
    let batch = table
        .next_chunk(1000)
        .expect("readable")
        .unwrap_or_default();
    assert_eq!(
        table.next_chunk(1000).expect("readable"),
        None,
        "the end stays the end"
    );
    (table.fields().to_vec(), batch)
}

#[track_caller]
fn assert_refused(content: &[u8], options: &TableOptions, says: &[&str]) {
    let said = open(content, options).expect_err("refused").to_string();
    for part in ["rig.csv"].iter().chain(says) {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}

#[test]
fn a_table_has_its_fields_times_keys_and_values() {
    let content = b"\xEF\xBB\xBF ts ;\"pump; id\";flow;label;temp\r\n\
        2026-03-09 10:14:33;p1;1.5;0; 20\r\n\
        2026-03-09 10:14:34;\"p \"\"2\"\"\";\"2.5\";1;\r\n\r\n\
        1773051275;p1;nan;0;-inf\r\n";
    let options = TableOptions {
        time: Some((
            "ts".to_owned(),
            TimeReader::new(TimeFormat::Auto, TimeZone::UTC),
        )),
        key: Some("pump; id".to_owned()),
        columns: Columns::Except(vec!["label".to_owned()]),
        ..options(b';')
    };
    let (fields, batch) = read(content, &options);
    assert_eq!(fields, ["flow", "temp"]);
    assert_eq!(batch.rejected, []);
    let heads: Vec<_> = batch
        .records
        .iter()
        .map(|r| (r.offset, r.message, r.series.as_ref(), r.time.0))
        .collect();
    let second = 1_000_000;
    let at = 1_773_051_273 * second;
    assert_eq!(
        heads,
        [
            (0, 0, "p1", at),
            (1, 1, "p \"2\"", at + second),
            (2, 2, "p1", at + 2 * second)
        ]
    );
    assert_eq!(batch.values[..3], [1.5, 20.0, 2.5]);
    assert!(batch.values[3].is_nan(), "an empty cell is missing");
    assert_eq!(batch.values[4..], [NON_FINITE, NON_FINITE]);
    assert_eq!(batch.coerced, 0);
}

#[test]
fn without_key_and_time_columns_rows_have_their_number_and_one_series() {
    let (fields, batch) = read(b",a,b\n0,1,2\n1,3,4", &options(b','));
    assert_eq!(fields, ["a", "b"], "the column without a name is no field");
    assert_eq!(batch.values, [1.0, 2.0, 3.0, 4.0]);
    let heads: Vec<_> = batch
        .records
        .iter()
        .map(|r| (r.series.as_ref(), r.time.0))
        .collect();
    assert_eq!(heads, [("rig", 0), ("rig", 1_000_000)]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_rows_are_named_by_line_and_column_and_the_file_goes_on() {
    let options = TableOptions {
        time: Some((
            "t".to_owned(),
            TimeReader::new(TimeFormat::EpochS, TimeZone::UTC),
        )),
        key: Some("k".to_owned()),
        ..options(b',')
    };
    let long_key = "k".repeat(257);
    let mut content =
        b"t,k,x\n1,a,1\n2,a,oops\n3,a\n4,a,1,2\n,a,1\nsoon,a,1\n5,,1\n6,a,\"1,5\"\n7,a,\xFF\n"
            .to_vec();
    content.extend_from_slice(format!("8,{long_key},1\n9,a,2\n").as_bytes());
    let (_, batch) = read(&content, &options);
    assert_eq!(
        batch
            .records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [0, 10]
    );
    assert_eq!(batch.values, [1.0, 2.0]);
    let due = [
        (
            1,
            RejectReason::WrongType,
            "line 3, column `x`: the text \"oops\" is not a number",
        ),
        (
            2,
            RejectReason::WrongType,
            "line 4: 2 cells where the header has 3",
        ),
        (
            3,
            RejectReason::WrongType,
            "line 5: 4 cells where the header has 3",
        ),
        (4, RejectReason::MissingTime, "line 6, column `t`"),
        (
            5,
            RejectReason::BadTime,
            "line 7, column `t`: the text \"soon\"",
        ),
        (6, RejectReason::MissingKey, "line 8, column `k`"),
        (
            7,
            RejectReason::WrongType,
            "line 9, column `x`: the text \"1,5\" is not a number; record.decimal_comma",
        ),
        (8, RejectReason::NotUtf8, "line 10, column `x`"),
        (
            9,
            RejectReason::BadKey,
            "line 11, column `k`: the series key",
        ),
    ];
    assert_eq!(batch.rejected.len(), due.len());
    for (rejected, (message, reason, says)) in batch.rejected.iter().zip(due) {
        assert_eq!(
            (rejected.message, rejected.reason),
            (message, reason),
            "{}",
            rejected.detail
        );
        assert!(rejected.detail.starts_with(says), "{}", rejected.detail);
    }
    let (_, batch) = read(b"a,b\n1,5,2,25\n", &self::options(b','));
    assert!(
        batch.rejected[0]
            .detail
            .contains("a decimal comma need another delimiter"),
        "{}",
        batch.rejected[0].detail
    );
}

#[test]
fn a_table_that_cannot_be_read_says_why_and_what_to_do() {
    assert_refused(b"", &options(b','), &["is empty"]);
    assert_refused(b"\n\n", &options(b','), &["is empty"]);
    assert_refused(b"1.5,2\n3,4\n", &options(b','), &["no header", "1.5"]);
    assert_refused(
        b"a;b\n1;2\n",
        &options(b','),
        &["one column", "','", "is the delimiter ';'?"],
    );
    assert_refused(
        b"a\tb\n1\t2\n",
        &options(b','),
        &["is the delimiter '\\t'?"],
    );
    assert_refused(b"a,b\n1,2\n", &options(b';'), &["is the delimiter ','?"]);
    assert_refused(
        b"a,b,a\n1,2,3\n",
        &options(b','),
        &["two columns named `a`", "1 and 3"],
    );
    assert_refused(b"a,\xFFb\n", &options(b','), &["UTF-8"]);
    let with_time = TableOptions {
        time: Some((
            "when".to_owned(),
            TimeReader::new(TimeFormat::Auto, TimeZone::UTC),
        )),
        ..options(b',')
    };
    assert_refused(b"a,b\n", &with_time, &["no column `when`", "`a`, `b`"]);
    let with_key = TableOptions {
        key: Some("id".to_owned()),
        ..options(b',')
    };
    assert_refused(b"a,b\n", &with_key, &["no column `id`"]);
    let only = TableOptions {
        columns: Columns::Only(vec!["c".to_owned()]),
        ..options(b',')
    };
    assert_refused(b"a,b\n", &only, &["no column `c`"]);
    let except = TableOptions {
        columns: Columns::Except(vec!["a".to_owned(), "c".to_owned()]),
        ..options(b',')
    };
    assert_refused(b"a,b\n", &except, &["no column `c`"]);
    let all = TableOptions {
        columns: Columns::Except(vec!["a".to_owned(), "b".to_owned()]),
        ..options(b',')
    };
    assert_refused(b"a,b\n", &all, &["all columns", "ignored"]);
    let said = CsvTable::open(Path::new("/absent/x.csv"), &options(b','))
        .expect_err("absent")
        .to_string();
    assert!(said.contains("/absent/x.csv"), "{said}");
}

#[test]
fn a_table_without_rows_has_no_chunk() {
    assert_eq!(read(b"a,b\n", &options(b',')).1, Batch::default());
}

#[test]
fn an_open_quote_ends_the_table_instead_of_filling_memory() {
    let mut content = b"a,b\n1,2\n3,\"4\n".to_vec();
    content.resize(12 << 20, b'x');
    let mut table = open(&content, &options(b',')).expect("a table");
    assert_eq!(
        table
            .next_chunk(1)
            .expect("readable")
            .expect("a chunk")
            .values,
        [1.0, 2.0]
    );
    let said = table.next_chunk(1).expect_err("too long").to_string();
    assert!(
        said.contains("after line 2 ") && said.contains("quote"),
        "{said}"
    );
}

#[test]
fn chunks_are_bounded_and_their_rows_are_numbered_through() {
    let rows: String = (0..10).map(|row| format!("{row}\n")).collect();
    let mut table = open(format!("a\n{rows}").as_bytes(), &options(b',')).expect("a table");
    let mut found = Vec::new();
    while let Some(batch) = table.next_chunk(4).expect("readable") {
        found.push((
            batch
                .records
                .iter()
                .map(|record| (record.message, record.offset))
                .collect::<Vec<_>>(),
            batch.values,
        ));
    }
    assert_eq!(
        found
            .iter()
            .map(|(records, _)| records.len())
            .collect::<Vec<_>>(),
        [4, 4, 2]
    );
    assert_eq!(found[2], (vec![(0, 8), (1, 9)], vec![8.0, 9.0]));
}

#[test]
fn a_stream_reads_the_same_from_csv_as_from_json() {
    let format = example();
    let options = TableOptions::for_stream(&format, b',', "unused".to_owned());
    let (fields, table) = read(
        b"temp,ts,flow,pump,pressure\n61.5,1773051273,NaN,p7,\n",
        &options,
    );
    assert_eq!(fields, ["flow", "pressure", "temp"]);
    let payload = br#"{"pump":"p7","ts":1773051273,"flow":"NaN","motor":{"temp":61.5}}"#;
    let message = Message {
        partition: 0,
        offset: 0,
        key: None,
        payload: Some(payload),
        timestamp: None,
        arrival: None,
        headers: None,
    };
    let json = Decoder::new(&format).decode(&[message]);
    assert_eq!(table.records, json.records);
    assert_eq!(
        table.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        json.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    );
}

/// Reads a table in the form of SKAB's files to its end; gives its rows and its fields.
fn read_whole<R: io::Read>(table: &mut CsvTable<R>) -> (usize, usize) {
    let mut rows = 0;
    let mut newest = None;
    while let Some(batch) = table.next_chunk(1000).expect("readable") {
        assert_eq!(batch.rejected, []);
        assert!(batch.values.iter().all(|value| value.is_finite()));
        let mut times = batch.records.iter().map(|record| Some(record.time));
        assert!(std::iter::once(newest).chain(times.clone()).is_sorted());
        newest = times.next_back().expect("a chunk has rows");
        rows += batch.records.len();
    }
    (rows, table.fields().len())
}

fn skab_options(labelled: bool) -> TableOptions {
    let labels = ["anomaly", "changepoint"].map(str::to_owned);
    TableOptions {
        time: Some((
            "datetime".to_owned(),
            TimeReader::new(TimeFormat::Auto, TimeZone::UTC),
        )),
        columns: Columns::Except(if labelled {
            labels.to_vec()
        } else {
            Vec::new()
        }),
        ..options(b';')
    }
}

#[test]
fn a_long_file_in_the_form_of_a_benchmark_reads_whole() {
    let mut content = String::from("datetime;a;b;c;d;e;f;g;h;anomaly;changepoint\n");
    for row in 0..9_405 {
        let hour = 10 + row / 3_600;
        let minute = row / 60 % 60;
        let second = row % 60;
        content += &format!("2020-02-08 {hour}:{minute:02}:{second:02}");
        (0..8).for_each(|field| content += &format!(";{}", 0.01 * f64::from(row * field)));
        content += ";0.0;0.0\n";
    }
    for (labelled, fields) in [(true, 8), (false, 10)] {
        let mut table = open(content.as_bytes(), &skab_options(labelled)).expect("a table");
        assert_eq!(read_whole(&mut table), (9_405, fields));
    }
}

#[test]
#[ignore = "reads SKAB: OUTLIERD_TEST_DATA names the folder that holds skab"]
fn the_benchmark_files_read_whole() {
    let folder = std::env::var("OUTLIERD_TEST_DATA").expect("OUTLIERD_TEST_DATA");
    let folder = Path::new(&folder).join("skab");
    let normal = folder.join("anomaly-free/anomaly-free.csv");
    let mut table = CsvTable::open(&normal, &skab_options(false)).expect("a table");
    assert_eq!(read_whole(&mut table), (9_405, 8));
    let valve = folder.join("valve1/0.csv");
    let mut table = CsvTable::open(&valve, &skab_options(true)).expect("a table");
    let (rows, fields) = read_whole(&mut table);
    assert!(rows > 1_000 && fields == 8, "{rows} rows, {fields} fields");
}

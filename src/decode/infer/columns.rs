//! CSV without a schema: the character between the cells, and the names of the columns.

use ::csv::ReaderBuilder;

use crate::record::format::{Format, RecordFormat};

/// Characters between cells that are tried, in this order: a comma may be a decimal mark.
const DELIMITERS: [u8; 4] = *b";\t|,";

/// Sets the format where the messages are lines with equally many cells.
pub(super) fn table_of(
    payloads: &[&[u8]],
    record: &mut RecordFormat,
    notes: &mut Vec<String>,
) -> bool {
    let texts = payloads.iter().map(|payload| std::str::from_utf8(payload));
    let Ok(texts) = texts.collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    for delimiter in DELIMITERS {
        let Some(lines) = lines(&texts, delimiter) else {
            continue;
        };
        let Some(first) = lines.first() else {
            continue;
        };
        if first.len() < 2 || lines.iter().any(|line| line.len() != first.len()) {
            continue;
        }
        let is_name =
            |cell: &String| !cell.is_empty() && !cell.starts_with(|c: char| c.is_ascii_digit());
        record.columns = match first.iter().all(is_name) && lines.len() > 1 {
            true => first.clone(),
            false => {
                notes.push("The lines have no header: give the columns their names.".to_owned());
                (1..=first.len())
                    .map(|number| format!("c{number}"))
                    .collect()
            }
        };
        let comma = |cell: &String| crate::decode::text::is_decimal_comma(cell);
        record.decimal_comma = delimiter != b',' && lines.iter().flatten().any(comma);
        (record.format, record.delimiter) = (Format::Csv, delimiter);
        return true;
    }
    false
}

fn lines(texts: &[&str], delimiter: u8) -> Option<Vec<Vec<String>>> {
    let mut found = Vec::new();
    for text in texts {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(text.as_bytes());
        for line in reader.records() {
            let line = line.ok()?;
            found.push(line.iter().map(|cell| cell.trim().to_owned()).collect());
        }
    }
    Some(found)
}

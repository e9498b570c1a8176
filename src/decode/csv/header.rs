//! The header of a table: which column is which field, the key, the time.

use ::csv::ByteRecord;

use super::{Columns, TableOptions};
use crate::decode::file::ReadError;
use crate::decode::text::quoted;
use crate::decode::time::TimeReader;

/// Delimiters that files are seen to have.
const DELIMITERS: [u8; 4] = *b";\t,|";

/// A header, checked against the options.
#[derive(Debug)]
pub(super) struct Header {
    /// How many columns there are.
    pub(super) columns: usize,
    /// Names of the fields.
    pub(super) fields: Vec<String>,
    /// Their columns, from 0.
    pub(super) field_columns: Vec<usize>,
    /// The key's column.
    pub(super) key: Option<(String, usize)>,
    /// The event time's column and form.
    pub(super) time: Option<(String, usize, TimeReader)>,
}

impl Header {
    pub(super) fn of(
        file: &str,
        row: &ByteRecord,
        options: &TableOptions,
    ) -> Result<Self, ReadError> {
        let names = names(file, row)?;
        check_delimiter(file, &names, options.delimiter)?;
        check_names(file, &names)?;
        let find = |name: &str| {
            let unknown = || ReadError::UnknownColumn {
                file: file.to_owned(),
                column: name.to_owned(),
                known: list(&names),
            };
            names
                .iter()
                .position(|known| known == name)
                .ok_or_else(unknown)
        };
        let key = options
            .key
            .as_ref()
            .map(|name| Ok((name.clone(), find(name)?)))
            .transpose()?;
        let time = (options
            .time
            .as_ref()
            .map(|(name, times)| Ok((name.clone(), find(name)?, times.clone()))))
        .transpose()?;
        let field_columns: Vec<usize> = match &options.columns {
            Columns::Only(fields) => fields
                .iter()
                .map(|name| find(name))
                .collect::<Result<_, _>>()?,
            Columns::Except(ignored) => {
                let mut others = ignored
                    .iter()
                    .map(|name| find(name))
                    .collect::<Result<Vec<_>, _>>()?;
                others.extend(key.iter().map(|(_, column)| *column));
                others.extend(time.iter().map(|(_, column, _)| *column));
                let is_field = |(column, name): (usize, &String)| {
                    (!name.is_empty() && !others.contains(&column)).then_some(column)
                };
                names.iter().enumerate().filter_map(is_field).collect()
            }
        };
        if field_columns.is_empty() {
            return Err(ReadError::NoFields {
                file: file.to_owned(),
                known: list(&names),
            });
        }
        let fields = field_columns
            .iter()
            .filter_map(|&column| names.get(column).cloned())
            .collect();
        Ok(Self {
            columns: names.len(),
            fields,
            field_columns,
            key,
            time,
        })
    }
}

fn names(file: &str, row: &ByteRecord) -> Result<Vec<String>, ReadError> {
    let name = |cell| std::str::from_utf8(cell).map(|name: &str| name.trim().to_owned());
    (row.iter().map(name).collect::<Result<_, _>>()).map_err(|_| ReadError::HeaderNotUtf8 {
        file: file.to_owned(),
    })
}

fn check_delimiter(file: &str, names: &[String], used: u8) -> Result<(), ReadError> {
    let [header] = names else { return Ok(()) };
    let likely = DELIMITERS
        .into_iter()
        .find(|&other| other != used && header.as_bytes().contains(&other));
    let Some(likely) = likely else { return Ok(()) };
    let show = |byte: u8| format!("'{}'", char::from(byte).escape_default());
    Err(ReadError::Delimiter {
        file: file.to_owned(),
        header: quoted(header),
        used: show(used),
        likely: show(likely),
    })
}

fn check_names(file: &str, names: &[String]) -> Result<(), ReadError> {
    if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        let found = names.first().map(|name| quoted(name)).unwrap_or_default();
        return Err(ReadError::NoHeader {
            file: file.to_owned(),
            found,
        });
    }
    for (second, name) in names.iter().enumerate() {
        let first = names
            .iter()
            .position(|other| other == name)
            .unwrap_or(second);
        if first != second && !name.is_empty() {
            let file = file.to_owned();
            let column = name.clone();
            return Err(ReadError::DuplicateColumn {
                file,
                column,
                first: first + 1,
                second: second + 1,
            });
        }
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

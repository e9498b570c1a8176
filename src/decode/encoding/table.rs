//! CSV (RFC 4180) in a message: each line is a value, an object of texts by the names of
//! `record.columns`. A line that repeats these names is a header, and no record.

use ::csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use crate::decode::{DecodeProblem, meta};
use crate::record::RejectReason;
use crate::record::format::RecordFormat;

/// How the lines are read.
#[derive(Clone, Debug)]
pub(in crate::decode) struct TableLines {
    columns: Vec<String>,
    delimiter: u8,
}

impl TableLines {
    pub(super) fn new(format: &RecordFormat) -> Self {
        Self {
            columns: format.columns.clone(),
            delimiter: format.delimiter,
        }
    }

    /// The values of a message, one for each line; a line that cannot be read is none.
    ///
    /// # Errors
    /// Bytes that are not UTF-8.
    pub(super) fn values(
        &self,
        payload: &[u8],
    ) -> Result<Vec<Result<Value, DecodeProblem>>, DecodeProblem> {
        let text = meta::text(payload)?;
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(text.as_bytes());
        let lines = reader.records().filter_map(|line| match line {
            Ok(line) if self.columns.iter().eq(line.iter().map(str::trim)) => None,
            Ok(line) => Some(self.value_of(&line)),
            Err(error) => {
                let detail = format!("not CSV: {error}");
                Some(Err(DecodeProblem::new(RejectReason::NotDecodable, detail)))
            }
        });
        Ok(lines.collect())
    }

    fn value_of(&self, line: &StringRecord) -> Result<Value, DecodeProblem> {
        if line.len() != self.columns.len() {
            let detail = format!(
                "a line has {} cells; record.columns has {}",
                line.len(),
                self.columns.len()
            );
            return Err(DecodeProblem::new(RejectReason::NotDecodable, detail));
        }
        let cells = self.columns.iter().cloned().zip(line.iter());
        let cells = cells.map(|(name, cell)| (name, cell.into()));
        Ok(Value::Object(cells.collect::<Map<_, _>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fixtures::format;
    use serde_json::json;

    #[test]
    fn lines_have_the_names_of_the_columns() {
        let mut format = format(&[("flow", "flow")]);
        format.columns = ["ts", "flow", "note"].map(str::to_owned).to_vec();
        format.delimiter = b';';
        let table = TableLines::new(&format);
        let found = table
            .values(b"ts;flow;note\n1;2,5;\"a;b\"\n\n3;4\n")
            .expect("text");
        assert_eq!(
            found[0],
            Ok(json!({"ts": "1", "flow": "2,5", "note": "a;b"}))
        );
        let problem = found[1].as_ref().expect_err("a cell is missing");
        assert_eq!(
            (problem.detail.as_str(), found.len()),
            ("a line has 2 cells; record.columns has 3", 2)
        );
    }
}

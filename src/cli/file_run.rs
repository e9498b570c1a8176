//! A file that runs through the daemon's pipeline, row after row: its first rows are training rows,
//! or a bundle is given.

use std::path::Path;
use std::sync::Arc;

use super::image_files::stream_of_files;
use super::input_args::{Chunk, InputArgs, Records};
use super::train::learn_with_bar;
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::retrain::set::{TrainingRow, TrainingSet};

/// See the module.
pub(super) struct FileRun {
    pub(super) stream: Arc<StreamSettings>,
    pub(super) pipeline: Pipeline,
    records: Records,
    table: SeriesTable,
    /// Training rows, if there is no bundle.
    train_rows: usize,
    learned: Vec<TrainingRow>,
    /// Rows so far.
    pub(super) rows: usize,
}

impl FileRun {
    /// Opens the file at `path`; `configured` says that the stream comes from a configuration,
    /// which names its columns.
    pub(super) fn open(
        path: &Path,
        input: &InputArgs,
        stream: StreamSettings,
        configured: bool,
        bundle: Option<&Path>,
        train_rows: Option<usize>,
    ) -> anyhow::Result<Self> {
        let bundle = bundle.map(Bundle::load).transpose()?;
        let records = input.open(path, &stream, configured)?;
        let stream = Arc::new(stream_of_files(stream));
        let pipeline = Pipeline::new(stream.clone(), bundle)?;
        let table = SeriesTable::new(stream.record.max_series);
        Ok(Self {
            stream,
            pipeline,
            records,
            table,
            train_rows: train_rows.unwrap_or(0),
            learned: Vec::new(),
            rows: 0,
        })
    }

    /// The next rows: the training rows, and then, once a bundle is trained on them, the others.
    /// `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let batch = self.stream.input.batch_records;
        let mut most = batch;
        if self.pipeline.detector.bundle().is_none() {
            match self.train_rows.saturating_sub(self.rows) {
                0 => {
                    let set = TrainingSet::new(std::mem::take(&mut self.learned));
                    self.pipeline
                        .swap(Some(learn_with_bar(&self.stream, &set, "training")?))?;
                }
                left => most = left.min(batch),
            }
        }
        let Some(chunk) = self
            .records
            .run(most, &mut self.pipeline, &mut self.table)?
        else {
            return Ok(None);
        };
        self.learned
            .extend(chunk.done.training_rows().map(|(_, row)| row));
        self.rows += chunk.rows;
        Ok(Some(chunk))
    }
}

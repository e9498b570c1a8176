//! A file that runs through the daemon's pipeline, row after row: its first rows are training rows,
//! or a bundle is given.

use std::path::Path;
use std::sync::Arc;

use super::image_files::stream_of_files;
use super::input_args::{Chunk, InputArgs, Records};
use super::train::{first_with_bar, learn_with_bar};
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::rejections::Rejections;
use crate::retrain::coverage::lacking;
use crate::retrain::first::FirstModel;
use crate::retrain::set::{TrainingRow, TrainingSet};

/// See the module.
pub(super) struct FileRun {
    pub(super) stream: Arc<StreamSettings>,
    pub(super) pipeline: Pipeline,
    records: Records,
    table: SeriesTable,
    /// Training rows, if there is no bundle; `None`: as many as a daemon would take.
    train_rows: Option<usize>,
    /// Rows that are wanted before the first training.
    wanted: usize,
    learned: Vec<TrainingRow>,
    /// Rows so far.
    pub(super) rows: usize,
    /// Those of them that were rejected.
    pub(super) rejections: Rejections,
}

/// An error of a run that ended for too few records, which the rejected ones may explain.
pub(super) fn explained(error: anyhow::Error, rejections: &Rejections) -> anyhow::Error {
    match rejections.count() {
        0 => error,
        _ => error.context(rejections.to_string()),
    }
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
        let wanted = train_rows.unwrap_or(stream.training.records);
        Ok(Self {
            stream,
            pipeline,
            records,
            table,
            train_rows,
            wanted,
            learned: Vec::new(),
            rows: 0,
            rejections: Rejections::default(),
        })
    }

    /// The next rows: the training rows, and then, once a bundle is trained on them, the others.
    /// `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let batch = self.stream.input.batch_records;
        let mut most = batch;
        if self.pipeline.detector.bundle().is_none() {
            // Of a number of rows each counts, of a daemon's rule those that it learns from.
            let rows = self.train_rows.map_or(self.learned.len(), |_| self.rows);
            if rows >= self.wanted {
                self.train()
                    .map_err(|error| explained(error, &self.rejections))?;
            }
            if let Some(left) = self.wanted.checked_sub(rows).filter(|left| *left > 0) {
                // One message may hold more records than are left.
                let is_single = self.stream.record.has_single_records();
                most = if is_single { left.min(batch) } else { 1 };
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
        let records = chunk.done.counts.records as usize;
        self.rows += records;
        self.rejections.add(records, &chunk.done.rejected);
        Ok(Some(chunk))
    }

    /// Trains on the rows so far; where a daemon would learn on, so many more are wanted.
    fn train(&mut self) -> anyhow::Result<()> {
        let set = TrainingSet::new(self.learned.iter().cloned());
        let bundle = if self.train_rows.is_some() {
            learn_with_bar(&self.stream, &set, "training")?
        } else if let Some(lacking) = lacking(&self.stream, &set) {
            self.wanted = lacking.wanted;
            return Ok(());
        } else {
            match first_with_bar(&self.stream, &self.learned)? {
                FirstModel::Live(bundle) => *bundle,
                FirstModel::Unproved(unproved) => {
                    self.wanted = unproved.wanted;
                    return Ok(());
                }
            }
        };
        self.learned.clear();
        Ok(self.pipeline.swap(Some(bundle))?)
    }
}

//! The alert destinations of `[streams.NAME.output]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::stream::named;
use super::{ConfigReader, StreamConfigs};
use crate::config::problems::ConfigProblem;
use crate::config::raw;
use crate::config::settings::DestinationSettings;

/// The value of `output.file` that is the standard output.
const STDOUT: &str = "-";

impl ConfigReader<'_> {
    /// The destinations that a stream has switched on.
    pub(super) fn destinations(
        &self,
        stream: &str,
        raw: &raw::OutputConfig,
    ) -> Vec<DestinationSettings> {
        let file = match named(&raw.file, stream) {
            none if none.is_empty() => None,
            stdout if stdout == STDOUT => Some(DestinationSettings::Stdout),
            path => Some(DestinationSettings::File(PathBuf::from(path))),
        };
        file.into_iter().collect()
    }

    /// No two streams write to one file.
    pub(super) fn distinct_files(&mut self, streams: &StreamConfigs) {
        let mut writers = BTreeMap::new();
        for (name, raw) in streams {
            for destination in self.destinations(name, &raw.output) {
                let DestinationSettings::File(path) = destination else {
                    continue;
                };
                let found = path.display().to_string();
                if let Some(first) = writers.insert(path, name) {
                    let key = self.place(name, "output.file");
                    let fault = format!("is also the file of stream {first}");
                    let fix = "give each stream its own file, such as \"alerts-{stream}.jsonl\"";
                    self.note(ConfigProblem::new(key, fault, fix).found(&found.into()));
                }
            }
        }
    }
}

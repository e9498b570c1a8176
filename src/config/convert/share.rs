//! `[share]`.

use super::rules::outputs;
use super::stream::named;
use super::{ConfigReader, StreamConfigs};
use crate::config::problems::{ConfigProblem, KeyPath};
use crate::config::settings::ShareSettings;
use crate::config::{raw, text};

impl ConfigReader<'_> {
    pub(super) fn share(
        &mut self,
        raw: &raw::ShareConfig,
        streams: &StreamConfigs,
    ) -> Option<ShareSettings> {
        let topics = [
            ("bundles", &raw.bundles),
            ("control", &raw.control),
            ("events", &raw.events),
        ];
        for (i, (key, topic)) in topics
            .iter()
            .enumerate()
            .filter(|(_, (_, topic))| !topic.is_empty())
        {
            let earlier = topics[..i]
                .iter()
                .find(|(_, other)| other == topic)
                .map(|(key, _)| format!("share.{key}"));
            let user = earlier.or_else(|| user_of(topic, streams));
            if let Some(user) = user {
                let fault = format!("is also the topic of {user}");
                let fix = "give it its own topic: they hold different kinds of message";
                self.note(
                    ConfigProblem::new(KeyPath::of("share").key(key), fault, fix)
                        .found(&topic.as_str().into()),
                );
            }
        }
        let [bundles, control, events] = topics.map(|(key, topic)| match topic.is_empty() {
            true => Some(None),
            false => self
                .take(KeyPath::of("share").key(key), topic, text::topic(topic))
                .map(Some),
        });
        Some(ShareSettings {
            bundles: bundles?,
            control: control?,
            events: events?,
        })
    }
}

/// The key of a stream that has this topic.
fn user_of(topic: &str, streams: &StreamConfigs) -> Option<String> {
    streams.iter().find_map(|(name, raw)| {
        let outputs = outputs(&raw.output).map(|(key, topic)| (format!("output.{key}"), topic));
        let mut all = outputs
            .into_iter()
            .chain([("input.topic".to_owned(), &raw.input.topic)]);
        let key = all.find(|(_, other)| named(other, name) == topic)?.0;
        Some(format!("streams.{name}.{key}"))
    })
}

//! Every metric of the daemon, in one table: its name, its kind and its help text.
//!
//! [`describe_all`] and the events read the same table, and clippy refuses the macros of the
//! `metrics` crate everywhere else (`disallowed-macros` in clippy.toml). A metric without a help
//! text therefore does not compile.

use metrics::Label;

/// Names and values of the labels of one time series.
pub type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(Entry);

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(Entry);

/// A distribution.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(Entry);

/// The name, type and help text of a metric on the Prometheus page.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: &'static str,
    help: &'static str,
}

/// A metric of any kind.
#[derive(Clone, Copy, Debug)]
pub enum Metric {
    /// See [`Counter`].
    Counter(Counter),
    /// See [`Gauge`].
    Gauge(Gauge),
    /// See [`Histogram`].
    Histogram(Histogram),
}

/// Declares each metric as a constant and lists all of them in `ALL`.
macro_rules! table {
    ($($constant:ident: $kind:ident = $name:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: $kind = $kind(Entry { name: $name, help: $help });
        )*

        /// The whole table.
        pub const ALL: &[Metric] = &[$(Metric::$kind($constant)),*];
    };
}

table! {
    // The path of a record
    RECORDS: Counter = "outlierd_records_total", "Records read from the input topic";
    VERDICTS: Counter = "outlierd_verdicts_total", "Records by verdict";
    REJECTED: Counter = "outlierd_rejected_total", "Records sent to the dead letters, by reason";
    STEPPED_OVER: Counter = "outlierd_records_stepped_over_total", "Records that were not scored because they failed again and again";
    FAULTS: Counter = "outlierd_faults_total", "Faulty sensor readings, by kind";
    COERCED: Counter = "outlierd_coerced_total", "Readings that were converted from text to a number";
    OUT_OF_ORDER: Counter = "outlierd_out_of_order_total", "Scored records that are older than the newest record of their series";
    BATCH_SECONDS: Histogram = "outlierd_batch_seconds", "Time of one micro-batch from decode to outputs";
    LAST_RECORD: Gauge = "outlierd_last_record_timestamp_seconds", "Unix time when a stream last read records";

    // Alerts
    ALERTS: Counter = "outlierd_alerts_total", "Published alert events, by kind and event";
    MUTED: Counter = "outlierd_muted_total", "Episodes that opened under a mute, so that no alert was published when they opened";
    ALERTS_BUDGETED: Gauge = "outlierd_alerts_budgeted", "Anomalies that threshold.budget allows for the records scored since the start; compare with outlierd_alerts_total of event open";
    OPEN_ALERTS: Gauge = "outlierd_open_alerts", "Series with an open alert, of those that silence is watched of or that are in memory";
    ALERT_SECONDS: Histogram = "outlierd_alert_seconds", "Time from the arrival of a batch in the input topic to the commit that publishes an alert of it";

    // Alert destinations beside Kafka
    DESTINATION_ALERTS: Counter = "outlierd_destination_alerts_total", "Alerts delivered to a destination beside Kafka, repeats included";
    DESTINATION_FAILURES: Counter = "outlierd_destination_failures_total", "Failed attempts to read or deliver the alerts of a destination; each is retried";
    DESTINATION_FAILING: Gauge = "outlierd_destination_failing", "1 while alerts cannot be delivered to a destination; /status has the reason";
    DESTINATION_SKIPPED: Counter = "outlierd_destination_skipped_total", "Messages of an alerts topic that are not alerts, and were not delivered";

    // Lanes and states
    SERIES: Gauge = "outlierd_series", "Series held in memory";
    EXPIRED_SERIES: Counter = "outlierd_expired_series_total", "Series whose state was deleted because they sent nothing for retention.forget_after";
    PARTITIONS: Gauge = "outlierd_partitions", "Input partitions assigned to a lane";
    CONSUMER_LAG: Gauge = "outlierd_consumer_lag_records", "Records of a partition that are not committed yet";
    INPUT_PAUSED: Gauge = "outlierd_input_paused", "1 while a lane reads nothing because its output is slower than its input";
    INPUT_PAUSES: Counter = "outlierd_input_pauses_total", "Times that a lane paused its input because its output was slower";
    COMMITS: Counter = "outlierd_commits_total", "Commits of states and offsets";
    COMMIT_SECONDS: Histogram = "outlierd_commit_seconds", "Time of one commit of states and offsets";
    LAST_COMMIT: Gauge = "outlierd_last_commit_timestamp_seconds", "Unix time when a stream last committed";
    KAFKA_CONNECTED: Gauge = "outlierd_kafka_connected", "1 while each lane of a stream has a connection to a broker";
    LANE_RESTARTS: Counter = "outlierd_lane_restarts_total", "Times that a lane resumed from its last commit after an error, by whether it left its consumer group";
    CONSUMER_ERRORS: Counter = "outlierd_consumer_errors_total", "Errors of a lane's consumer that librdkafka retries";
    OFFSETS_AWAITED: Counter = "outlierd_offsets_awaited_total", "Times that a lane waited some seconds more for its group's committed offsets";
    OFFSETS_NOT_COMMITTED: Counter = "outlierd_offset_commit_failures_total", "Failed commits of offsets; the stored positions hold";
    TRANSACTIONS_NOT_ABORTED: Counter = "outlierd_transaction_abort_failures_total", "Transactions that could not be aborted; the next start aborts them";
    POSITION_CHANGES: Counter = "outlierd_position_changes_total", "Partitions that did not start where their states end, by cause";
    RECORDS_LOST: Counter = "outlierd_records_lost_total", "Records that were deleted from the input topic before they were read";
    CHANGELOG_LOST: Counter = "outlierd_changelog_lost_total", "Partitions of the changelog found without entries that were committed";
    CHANGELOG_NOT_COMPACTED: Counter = "outlierd_changelog_not_compacted_total", "Times that the changelog was found without compaction, so that its brokers delete states";
    RESTORED_STATES: Counter = "outlierd_restored_states_total", "States read from the changelog";
    CHANGELOG_SKIPPED: Counter = "outlierd_changelog_skipped_total", "Entries of the changelog that are not the state of a series";
    STATE_UNREADABLE: Counter = "outlierd_state_unreadable_total", "Stored states that could not be read; their series were reset";
    STORED_ENTRIES_IGNORED: Counter = "outlierd_stored_entries_ignored_total", "Stored entries other than states that could not be read, by entry";
    STORE_FAILURES: Counter = "outlierd_store_failures_total", "Accesses that the state store refused and outlierd continued without, by access";
    STORE_BYTES: Gauge = "outlierd_store_size_bytes", "Size of the state store on disk";
    STATE_SET_ASIDE: Counter = "outlierd_state_set_aside_total", "Damaged state folders that were moved aside";

    // Models
    PHASE: Gauge = "outlierd_stream_phase", "1 for the phase that a stream is in: learning, training or live";
    LEARNING_RECORDS: Gauge = "outlierd_learning_records", "Records collected so far by a stream without a bundle";
    TRAINING_FAILURES: Counter = "outlierd_training_failures_total", "Failed trainings of a stream's first model";
    BUNDLE_INFO: Gauge = "outlierd_bundle_info", "1 for the live bundle of a stream, 0 for its predecessors";
    BUNDLES_REFUSED: Counter = "outlierd_bundles_refused_total", "Bundles that were made live and do not fit the stream; the one before stayed live";
    TRAININGS: Counter = "outlierd_trainings_total", "Trainings of a challenger, by outcome";
    LAST_TRAINING: Gauge = "outlierd_last_training_timestamp_seconds", "Unix time of the last training, by outcome";
    TRAINING: Gauge = "outlierd_training", "1 while a challenger is trained or evaluated";
    ROLLBACKS: Counter = "outlierd_rollbacks_total", "Bundles that were rolled back because they raised too many alerts";
    NORMAL_RECORDS: Gauge = "outlierd_training_buffer_records", "Records of normal traffic kept for training";
    NORMAL_SERIES: Gauge = "outlierd_normal_series", "Series with records of normal traffic kept for training";
    DRIFT_DISTANCE: Gauge = "outlierd_drift_distance", "Kolmogorov-Smirnov distance of recent scores from the scores of the calibration";
    SENSITIVITY: Gauge = "outlierd_min_detectable_fault_sigma", "Smallest injected fault that the live bundle detects, in standard deviations of the field; +Inf where it detects none";
    DETECTABLE_DEVIATION: Gauge = "outlierd_min_detectable_shift_sigma", "Smallest level shift that live series would detect now, in standard deviations of the field; +Inf where they detect none";
    THRESHOLDS_CORRECTED: Counter = "outlierd_thresholds_corrected_total", "Corrections of a series' thresholds by the achieved rate of its alerts, by reason";
    OVER_BUDGET: Gauge = "outlierd_over_budget", "1 while more alerts open than the alert budget explains by chance (99.9 %)";
    BLIND: Gauge = "outlierd_detector_degraded", "1 while the self-test finds that the stream misses faults which its bundle has proved to detect";
    BUNDLE_MARKED: Gauge = "outlierd_bundle_marked", "1 while the live bundle was trained on a time range that is marked as faulty";

    // Sharing
    BUNDLES_PUBLISHED: Counter = "outlierd_bundles_published_total", "Bundles sent to the other instances";
    BUNDLES_RECEIVED: Counter = "outlierd_bundles_received_total", "Bundles that came from another instance, by outcome";
    BUNDLES_PRUNED: Counter = "outlierd_bundles_pruned_total", "Bundles deleted from the model folder, which keeps a bounded number of a stream";
    SHARING_FAILURES: Counter = "outlierd_sharing_failures_total", "Failed attempts to exchange bundles and feedback; each is retried";
    MESSAGES_SKIPPED: Counter = "outlierd_shared_messages_skipped_total", "Messages of a shared topic that could not be used";
    MESSAGES_REFUSED: Counter = "outlierd_shared_messages_refused_total", "Messages of a shared topic without a signature of a trusted key, which were ignored";
    FEEDBACK_DROPPED: Counter = "outlierd_feedback_dropped_total", "Feedback that was not used for training because it failed again and again";
    FEEDBACK_EXPIRED: Counter = "outlierd_feedback_expired_total", "Feedback dropped because there is more than outlierd keeps, the oldest first";
    EVENTS_DROPPED: Counter = "outlierd_events_dropped_total", "Model events that were not published because the queue was full";

    // The process
    BUILD_INFO: Gauge = "outlierd_build_info", "1; the label has the version of the program";
    READY: Gauge = "outlierd_ready", "1 while all lanes score what comes; /readyz has the reason where it is 0";
    BROKERS_AWAITED: Counter = "outlierd_brokers_awaited_total", "Attempts at the start that no broker answered";
    TOKENS_NOT_RENEWED: Counter = "outlierd_tokens_not_renewed_total", "Attempts to renew the OIDC token of the Kafka clients that failed while the old one was valid";
    CONFIG_RELOADS: Counter = "outlierd_config_reloads_total", "Reloads of the configuration, by outcome";

    // Operators
    FEEDBACK: Counter = "outlierd_feedback_total", "Feedback of operators, by label";
}

/// Upper bounds of the histograms, in seconds: from a fast batch to an alert that waits for a broker.
pub const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Gives every metric its help text. The recorder must be installed before: an earlier call
/// describes nothing.
#[expect(
    clippy::disallowed_macros,
    reason = "the table is where metrics are described"
)]
pub fn describe_all() {
    for metric in ALL {
        match *metric {
            Metric::Counter(Counter(Entry { name, help })) => {
                metrics::describe_counter!(name, help);
            }
            Metric::Gauge(Gauge(Entry { name, help })) => metrics::describe_gauge!(name, help),
            Metric::Histogram(Histogram(Entry { name, help })) => {
                metrics::describe_histogram!(name, help);
            }
        }
    }
}

impl Metric {
    /// Its name on the Prometheus page.
    pub fn name(&self) -> &'static str {
        self.entry().name
    }

    /// Its help text.
    pub fn help(&self) -> &'static str {
        self.entry().help
    }

    fn entry(&self) -> &Entry {
        match self {
            Self::Counter(Counter(entry))
            | Self::Gauge(Gauge(entry))
            | Self::Histogram(Histogram(entry)) => entry,
        }
    }
}

#[expect(
    clippy::disallowed_macros,
    reason = "the table is where metrics are moved"
)]
impl Counter {
    /// Adds `n`.
    pub fn add<const N: usize>(self, labels: Labels<'_, N>, n: u64) {
        metrics::counter!(self.0.name, owned(labels)).increment(n);
    }
}

#[expect(
    clippy::disallowed_macros,
    reason = "the table is where metrics are moved"
)]
impl Gauge {
    /// Sets the value.
    pub fn set<const N: usize>(self, labels: Labels<'_, N>, value: f64) {
        metrics::gauge!(self.0.name, owned(labels)).set(value);
    }

    /// Sets 1 or 0.
    pub fn set_flag<const N: usize>(self, labels: Labels<'_, N>, flag: bool) {
        self.set(labels, f64::from(u8::from(flag)));
    }

    /// Adds to the value.
    pub fn add<const N: usize>(self, labels: Labels<'_, N>, amount: f64) {
        metrics::gauge!(self.0.name, owned(labels)).increment(amount);
    }
}

#[expect(
    clippy::disallowed_macros,
    reason = "the table is where metrics are moved"
)]
impl Histogram {
    /// Adds a sample.
    pub fn record<const N: usize>(self, labels: Labels<'_, N>, sample: f64) {
        metrics::histogram!(self.0.name, owned(labels)).record(sample);
    }
}

fn owned<const N: usize>(labels: Labels<'_, N>) -> Vec<Label> {
    labels
        .into_iter()
        .map(|(key, value)| Label::new(key, value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Moves a metric as an event would.
    fn touch(metric: Metric) {
        let labels = [("stream", "pumps")];
        match metric {
            Metric::Counter(counter) => counter.add(labels, 1),
            Metric::Gauge(gauge) => gauge.set(labels, 1.0),
            Metric::Histogram(histogram) => histogram.record(labels, 1.0),
        }
    }

    #[test]
    fn the_page_has_a_help_line_for_each_metric_of_the_table() {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).unwrap();
        let recorder = builder.build_recorder();
        let page = metrics::with_local_recorder(&recorder, || {
            describe_all();
            ALL.iter().copied().for_each(touch);
            recorder.handle().render()
        });
        for metric in ALL {
            let line = format!("# HELP {} {}\n", metric.name(), metric.help());
            assert!(page.contains(&line), "{line} is missing in\n{page}");
        }
        let types = page.matches("# TYPE ").count();
        assert_eq!(types, ALL.len(), "{page}");
    }

    #[test]
    fn names_are_of_the_daemon_and_differ_and_helps_say_something() {
        let names: BTreeSet<&str> = ALL.iter().map(Metric::name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
        for metric in ALL {
            let name = metric.name();
            let help = metric.help();
            assert!(name.starts_with("outlierd_"), "{name}");
            let is_counter = matches!(metric, Metric::Counter(_));
            assert_eq!(is_counter, name.ends_with("_total"), "{name}");
            let is_histogram = matches!(metric, Metric::Histogram(_));
            assert!(!is_histogram || name.ends_with("_seconds"), "{name}");
            assert!(help.split_whitespace().count() >= 3, "{name}: {help}");
        }
    }
}

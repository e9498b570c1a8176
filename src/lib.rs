//! outlierd: a streaming anomaly-detection daemon.
//!
//! The modules, in the order in which a record passes them. `ARCHITECTURE.md` has the picture, the
//! table below one line for each; `tests/architecture.rs` says who may import whom.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | how options are written and read: durations, sizes, paths |
//! | [`record`] | the types that travel between the steps, and the format of records |
//! | [`source`] | polls batches of messages from Kafka |
//! | [`http`] | requests over HTTP |
//! | [`schema_registry`] | fetches and registers the schemas of messages |
//! | [`decode`] | bytes to readings or pixels: encodings, layouts, transforms. A new input format goes here |
//! | [`gate`] | rejects bad event times, finds sensor faults |
//! | [`resample`] | makes rows of a fixed period from irregular records |
//! | [`hold`] | keeps the last readings of fields that report by exception |
//! | [`window`] | keeps the last W records of each series |
//! | [`score`] | one forward pass for a batch of readings, then one score for each record: a record is scored here |
//! | [`threshold`] | the adaptive limit of each series |
//! | [`episode`] | N of M, cool-down, mutes: makes the alerts |
//! | [`sink`] | publishes alerts, dead letters, scores |
//! | [`destination`] | delivers committed alerts outside of Kafka. A new alert destination goes here |
//! | [`inter_arrival`] | learns how often a series sends, for the detection of missing data |
//! | [`pipeline`] | joins the steps from decode to episode |
//! | [`lane`] | the thread that runs a pipeline on its partitions, and commits |
//! | [`state`] | stores the states of all series: sled, and the changelog topic |
//! | [`model`] | autoencoders, their training, bundles, the model folder. A new kind of model goes here |
//! | [`retrain`] | keeps normal records, trains challengers, evaluates and promotes them |
//! | [`promotion`] | the verdict on a challenger, as data |
//! | [`share`] | keeps bundles and feedback the same on all instances |
//! | [`signature`] | signs and verifies the messages of the shared topics |
//! | [`config`] | reads and validates the configuration: fills the options of all modules |
//! | [`events`] | operational events: log line and metric together |
//! | [`failure`] | what an error means: who has to act, and whether a repetition helps |
//! | [`web`] | `/healthz`, `/readyz`, `/status`, `/metrics` |
//! | [`app`] | starts and stops the daemon |
//! | [`cli`] | the commands, one file each |
//! | [`evaluate`] | scores against labels, and the HTML report |
//! | [`sim`] | simulated plants for the demo and the tests |

/// Gives an enum that derives `strum::IntoStaticStr` the method `as_str`.
macro_rules! impl_as_str {
    ($name:ident) => {
        impl $name {
            /// The name in metrics, headers and JSON.
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }
    };
}

pub mod http;
pub mod options;
pub mod record;

pub mod decode;
pub mod episode;
pub mod gate;
pub mod hold;
pub mod inter_arrival;
pub mod resample;
pub mod schema_registry;
pub mod score;
pub mod sink;
pub mod source;
pub mod threshold;
pub mod window;

pub mod destination;
pub mod lane;
pub mod pipeline;

pub mod model;
pub mod retrain;
pub mod share;
pub mod state;

pub mod config;
pub mod evaluate;
pub mod events;
pub mod failure;
pub mod promotion;

pub mod signature;
pub mod sim;
pub mod web;

pub mod app;
pub mod cli;

#[cfg(test)]
mod test_stream;

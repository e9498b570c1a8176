//! What all machines that read the same streams share: bundles, which of them is live, commands,
//! and feedback.
//!
//! Kafka carries it on two compacted topics; each machine's model folder is its copy. A change of a
//! model folder, by the daemon or by a command, is told to the others, and what the others tell is
//! done to the folder: so commands work with and without a broker, and a machine that joins late
//! has everything as soon as it has read both topics.
//!
//! - `control`: the messages of the control topic;
//! - `archive`: a bundle in pieces that fit into messages, verified by hash;
//! - `sync`: keeps model folder and topics alike, without knowing Kafka;
//! - `feedback_log`: the feedback on the alerts of a stream, for its lanes;
//! - `history`: records of the input read again, to train on and for feedback on them;
//! - `message`: the headers of their messages, with the signature;
//! - `error`: why something could not be shared;
//! - `thread`: the clients, and the thread that runs it all.

pub mod archive;
pub mod control;
pub mod error;
pub mod feedback_log;
pub mod history;
pub mod message;
pub mod sync;
pub mod thread;

//! Training of a stream's model from its own records: the first model when a stream has none, and
//! each next one.
//!
//! Normal traffic is kept ([`collect`], [`buffer`]); when it is time ([`schedule`], [`drift`]) a
//! challenger is trained on it ([`learn`]) and is tested against the live bundle ([`proof`], with
//! the faults of [`inject`]). [`engine`] joins these, [`thread`] runs it.

pub mod budget;
pub mod buffer;
pub mod challenge;
pub mod collect;
pub mod coverage;
pub mod drift;
pub mod engine;
pub mod error;
pub mod first;
pub mod inject;
pub mod learn;
pub mod learner;
pub mod proof;
pub mod schedule;
pub mod self_test;
pub mod set;
pub mod thread;
pub mod trial;

pub use crate::promotion as verdict;

//! Training of a stream's model from its own records: the first model when a stream has none.

pub mod learn;
pub mod learner;
pub mod set;

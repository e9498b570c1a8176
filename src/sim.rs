//! A simulated plant whose faults are known, and the score of what a detector made of it.
//!
//! The demonstration and the tests need traffic with a ground truth, which real plants do not give.
//! [`fleet`] is a park of centrifugal pumps that follow their physics; [`fault`] breaks them;
//! [`plan`] decides which pump breaks how and when; [`report`] compares the alerts with that plan.
//! [`signal`] is what records of healthy pumps look like where plants send them otherwise; [`surface`] is what a camera sees of a surface. All of it is pure: no clock, no file, no
//! network. The same seed gives the same bytes on the same machine (sines and powers come from the
//! platform's math library).

pub mod sensor;

pub mod fault;
pub mod plan;

mod pump;
mod wander;

pub mod fleet;

pub mod report;

pub mod signal;

pub mod surface;

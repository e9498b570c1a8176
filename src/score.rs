//! The score step.
pub mod chart;

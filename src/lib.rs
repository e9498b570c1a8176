//! outlierd: a streaming anomaly-detection daemon.
//!
//! The modules in the order in which a record meets them:
//!
//! ```text
//! source -> decode -> gate -> window -> score -> threshold -> episode -> sink
//! ```
//!
//! [`pipeline`] joins the steps, [`lane`] runs it, [`app`] builds everything. `ARCHITECTURE.md` tells who may import whom.

pub mod record;

pub mod cadence;
pub mod decode;
pub mod episode;
pub mod gate;
pub mod resample;
pub mod score;
pub mod sink;
pub mod source;
pub mod threshold;
pub mod window;

pub mod lane;
pub mod pipeline;

pub mod model;
pub mod retrain;
pub mod share;
pub mod state;

pub mod config;
pub mod evaluate;
pub mod events;

pub mod sim;
pub mod web;

pub mod app;
pub mod cli;

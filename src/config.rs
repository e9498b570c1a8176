//! The configuration: raw as written, validated as used.

pub mod settings;

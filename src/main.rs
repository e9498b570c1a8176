//! The `outlierd` command.

fn main() {}

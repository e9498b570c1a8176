//! What this process holds in memory.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::fs;

/// The resident memory of this process in KiB.
pub fn kibibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

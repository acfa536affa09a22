//! Parses the command line and hands over.
#![forbid(unsafe_code)]

fn main() {}

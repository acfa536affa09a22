//! Parses the command line and hands over.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    keyhouse::cli::run(std::env::args_os())
}

//! How a command fails: a sentence on stderr that says what to do next, and an exit status.

use crate::domain::{FieldErrors, Invalid};
use crate::error::Error;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// Asked wrongly: exit status 2.
    Usage(String),
    /// Asked rightly, and could not: exit status 1.
    Failed(String),
    /// Asked for help or the version: no failure at all.
    Help(clap::Error),
    /// Asked wrongly, as clap says it.
    Clap(clap::Error),
}

impl Failure {
    /// A refused flag.
    pub fn flag(flag: &str, why: &Invalid) -> Self {
        Self::Usage(format!("{flag}: {why}"))
    }

    /// All refused fields of a form, under the flags they were typed at.
    pub fn fields(errors: &FieldErrors, flag_of: impl Fn(&'static str) -> &'static str) -> Self {
        Self::Usage(sentences(errors, flag_of))
    }

    /// Says it on stderr (help: on stdout) and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("error: {message}");
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                eprintln!("error: {message}");
                ExitCode::from(1)
            }
            Self::Help(text) => {
                // A closed pipe behind --help is no failure.
                let _ = text.print();
                ExitCode::SUCCESS
            }
            Self::Clap(error) => {
                let _ = error.print();
                ExitCode::from(2)
            }
        }
    }

    /// Gives `otherwise` in place of "not found".
    pub fn not_found(otherwise: impl FnOnce() -> String) -> impl FnOnce(Error) -> Self {
        move |error| match error {
            Error::NotFound => Self::Failed(otherwise()),
            other => other.into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(match error {
            Error::NotFound => "It is not there (any more).".to_owned(),
            Error::Conflict => {
                "Somebody else changed it in the meantime; look at it and try again.".to_owned()
            }
            Error::Invalid(errors) => sentences(&errors, argument_of),
            Error::Unavailable(why) => {
                format!(
                    "The database is not available: {}. Check --database-url and --data-dir.",
                    first_line(&why)
                )
            }
            Error::Internal(why) => format!("{}.", why.trim_end_matches('.')),
        })
    }
}

fn sentences(errors: &FieldErrors, flag_of: impl Fn(&'static str) -> &'static str) -> String {
    let sentences: Vec<String> =
        errors.iter().map(|(field, why)| format!("{}: {why}", flag_of(field))).collect();
    sentences.join("\n       ")
}

/// Where the fields that the store refuses are typed.
fn argument_of(field: &'static str) -> &'static str {
    match field {
        "name" => "NAME",
        "amount" => "CREDITS",
        "group" => "NAME",
        "group_id" => "--group",
        "user" => "NAME",
        "users" => "USER",
        "upstream" => "--upstream",
        "base_url" => "--base-url",
        other => other,
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

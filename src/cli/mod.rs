//! The command line: a file per command. Parses flags, environment and `keyhouse.toml`, runs one command,
//! and turns its end into an exit status: 0 done, 1 failed, 2 wrong usage.

mod backup;
mod data;
mod demo;
mod doctor;
mod failure;
mod group;
mod key;
mod migrate;
mod model;
mod model_import;
mod output;
mod sample;
mod sample_calls;
mod serve;
mod sign_in_link;
mod stdin;
mod upstream;
mod user;

use crate::config::SettingsFile;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use data::{Context, DataOptions};
use failure::Failure;
use output::Output;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  keyhouse demo                                     # look around on a throw-away data set
  keyhouse serve                                    # the real thing, in this directory
  keyhouse user create ada --password-stdin         # works beside a running server, like all
  keyhouse key create --user ada --name laptop --json

Every setting is a flag, an environment variable KEYHOUSE_…, or a line in keyhouse.toml, in this order.";

/// Our own doings, and the warnings of the libraries.
const LOG_FILTER: &str = "warn,keyhouse=info";

/// A self-hosted house for API keys: make keys, meter every call, spend exactly the credits you gave.
#[derive(Debug, Parser)]
#[command(name = "keyhouse", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Commands,
}

/// Before or behind every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct GlobalOptions {
    #[command(flatten)]
    data: DataOptions,
    /// Settings file [default: keyhouse.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "KEYHOUSE_CONFIG")]
    config: Option<PathBuf>,
    /// What to log on stderr, such as info, warn or keyhouse=debug
    #[arg(long, global = true, value_name = "FILTER", env = "KEYHOUSE_LOG", default_value = LOG_FILTER)]
    log: String,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Serve(serve::ServeOptions),
    Demo(demo::DemoOptions),
    #[command(subcommand)]
    User(user::UserCommand),
    #[command(subcommand)]
    Group(group::GroupCommand),
    #[command(subcommand)]
    Upstream(upstream::UpstreamCommand),
    #[command(subcommand)]
    Model(model::ModelCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Doctor(doctor::DoctorOptions),
    Migrate(migrate::MigrateOptions),
    Backup(backup::BackupOptions),
    Restore(backup::RestoreOptions),
}

impl Commands {
    /// Whether it makes what a new house begins with, which may be before its server ever ran.
    fn begins(&self) -> bool {
        matches!(
            self,
            Self::User(user::UserCommand::Create(_))
                | Self::Group(group::GroupCommand::Create(_))
                | Self::Upstream(upstream::UpstreamCommand::Create(_))
                | Self::Model(model::ModelCommand::Create(_) | model::ModelCommand::Import(_))
        )
    }
}

/// Parses `args`, the program's name first, and runs the command they name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let done = parse(&args).and_then(|cli| {
        start_logging(&cli.global.log)?;
        dispatch(cli)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let GlobalOptions { data, json, .. } = cli.global;
    let output = Output { json };
    let begins = cli.command.begins();
    let context = || Context::open(&data, output, begins);
    match cli.command {
        Commands::Serve(options) => serve::run(&options, &data),
        Commands::Demo(options) => demo::run(&options, output),
        Commands::User(command) => user::run(command, &context()?),
        Commands::Group(command) => group::run(command, &context()?),
        Commands::Upstream(command) => upstream::run(command, &context()?),
        Commands::Model(command) => model::run(command, &context()?),
        Commands::Key(command) => key::run(command, &context()?),
        Commands::Doctor(options) => doctor::run(&options, &context()?),
        Commands::Migrate(options) => migrate::run(&options, &data, output),
        Commands::Backup(options) => backup::back_up(&options, &context()?),
        Commands::Restore(options) => backup::restore(&options, &data, output),
    }
}

/// Flags before environment before file: clap knows the first two, and takes the file's values as its defaults.
fn parse(args: &[OsString]) -> Result<Cli, Failure> {
    // No setting is required, so what is wrong without the file is wrong with it.
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let known = setting_names(&command);
    let named: Option<&PathBuf> = matches.get_one("config");
    let file = SettingsFile::load(named.map(PathBuf::as_path), &known).map_err(Failure::Usage)?;
    let matches = match file {
        Some(file) => with_defaults(&file)?.try_get_matches_from(args)?,
        None => matches,
    };
    cli_from(&matches)
}

fn cli_from(matches: &ArgMatches) -> Result<Cli, Failure> {
    Ok(Cli::from_arg_matches(matches)?)
}

/// The flags of every command and of `serve`, without those that concern one invocation only.
fn setting_names(command: &Command) -> Vec<String> {
    let of_serve = command.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
    let names = command.get_arguments().chain(of_serve).filter_map(Arg::get_long);
    let mut names: Vec<String> = names
        .filter(|name| !["config", "json", "help", "version"].contains(name))
        .map(String::from)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn with_defaults(file: &SettingsFile) -> Result<Command, Failure> {
    // As flags first: clap judges every value of the file, also one that a flag would override.
    let as_flags = file.settings.iter().map(|(name, value)| format!("--{name}={value}"));
    let judged = ["keyhouse".to_owned(), "serve".to_owned()].into_iter().chain(as_flags);
    Cli::command().try_get_matches_from(judged).map_err(|error| {
        let report = error.render().to_string();
        let sentence = report.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::Usage(format!("{}: {sentence}.", file.path.display()))
    })?;
    Ok(file.settings.iter().fold(Cli::command(), |command, (name, value)| {
        let id = name.replace('-', "_");
        let default = |command: Command| {
            if command.get_arguments().any(|arg| arg.get_id() == id.as_str()) {
                command.mut_arg(&id, |arg| arg.default_value(value))
            } else {
                command
            }
        };
        let of_links =
            |user: Command| user.mut_subcommand("create", default).mut_subcommand("sign-in-link", default);
        default(command)
            .mut_subcommand("serve", default)
            .mut_subcommand("demo", default)
            .mut_subcommand("user", of_links)
    }))
}

fn start_logging(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Usage(format!("--log: {error}; use for example info or keyhouse=debug."))
    })?;
    // A second call in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .try_init();
    Ok(())
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Help(error),
            _ => Self::Clap(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_each_has_an_example() {
        let mut command = Cli::command();
        Cli::command().debug_assert();
        command.build();
        let mut pending: Vec<&Command> = command.get_subcommands().collect();
        while let Some(command) = pending.pop() {
            if command.get_name() == "help" {
                continue;
            }
            pending.extend(command.get_subcommands());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("keyhouse "), "{} has no example", command.get_name());
            // Longer ones are wrapped, and a wrapped one cannot be pasted.
            let long = help.lines().find(|line| line.starts_with("  ") && line.chars().count() > 98);
            assert_eq!(long, None, "{} wraps", command.get_name());
        }
    }

    #[test]
    fn every_setting_is_an_environment_variable_too() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("a subcommand");
        let names = setting_names(&command);
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let is_it = |arg: &&Arg| arg.get_long() == Some(&name);
            let arg = command.get_arguments().chain(serve.get_arguments()).find(is_it).expect("an argument");
            let variable = format!("KEYHOUSE_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
        }
    }
}

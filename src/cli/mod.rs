//! The command line: arguments and output.
//!
//! Results go to standard output, errors and the log to standard error. Exit codes: 0 for success; 1 for failure, or
//! if the answer is "no"; 2 for wrong usage. Commands call the rest of the library; server logic does not belong here.

mod alerts;
mod audit;
mod backend_path;
mod bulk;
mod called;
mod check;
mod client;
mod columns;
mod completions;
mod configurations;
mod demo;
mod events;
mod explain;
mod healthcheck;
mod import;
mod init;
mod log;
mod manual;
mod overrides;
mod plan;
mod probe;
mod reload;
mod serve;
mod servers;
mod states;
mod status;
mod tiers;
mod upgrade;
mod visibility;
mod waiting;
mod weight;

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing::{error, subscriber, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::reload::Purpose;
use crate::cli::visibility::Tapped;
use crate::config::{self, Setup};
use crate::pool::Override;
use crate::printable::{printable, printable_json};
use crate::probe::program;

/// Time limit for tasks that still run after an orderly stop.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);

/// The exit code for wrong usage.
const USAGE: u8 = 2;

/// The name of the program, in manual pages and completions.
const PROGRAM: &str = "steerd";

/// The environment variable with the path of the configuration file, which applies if there is no argument.
const CONFIG_VARIABLE: &str = "STEERD_CONFIG";
const DEFAULT_CONFIG: &str = "/etc/steerd/steerd.toml";

#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    arg_required_else_help = true,
    about = "Authoritative DNS server that answers with a weighted subset of the backends that are healthy now",
    long_about = "steerd is an authoritative DNS server for the names you delegate to it. It checks the health of \
                  your backends, and answers A and AAAA queries with a weighted, short-TTL subset of those that \
                  are healthy now. So every client that can resolve a name gets load balancing and failover.",
    after_help = "\
Examples:
  steerd demo                           a running example on this machine; nothing to set up
  steerd init                           write a first configuration
  steerd check -c ./steerd.toml         is this configuration right?
  steerd serve -c ./steerd.toml         run the server

Exit codes: 0 done; 1 it failed, or the answer is \"no\"; 2 usage."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; SIGHUP reloads the configuration, SIGUSR2 upgrades, SIGTERM and SIGINT stop it after the queries
    /// in flight
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        log: Log,
    },
    /// Load the configuration and its zones as `serve` would, and print every error and warning
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the health checks once, without a server, and print their results, timings and verdicts
    #[command(after_help = "\
Examples:
  steerd probe                          every backend of every pool
  steerd probe web                      the backends of the pool `web`
  steerd probe web/gw1 --json           one backend, as JSON

Exit codes: 0 all are healthy; 1 one is not, or it failed; 2 usage.")]
    Probe {
        #[command(flatten)]
        config: ConfigFile,
        /// Pool or backend to probe; all of them without this argument
        #[arg(value_name = "POOL[/BACKEND]")]
        target: Option<probe::ProbeSelection>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a running server read its configuration again, and show the changes
    #[command(after_help = "\
The reload is refused, with both paths, if the server runs another file than the one given here.
SIGHUP also reloads; the result is then in the log.

Exit codes: 0 reloaded; 1 the configuration was refused, or there is no server; 2 usage.")]
    Reload {
        #[command(flatten)]
        server: servers::ServerArguments,
        /// Show the changes, or every mistake, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the changes that a reload would make to a running server, and change nothing
    #[command(after_help = "\
Exit codes: 0 nothing would change; 1 a reload or an upgrade would change something, or a reload would be refused; 2 usage.")]
    Diff {
        #[command(flatten)]
        server: servers::ServerArguments,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a new process of the program take over from a running server, without losing a query
    #[command(after_help = "\
For a new version, and for changes of listen, workers, steering and [admin] listen. Health, overrides, counters, sockets
and open connections are handed over. If the new process fails, the old one goes on. SIGUSR2 does the same; the result
is then in the log.

Exit codes: 0 the new process serves; 1 the old one goes on; 2 usage; 3 only a restart replaces it, or none was reached.")]
    Upgrade {
        #[command(flatten)]
        server: servers::ServerArguments,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print figures for choosing TTL, answers and intervals: detection, clients that moved, queries, dead answers
    #[command(after_help = "\
Examples:
  steerd plan www.lb.example.com                      a service of the configuration
  steerd plan www.lb.example.com --ttl 5s             the same with another TTL
  steerd plan --backends 12 --sites 3 --answers 2 --interval 2s --timeout 500ms

docs/SIZING.md explains the figures.

Exit codes: 0 printed; 1 it failed; 2 usage.")]
    Plan(plan::Planning),
    /// Translate a configuration of gdnsd or Route 53 into TOML and zone files, and list what cannot be carried over
    #[command(
        subcommand,
        after_help = "\
Examples:
  steerd import gdnsd /etc/gdnsd/config --out new
  steerd import route53 records.json --health-checks checks.json --out new

Exit codes: 0 written, and valid for `steerd check`; 1 it failed; 2 usage."
    )]
    Import(import::Import),
    /// Tell whether this instance should be announced: for containers, load balancers and BGP daemons
    #[command(after_help = "\
Examples:
  steerd healthcheck                                  DNS is answered
  steerd healthcheck --name www.lb.example.com        and so is this name, with addresses
  steerd healthcheck --admin http://127.0.0.1:8053 --dns 192.0.2.53 --name www.lb.example.com

Exit codes: 0 announce it; 1 do not, with the reason; 2 usage.")]
    Healthcheck(healthcheck::HealthCheck),
    /// Show why a client gets an answer: the rule, each tier, each backend and how often it is drawn
    #[command(after_help = "\
Examples:
  steerd explain s3.lb.example.com
  steerd explain s3.lb.example.com --type AAAA --client 2001:db8::1
  steerd explain s3.lb.example.com --client 203.0.113.7 --resolver 192.0.2.53

Exit codes: 0 explained; 1 it failed, or there is no server; 2 usage.")]
    Explain(explain::Explain),
    /// Show how services are answered, what is wrong, overrides, and shares; several servers side by side
    #[command(after_help = "\
Examples:
  steerd status                         everything in trouble, and all services and pools
  steerd status web --watch             the backends of the pool `web`, every 2 seconds
  steerd status --admin http://lb1:8053 --admin http://lb2:8053

WANTED is the probability of being first in an answer from the pool, GIVEN the part of the answers with the
backend, since the server counts or since --watch began.

Exit codes: 0 all is well; 1 a service is down or fails open, or a server did not answer; 2 usage.")]
    Status(status::StatusArguments),
    /// Show the last events: changes of state, tiers, overrides, reloads; with --follow also the further ones
    #[command(after_help = "\
Examples:
  steerd events                         the last 20
  steerd events web --follow            those of the pool `web`, as they happen
  steerd events -n 1000 --kind tier,service --json

Exit codes: 0 shown; 1 a server did not answer; 2 usage.")]
    Events(events::EventsArguments),
    /// Show who has changed what, when and why: overrides, failovers, reloads, rollbacks, also those that were refused
    #[command(after_help = "\
Examples:
  steerd audit                          the last 50 entries
  steerd audit --since 1d --action override,weight
  steerd audit --state-dir /var/lib/steerd --json      from the files, without a server

Exit codes: 0 shown; 1 a server did not answer, or a file cannot be read; 2 usage.")]
    Audit(audit::AuditArguments),
    /// Show what a running server runs: from which files, when it was loaded and by whom, and whether the files differ
    #[command(after_help = "\
Exit codes: 0 shown; 1 it failed, or there is no server; 2 usage.")]
    Config(configurations::ConfigArguments),
    /// Go back to an earlier configuration; the files on disk stay as they are, and the next reload reads them
    #[command(after_help = "\
Examples:
  steerd rollback --list                the kept configurations
  steerd rollback --dry-run             what would change
  steerd rollback                       to the one before
  steerd rollback 12                    to the one with this number

Exit codes: 0 done; 1 it was refused, or there is no server; 2 usage.")]
    Rollback(configurations::RollbackArguments),
    /// Stop answering with a backend; clients that have it stay
    Drain(states::Said),
    /// Treat a backend as if it were not configured
    Disable(states::Said),
    /// Answer with a backend whatever the result of its checks
    Up(states::Said),
    /// Treat a backend as unhealthy, whatever the result of its checks: only a service that fails open answers with it
    Down(states::Said),
    /// End the override of a backend, so that its checks decide again
    Auto(states::Unsaid),
    /// Give a backend a part of its configured weight, whatever its state: for canaries and gradual moves
    #[command(after_help = "\
Examples:
  steerd weight web/gw1 10% --for 1h --reason canary
  steerd weight web/gw1 200%            twice its configured weight
  steerd weight web/gw1 auto            the configured weight again

With 0% it gets no new clients, as with `drain`. `steerd auto` ends the override of its state, not this one.

Exit codes: 0 done; 1 refused, or there is no server; 2 usage.")]
    Weight(weight::Weighing),
    /// Let a service return to an earlier tier that is usable again, whatever its `failback`
    Failback(tiers::Returning),
    /// Answer for a service from one of its pools as long as that is usable, for a drill or to evacuate a site
    #[command(after_help = "\
Examples:
  steerd failover www.example.com site-b --for 2h --reason drill
  steerd failover www.example.com auto          end it; the service returns according to its `failback`")]
    Failover(tiers::FailingOver),
    /// Log a sample of the queries for a time, one JSON object per line
    #[command(
        subcommand,
        after_help = "\
Examples:
  steerd query-log on                          10% of the queries for 10 minutes
  steerd query-log on --sample 100% --for 1m   all of them for a minute
  steerd query-log off

The file is that of `query_log` under [server], else queries.jsonl in state_dir. Addresses of clients are personal
data: see docs/OPERATIONS.md.

Exit codes: 0 done; 1 refused, or there is no server; 2 usage."
    )]
    QueryLog(visibility::Switch),
    /// Send a sample of the queries and replies to the reader of `dnstap` under `[server]`, for a time
    #[command(
        subcommand,
        after_help = "\
Examples:
  steerd dnstap on --sample 100% --for 5m
  steerd dnstap status

Exit codes: 0 done; 1 refused, or there is no server; 2 usage."
    )]
    Dnstap(visibility::Switch),
    /// Try the alerts of a configuration
    Alerts(alerts::AlertsArguments),
    /// Run an example on this machine: three HTTP backends, a zone and a service; needs no setup
    Demo(demo::Ports),
    /// Write a first configuration and its zone, and show the commands that come next; asks nothing
    #[command(after_help = "\
Examples:
  steerd init
  steerd init lb --name www.lb.example.com --backend 192.0.2.11:8080 --backend 192.0.2.12:8080

Exit codes: 0 written; 1 a file exists, or the arguments make no valid configuration; 2 usage.")]
    Init(init::Init),
    /// Print the completions of these commands for a shell
    #[command(after_help = "\
Examples:
  source <(steerd completions bash)     for this shell; the Debian package installs them for all

Exit codes: 0 printed; 2 usage.")]
    Completions(completions::Completions),
    /// Print the manual page, or write the pages of all commands into a directory
    #[command(after_help = "\
Examples:
  steerd man | man -l -                 read it
  steerd man --dir /usr/local/share/man/man1

Exit codes: 0 done; 1 a page cannot be written; 2 usage.")]
    Man(manual::Manual),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file; defaults to the value of `STEERD_CONFIG`, else /etc/steerd/steerd.toml
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    argument: Option<PathBuf>,
}

impl ConfigFile {
    /// The path from the argument or the environment, if any.
    fn named(&self) -> Option<PathBuf> {
        let set = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        self.argument.clone().or_else(|| set().map(PathBuf::from))
    }

    fn path(&self) -> PathBuf {
        self.named().unwrap_or_else(|| DEFAULT_CONFIG.into())
    }
}

#[derive(Debug, Args)]
struct Log {
    /// Format of log lines on standard error
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "text")]
    format: LogFormat,
    /// off, error, warn, info, debug or trace; or directives such as `warn,steerd::checker=debug`
    #[arg(long = "log-level", value_name = "LEVEL", default_value = "info", value_parser = parse_level)]
    level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Lines for a person
    Text,
    /// One JSON object for each line
    Json,
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(code) = program::supervise() {
        return code;
    }
    match CommandLine::try_parse().unwrap_or_else(|error| refuse(error)).command {
        Command::Serve { config, log } => serve::run(&config.path(), &log),
        Command::Check { config, json } => check::run(&config.path(), json),
        Command::Probe { config, target, json } => probe::run(&config.path(), target.as_ref(), json),
        Command::Reload { server, dry_run: false, json } => reload::run(&server, Purpose::Reload, json),
        Command::Reload { server, dry_run: true, json } => reload::run(&server, Purpose::DryRun, json),
        Command::Diff { server, json } => reload::run(&server, Purpose::Diff, json),
        Command::Upgrade { server, json } => upgrade::run(&server, json),
        Command::Plan(planning) => plan::run(&planning),
        Command::Import(import) => import::run(&import),
        Command::Healthcheck(asked) => healthcheck::run(&asked),
        Command::Explain(asked) => explain::run(&asked),
        Command::Drain(said) => states::set(Override::Drain, &said),
        Command::Disable(said) => states::set(Override::Disabled, &said),
        Command::Up(said) => states::set(Override::Up, &said),
        Command::Down(said) => states::set(Override::Down, &said),
        Command::Auto(unsaid) => states::remove(&unsaid),
        Command::Status(arguments) => status::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Config(arguments) => configurations::config(&arguments),
        Command::Rollback(arguments) => configurations::rollback(&arguments),
        Command::Weight(weighing) => weight::run(&weighing),
        Command::Failback(returning) => tiers::fail_back(&returning),
        Command::Failover(failing) => tiers::fail_over(&failing),
        Command::QueryLog(switch) => visibility::run_switch(Tapped::QueryLog, &switch),
        Command::Dnstap(switch) => visibility::run_switch(Tapped::Dnstap, &switch),
        Command::Alerts(arguments) => alerts::run(&arguments),
        Command::Demo(ports) => demo::run(ports),
        Command::Init(init) => init::run(&init),
        Command::Completions(completions) => completions::run(&completions, CommandLine::command()),
        Command::Man(manual) => manual::run(&manual, CommandLine::command()),
    }
}

/// Exits because of invalid arguments. An unexpected word may be a configuration file.
fn refuse(mut error: clap::Error) -> ! {
    let word = match error.kind() {
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand),
        _ => None,
    };
    if let Some(ContextValue::String(word)) = word
        && let Some(hint) = misplaced_file(word)
    {
        let _ = error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error.exit()
}

/// Whether a word looks like the name of a TOML file, not of a pool.
fn is_toml(word: &str) -> bool {
    Path::new(word).extension().is_some_and(|extension| extension == "toml")
}

/// The hint for a word that is probably a configuration file.
fn misplaced_file(word: &str) -> Option<String> {
    let is_file = !word.starts_with('-') && (is_toml(word) || Path::new(word).is_file());
    is_file.then(|| format!("give a configuration file with -c: -c {}", printable(word)))
}

/// The hint for a missing configuration file.
fn hint_for_missing(path: &Path) -> Option<&'static str> {
    let is_missing = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_missing.then_some(
        "give the file with -c FILE or in STEERD_CONFIG; `steerd demo` runs an example that needs no file",
    )
}

/// Loads the configuration. Prints its faults to standard error.
fn load(path: &Path) -> Result<Setup, ExitCode> {
    config::load(path).map_err(|faults| {
        let _ = writeln!(io::stderr(), "{}", faults.render(has_color(&io::stderr())));
        if let Some(hint) = hint_for_missing(path) {
            complain(&format!("help: {hint}"));
        }
        ExitCode::FAILURE
    })
}

/// Runs a future to completion on a new runtime. If no runtime can be started, prints the reason and returns `None`.
fn block_on<T>(future: impl Future<Output = T>) -> Option<T> {
    try_block_on(future).inspect_err(|error| complain(&format!("error: {}", no_runtime(error)))).ok()
}

/// Runs a future to completion on a new runtime.
fn try_block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Runtime::new()?;
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    Ok(output)
}

/// The message if no runtime can be started.
fn no_runtime(error: &io::Error) -> String {
    format!("cannot start threads or open descriptors: {error}")
}

/// Writes a result to standard output. Control characters are escaped, because parts of the result are foreign text.
fn print(text: &str) {
    print_as_it_is(&lines(text));
}

/// As [`print()`], for JSON.
fn print_json(json: &str) {
    print_as_it_is(&printable_json(json));
}

/// As [`print()`], for text with colours, in which foreign parts are already escaped. It is not an error if a reader
/// such as `head` closes the pipe early.
fn print_as_it_is(text: &str) {
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
}

/// As [`print()`], for errors, to standard error.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", lines(text));
}

/// The text with every line made printable.
fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Whether to use colours on a stream: on a terminal, unless `NO_COLOR` is set and not empty
/// (<https://no-color.org>).
fn has_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Log {
    /// Starts the log of this process. Keep the returned value until the process ends.
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    fn start(&self) -> io::Result<log::Flush> {
        let filter = EnvFilter::builder().parse_lossy(&self.level);
        let (lines, flush) = log::Lines::to(io::stderr(), |lost| {
            warn!(lost, "log lines were dropped: standard error is read too slowly");
        })?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(lines)
            .with_ansi(has_color(&io::stderr()));
        match self.format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => {
                builder.json().flatten_event(true).init();
                // The default hook writes lines that are not JSON.
                panic::set_hook(Box::new(|panic| error!("bug in steerd, please report it: {panic}")));
            }
        }
        Ok(flush)
    }

    /// Writes why the process ends, at any log level and even before the log is started: as `text`, or, if the log is
    /// JSON, as the lines that `tell` logs.
    fn last_words(&self, text: &str, tell: impl FnOnce()) {
        match self.format {
            LogFormat::Text => drop(writeln!(io::stderr(), "{text}")),
            LogFormat::Json => {
                let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| log::Direct);
                subscriber::with_default(lines.finish(), tell);
            }
        }
    }
}

/// A single word must be a level: the filter would take any other word as the name of a module.
fn parse_level(text: &str) -> Result<String, String> {
    let is_word = text.chars().all(char::is_alphanumeric);
    // The filter would take an empty text as the level `error`.
    if is_word && (text.is_empty() || text.parse::<LevelFilter>().is_err()) {
        return Err("expected off, error, warn, info, debug, trace, or directives such as `warn,steerd::checker=debug`".into());
    }
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn arguments_are_read() {
        let parsed =
            CommandLine::try_parse_from(["steerd", "probe", "-c", "a.toml", "web/one", "--json"]).unwrap();
        let Command::Probe { config, target, json } = parsed.command else { panic!("{parsed:?}") };
        assert_eq!(config.path(), PathBuf::from("a.toml"));
        assert!(target.is_some() && json);
        for usage in [
            &["steerd"][..],
            &["steerd", "x"],
            &["steerd", "probe", "web/"],
            &["steerd", "demo", "--port", "70000"],
            &["steerd", "reload", "--admin", "127.0.0.1:8053"],
            &["steerd", "drain"],
            &["steerd", "drain", "web"],
            &["steerd", "auto", "web/gw1", "--for", "1m"],
            &["steerd", "weight", "web/gw1"],
            &["steerd", "weight", "web/gw1", "30"],
        ] {
            assert_eq!(CommandLine::try_parse_from(usage).unwrap_err().exit_code(), 2, "{usage:?}");
        }
    }

    #[test]
    fn log_levels_are_words_or_directives() {
        for good in ["info", "off", "TRACE", "warn,steerd::checker=debug"] {
            assert_eq!(parse_level(good).as_deref(), Ok(good));
        }
        for bad in ["infos", "", "steerd=loud"] {
            assert!(parse_level(bad).is_err(), "{bad}");
        }
    }
}

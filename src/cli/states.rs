//! `steerd drain`, `disable`, `up`, `down` and `auto`: set and end overrides for the state of backends.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use crate::admin::override_length;
use crate::cli::backend_path::BackendPath;
use crate::cli::bulk::BackendChoice;
use crate::cli::overrides::{Request, STATE, carry_out, checked_length, checked_reason};
use crate::cli::servers::ServerArguments;
use crate::cli::waiting::{self, Goal};
use crate::cli::{block_on, complain, print};
use crate::pool::Override;

/// An override for a backend, as given on the command line.
#[derive(Debug, Args)]
pub(super) struct Said {
    /// The backend; in patterns such as 'web/*', `*` and `?` stand for others, and all that match change, or none
    #[arg(value_name = "POOL/BACKEND")]
    backend: BackendPath,
    /// Only backends of this site
    #[arg(long)]
    site: Option<String>,
    /// How long the override lasts, such as 30m; without it, until `steerd auto`
    #[arg(long = "for", value_name = "DURATION", value_parser = checked_length)]
    length: Option<String>,
    /// The reason, shown to other operators; defaults to the reason of the previous override
    #[arg(long, value_name = "TEXT", value_parser = checked_reason)]
    reason: Option<String>,
    /// Do it even if it removes the last usable backend; `up` never needs it
    #[arg(long)]
    force: bool,
    /// Wait until clients no longer have its addresses, so that it may be stopped; for at most 10m, or this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = waiting::LIMIT,
          value_parser = checked_length)]
    wait: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// The end of an override, as given on the command line.
#[derive(Debug, Args)]
pub(super) struct Unsaid {
    /// The backend; in patterns such as 'web/*', `*` and `?` stand for others, and all that match change, or none
    #[arg(value_name = "POOL/BACKEND")]
    backend: BackendPath,
    /// Only backends of this site
    #[arg(long)]
    site: Option<String>,
    /// Do it even if its checks then remove the last usable backend
    #[arg(long)]
    force: bool,
    /// Wait until it is in answers again; for at most 10m, or this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = waiting::LIMIT,
          value_parser = checked_length)]
    wait: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) fn set(state: Override, said: &Said) -> ExitCode {
    let members = [
        Some(("state", state.as_str())),
        said.length.as_deref().map(|length| ("for", length)),
        said.reason.as_deref().map(|reason| ("reason", reason)),
    ];
    let body = members.into_iter().flatten().map(|(name, value)| (name.into(), value.into())).collect();
    let selected = BackendChoice { path: &said.backend, site: said.site.as_deref() };
    let request = if selected.is_one() {
        Request::of_backend(Method::PUT, &said.backend, &STATE, Some(body))
    } else {
        selected.request(&STATE, body)
    };
    let goal = if state == Override::Up { Goal::Answered } else { Goal::Gone };
    let (code, replies) = carry_out(&said.server, &request, said.force, said.json);
    let paths = selected.paths(&replies);
    after(code, &said.server, &paths, goal, said.wait.as_deref(), said.json)
}

pub(super) fn remove(unsaid: &Unsaid) -> ExitCode {
    let selected = BackendChoice { path: &unsaid.backend, site: unsaid.site.as_deref() };
    let request = if selected.is_one() {
        Request::of_backend(Method::DELETE, &unsaid.backend, &STATE, None)
    } else {
        selected.request(&STATE, [("auto".to_owned(), "state".into())].into_iter().collect())
    };
    let (code, replies) = carry_out(&unsaid.server, &request, unsaid.force, unsaid.json);
    let paths = selected.paths(&replies);
    after(code, &unsaid.server, &paths, Goal::Answered, unsaid.wait.as_deref(), unsaid.json)
}

/// Waits after a successful request, if asked to.
fn after(
    code: ExitCode,
    servers: &ServerArguments,
    paths: &[BackendPath],
    goal: Goal,
    limit: Option<&str>,
    json: bool,
) -> ExitCode {
    let Some(limit) = limit.and_then(|limit| override_length(limit).ok()) else { return code };
    if code != ExitCode::SUCCESS {
        return code;
    }
    let waited = match servers.clients() {
        Ok(clients) => match block_on(waiting::wait(&clients, paths, goal, limit)) {
            Some(waited) => waited,
            None => return ExitCode::FAILURE,
        },
        Err(error) => Err(error.to_string()),
    };
    match waited {
        Ok(()) => {
            if !json {
                for path in paths {
                    print(&format!("{path}: {}", goal.reached()));
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

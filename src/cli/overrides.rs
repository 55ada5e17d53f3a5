//! `steerd drain`, `disable`, `up`, `down` and `auto`: what an operator says of a backend.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value};

use crate::cli::client::{ClientError, Server, segment};
use crate::cli::{block_on, complain, print, print_json};
use crate::pool::Override;

/// A backend, as `POOL/BACKEND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackendPath {
    pool: String,
    backend: String,
}

impl FromStr for BackendPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((pool, backend)) if !pool.is_empty() && !backend.is_empty() => {
                Ok(Self { pool: pool.into(), backend: backend.into() })
            }
            _ => Err("expected POOL/BACKEND, such as web/gw1"),
        }
    }
}

/// An override of a backend, as given on the command line.
#[derive(Debug, Args)]
pub(super) struct Said {
    /// The backend
    #[arg(value_name = "POOL/BACKEND")]
    backend: BackendPath,
    /// For how long, such as 30m; without it, until `steerd auto`
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<String>,
    /// Why, for whoever sees it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// A backend that is left to its checks again.
#[derive(Debug, Args)]
pub(super) struct Unsaid {
    /// The backend
    #[arg(value_name = "POOL/BACKEND")]
    backend: BackendPath,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) fn set(state: Override, said: &Said) -> ExitCode {
    let members = [
        Some(("state", state.as_str())),
        said.length.as_deref().map(|length| ("for", length)),
        said.reason.as_deref().map(|reason| ("reason", reason)),
    ];
    let body: Map<String, Value> =
        members.into_iter().flatten().map(|(name, value)| (name.into(), value.into())).collect();
    ask(&said.server, Method::PUT, &said.backend, Some(&body.into()), said.json)
}

pub(super) fn remove(unsaid: &Unsaid) -> ExitCode {
    ask(&unsaid.server, Method::DELETE, &unsaid.backend, None, unsaid.json)
}

fn ask(server: &Server, method: Method, path: &BackendPath, body: Option<&Value>, json: bool) -> ExitCode {
    let BackendPath { pool, backend } = path;
    let resource = format!("/api/v1/pools/{}/backends/{}/override", segment(pool), segment(backend));
    let asked =
        server.client().map(|client| block_on(async move { client.request(method, &resource, body).await }));
    match asked {
        Ok(Some(Ok(reply))) => {
            if json {
                print_json(&format!("{reply:#}"));
            } else {
                print(&in_words(path, &reply));
            }
            ExitCode::SUCCESS
        }
        Ok(Some(Err(error))) | Err(error) => {
            match &error {
                ClientError::Refused { problem, .. } if json => print_json(&format!("{problem:#}")),
                _ => complain(&format!("error: {error}")),
            }
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::FAILURE,
    }
}

/// The backend after it, in a line.
fn in_words(path: &BackendPath, backend: &Value) -> String {
    let BackendPath { pool, backend: name } = path;
    let said = &backend["override"];
    let Some(state) = said["state"].as_str() else { return format!("{pool}/{name} is left to its checks") };
    let until = said["until"].as_str().map_or_else(String::new, |until| format!(" until {until}"));
    let safe = match backend["safe_at"].as_str() {
        Some(safe_at) => format!("; clients may keep its addresses until {safe_at}"),
        None => String::new(),
    };
    format!("{pool}/{name}: {state}{until}{safe}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_backend_is_a_pool_and_a_name() {
        let path = "web/2001:db8::1".parse::<BackendPath>().unwrap();
        assert_eq!((path.pool.as_str(), path.backend.as_str()), ("web", "2001:db8::1"));
        for bad in ["", "web", "web/", "/gw1"] {
            assert!(bad.parse::<BackendPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_backend_after_it_in_a_line() {
        let path = "web/gw1".parse().unwrap();
        for (backend, expected) in [
            (json!({ "override": null }), "web/gw1 is left to its checks"),
            (json!({ "override": { "state": "up", "until": null } }), "web/gw1: up"),
            (
                json!({ "override": { "state": "drain", "until": "2030-01-01T00:00:00Z" }, "safe_at": "2030-01-01T00:00:20Z" }),
                "web/gw1: drain until 2030-01-01T00:00:00Z; clients may keep its addresses until 2030-01-01T00:00:20Z",
            ),
        ] {
            assert_eq!(in_words(&path, &backend), expected);
        }
    }
}

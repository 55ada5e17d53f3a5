//! `steerd upgrade`: lets a new process of the program take over from a running server.

use std::process::ExitCode;

use hyper::Method;

use crate::cli::client::ClientError;
use crate::cli::servers::ServerArguments;
use crate::cli::{block_on, complain, print, print_json};
use crate::printable::printable;

pub(super) fn run(server: &ServerArguments, json: bool) -> ExitCode {
    let asked = server
        .own()
        .map(|client| block_on(async move { client.request(Method::POST, "/api/v1/upgrade", None).await }));
    match asked {
        Ok(Some(Ok(report))) => {
            if json {
                print_json(&format!("{report:#}"));
            } else {
                let version = printable(report["version"].as_str().unwrap_or_default());
                let took = report["took_seconds"].as_f64().unwrap_or_default();
                print(&format!(
                    "upgraded in {took:.1} s: process {} serves with version {version}; open connections taken over: {}",
                    report["pid"], report["connections"]
                ));
            }
            ExitCode::SUCCESS
        }
        Ok(Some(Err(error))) | Err(error) => {
            match &error {
                ClientError::Refused { problem, .. } if json => print_json(&format!("{problem:#}")),
                ClientError::Refused { .. } => complain(&format!("not upgraded: {error}")),
                _ => complain(&format!("error: {error}")),
            }
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::FAILURE,
    }
}

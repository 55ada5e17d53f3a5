//! `steerd upgrade`: lets a new process of the program take over from a running server.

use std::process::ExitCode;

use hyper::Method;

use crate::cli::client::ClientError;
use crate::cli::servers::ServerArguments;
use crate::cli::{block_on, complain, print, print_json};
use crate::printable::printable;

/// The exit code if the old process goes on, for a reason that can be mended.
const OLD_GOES_ON: u8 = 1;
/// The exit code if no new process can take over from this server, or none was reached: only a restart replaces it.
const ONLY_A_RESTART: u8 = 3;

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
                if let Some(warning) = report["warning"].as_str() {
                    complain(&format!("warning: {}", printable(warning)));
                }
            }
            ExitCode::SUCCESS
        }
        Ok(Some(Err(error))) | Err(error) => {
            match &error {
                ClientError::Refused { problem, .. } if json => print_json(&format!("{problem:#}")),
                ClientError::Refused { .. } => complain(&format!("not upgraded: {error}")),
                _ => complain(&format!("error: {error}")),
            }
            ExitCode::from(exit_code(&error))
        }
        Ok(None) => ExitCode::FAILURE,
    }
}

fn exit_code(error: &ClientError) -> u8 {
    let goes_on = match error {
        // An earlier version answers 404, as it does not know the path.
        ClientError::Refused { status, .. } => status.is_server_error(),
        // The upgrade may still be under way.
        ClientError::Odd { .. } => true,
        _ => false,
    };
    if goes_on { OLD_GOES_ON } else { ONLY_A_RESTART }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn the_exit_code_says_whether_only_a_restart_helps() {
        let refused = |code: u16| {
            let status = StatusCode::from_u16(code).unwrap();
            exit_code(&ClientError::Refused {
                status,
                problem: serde_json::Value::Null,
                remedy: String::new(),
            })
        };
        assert_eq!([404, 405, 409, 401, 403].map(refused), [ONLY_A_RESTART; 5]);
        assert_eq!([500, 502, 503].map(refused), [OLD_GOES_ON; 3]);
        assert_eq!(exit_code(&ClientError::NoAdmin("steerd.toml".into())), ONLY_A_RESTART);
        let silent = ClientError::Odd { url: "http://192.0.2.1:1".parse().unwrap(), reason: String::new() };
        assert_eq!(exit_code(&silent), OLD_GOES_ON);
    }
}

//! `steerd failback` and `failover`: choose the tier of a service.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value};

use crate::cli::client::segment;
use crate::cli::overrides::{Request, checked_length, checked_reason, indented, run};
use crate::cli::servers::ServerArguments;

/// The word that ends a failover.
const END: &str = "auto";

/// A service that returns to an earlier tier.
#[derive(Debug, Args)]
pub(super) struct Returning {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// A service that fails over to a pool, or no longer.
#[derive(Debug, Args)]
pub(super) struct FailingOver {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// One of its pools, or `auto` to end the failover
    #[arg(value_name = "POOL")]
    pool: String,
    /// How long it lasts, such as 2h; without it, until `steerd failover SERVICE auto`
    #[arg(long = "for", value_name = "DURATION", value_parser = checked_length)]
    length: Option<String>,
    /// The reason, shown to other operators; defaults to that of the running failover to the same pool
    #[arg(long, value_name = "TEXT", value_parser = checked_reason)]
    reason: Option<String>,
    /// Do it even if the pool cannot answer now
    #[arg(long)]
    force: bool,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) fn fail_back(returning: &Returning) -> ExitCode {
    let Returning { service, json, server } = returning;
    let request = Request {
        method: Method::POST,
        resource: format!("/api/v1/services/{}/failback", segment(service)),
        body: None,
        objection: String::new(),
        describe: Box::new(return_in_words),
    };
    run(server, &request, false, *json)
}

pub(super) fn fail_over(failing: &FailingOver) -> ExitCode {
    let FailingOver { service, pool, length, reason, force, json, server } = failing;
    let (method, body) = if pool == END {
        (Method::DELETE, None)
    } else {
        let members = [
            Some(("pool", pool.as_str())),
            length.as_deref().map(|length| ("for", length)),
            reason.as_deref().map(|reason| ("reason", reason)),
        ];
        let members = members.into_iter().flatten().map(|(name, value)| (name.into(), value.into()));
        (Method::PUT, Some(members.collect::<Map<String, Value>>()))
    };
    let request = Request {
        method,
        resource: format!("/api/v1/services/{}/failover", segment(service)),
        body,
        objection: format!("{service}: the pool cannot answer, or clients would lose something"),
        describe: Box::new(failover_in_words),
    };
    run(server, &request, *force, *json)
}

fn consequences(reply: &Value) -> &[Value] {
    reply["consequences"].as_array().map_or(&[], Vec::as_slice)
}

/// The changes, one per line.
fn return_in_words(reply: &Value) -> String {
    let name = reply["name"].as_str().unwrap_or_default();
    match consequences(reply) {
        [] => format!("{name}: it is answered by its first usable tier already"),
        texts => format!("{name}: it has returned to its first usable tier{}", indented(texts)),
    }
}

/// The failover after the request, and the consequences, one per line.
fn failover_in_words(reply: &Value) -> String {
    let name = reply["name"].as_str().unwrap_or_default();
    let failover = &reply["failover"];
    let done = match (failover["pool"].as_str(), reply["before"].as_str()) {
        (None, None) => format!("{name} had no failover"),
        (None, Some(before)) => format!("{name}: the failover to {before} has ended"),
        (Some(pool), _) => {
            let until =
                failover["until"].as_str().map_or_else(String::new, |until| format!(" until {until}"));
            let safe = reply["safe_at"].as_str();
            let safe =
                safe.map_or_else(String::new, |at| format!("; clients may use its other pools until {at}"));
            let endless = match (failover["until"].as_str(), reply["before_until"].as_str()) {
                (None, Some(before)) => format!("\n  it no longer ends by itself; before: at {before}"),
                _ => String::new(),
            };
            format!("{name}: failover to {pool}{until}{safe}{endless}")
        }
    };
    let lost = match reply["lost_because"].as_str() {
        Some(why) if !failover.is_null() => {
            format!("\n  the failover will not survive a restart of steerd: {why}")
        }
        _ => String::new(),
    };
    done + &indented(consequences(reply)) + &lost
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_return_in_words() {
        let text = "service www.example. is answered by a instead of b";
        let reply = json!({ "name": "www.example", "consequences": [text] });
        let expected = format!("www.example: it has returned to its first usable tier\n  {text}");
        assert_eq!(return_in_words(&reply), expected);
        let reply = json!({ "name": "www.example", "consequences": [] });
        assert_eq!(return_in_words(&reply), "www.example: it is answered by its first usable tier already");
    }

    #[test]
    fn a_failover_in_words() {
        let no_place = "no state_dir is set under [server]";
        let text = "service www.example. is answered by b instead of a";
        let end = "2030-01-01T00:00:00Z";
        for (reply, expected) in [
            (
                json!({ "failover": null, "before": null, "lost_because": no_place }),
                "x had no failover".into(),
            ),
            (json!({ "failover": null, "before": "b" }), "x: the failover to b has ended".to_owned()),
            (
                json!({
                    "failover": { "pool": "b", "until": end }, "safe_at": end, "consequences": [text],
                }),
                format!(
                    "x: failover to b until {end}; clients may use its other pools until {end}\n  {text}"
                ),
            ),
            (
                json!({ "failover": { "pool": "b" }, "before_until": end, "lost_because": no_place }),
                format!(
                    "x: failover to b\n  it no longer ends by itself; before: at {end}\n  the failover will not \
                     survive a restart of steerd: {no_place}"
                ),
            ),
        ] {
            let mut reply = reply;
            reply["name"] = "x".into();
            assert_eq!(failover_in_words(&reply), expected);
        }
    }
}

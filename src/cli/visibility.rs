//! `steerd query-log` and `steerd dnstap`: switch them for a time, and show them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::cli::overrides::{Request, checked_length, run};
use crate::cli::servers::ServerArguments;
use crate::tap::SampleRate;

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tapped {
    QueryLog,
    Dnstap,
}

impl Tapped {
    fn resource(self) -> &'static str {
        match self {
            Self::QueryLog => "/api/v1/query-log",
            Self::Dnstap => "/api/v1/dnstap",
        }
    }

    /// The sample if none is given. A reader of dnstap takes all queries by default.
    fn usual_sample(self) -> &'static str {
        match self {
            Self::QueryLog => "10%",
            Self::Dnstap => "100%",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::QueryLog => "query log",
            Self::Dnstap => "dnstap",
        }
    }
}

/// The action.
#[derive(Debug, Subcommand)]
pub(super) enum Switch {
    /// Sample queries for a time; then the configuration decides again
    On(SwitchOn),
    /// End it now; with --for, also switch off what the configuration has on
    Off(SwitchOff),
    /// Show whether it is on, and how much was written and lost
    Status(TapArguments),
}

#[derive(Debug, Args)]
pub(super) struct SwitchOn {
    /// The share of the queries, each drawn at random [default: 10% for the query log, 100% for dnstap]
    #[arg(long, value_name = "PERCENT", value_parser = checked_rate)]
    sample: Option<String>,
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = checked_length)]
    length: String,
    #[command(flatten)]
    shown: TapArguments,
}

#[derive(Debug, Args)]
pub(super) struct SwitchOff {
    /// Sample nothing for so long, whatever the configuration says
    #[arg(long = "for", value_name = "DURATION", value_parser = checked_length)]
    length: Option<String>,
    #[command(flatten)]
    shown: TapArguments,
}

#[derive(Debug, Args)]
pub(super) struct TapArguments {
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

fn checked_rate(text: &str) -> Result<String, String> {
    text.parse::<SampleRate>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn run_switch(tapped: Tapped, switch: &Switch) -> ExitCode {
    let ask = |method, body: Option<Map<String, Value>>, TapArguments { json, server }: &TapArguments| {
        let request = Request {
            method,
            resource: tapped.resource().into(),
            body,
            objection: String::new(),
            describe: Box::new(move |reply| in_words(tapped, reply)),
        };
        run(server, &request, false, *json)
    };
    let members = |sample: &str, length: &str| {
        let members = [("sample", sample), ("for", length)];
        Some(members.map(|(name, value)| (name.to_owned(), json!(value))).into_iter().collect())
    };
    match switch {
        Switch::On(SwitchOn { sample, length, shown }) => {
            let sample = sample.as_deref().unwrap_or(tapped.usual_sample());
            ask(Method::PUT, members(sample, length), shown)
        }
        Switch::Off(SwitchOff { length: Some(length), shown }) => {
            ask(Method::PUT, members("0%", length), shown)
        }
        Switch::Off(SwitchOff { length: None, shown }) => ask(Method::DELETE, None, shown),
        Switch::Status(shown) => ask(Method::GET, None, shown),
    }
}

/// The state, in one line.
fn in_words(tapped: Tapped, reply: &Value) -> String {
    let text = |member: &str| reply[member].as_str().unwrap_or_default();
    let is = if reply["on"] == true {
        format!("on, {} of the queries to {}", text("sample"), text("destination"))
    } else {
        "off".into()
    };
    let why = match reply["until"].as_str() {
        Some(until) => format!(", until {until}, switched by {}", text("by")),
        None => ", as configured".into(),
    };
    let number = |member: &str| reply[member].as_u64().unwrap_or_default();
    let counts = match (number("written"), number("dropped")) {
        (0, 0) => String::new(),
        (written, dropped) => format!("; {written} samples written and {dropped} lost since the start"),
    };
    format!("{}: {is}{why}{counts}", tapped.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_in_words() {
        for (reply, expected) in [
            (
                json!({ "on": false, "until": null, "written": 0, "dropped": 0 }),
                "query log: off, as configured",
            ),
            (
                json!({
                    "on": true, "sample": "10%", "destination": "/var/log/q", "until": "2030-01-01T00:00:00Z",
                    "by": "ops", "written": 7, "dropped": 1,
                }),
                "query log: on, 10% of the queries to /var/log/q, until 2030-01-01T00:00:00Z, switched by ops; 7 samples \
                 written and 1 lost since the start",
            ),
        ] {
            assert_eq!(in_words(Tapped::QueryLog, &reply), expected);
        }
    }
}

//! `steerd weight`: sets and ends the override for the weight of a backend.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use hyper::Method;

use crate::cli::backend_path::BackendPath;
use crate::cli::bulk::BackendChoice;
use crate::cli::overrides::{self, OverrideWords, Request};
use crate::cli::servers::ServerArguments;
use crate::cli::{USAGE, complain};
use crate::pool::MAX_WEIGHT_PERCENT;

/// A weight, as given on the command line.
#[derive(Debug, Args)]
pub(super) struct Weighing {
    /// The backend; in patterns such as 'web/*', `*` and `?` stand for others, and all that match change, or none
    #[arg(value_name = "POOL/BACKEND")]
    backend: BackendPath,
    /// Only backends of this site
    #[arg(long)]
    site: Option<String>,
    /// Percent of the configured weight, from 0% to 1000%; `auto` ends this override
    #[arg(value_name = "PERCENT|auto")]
    percent: WeightPercent,
    /// How long the override lasts, such as 1h; without it, until `steerd weight POOL/BACKEND auto`
    #[arg(long = "for", value_name = "DURATION", value_parser = overrides::checked_length)]
    length: Option<String>,
    /// The reason, shown to other operators; defaults to the reason of the previous override
    #[arg(long, value_name = "TEXT", value_parser = overrides::checked_reason)]
    reason: Option<String>,
    /// Do it even if it removes the last usable backend
    #[arg(long)]
    force: bool,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// A percentage; none ends the override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WeightPercent(Option<u16>);

impl FromStr for WeightPercent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let percent = text.strip_suffix('%').filter(|digits| is_number(digits));
        let percent = percent.and_then(|digits| digits.parse().ok());
        match percent.filter(|percent| *percent <= MAX_WEIGHT_PERCENT) {
            Some(percent) => Ok(Self(Some(percent))),
            None => {
                let meant = if is_number(text) { format!("; did you mean {text}%?") } else { String::new() };
                Err(format!(
                    "expected a whole percentage of the configured weight, such as 30%, from 0% to \
                     {MAX_WEIGHT_PERCENT}%, or auto{meant}"
                ))
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn run(weighing: &Weighing) -> ExitCode {
    let Weighing { backend: path, percent: WeightPercent(percent), length, reason, .. } = weighing;
    let (method, body) = match percent {
        Some(percent) => {
            let members = [
                Some(("percent", (*percent).into())),
                length.as_deref().map(|length| ("for", length.into())),
                reason.as_deref().map(|reason| ("reason", reason.into())),
            ];
            let body = members.into_iter().flatten().map(|(name, value)| (name.into(), value)).collect();
            (Method::PUT, Some(body))
        }
        None if length.is_some() || reason.is_some() => {
            complain("error: auto ends the override, so it takes neither --for nor --reason");
            return ExitCode::from(USAGE);
        }
        None => (Method::DELETE, None),
    };
    let selected = BackendChoice { path, site: weighing.site.as_deref() };
    let request = if selected.is_one() {
        Request::of_backend(method, path, &WORDS, body)
    } else {
        let end = || [("auto".to_owned(), "weight".into())].into_iter().collect();
        selected.request(&WORDS, body.unwrap_or_else(end))
    };
    overrides::run(&weighing.server, &request, weighing.force, weighing.json)
}

/// The words for an override of the weight.
const WORDS: OverrideWords = OverrideWords {
    resource: "weight",
    member: "weight_override",
    value: |kept| kept["percent"].as_u64().map(|percent| format!("{percent}% of its weight")),
    before: |before| before.as_u64().map(|percent| format!("weight {percent}%")),
    had_none: "its weight is the configured one, as before",
    ended: "its weight is the configured one again",
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_percentage_has_its_sign() {
        for (text, percent) in [("0%", Some(0)), ("30%", Some(30)), ("1000%", Some(1000)), ("auto", None)] {
            assert_eq!(text.parse(), Ok(WeightPercent(percent)));
        }
        let expected =
            "expected a whole percentage of the configured weight, such as 30%, from 0% to 1000%, or auto";
        for (text, meant) in [("30", "; did you mean 30%?"), ("", ""), ("%", ""), ("-1%", ""), ("+5%", "")] {
            assert_eq!(text.parse::<WeightPercent>(), Err(format!("{expected}{meant}")), "{text}");
        }
        for text in ["1001%", "0.5%", "99999999999999999999%", "30 %", "Auto", "full"] {
            assert_eq!(text.parse::<WeightPercent>(), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_weight_in_words() {
        let path = "web/gw1".parse().unwrap();
        for (reply, expected) in [
            (
                json!({ "weight_override": { "percent": 30, "until": "2030-01-01T00:00:00Z" } }),
                "web/gw1: 30% of its weight until 2030-01-01T00:00:00Z",
            ),
            (
                json!({ "weight_override": { "percent": 0 }, "safe_at": "2030-01-01T00:00:20Z" }),
                "web/gw1: 0% of its weight; clients may use its addresses until 2030-01-01T00:00:20Z",
            ),
            (
                json!({ "weight_override": { "percent": 50 }, "override": { "state": "drain" } }),
                "web/gw1: 50% of its weight\n  it has no effect while the override drain lasts",
            ),
            (
                json!({ "weight_override": null, "before": 30 }),
                "web/gw1: the override weight 30% has ended; its weight is the configured one again",
            ),
            (
                json!({ "weight_override": null, "before": null }),
                "web/gw1 had no override: its weight is the configured one, as before",
            ),
        ] {
            assert_eq!(overrides::in_words(&path, &WORDS, &reply), expected);
        }
    }
}

//! `steerd alerts test`: sends a test through the alerts of a configuration, without a server.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::alerts::body::AlertSender;
use crate::alerts::settings::AlertSettings;
use crate::alerts::{self, AdminLink, AllAlerts};
use crate::cli::{ConfigFile, block_on, complain, load, print, print_json};
use crate::spelling::closest;

#[derive(Debug, Args)]
pub(super) struct AlertsArguments {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Send a message that is marked as a test through each alert, or one, and print what its receiver says
    #[command(after_help = "\
Examples:
  steerd alerts test                    every alert of the configuration
  steerd alerts test oncall --json      one of them

No server is needed. Delay, group and the choice of conditions do not apply to a test.

Exit codes: 0 all receivers took it; 1 one did not, or there is none; 2 usage.")]
    Test {
        #[command(flatten)]
        config: ConfigFile,
        /// The alert; all of them without this argument
        name: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// The answer of a receiver to a test.
struct Tested {
    name: String,
    outcome: Result<String, String>,
    took: Duration,
}

pub(super) fn run(arguments: &AlertsArguments) -> ExitCode {
    let AlertsCommand::Test { config, name, json } = &arguments.command;
    let chosen = match choose(&config.path(), name.as_deref()) {
        Ok(chosen) => chosen,
        Err(code) => return code,
    };
    let Some(tested) = block_on(test(chosen)) else { return ExitCode::FAILURE };
    if *json {
        print_json(&format!("{:#}", tested.iter().map(Tested::as_json).collect::<Value>()));
    } else {
        print(&tested.iter().map(Tested::as_text).collect::<Vec<_>>().join("\n"));
    }
    if tested.iter().all(|tested| tested.outcome.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn choose(path: &Path, name: Option<&str>) -> Result<AllAlerts, ExitCode> {
    let all = load(path)?.alerts;
    let Some(name) = name else {
        if all.is_empty() {
            complain(&format!("error: {} has no [[alerts]]", path.display()));
            return Err(ExitCode::FAILURE);
        }
        return Ok(all);
    };
    let known: Vec<String> = all.iter().map(|alert| alert.name.clone()).collect();
    let chosen: AllAlerts = all.into_iter().filter(|alert| alert.name == name).collect();
    if chosen.is_empty() {
        complain(&format!("error: {} has no alert `{name}`", path.display()));
        match closest(name, known.iter().map(String::as_str)) {
            Some(near) => complain(&format!("help: did you mean `{near}`?")),
            None if known.is_empty() => {}
            None => complain(&format!("help: it has {}", known.join(", "))),
        }
        return Err(ExitCode::FAILURE);
    }
    Ok(chosen)
}

/// Tests all at once. The results are in the order of the configuration.
async fn test(alerts: AllAlerts) -> Vec<Tested> {
    let sender = Arc::new(AlertSender::of_this_server(AdminLink::default()));
    let mut tasks = JoinSet::new();
    for (index, alert) in alerts.into_iter().enumerate() {
        let sender = Arc::clone(&sender);
        tasks.spawn(async move { (index, test_one(&alert, &sender).await) });
    }
    let mut tested: Vec<(usize, Tested)> = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        tested.extend(ended.ok());
    }
    tested.sort_by_key(|(index, _)| *index);
    tested.into_iter().map(|(_, tested)| tested).collect()
}

async fn test_one(alert: &AlertSettings, sender: &AlertSender) -> Tested {
    let (outcome, took) = alerts::test(alert, sender).await;
    Tested { name: alert.name.clone(), outcome: outcome.map_err(|refused| refused.reason), took }
}

impl Tested {
    fn as_text(&self) -> String {
        let took = self.took.as_millis();
        match &self.outcome {
            Ok(said) => format!("{}: delivered in {took} ms: {said}", self.name),
            Err(reason) => format!("{}: NOT delivered after {took} ms: {reason}", self.name),
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "alert": self.name,
            "delivered": self.outcome.is_ok(),
            "said": self.outcome.as_ref().ok(),
            "reason": self.outcome.as_ref().err(),
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

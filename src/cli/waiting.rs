//! `--wait` of overrides: until clients no longer have the addresses of a backend, or until it is answered again.
//!
//! The server says how long that takes, so the clock of this machine does not matter.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;
use tokio::time::sleep;

use crate::cli::backend_path::BackendPath;
use crate::cli::client::{AdminClient, ClientError, segment};
use crate::cli::complain;

use crate::duration::Shown;
use crate::pool::Override;
use crate::printable::printable;

/// How often the server is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// How often progress is told without a terminal.
const REPORTS: Duration = Duration::from_secs(10);
/// The default time limit.
pub(super) const LIMIT: &str = "10m";

/// The end of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Clients no longer have its addresses, so it may be stopped.
    Gone,
    /// It is in answers again.
    Answered,
}

impl Goal {
    /// The sentence when it is reached.
    pub(super) fn reached(self) -> &'static str {
        match self {
            Self::Gone => "it may be stopped now",
            Self::Answered => "it is in answers again",
        }
    }

    /// The word for a backend that has reached it.
    fn word(self) -> &'static str {
        match self {
            Self::Gone => "safe",
            Self::Answered => "answered",
        }
    }
}

/// How far a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WaitProgress {
    Reached,
    /// Not yet, with the reason.
    Waiting(String),
    /// It cannot be reached by waiting.
    Never(String),
}

/// Waits until all backends have reached the goal on all servers.
///
/// # Errors
/// Why waiting is no use, or that the time is over.
pub(super) async fn wait(
    clients: &[AdminClient],
    paths: &[BackendPath],
    goal: Goal,
    limit: Duration,
) -> Result<(), String> {
    let end = Instant::now() + limit;
    let mut line = ProgressLine::default();
    for client in clients {
        loop {
            let (reached, why) = ask(client, paths, goal).await.inspect_err(|_| line.end())?;
            let Some(why) = why else { break };
            if Instant::now() > end {
                line.end();
                return Err(format!(
                    "gave up after {}: {}",
                    Shown(limit),
                    so_far(reached, paths, goal, &why)
                ));
            }
            line.show(&so_far(reached, paths, goal, &why), reached);
            sleep(PERIOD).await;
        }
    }
    line.end();
    Ok(())
}

/// How many backends have reached the goal, and what one of the others waits for.
fn so_far(reached: usize, paths: &[BackendPath], goal: Goal, why: &str) -> String {
    match paths.len() {
        1 => why.to_owned(),
        all => format!("{reached} of {all} {}; {why}", goal.word()),
    }
}

/// How many backends have reached the goal on a server, and why the first other one has not.
///
/// # Errors
/// Why one will never reach it.
async fn ask(
    client: &AdminClient,
    paths: &[BackendPath],
    goal: Goal,
) -> Result<(usize, Option<String>), String> {
    let (mut reached, mut waits) = (0, None);
    let mut pool: Option<(&str, Result<Value, ClientError>)> = None;
    for path in paths {
        if pool.as_ref().is_none_or(|(name, _)| **name != *path.pool) {
            let resource = format!("/api/v1/pools/{}", segment(&path.pool));
            pool = Some((&path.pool, client.request(Method::GET, &resource, None).await));
        }
        let progress = match pool.as_ref().map(|(_, reply)| reply) {
            Some(Ok(reply)) => {
                let mut backends = reply["backends"].as_array().into_iter().flatten();
                let backend = backends.find(|found| found["name"] == *path.backend);
                progress(backend.unwrap_or(&Value::Null), goal)
            }
            Some(Err(ClientError::Refused { problem, .. })) => {
                WaitProgress::Never(problem["detail"].as_str().unwrap_or_default().to_owned())
            }
            // A server that restarts meanwhile answers again.
            Some(Err(error)) => WaitProgress::Waiting(error.to_string()),
            None => WaitProgress::Waiting("the server has not been asked".into()),
        };
        match progress {
            WaitProgress::Reached => reached += 1,
            WaitProgress::Waiting(why) => waits = waits.or_else(|| Some(format!("{path}: {why}"))),
            WaitProgress::Never(why) => return Err(format!("{path}: {why}")),
        }
    }
    Ok((reached, waits))
}

fn progress(backend: &Value, goal: Goal) -> WaitProgress {
    let is_answered = backend["effective_weight"].as_f64().is_some_and(|weight| weight > 0.0);
    let state = backend["override"]["state"].as_str();
    match (goal, backend["safe_in_seconds"].as_u64()) {
        _ if backend.is_null() => WaitProgress::Never("there is no such backend any more".into()),
        _ if backend["enabled"] == false => {
            WaitProgress::Never("it is not enabled in the configuration".into())
        }
        (Goal::Gone, _) if state == Some(Override::Up.as_str()) => {
            WaitProgress::Never("another override, up, keeps it in answers".into())
        }
        (Goal::Gone, _) if state.is_none() => WaitProgress::Never("its override has ended meanwhile".into()),
        (Goal::Gone, Some(0)) => WaitProgress::Reached,
        (Goal::Gone, Some(seconds)) => {
            let left = Shown(Duration::from_secs(seconds));
            WaitProgress::Waiting(format!("clients may use its addresses for {left}"))
        }
        (Goal::Gone, None) => WaitProgress::Never(
            "it is still in answers, because no other address is left; do not stop it".into(),
        ),
        (Goal::Answered, _) if is_answered => WaitProgress::Reached,
        (Goal::Answered, _) => match state {
            Some(state) if state != Override::Up.as_str() => {
                WaitProgress::Never(format!("another override, {state}, keeps it out of answers"))
            }
            _ => WaitProgress::Waiting(format!("not in answers yet: {}", standings(backend))),
        },
    }
}

/// The states of its addresses, with the words of the last outcome of each.
fn standings(backend: &Value) -> String {
    let addresses = backend["addresses"].as_array().map_or(&[][..], Vec::as_slice);
    let standing = |address: &Value| {
        let checks = address["checks"].as_array().map_or(&[][..], Vec::as_slice);
        let details = checks.iter().filter_map(|check| check["last"]["detail"].as_str());
        let [ip, state] = ["address", "state"].map(|name| address[name].as_str().unwrap_or_default());
        format!("{ip} is {state} ({})", details.collect::<Vec<_>>().join("; "))
    };
    addresses.iter().map(standing).collect::<Vec<_>>().join(", ")
}

/// Progress on standard error: on a terminal one line that changes, otherwise a line for each change, and now and then.
#[derive(Debug, Default)]
struct ProgressLine {
    /// When a line was last written, and how many backends had reached the goal then.
    told: Option<(Instant, usize)>,
    is_open: bool,
}

impl ProgressLine {
    fn show(&mut self, text: &str, reached: usize) {
        if io::stderr().is_terminal() {
            // Goes to the beginning of the line and erases it.
            let _ = write!(io::stderr(), "\r\x1b[K{}", printable(text));
            self.is_open = true;
        } else if self.told.is_none_or(|(at, before)| at.elapsed() >= REPORTS || reached != before) {
            complain(text);
            self.told = Some((Instant::now(), reached));
        }
    }

    fn end(&self) {
        if self.is_open {
            complain("");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_server_says_when_the_goal_is_reached() {
        let waiting = |text: &str| WaitProgress::Waiting(text.into());
        let never = |text: &str| WaitProgress::Never(text.into());
        let drain = json!({ "state": "drain" });
        let address = json!({
            "address": "192.0.2.1", "state": "unhealthy", "checks": [{ "last": { "detail": "refused" } }],
        });
        for (backend, goal, expected) in [
            (json!({ "override": drain, "safe_in_seconds": 0 }), Goal::Gone, WaitProgress::Reached),
            (
                json!({ "override": drain, "safe_in_seconds": 20 }),
                Goal::Gone,
                waiting("clients may use its addresses for 20s"),
            ),
            (
                json!({ "override": drain, "safe_in_seconds": null }),
                Goal::Gone,
                never("it is still in answers, because no other address is left; do not stop it"),
            ),
            (json!({ "override": null }), Goal::Gone, never("its override has ended meanwhile")),
            (json!({ "override": null, "effective_weight": 0.15 }), Goal::Answered, WaitProgress::Reached),
            (
                json!({ "override": null, "effective_weight": 0, "addresses": [address] }),
                Goal::Answered,
                waiting("not in answers yet: 192.0.2.1 is unhealthy (refused)"),
            ),
            (
                json!({ "override": drain, "effective_weight": 0 }),
                Goal::Answered,
                never("another override, drain, keeps it out of answers"),
            ),
        ] {
            assert_eq!(progress(&backend, goal), expected, "{backend}");
        }
    }
}

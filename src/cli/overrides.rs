//! Requests for overrides: sent to all servers, confirmed if they interrupt service, and told in words. The commands are in
//! `states`, `weight` and `tiers`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::admin::{override_length, override_reason};
use crate::cli::backend_path::BackendPath;
use crate::cli::client::{AdminClient, ClientError, segment};
use crate::cli::servers::{ServerArguments, of_each};
use crate::cli::{block_on, complain, print, print_json};
use crate::pool::Override;

/// How to set an override that interrupts service.
const TO_FORCE: &str = "error: nothing has changed; to do it anyway, add --force";
const TO_FORCE_THERE: &str = "error: nothing has changed there; to do it anyway, add --force";

/// A length that the server accepts.
pub(super) fn checked_length(text: &str) -> Result<String, String> {
    override_length(text).map(|_| text.to_owned())
}

/// A reason that the server accepts.
pub(super) fn checked_reason(text: &str) -> Result<String, String> {
    override_reason(text).map(|_| text.to_owned())
}

/// A request that can be repeated with force.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path.
    pub(super) resource: String,
    pub(super) body: Option<Map<String, Value>>,
    /// Why it is refused without force, up to the consequences: `web/gw1: this would interrupt service`.
    pub(super) objection: String,
    /// Describes the reply.
    pub(super) describe: Box<dyn Fn(&Value) -> String + 'a>,
}

/// The words for one kind of override, in requests and for people.
pub(super) struct OverrideWords {
    /// The last segment of its path.
    pub(super) resource: &'static str,
    /// Its member of a backend.
    pub(super) member: &'static str,
    /// The value of an override; none if there is no override.
    pub(super) value: fn(&Value) -> Option<String>,
    /// The value of the member `before`.
    pub(super) before: fn(&Value) -> Option<String>,
    /// Describes the backend if it has no override and had none.
    pub(super) had_none: &'static str,
    /// Describes the backend if it has no override any more.
    pub(super) ended: &'static str,
}

/// The words for an override of the state.
pub(super) const STATE: OverrideWords = OverrideWords {
    resource: "override",
    member: "override",
    value: |kept| kept["state"].as_str().map(str::to_owned),
    before: |before| before.as_str().map(str::to_owned),
    had_none: "its checks decide, as before",
    ended: "its checks decide again",
};

impl<'a> Request<'a> {
    /// A request for an override of a backend.
    pub(super) fn of_backend(
        method: Method,
        path: &'a BackendPath,
        words: &'a OverrideWords,
        body: Option<Map<String, Value>>,
    ) -> Self {
        let BackendPath { pool, backend } = path;
        let resource = words.resource;
        Self {
            method,
            resource: format!("/api/v1/pools/{}/backends/{}/{resource}", segment(pool), segment(backend)),
            body,
            objection: format!("{pool}/{backend}: this would interrupt service"),
            describe: Box::new(move |reply| in_words(path, words, reply)),
        }
    }

    /// The path and the body, with or without force.
    fn parts(&self, force: bool) -> (String, Option<Value>) {
        let mut resource = self.resource.clone();
        let mut body = self.body.clone();
        match &mut body {
            Some(members) if force => drop(members.insert("force".into(), true.into())),
            None if force => resource += "?force=true",
            _ => {}
        }
        (resource, body.map(Value::Object))
    }

    /// Sends it to all servers at the same time.
    async fn send(&self, clients: &[AdminClient], force: bool) -> Vec<ServerReply> {
        let (resource, body) = self.parts(force);
        of_each(clients, |client| {
            let (method, resource, body) = (self.method.clone(), resource.clone(), body.clone());
            async move { client.request(method, &resource, body.as_ref()).await }
        })
        .await
    }
}

type ServerReply = Result<Value, ClientError>;

pub(super) fn run(servers: &ServerArguments, request: &Request<'_>, force: bool, json: bool) -> ExitCode {
    carry_out(servers, request, force, json).0
}

/// As [`run`]; also returns the replies of the servers that have done it.
pub(super) fn carry_out(
    servers: &ServerArguments,
    request: &Request<'_>,
    force: bool,
    json: bool,
) -> (ExitCode, Vec<Value>) {
    let clients = match servers.clients() {
        Ok(clients) => clients,
        Err(error) => {
            complain(&format!("error: {error}"));
            return (ExitCode::FAILURE, Vec::new());
        }
    };
    let Some(mut replies) = block_on(request.send(&clients, force)) else {
        return (ExitCode::FAILURE, Vec::new());
    };
    let refused: Vec<usize> =
        (0..).zip(&replies).filter(|(_, reply)| consequences(reply).is_some()).map(|(at, _)| at).collect();
    let shown: Vec<(&AdminClient, &[Value])> = clients
        .iter()
        .zip(&replies)
        .filter_map(|(client, reply)| Some((client, consequences(reply)?)))
        .collect();
    if !shown.is_empty() && !json && is_confirmed(&request.objection, &shown, clients.len() > 1) {
        let again: Vec<AdminClient> = shown.iter().map(|(client, _)| (*client).clone()).collect();
        let Some(done) = block_on(request.send(&again, true)) else { return (ExitCode::FAILURE, Vec::new()) };
        for (at, reply) in refused.into_iter().zip(done) {
            if let Some(place) = replies.get_mut(at) {
                *place = reply;
            }
        }
    }
    match &*replies {
        [reply] => tell(request, reply, json),
        _ if json => print_json(&format!("{:#}", Value::Array(each(&clients, &replies)))),
        _ => clients.iter().zip(&replies).for_each(|(client, reply)| tell_of(client, request, reply)),
    }
    let code = if replies.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    (code, replies.into_iter().flatten().collect())
}

/// The consequences because of which a request was refused.
fn consequences(reply: &ServerReply) -> Option<&[Value]> {
    match reply {
        Err(ClientError::Refused { status: StatusCode::CONFLICT, problem, .. }) => {
            problem["consequences"].as_array().map(Vec::as_slice)
        }
        _ => None,
    }
}

/// Tells the reply of the only server. Consequences have been told already, unless it is told as JSON.
fn tell(request: &Request<'_>, reply: &ServerReply, json: bool) {
    match reply {
        Ok(reply) if json => print_json(&format!("{reply:#}")),
        Ok(reply) => print(&(request.describe)(reply)),
        Err(ClientError::Refused { problem, .. }) if json => {
            print_json(&format!("{problem:#}"));
            if problem["consequences"].is_array() {
                complain(TO_FORCE);
            }
        }
        Err(_) if consequences(reply).is_some() => {}
        Err(error) => complain(&format!("error: {error}")),
    }
}

/// Tells the reply of one of several servers.
fn tell_of(client: &AdminClient, request: &Request<'_>, reply: &ServerReply) {
    let url = &client.url;
    match reply {
        Ok(reply) => print(&format!("{url}: {}", (request.describe)(reply))),
        Err(_) if consequences(reply).is_some() => {
            complain(&format!("{url}: error: refused, it would interrupt service there"));
        }
        Err(error) => complain(&format!("{url}: error: {error}")),
    }
}

/// The replies of several servers, for JSON.
fn each(clients: &[AdminClient], replies: &[ServerReply]) -> Vec<Value> {
    let one = |(client, reply): (&AdminClient, &ServerReply)| {
        let url = client.url.to_string();
        match reply {
            Ok(reply) => json!({ "server": url, "reply": reply }),
            Err(ClientError::Refused { problem, .. }) => json!({ "server": url, "problem": problem }),
            Err(error) => json!({ "server": url, "error": error.to_string() }),
        }
    };
    clients.iter().zip(replies).map(one).collect()
}

/// Shows the consequences and asks for confirmation at the terminal. Without a terminal the answer is no.
fn is_confirmed(objection: &str, refused: &[(&AdminClient, &[Value])], several: bool) -> bool {
    for (client, consequences) in refused {
        let place = if several { format!(" at {}", client.url) } else { String::new() };
        let lines = indented(consequences);
        complain(&format!("{objection}{place}:{lines}"));
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        complain(if several { TO_FORCE_THERE } else { TO_FORCE });
        return false;
    }
    let mut error = io::stderr();
    let _ = write!(error, "Do it anyway? [y/N] ").and_then(|()| error.flush());
    let mut answer = String::new();
    let agreed = io::stdin().read_line(&mut answer).is_ok_and(|_| is_yes(&answer));
    if !agreed {
        complain(if several { "nothing has changed there" } else { "nothing has changed" });
    }
    agreed
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Each text on a separate line.
pub(super) fn indented(texts: &[Value]) -> String {
    let lines = texts.iter().filter_map(Value::as_str);
    lines.fold(String::new(), |all, text| all + "\n  " + text)
}

/// The state of the backend after the request, and the consequences, one per line.
pub(super) fn in_words(path: &BackendPath, words: &OverrideWords, reply: &Value) -> String {
    let BackendPath { pool, backend } = path;
    let over = &reply[words.member];
    let done = match ((words.value)(over), (words.before)(&reply["before"])) {
        (None, None) => format!("{pool}/{backend} had no override: {}", words.had_none),
        (None, Some(before)) => {
            format!("{pool}/{backend}: the override {before} has ended; {}", words.ended)
        }
        (Some(value), _) => {
            let until = over["until"].as_str().map_or_else(String::new, |until| format!(" until {until}"));
            let safe = match reply["safe_at"].as_str() {
                Some(safe_at) => format!("; clients may use its addresses until {safe_at}"),
                None => String::new(),
            };
            let endless = match (over["until"].as_str(), reply["before_until"].as_str()) {
                (None, Some(before)) => format!("\n  it no longer ends by itself; before: at {before}"),
                _ => String::new(),
            };
            let (beside, replaced) = (beside(words, reply), replaced(words, &reply["replaced"]));
            format!("{pool}/{backend}: {value}{until}{safe}{replaced}{endless}{beside}")
        }
    };
    let follows = reply["consequences"].as_array().map_or_else(String::new, |texts| indented(texts));
    let lost = match reply["lost_because"].as_str() {
        Some(why) if !over.is_null() => {
            format!("\n  the override will not survive a restart of steerd: {why}")
        }
        _ => String::new(),
    };
    done + &follows + &lost
}

/// Whose override this one replaces, on a separate line.
fn replaced(words: &OverrideWords, kept: &Value) -> String {
    let (Some(value), Some(by)) = ((words.value)(kept), kept["by"].as_str()) else { return String::new() };
    let since = kept["since"].as_str().map_or_else(String::new, |since| format!(" since {since}"));
    let reason = kept["reason"].as_str().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("\n  replaces {value} by {by}{since}{reason}")
}

/// How the other override of the backend limits the effect of this one, on a separate line.
fn beside(words: &OverrideWords, reply: &Value) -> String {
    let state = reply["override"]["state"].as_str();
    match (state, reply["weight_override"]["percent"].as_u64()) {
        (Some(state), Some(_)) if words.member != STATE.member && state != Override::Up.as_str() => {
            format!("\n  it has no effect while the override {state} lasts")
        }
        (Some(state), Some(percent)) if words.member == STATE.member && state == Override::Up.as_str() => {
            format!("\n  it gets {percent}% of its weight, as another override says")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_after_it_in_words() {
        let path = "web/gw1".parse().unwrap();
        let no_place = "no state_dir is set under [server]";
        for (reply, expected) in [
            (
                json!({ "override": null, "before": "drain", "lost_because": no_place }),
                "web/gw1: the override drain has ended; its checks decide again",
            ),
            (
                json!({ "override": null, "before": null, "consequences": [] }),
                "web/gw1 had no override: its checks decide, as before",
            ),
            (
                json!({
                    "override": { "state": "down" }, "lost_because": no_place,
                    "consequences": ["service www is answered by standby instead of web"],
                }),
                "web/gw1: down\n  service www is answered by standby instead of web\n  \
                 the override will not survive a restart of steerd: no state_dir is set under [server]",
            ),
            (json!({ "override": { "state": "up", "until": null }, "lost_because": null }), "web/gw1: up"),
            (
                json!({
                    "override": { "state": "down" }, "before": "drain",
                    "replaced": { "state": "drain", "by": "ops", "since": "2030-01-01T00:00:00Z", "reason": "kernel" },
                }),
                "web/gw1: down\n  replaces drain by ops since 2030-01-01T00:00:00Z (kernel)",
            ),
            (
                json!({
                    "override": { "state": "down", "until": null },
                    "before": "drain", "before_until": "2030-01-01T00:00:00Z",
                }),
                "web/gw1: down\n  it no longer ends by itself; before: at 2030-01-01T00:00:00Z",
            ),
            (
                json!({ "override": { "state": "up" }, "weight_override": { "percent": 0 } }),
                "web/gw1: up\n  it gets 0% of its weight, as another override says",
            ),
            (
                json!({
                    "override": { "state": "drain", "until": "2030-01-01T00:00:00Z" },
                    "safe_at": "2030-01-01T00:00:20Z",
                }),
                "web/gw1: drain until 2030-01-01T00:00:00Z; clients may use its addresses until \
                 2030-01-01T00:00:20Z",
            ),
        ] {
            assert_eq!(in_words(&path, &STATE, &reply), expected);
        }
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, yes) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("no\n", false), ("yy", false)]
        {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}

//! The same override for several backends: `steerd drain 'web/*' --site b`.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::cli::backend_path::BackendPath;
use crate::cli::overrides::{OverrideWords, Request, in_words, indented};
use crate::pattern::NamePattern;

/// The most backends of a reply that are shown one by one.
const MOST_SHOWN: usize = 20;

/// The backends of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackendChoice<'a> {
    /// The backend, or patterns.
    pub(super) path: &'a BackendPath,
    pub(super) site: Option<&'a str>,
}

impl<'a> BackendChoice<'a> {
    /// Whether the command names a single backend.
    pub(super) fn is_one(&self) -> bool {
        let BackendPath { pool, backend } = self.path;
        self.site.is_none() && !NamePattern::is_pattern(pool) && !NamePattern::is_pattern(backend)
    }

    /// The request for all of them; `change` has the other members of its body.
    pub(super) fn request(&self, words: &'a OverrideWords, mut change: Map<String, Value>) -> Request<'a> {
        let BackendPath { pool, backend } = self.path;
        change.insert("select".into(), json!({ "pool": pool, "backend": backend, "site": self.site }));
        let site = self.site.map_or_else(String::new, |site| format!(" at site {site}"));
        Request {
            method: Method::POST,
            resource: "/api/v1/overrides".into(),
            body: Some(change),
            objection: format!("{pool}/{backend}{site}: this would interrupt service, so none has changed"),
            describe: Box::new(move |reply| all_in_words(words, reply)),
        }
    }

    /// The backends that have changed, according to the replies of all servers.
    pub(super) fn paths(&self, replies: &[Value]) -> Vec<BackendPath> {
        if self.is_one() {
            return vec![self.path.clone()];
        }
        let mut paths: Vec<BackendPath> = replies.iter().flat_map(backends).map(path_of).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

fn backends(reply: &Value) -> &[Value] {
    reply["backends"].as_array().map_or(&[], Vec::as_slice)
}

fn path_of(backend: &Value) -> BackendPath {
    let [pool, backend] =
        ["pool", "name"].map(|member| backend[member].as_str().unwrap_or_default().to_owned());
    BackendPath { pool, backend }
}

/// Each of the first backends after the request, and the consequences of all of them together.
fn all_in_words(words: &OverrideWords, reply: &Value) -> String {
    let all = backends(reply);
    let first = all.iter().take(MOST_SHOWN).map(|backend| in_words(&path_of(backend), words, backend));
    let mut lines: Vec<String> = first.collect();
    if all.len() > MOST_SHOWN {
        lines.push(format!("and {} more", all.len() - MOST_SHOWN));
    }
    let follows = reply["consequences"].as_array().map_or_else(String::new, |texts| indented(texts));
    let is_set = all.iter().any(|backend| !backend[words.member].is_null());
    let lost = match reply["lost_because"].as_str() {
        Some(why) if is_set => format!("\n  the overrides will not survive a restart of steerd: {why}"),
        _ => String::new(),
    };
    lines.join("\n") + &follows + &lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::overrides::STATE;

    #[test]
    fn several_backends_in_words() {
        let path = "web/gw*".parse().unwrap();
        let selected = BackendChoice { path: &path, site: None };
        let backend = |name: String| json!({ "pool": "web", "name": name, "override": { "state": "drain" } });
        let reply = |count: u32| {
            let backends: Vec<Value> = (0..count).map(|at| backend(format!("gw{at:02}"))).collect();
            json!({ "backends": backends, "consequences": ["service www is answered by b instead of web"],
                    "lost_because": "no state_dir is set under [server]" })
        };
        assert_eq!(
            all_in_words(&STATE, &reply(2)),
            "web/gw00: drain\nweb/gw01: drain\n  service www is answered by b instead of web\n  \
             the overrides will not survive a restart of steerd: no state_dir is set under [server]"
        );
        assert!(all_in_words(&STATE, &reply(25)).contains("web/gw19: drain\nand 5 more\n"));
        let paths = selected.paths(&[reply(2), reply(3)]);
        assert_eq!(
            paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["web/gw00", "web/gw01", "web/gw02"]
        );
    }

    #[test]
    fn a_pattern_or_a_site_selects_several() {
        for (path, site, is_one) in [
            ("web/gw1", None, true),
            ("web/gw?", None, false),
            ("*/gw1", None, false),
            ("web/gw1", Some("b"), false),
        ] {
            assert_eq!(
                BackendChoice { path: &path.parse().unwrap(), site }.is_one(),
                is_one,
                "{path} {site:?}"
            );
        }
    }
}

//! A health check of Amazon Route 53 as a check of a pool.

use std::net::IpAddr;

use serde_json::Value;

use super::draft::quoted;

/// A health check in terms of steerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route53Check {
    /// As TOML.
    pub(super) check: String,
    /// The address that Route 53 probes; none if it looks the name of the check up.
    pub(super) address: Option<IpAddr>,
    pub(super) is_unverified: bool,
}

/// The check for a health check, or why there is none.
pub(super) fn check_of(config: &Value) -> Result<Route53Check, String> {
    let kind = config["Type"].as_str().unwrap_or_default();
    if config["Disabled"] == true {
        return Err("it is disabled, so Route 53 takes its records as healthy".to_owned());
    }
    if config["Inverted"] == true {
        return Err("it is inverted".to_owned());
    }
    let port =
        |usual: u64| config["Port"].as_u64().filter(|port| (1..=65_535).contains(port)).unwrap_or(usual);
    let mut keys = match kind {
        "TCP" => vec![format!("type = \"tcp\", port = {}", port(80))],
        "HTTP" | "HTTP_STR_MATCH" => vec![format!("type = \"http\", port = {}", port(80))],
        "HTTPS" | "HTTPS_STR_MATCH" => vec![format!("type = \"https\", port = {}", port(443))],
        _ => return Err(format!("steerd has no check like `{kind}`")),
    };
    if kind != "TCP" {
        let path = config["ResourcePath"].as_str().filter(|path| path.starts_with('/')).unwrap_or("/");
        keys.push(format!("path = {}", quoted(path)));
        if let Some(host) = config["FullyQualifiedDomainName"].as_str() {
            keys.push(format!("host = {}", quoted(host)));
        }
        keys.push("status = [\"200-399\"]".to_owned());
        if let Some(text) = config["SearchString"].as_str().filter(|text| !text.is_empty()) {
            keys.push(format!("body = {{ contains = {} }}", quoted(text)));
        }
        if kind.starts_with("HTTPS") {
            keys.push("tls = { verify = false }".to_owned());
        }
    }
    let interval = config["RequestInterval"].as_u64().unwrap_or(30).clamp(10, 30);
    let threshold = config["FailureThreshold"].as_u64().unwrap_or(3).clamp(1, 10);
    keys.push(format!(
        "interval = \"{interval}s\", timeout = \"4s\", rise = {threshold}, fall = {threshold}"
    ));
    Ok(Route53Check {
        check: format!("{{ {} }}", keys.join(", ")),
        address: config["IPAddress"].as_str().and_then(|address| address.parse().ok()),
        is_unverified: kind.starts_with("HTTPS"),
    })
}

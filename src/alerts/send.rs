//! Delivers one message to its receiver: a request, or a run of a program.
//!
//! A receiver may be dead, slow or hostile: each attempt has a time limit, and little of the reply is read. Redirects are
//! not followed, because a message may contain secrets. Proxies of the environment are not used.

use std::error::Error;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};

use crate::alerts::settings::{AlertSettings, AlertTemplate, Destination, Webhook};
use crate::printable::excerpt;
use crate::probe;
use crate::probe::supervised;

/// How much of a reply is read, for the reason of a refusal.
const MOST_READ: usize = 4 * 1024;
/// A shorter part of a URL is no secret, and blanking it would spoil the words of the receiver.
const SHORTEST_SECRET_PART: usize = 4;
/// Replaces a secret in the words of a receiver.
const BLANK: &[u8] = b"[..]";

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDelivered {
    /// As a sentence.
    pub reason: String,
    /// The pause for which the receiver has asked.
    pub retry_after: Option<Duration>,
}

impl From<String> for NotDelivered {
    fn from(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

/// Delivers the bodies of a message, one after the other. Returns what the receiver has said to the last.
///
/// # Errors
/// Why one of them was not delivered; those after it were not sent.
pub async fn send(settings: &AlertSettings, bodies: Vec<String>) -> Result<String, NotDelivered> {
    let mut said = String::new();
    for body in bodies {
        said = match &settings.destination {
            Destination::Web(webhook) => {
                let bearer = settings.template != AlertTemplate::PagerDuty;
                let sent = tokio::time::timeout(webhook.timeout, request(webhook, bearer, body));
                let late = |_| NotDelivered::from(format!("no answer within {:?}", webhook.timeout));
                sent.await.map_err(late)??
            }
            Destination::Program { path, arguments, timeout } => {
                let environment = vec![("STEERD_ALERT", settings.name.clone())];
                let run = supervised::run(path, arguments, environment, body.into_bytes());
                let late = |_| format!("it has not ended within {timeout:?}, and was killed");
                tokio::time::timeout(*timeout, run).await.map_err(late)??
            }
        };
    }
    Ok(said)
}

async fn request(webhook: &Webhook, bearer: bool, body: String) -> Result<String, NotDelivered> {
    let url = webhook.url.reveal();
    let tls = if url.starts_with("https:") {
        probe::client_tls(webhook.ca_file.as_deref()).await.map_err(|reason| reason.to_string())?
    } else {
        no_tls()?
    };
    let builder = Client::builder().tls_backend_preconfigured(tls).redirect(Policy::none()).no_proxy();
    let client = builder.user_agent(concat!("steerd/", env!("CARGO_PKG_VERSION"))).build();
    let client = client.map_err(|error| format!("the HTTP client cannot be set up: {}", cause(&error)))?;
    let sent = client.post(url).headers(headers(webhook, bearer)?).body(body).send().await;
    // The URL may contain a secret, so the error must not name it.
    let response = sent.map_err(|error| cause(&error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(format!("HTTP {status}"));
    }
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let said = without_secrets(webhook, beginning(response).await);
    let said = if said.is_empty() { String::new() } else { format!(": {}", excerpt(&said)) };
    let retry_after = retry_after
        .filter(|_| matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE));
    Err(NotDelivered { reason: format!("HTTP {status}{said}{hint}"), retry_after })
}

/// TLS for connections that use none: the client has no other provider.
fn no_tls() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn headers(webhook: &Webhook, bearer: bool) -> Result<HeaderMap, String> {
    let secret = |text: &str| {
        let value = HeaderValue::from_str(text).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        value.map_err(|_| "the value of a header has characters that are not allowed".to_owned())
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = webhook.token.as_ref().filter(|_| bearer) {
        let (name, value) = match &webhook.token_header {
            Some(name) => (HeaderName::from_bytes(name.as_bytes()), secret(token.reveal())?),
            None => (Ok(AUTHORIZATION), secret(&format!("Bearer {}", token.reveal()))?),
        };
        headers.insert(name.map_err(|error| error.to_string())?, value);
    }
    Ok(headers)
}

/// An error with its causes, which have the reason.
fn cause(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let further = error.to_string();
        if !words.contains(&further) {
            words = format!("{words}: {further}");
        }
        next = error.source();
    }
    words
}

/// The beginning of the body.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < MOST_READ
        && let Ok(Some(part)) = response.chunk().await
    {
        read.extend_from_slice(part.get(..MOST_READ.min(part.len())).unwrap_or_default());
    }
    read.truncate(MOST_READ);
    read
}

/// The words of a receiver without the secrets of its request: it may repeat its URL, or the token.
fn without_secrets(webhook: &Webhook, said: Vec<u8>) -> Vec<u8> {
    let mut secrets: Vec<String> = webhook.token.iter().map(|token| token.reveal().to_owned()).collect();
    if let Ok(url) = Url::parse(webhook.url.reveal()) {
        let parts = url.path().split('/').chain(url.query()).map(str::to_owned);
        let parts = parts.chain(url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(parts.filter(|part| part.len() >= SHORTEST_SECRET_PART));
        secrets.push(url.path().to_owned());
    }
    secrets.retain(|secret| !matches!(secret.as_str(), "" | "/"));
    // A secret may contain another one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(said, |said, secret| blanked(&said, secret.as_bytes()))
}

fn blanked(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let (mut shown, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(secret) {
            shown.extend_from_slice(BLANK);
            rest = after;
        } else {
            shown.push(*first);
            rest = others;
        }
    }
    shown
}

/// The pause in `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: Timestamp = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    SystemTime::from(date).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::settings::Secret;

    #[test]
    fn a_receiver_that_repeats_secrets_is_quoted_without_them() {
        let webhook = Webhook {
            url: Secret::new("https://chat.example/in/h00k-s3cret?key=qu3ry%2Fs3cret"),
            token: Some(Secret::new("t0ken")),
            token_header: None,
            ca_file: None,
            timeout: Duration::from_secs(1),
        };
        for (said, shown) in [
            ("Cannot POST /in/h00k-s3cret", "Cannot POST [..]"),
            ("no route \\/in\\/h00k-s3cret", "no route \\/in\\/[..]"),
            ("no /in/h00k-s3cret?key=qu3ry%2Fs3cret", "no [..]?[..]"),
            ("invalid token t0ken, or key qu3ry/s3cret", "invalid token [..], or key [..]"),
            ("invalid payload", "invalid payload"),
        ] {
            let without = without_secrets(&webhook, said.as_bytes().to_vec());
            assert_eq!(String::from_utf8(without).unwrap(), shown, "{said}");
        }
    }

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480 - 20);
        let of = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(of("Wed, 21 Oct 2014 07:28:00 GMT"), None);
        assert_eq!(of("soon"), None);
    }
}

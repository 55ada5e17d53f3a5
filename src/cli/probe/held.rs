//! Asks a running server which addresses are held by damping; a single probe cannot find this out.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

use crate::cli::client::segment;
use crate::cli::probe::Probed;
use crate::cli::servers::server_of_file;
use crate::duration::time_of_day;

/// Timeout for the server. Its answer is optional, and no server may be running.
const PATIENCE: Duration = Duration::from_secs(2);

/// Marks the addresses that the server with this configuration holds. Returns its URL if it runs.
pub(super) async fn mark(probed: &mut [Probed], config: &Path) -> Option<String> {
    let client = server_of_file(config)?;
    let pools: BTreeSet<String> = probed.iter().map(|row| row.pool.clone()).collect();
    let asked = async {
        let mut held = HashMap::new();
        for pool in pools {
            let path = format!("/api/v1/pools/{}", segment(&pool));
            if let Ok(told) = client.request(Method::GET, &path, None).await {
                held.extend(
                    held_in(&told).map(|(backend, address, until)| ((pool.clone(), backend, address), until)),
                );
            }
        }
        held
    };
    let held = timeout(PATIENCE, asked).await.ok()?;
    for row in probed {
        let key = (row.pool.clone(), row.backend.clone(), row.address.to_string());
        row.held_until = held.get(&key).copied();
    }
    Some(client.url.to_string())
}

/// The held addresses of a pool: backend, address, end of the hold.
fn held_in(pool: &Value) -> impl Iterator<Item = (String, String, Timestamp)> {
    let of = |backend: &Value| {
        let name = backend["name"].as_str().unwrap_or_default().to_owned();
        let addresses = backend["addresses"].as_array().into_iter().flatten();
        let held = addresses.filter_map(move |address| {
            let until = address["held_until"].as_str()?.parse().ok()?;
            Some((name.clone(), address["address"].as_str()?.to_owned(), until))
        });
        held.collect::<Vec<_>>()
    };
    pool["backends"].as_array().into_iter().flatten().flat_map(of)
}

/// One line for each address that the server at `server` holds.
pub(super) fn told(probed: &[Probed], server: &str) -> Option<String> {
    let mut text = String::new();
    for row in probed {
        if let Some(until) = row.held_until {
            let (pool, backend, address) = (&row.pool, &row.backend, row.address);
            let until = time_of_day(until, Timestamp::now());
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\nThe server at {server} holds {pool}/{backend} ({address}) back until {until}, because it keeps \
                 failing; it is answered again if it passes its checks until then."
            );
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_found_in_the_words_of_the_server() {
        let pool = serde_json::json!({ "backends": [
            { "name": "a", "addresses": [
                { "address": "192.0.2.1", "held": true, "held_until": "2026-01-02T03:04:05Z" },
                { "address": "2001:db8::1", "held": false, "held_until": null },
            ] },
            { "name": "b", "addresses": [] },
        ] });
        let held: Vec<_> = held_in(&pool).collect();
        assert_eq!(held, [("a".into(), "192.0.2.1".into(), "2026-01-02T03:04:05Z".parse().unwrap())]);
        assert_eq!(held_in(&Value::Null).count(), 0);
    }
}

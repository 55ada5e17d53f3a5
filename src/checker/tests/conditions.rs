//! The conditions for alerts: what is told, in which words, and what an override mutes.

use super::*;
use crate::check::{TlsProbe, TlsSettings};
use crate::pool::Override;

/// The present conditions: kind, name and summary, then the reason.
async fn conditions(handle: &CheckerHandle) -> Vec<String> {
    let table = handle.published.load();
    let unusable = unusable_pools(&table);
    let request = ConditionsRequest { table: Arc::clone(&table), unusable: unusable.clone() };
    let fleet =
        ask(handle, |reply| CheckerCommand::Conditions(request, reply)).await.expect("the same table");
    let mut all = conditions_of_table(&table, &unusable, &fleet);
    all.extend(fleet.conditions);
    all.iter().map(|one| format!("{}: {}: {}", one.key.kind.as_str(), one.summary, one.reason)).collect()
}

/// `web` with two backends and `standby` with one, for one service.
async fn fleet() -> (CheckerHandle, Script) {
    let web = pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2"]);
    let standby = pool_of("standby", check(DEFAULTS), &["192.0.2.9"]);
    let (handle, script) = run(setup(vec![web, standby], vec![service(&[0, 1])]));
    ready(&handle).await;
    tokio::time::sleep(SECOND * 30).await;
    (handle, script)
}

async fn change(handle: &CheckerHandle, pool: &str, backend: &str, change: OverrideChange) {
    let (pool, backend, by) = (pool.into(), backend.into(), "a test".into());
    let request = OverrideRequest {
        pool,
        backend,
        change,
        length: None,
        reason: None,
        force: true,
        by,
        expected: Precondition::default(),
    };
    ask(handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
}

async fn set(handle: &CheckerHandle, pool: &str, backend: &str, state: Option<Override>) {
    change(handle, pool, backend, OverrideChange::State(state)).await;
}

async fn fail_over(handle: &CheckerHandle, pool: Option<&str>) {
    let table = handle.published.load();
    let failover = FailoverRequest {
        service: table.services()[0].service.name.clone(),
        pool: pool.map(Into::into),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    ask(handle, |reply| CheckerCommand::ChangeService(ServiceRequest::FailOver(failover), reply))
        .await
        .unwrap();
}

const POOL: &str = "pool: pool web is not usable: it has no usable ipv4 address any more";
const LATER: &str =
    "tier: service www.example.com is answered by a later tier, standby: none before it is usable";
const DOWN: &str = "service: service www.example.com fails open: no tier is usable";
const STANDBY: &str = "pool: pool standby is not usable: it has no usable ipv4 address any more";
const NONE: [&str; 0] = [];

fn fail(script: &Script, addresses: &[&str], behaviour: Behaviour) {
    for address in addresses {
        script.set(address, behaviour);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_as_long_as_it_lasts() {
    let (handle, script) = fleet().await;
    assert_eq!(conditions(&handle).await, NONE);
    fail(&script, &["192.0.2.1", "192.0.2.2"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [POOL, LATER]);
    fail(&script, &["192.0.2.9"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [POOL, STANDBY, DOWN]);
    fail(&script, &["192.0.2.1", "192.0.2.2", "192.0.2.9"], Behaviour::Serve);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, NONE);
}

#[tokio::test(start_paused = true)]
async fn what_overrides_explain_is_muted() {
    let (handle, script) = fleet().await;
    for (backend, state) in [("192.0.2.1", Override::Drain), ("192.0.2.2", Override::Down)] {
        set(&handle, "web", backend, Some(state)).await;
    }
    assert_eq!(unusable_pools(&handle.published.load()), [PoolId(0)]);
    assert_eq!(conditions(&handle).await, NONE, "drained by an operator, so the later tier is wanted too");
    // One really fails: the other alone would still make the pool usable.
    fail(&script, &["192.0.2.1"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, NONE);
    fail(&script, &["192.0.2.2"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [POOL, LATER], "it would be so without the overrides");
    // All that is missing is taken away by operators.
    fail(&script, &["192.0.2.2"], Behaviour::Serve);
    tokio::time::sleep(SECOND * 60).await;
    set(&handle, "standby", "192.0.2.9", Some(Override::Drain)).await;
    assert_eq!(conditions(&handle).await, NONE);
    set(&handle, "web", "192.0.2.2", None).await;
    set(&handle, "web", "192.0.2.1", None).await;
    assert_eq!(conditions(&handle).await, NONE, "the first tier answers");
    fail(&script, &["192.0.2.2"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [POOL, DOWN], "a failure has a part in it");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_disabled_as_a_whole_is_muted() {
    let (handle, script) = fleet().await;
    for backend in ["192.0.2.1", "192.0.2.2"] {
        set(&handle, "web", backend, Some(Override::Disabled)).await;
    }
    assert_eq!(conditions(&handle).await, NONE);
    fail(&script, &["192.0.2.9"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [STANDBY, DOWN]);
}

#[tokio::test(start_paused = true)]
async fn weights_and_failovers_mute_too() {
    let (handle, script) = fleet().await;
    for backend in ["192.0.2.1", "192.0.2.2"] {
        change(&handle, "web", backend, OverrideChange::Weight(Some(0))).await;
    }
    assert_eq!(conditions(&handle).await, NONE);
    for backend in ["192.0.2.1", "192.0.2.2"] {
        change(&handle, "web", backend, OverrideChange::Weight(None)).await;
    }
    fail_over(&handle, Some("standby")).await;
    let table = handle.published.load();
    let route = table.services()[0].default_route();
    assert!(matches!(table.decision(route, Family::Ipv4), crate::table::Decision::Tier { tier: 1, .. }));
    assert_eq!(conditions(&handle).await, NONE);
    fail(&script, &["192.0.2.1", "192.0.2.2"], Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(
        conditions(&handle).await,
        [POOL, LATER],
        "without the failover, the standby would answer as well"
    );
}

#[tokio::test(start_paused = true)]
async fn suspicions_and_certificates_are_told() {
    let script = Script::default();
    let now = script.wall();
    let day = Duration::from_secs(86_400);
    let five = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"];
    for (address, days) in five.iter().zip([100, 20, 10, 15, 22]) {
        script.certificate(address, now + day * days);
    }
    let tls = Check::new(Probe::Tls(TlsProbe::handshake(443, TlsSettings::default())), DEFAULTS);
    let web = pool_of("web", tls, &five);
    let served = setup(vec![web], vec![service(&[0])]);
    let handle = start_with(served, CAPACITY, Arc::new(Metrics::new(1)), script.clone());
    ready(&handle).await;
    tokio::time::sleep(SECOND * 30).await;
    let told = |who: &str, date: &str, more: &str| {
        format!(
            "certificate: a certificate in pool web expires on {date}: it is that of backend {who} ({who}), check tls{more}"
        )
    };
    let more = "; 2 more certificates of the pool expire within 21 days";
    assert_eq!(conditions(&handle).await, [told("192.0.2.3", "2023-11-24", more)]);
    // Renewed ones are over.
    script.certificate("192.0.2.3", now + day * 300);
    script.certificate("192.0.2.2", now + day * 300);
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(conditions(&handle).await, [told("192.0.2.4", "2023-11-29", "")]);
    script.certificate("192.0.2.4", now + day * 300);
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(conditions(&handle).await, NONE);

    fail(&script, &five, Behaviour::Refuse);
    let mut found = Vec::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        found = conditions(&handle).await;
        if !found.is_empty() {
            break;
        }
    }
    let expected = "suspicion: this machine is suspected instead of pool web: ";
    assert!(
        found.len() == 1 && found[0].starts_with(expected) && found[0].contains("of 5 fail at once"),
        "{found:?}"
    );
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(conditions(&handle).await, [POOL, DOWN]);
}

/// A request about a table of an earlier configuration gets no answer, because its pools have other numbers.
#[tokio::test(start_paused = true)]
async fn a_table_of_an_earlier_configuration_is_refused() {
    let (handle, _script) = fleet().await;
    let table = handle.published.load();
    let web = pool_of("web", check(DEFAULTS), &["192.0.2.1"]);
    reload(&handle, setup(vec![web], vec![service(&[0])])).await;
    let request = ConditionsRequest { table, unusable: Vec::new() };
    assert!(ask(&handle, |reply| CheckerCommand::Conditions(request, reply)).await.is_none());
    assert_eq!(conditions(&handle).await, NONE);
}

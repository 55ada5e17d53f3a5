//! Operators' overrides for weights, and how they combine with states, slow start and load.

use super::shares::drawn;
use super::*;
use crate::pool::{MinHealthy, Override, OverrideKind, OverrideValue};

const THREE: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

fn request(backend: &str, change: OverrideChange) -> OverrideRequest {
    OverrideRequest {
        pool: "web".into(),
        backend: backend.into(),
        change,
        length: None,
        reason: None,
        force: false,
        by: "a test".into(),
        expected: Precondition::default(),
    }
}

async fn asked(
    handle: &CheckerHandle,
    backend: &str,
    change: OverrideChange,
) -> Result<Overridden, OverrideRefused> {
    let request = request(backend, change);
    ask(handle, |reply| CheckerCommand::Override(request, reply)).await
}

async fn weigh(handle: &CheckerHandle, backend: &str, percent: impl Into<Option<u16>>) -> Overridden {
    asked(handle, backend, OverrideChange::Weight(percent.into())).await.unwrap()
}

/// Backends of the weights 3, 2 and 1.
fn weighted() -> Served {
    let backends = THREE.into_iter().zip([3, 2, 1]);
    let backends = backends.map(|(address, weight)| Backend { weight, ..backend(address) });
    setup(vec![pool("web", check(DEFAULTS), backends.collect())], vec![service(&[0])])
}

#[tokio::test(start_paused = true)]
async fn a_weight_is_a_part_of_the_configured_one_and_ends_by_itself() {
    let (log, _guard) = CapturedLog::listen();
    let (metrics, script) = (Arc::new(Metrics::new(1)), Script::default());
    let handle = start_with(weighted(), CAPACITY, Arc::clone(&metrics), script.clone());
    ready(&handle).await;
    let canary = OverrideRequest {
        length: Some(SECOND * 3600),
        reason: Some("canary".into()),
        ..request("192.0.2.2", OverrideChange::Weight(Some(30)))
    };
    let done = ask(&handle, |reply| CheckerCommand::Override(canary, reply)).await.unwrap();
    assert_eq!((done.before, done.consequences.len()), (None, 0));
    let shown = done.backend.weight_override.unwrap();
    assert_eq!((shown.value, shown.reason.as_deref()), (OverrideValue::Weight(30), Some("canary")));
    assert_eq!((shown.until, shown.safe_at), (Some(script.wall() + SECOND * 3600), None));
    assert_eq!((done.backend.weight, done.backend.overridden), (2, None));
    assert_eq!(drawn(&handle).await, [300, 60, 100]);
    let lines = log.take("backend is overridden, by request");
    for part in ["backend=\"192.0.2.2\"", "weight=\"30%\"", "ends_in=\"1h\"", "left=\"3 of 3 healthy\""] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    let gauge = "steerd_backend_weight_override_ratio{pool=\"web\",backend=\"192.0.2.2\"} 0.3\n";
    assert!(metrics.render(&handle.published.load()).contains(gauge));

    // More than all of it, and another percentage that keeps the reason.
    let done = weigh(&handle, "192.0.2.2", 1000).await;
    assert_eq!(done.before.map(|before| before.value), Some(OverrideValue::Weight(30)));
    assert_eq!(done.backend.weight_override.unwrap().reason.as_deref(), Some("canary"));
    assert_eq!(drawn(&handle).await, [300, 2000, 100]);
    weigh(&handle, "192.0.2.2", None).await;
    assert_eq!(drawn(&handle).await, [300, 200, 100]);
    assert!(log.take("the override of a backend has ended, by request")[0].contains("from=\"1000%\""));
    assert!(!metrics.render(&handle.published.load()).contains("weight_override_ratio{"));

    let brief = OverrideRequest {
        length: Some(SECOND * 30),
        ..request("192.0.2.1", OverrideChange::Weight(Some(50)))
    };
    ask(&handle, |reply| CheckerCommand::Override(brief, reply)).await.unwrap();
    tokio::time::sleep(SECOND * 29).await;
    assert_eq!(drawn(&handle).await, [150, 200, 100]);
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(drawn(&handle).await, [300, 200, 100]);
    assert!(log.take("has ended")[0].contains("its time is over"));
}

#[tokio::test(start_paused = true)]
async fn the_weight_is_apart_from_the_state() {
    let (handle, script) = run(weighted());
    script.set("192.0.2.1", Behaviour::Refuse);
    ready(&handle).await;
    weigh(&handle, "192.0.2.1", 10).await;
    assert_eq!(drawn(&handle).await, [0, 200, 100], "it is still unhealthy");
    let up = OverrideChange::State(Some(Override::Up));
    asked(&handle, "192.0.2.1", up).await.unwrap();
    assert_eq!(drawn(&handle).await, [30, 200, 100], "up says that it answers, and the weight how often");
    let done = weigh(&handle, "192.0.2.1", None).await;
    assert_eq!(done.backend.overridden.unwrap().value, OverrideValue::State(Override::Up));
    weigh(&handle, "192.0.2.1", 10).await;
    let done = asked(&handle, "192.0.2.1", OverrideChange::State(None)).await.unwrap();
    assert_eq!(done.backend.weight_override.unwrap().value, OverrideValue::Weight(10));
    assert_eq!(drawn(&handle).await, [0, 200, 100]);
    script.set("192.0.2.1", Behaviour::Serve);
    until("it is back", SECOND * 20, || eligible(&handle, 0).len() == 3).await;
    assert_eq!(drawn(&handle).await, [30, 200, 100]);
}

#[tokio::test(start_paused = true)]
async fn it_multiplies_the_load_and_leaves_something_unless_it_is_nothing() {
    let (handle, script) = run(weighted());
    script.load("192.0.2.1", Some(40));
    ready(&handle).await;
    weigh(&handle, "192.0.2.1", 30).await;
    assert_eq!(drawn(&handle).await, [3 * 12, 200, 100]);
    weigh(&handle, "192.0.2.1", 1).await;
    assert_eq!(drawn(&handle).await, [3, 200, 100], "0.4 % is rounded up");
    for address in THREE {
        script.load(address, Some(0));
    }
    tokio::time::sleep(SECOND * 200).await;
    assert_eq!(drawn(&handle).await, [3, 200, 100], "if no load leaves any, the operator's part stays");
}

/// It counts in full for `min_healthy` with 1 %, and not at all with 0 %.
#[tokio::test(start_paused = true)]
async fn min_healthy_counts_the_configured_weight() {
    let mut served = weighted();
    served.pools[0].pool.min_healthy = MinHealthy::Percent(60);
    let (handle, _script) = run(served);
    ready(&handle).await;
    weigh(&handle, "192.0.2.1", 1).await;
    assert!(status(&handle).await.pools[0].usable);
    let refused = asked(&handle, "192.0.2.1", OverrideChange::Weight(Some(0))).await.unwrap_err();
    let OverrideRefused::TakesAway(consequences) = refused else { panic!("{refused:?}") };
    let texts: Vec<&str> = consequences.iter().map(|one| &*one.text).collect();
    assert_eq!(texts[0], "pool web has 2 ipv4 addresses left, fewer than its min_healthy wants", "{texts:?}");
    assert!(texts[1].contains("is down (ipv4): no tier is usable"), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_the_weight_is_a_drain() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = run(weighted());
    ready(&handle).await;
    let began = script.wall();
    let done = weigh(&handle, "192.0.2.1", 0).await;
    assert_eq!(drawn(&handle).await, [0, 200, 100]);
    let safe_at = done.backend.weight_override.unwrap().safe_at;
    assert_eq!(safe_at, Some(began + SECOND * 21), "the TTL, and a second on the way");
    assert!(log.take("backend is overridden")[0].contains("left=\"2 of 3 healthy\""));
    weigh(&handle, "192.0.2.2", 0).await;
    let refused = asked(&handle, "192.0.2.3", OverrideChange::Weight(Some(0))).await;
    assert!(matches!(refused, Err(OverrideRefused::TakesAway(_))), "the last usable one: {refused:?}");
    assert_eq!(drawn(&handle).await, [0, 0, 100]);
    let last = OverrideChange::Weight(Some(0));
    let forced = OverrideRequest { force: true, ..request("192.0.2.3", last) };
    ask(&handle, |reply| CheckerCommand::Override(forced, reply)).await.unwrap();
    assert!(status(&handle).await.services[0].fail_open);
    assert_eq!(drawn(&handle).await, [300, 200, 100], "by their weights, because none has a part of it");
    // Fail open distrusts the checks, not the operator.
    weigh(&handle, "192.0.2.2", 10).await;
    script.set("192.0.2.2", Behaviour::Refuse);
    until("it is dead", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(drawn(&handle).await, [0, 20, 0]);
    weigh(&handle, "192.0.2.1", 200).await;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("all are dead", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(drawn(&handle).await, [600, 20, 0]);
}

#[tokio::test(start_paused = true)]
async fn it_survives_a_reload_and_a_restart() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, _script) = run(weighted());
    ready(&handle).await;
    asked(&handle, "192.0.2.2", OverrideChange::State(Some(Override::Up))).await.unwrap();
    let canary = OverrideRequest {
        reason: Some("canary".into()),
        ..request("192.0.2.2", OverrideChange::Weight(Some(30)))
    };
    ask(&handle, |reply| CheckerCommand::Override(canary, reply)).await.unwrap();
    let mut other = weighted();
    other.pools[0].pool.backends.remove(2);
    other.pools[0].pool.backends.reverse();
    reload(&handle, other).await;
    assert_eq!(drawn(&handle).await, [60, 300]);

    let memory = ask(&handle, whole_memory).await;
    let kept = |kind| memory.overrides.iter().find(|kept| kept.value.kind() == kind).unwrap();
    assert_eq!(kept(OverrideKind::State).value, OverrideValue::State(Override::Up));
    assert_eq!(kept(OverrideKind::Weight).value, OverrideValue::Weight(30));
    assert_eq!(kept(OverrideKind::Weight).reason.as_deref(), Some("canary"));
    let (handle, _script) = run_after(memory, weighted());
    log.take("");
    ready(&handle).await;
    assert_eq!(drawn(&handle).await, [300, 60, 100]);

    let mut other = weighted();
    other.pools[0].pool.backends.remove(1);
    let reloaded = reload(&handle, other).await;
    let lost: Vec<_> = reloaded.lost.iter().map(|lost| (&*lost.backend, lost.value)).collect();
    let [up, some] = [OverrideValue::State(Override::Up), OverrideValue::Weight(30)];
    assert_eq!(lost, [("192.0.2.2", up), ("192.0.2.2", some)]);
    assert!(log.take("the backend is gone")[1].contains("weight=\"30%\""));
}

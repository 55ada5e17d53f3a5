//! Several checks of one address; ports and check addresses of backends.

use super::*;

/// A check of a port, with the port as its name.
fn on(port: u16) -> Check {
    Check { name: format!("port-{port}"), ..tcp(port, DEFAULTS) }
}

fn with(checks: Vec<Check>, require: Require, addresses: &[&str]) -> PoolSetup {
    PoolSetup { checks, require, ..pool_of("web", None, addresses) }
}

async fn standing(handle: &CheckerHandle) -> Standing {
    status(handle).await.pools[0].backends[0].addresses[0].standing
}

#[tokio::test(start_paused = true)]
async fn every_check_runs_and_they_decide_together() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) =
        run(setup(vec![with(vec![on(1), on(2)], Require::All, &["192.0.2.1"])], vec![service(&[0])]));
    ready(&handle).await;
    assert_eq!(log.take("backend is healthy").len(), 1, "one change of the address, not one for each check");
    script.set_on("192.0.2.1", 2, Behaviour::Refuse);
    until("one of all fails", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    let lines = log.take("backend is");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let shown = "from=\"healthy\" to=\"unhealthy\" check=\"port-2\" reason=\"scripted Failed\" \
                 cause=\"refused\" consecutive=3";
    assert!(lines[0].contains(shown), "{lines:?}");
    let now = status(&handle).await;
    let [one, two] = &now.pools[0].backends[0].addresses[0].checks[..] else { panic!("two checks") };
    assert_eq!((one.standing, two.standing), (Standing::Healthy, Standing::Unhealthy));
    assert_eq!((&*one.name, &*two.name), ("port-1", "port-2"));
    until("both go on", SECOND * 20, || (1..=2).all(|port| script.started_on("192.0.2.1", port) > 1)).await;
}

#[tokio::test(start_paused = true)]
async fn any_of_them_may_be_enough_and_a_critical_one_is_alone_enough() {
    let critical = Check { critical: true, ..on(3) };
    let pools = vec![with(vec![on(1), on(2), critical], Require::AtLeast(1), &["192.0.2.1"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set_on("192.0.2.1", 1, Behaviour::Refuse);
    script.set_on("192.0.2.1", 2, Behaviour::Refuse);
    ready(&handle).await;
    assert_eq!(standing(&handle).await, Standing::Healthy, "one of three is enough");
    script.set_on("192.0.2.1", 3, Behaviour::Refuse);
    script.set_on("192.0.2.1", 1, Behaviour::Serve);
    script.set_on("192.0.2.1", 2, Behaviour::Serve);
    until("the critical one fails", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_observed_only_never_decides() {
    let observed = Check { observe_only: true, ..on(2) };
    let pools = vec![with(vec![on(1), observed.clone()], Require::All, &["192.0.2.1"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set_on("192.0.2.1", 2, Behaviour::Refuse);
    ready(&handle).await;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(standing(&handle).await, Standing::Healthy);
    let check = &status(&handle).await.pools[0].backends[0].addresses[0].checks[1];
    assert_eq!((check.standing, check.observe_only), (Standing::Unhealthy, true));

    let (handle, _script) =
        run(setup(vec![with(vec![observed], Require::All, &["192.0.2.1"])], vec![service(&[0])]));
    assert_eq!(standing(&handle).await, Standing::Healthy, "nothing decides, so at once");
}

#[tokio::test(start_paused = true)]
async fn a_draining_backend_is_not_answered_and_is_no_failure() {
    let (log, _guard) = CapturedLog::listen();
    let pools = vec![with(vec![on(1), on(2)], Require::All, &["192.0.2.1", "192.0.2.2"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    log.take("");
    script.set_on("192.0.2.1", 1, Behaviour::Drain);
    until("it drains", SECOND * 20, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    assert_eq!(standing(&handle).await, Standing::Draining);
    let lines = log.take("backend is draining");
    assert!(lines[0].contains("from=\"healthy\" to=\"draining\" check=\"port-1\""), "{lines:?}");
    script.set_on("192.0.2.1", 1, Behaviour::Serve);
    until("it is back", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn ports_and_check_addresses_say_where_the_probe_goes() {
    let elsewhere = Backend { check_address: Some("198.51.100.9".parse().unwrap()), ..backend("192.0.2.1") };
    let other_port = Backend { port: Some(8), ..backend("192.0.2.2") };
    let both = Backend { port: Some(8), ..elsewhere.clone() };
    let both = Backend { name: "both".into(), addresses: vec!["192.0.2.3".parse().unwrap()], ..both };
    let pools = vec![pool("web", on(1), vec![elsewhere, other_port, both, backend("192.0.2.4")])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set("198.51.100.9", Behaviour::Refuse);
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.2", "192.0.2.4"]);
    assert_eq!(script.started("192.0.2.1") + script.started("192.0.2.3"), 0);
    let started = |address, port| script.started_on(address, port);
    assert!(started("198.51.100.9", 1) > 0 && started("198.51.100.9", 8) > 0);
    assert!(started("192.0.2.2", 8) > 0 && started("192.0.2.2", 1) == 0 && started("192.0.2.4", 1) > 0);
}

#[tokio::test(start_paused = true)]
async fn one_probe_of_a_shared_check_address_counts_for_each_backend_once() {
    let both = |name: &str, addresses: &[&str]| Backend {
        check_address: Some("198.51.100.9".parse().unwrap()),
        ..Backend::new(name, addresses.iter().map(|address| address.parse().unwrap()).collect())
    };
    let backends = vec![both("one", &["192.0.2.1", "2001:db8::1"]), both("two", &["192.0.2.2"])];
    let metrics = Arc::new(Metrics::new(1));
    let script = Script::default();
    let handle = start_with(
        setup(vec![pool("web", on(1), backends)], vec![service(&[0])]),
        CAPACITY,
        Arc::clone(&metrics),
        script.clone(),
    );
    ready(&handle).await;
    tokio::time::sleep(SECOND * 30).await;
    let text = metrics.render(&handle.published.load());
    for backend in ["one", "two"] {
        let count = script.started("198.51.100.9");
        let line =
            format!("steerd_probes_total{{pool=\"web\",backend=\"{backend}\",outcome=\"passed\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    script.set("198.51.100.9", Behaviour::Refuse);
    until("all of them fail at once", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
}

//! When nearly everything fails, this machine is suspected first.

use super::*;

const FIVE: [&str; 5] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"];

const HOUR: Timing =
    Timing { interval: Duration::from_secs(3600), interval_down: Duration::from_secs(3600), ..DEFAULTS };

/// A death is detected within an interval, jitter and the rechecks, if there is no suspicion.
const FOUND: Duration = Duration::from_millis(13_260);

fn watched(pools: Vec<PoolSetup>) -> (CheckerHandle, Script, Arc<Metrics>) {
    let (metrics, script) = (Arc::new(Metrics::new(1)), Script::default());
    let handle =
        start_with(setup(pools, vec![service(&[0])]), CAPACITY, Arc::clone(&metrics), script.clone());
    (handle, script, metrics)
}

fn gauge(handle: &CheckerHandle, metrics: &Arc<Metrics>, pool: &str) -> bool {
    let text = metrics.render(&handle.published.load());
    let line = format!("steerd_self_suspected{{pool=\"{pool}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).expect("the gauge") == "1"
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_at_once_is_kept_for_an_interval_and_the_alarm_shows() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script, metrics) = watched(vec![pool_of("web", check(DEFAULTS), &FIVE)]);
    ready(&handle).await;
    for address in FIVE {
        script.set(address, Behaviour::Refuse);
    }
    let began = Instant::now();
    until("the alarm", SECOND * 10, || gauge(&handle, &metrics, "web")).await;
    assert!(!gauge(&handle, &metrics, ""), "one pool only, so its own suspicion says all");
    let now = status(&handle).await;
    let suspected = now.pools[0].suspected.as_ref().unwrap();
    assert!(suspected.reason.contains("of 5 fail at once"), "{suspected:?}");
    assert!(suspected.since <= script.wall() && now.suspected.is_none());
    let lines = log.take("this machine is suspected");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("pool=\"web\""), "{lines:?}");
    let kept = eligible(&handle, 0).len();
    tokio::time::sleep(SECOND * 4).await;
    assert_eq!(eligible(&handle, 0).len(), kept, "nobody is judged meanwhile");
    until("they are dead after all", SECOND * 10, || eligible(&handle, 0).is_empty()).await;
    assert!(began.elapsed() < SECOND * 20);
    assert!(!gauge(&handle, &metrics, "web"));
    let text = metrics.render(&handle.published.load());
    assert!(text.contains("\nsteerd_self_suspicions_total{pool=\"web\"} 1\n"), "{text}");
    let lines = log.take("no longer suspected");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("failing=") && lines[0].contains("the time is over"),
        "{lines:?}"
    );
    assert_eq!(status(&handle).await.pools[0].suspected, None);
}

/// The other outcome of a suspicion: the network of this machine was at fault.
#[tokio::test(start_paused = true)]
async fn a_suspicion_that_ends_well_says_so() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script, metrics) = watched(vec![pool_of("web", check(DEFAULTS), &FIVE)]);
    ready(&handle).await;
    for address in FIVE {
        script.set(address, Behaviour::Refuse);
    }
    until("the alarm", SECOND * 10, || gauge(&handle, &metrics, "web")).await;
    for address in FIVE {
        script.set(address, Behaviour::Serve);
    }
    until("it is over", SECOND * 20, || !gauge(&handle, &metrics, "web")).await;
    let lines = log.take("no longer suspected");
    assert!(
        lines.len() == 1 && lines[0].contains("INFO") && lines[0].contains("none fails any more"),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn all_pools_together_are_suspected_where_each_is_too_small() {
    let pools = || {
        let pair = |name: &str, addresses: &[&str]| pool_of(name, check(DEFAULTS), addresses);
        vec![pair("one", &FIVE[..2]), pair("two", &FIVE[2..4])]
    };
    let (handle, script, metrics) = watched(pools());
    ready(&handle).await;
    for address in FIVE {
        script.set(address, Behaviour::Refuse);
    }
    until("the alarm", SECOND * 10, || gauge(&handle, &metrics, "")).await;
    assert!(!gauge(&handle, &metrics, "one"));
    assert!(status(&handle).await.suspected.unwrap().reason.contains("of 4 fail at once"));
    // A reload that removes the group also removes the alarm.
    let off = pools().into_iter().map(|mut pool| {
        pool.pool.suspect_self = None;
        pool
    });
    let off = setup(off.collect(), vec![service(&[0])]);
    reload(&handle, off).await;
    assert!(!gauge(&handle, &metrics, ""));
    assert_eq!(status(&handle).await.suspected, None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_to_suspect_fails_as_it_fails() {
    let mut web = pool_of("web", check(DEFAULTS), &FIVE);
    web.pool.suspect_self = None;
    let (handle, script, metrics) = watched(vec![web, pool_of("other", check(DEFAULTS), &["192.0.2.9"])]);
    ready(&handle).await;
    for address in FIVE {
        script.set(address, Behaviour::Refuse);
    }
    until("all are dead", Duration::from_millis(7300), || eligible(&handle, 0).is_empty()).await;
    assert!(!gauge(&handle, &metrics, "") && !gauge(&handle, &metrics, "web"));
}

#[tokio::test(start_paused = true)]
async fn probes_that_cannot_be_made_judge_nobody_and_raise_the_alarm_once() {
    let (log, _guard) = CapturedLog::listen();
    let many: Vec<String> = (1..=40).map(|last| format!("192.0.2.{last}")).collect();
    let addresses: Vec<&str> = many.iter().map(String::as_str).collect();
    let (handle, script, metrics) = watched(vec![pool_of("web", check(DEFAULTS), &addresses)]);
    ready(&handle).await;
    log.take("");
    for address in &addresses {
        script.set(address, Behaviour::Break);
    }
    until("the alarm", SECOND * 10, || gauge(&handle, &metrics, "")).await;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(eligible(&handle, 0).len(), 40, "nobody is judged");
    let suspected = status(&handle).await.suspected.unwrap();
    assert_eq!(suspected.reason, "probes cannot be made: scripted Void");
    let lines = log.take("");
    let alarms = lines.iter().filter(|line| line.contains("this machine is suspected")).count();
    let alone = lines.iter().filter(|line| line.contains("could not be probed")).count();
    assert_eq!((alarms, alone), (1, 10), "a few are told one by one, then all together: {lines:#?}");
    let text = metrics.render(&handle.published.load());
    assert!(text.contains("backend=\"192.0.2.1\",cause=\"local\"}"), "{text}");

    for address in &addresses {
        script.set(address, Behaviour::Serve);
    }
    until("it is over", SECOND * 10, || !gauge(&handle, &metrics, "")).await;
    assert_eq!(log.take("probes can be made again").len(), 1);
    assert_eq!(status(&handle).await.suspected, None);
}

#[tokio::test(start_paused = true)]
async fn two_backends_are_too_few_however_many_checks_they_have() {
    let one = tcp(81, DEFAULTS);
    let pool = PoolSetup {
        checks: vec![one, Check { name: "two".into(), ..tcp(82, DEFAULTS) }],
        ..pool_of("web", None, &FIVE[..2])
    };
    let (handle, script, metrics) = watched(vec![pool]);
    ready(&handle).await;
    for address in &FIVE[..2] {
        script.set(address, Behaviour::Refuse);
    }
    until("they are dead", SECOND * 8, || eligible(&handle, 0).is_empty()).await;
    assert!(!gauge(&handle, &metrics, "web"));
}

fn any_suspected(status: &Status) -> bool {
    status.suspected.is_some() || status.pools.iter().any(|pool| pool.suspected.is_some())
}

#[tokio::test(start_paused = true)]
async fn one_backend_is_no_group_however_many_checks_it_has() {
    let on = |port: u16| Check { name: format!("port-{port}"), ..tcp(port, DEFAULTS) };
    let checks = (1..=4).map(on).collect();
    let (log, _guard) = CapturedLog::listen();
    let one = PoolSetup { checks, ..pool_of("web", None, &["192.0.2.1"]) };
    let (handle, script) = run(setup(vec![one], vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    until("it is found dead", FOUND, || eligible(&handle, 0).is_empty()).await;
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(log.take("is suspected"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_slow_check_keeps_no_dead_backend_of_a_quick_one_in_the_answers() {
    let quick: Vec<String> = (1..=30).map(|host| format!("192.0.2.{host}")).collect();
    let addresses: Vec<&str> = quick.iter().map(String::as_str).collect();
    let slow = pool_of("slow", check(HOUR), &["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
    let pools = vec![pool_of("quick", check(DEFAULTS), &addresses), slow];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    for address in addresses {
        script.set(address, Behaviour::Hang);
    }
    // One interval longer than without suspicion.
    until("all are found dead", FOUND + SECOND * 8, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(eligible(&handle, 1).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn three_that_fail_at_once_are_suspected_and_shown() {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let (handle, script) = run(setup(vec![pool_of("web", check(DEFAULTS), &addresses)], vec![service(&[0])]));
    ready(&handle).await;
    assert!(!any_suspected(&status(&handle).await));
    for address in addresses {
        script.set(address, Behaviour::Hang);
    }
    let began = Instant::now();
    while !any_suspected(&status(&handle).await) {
        assert!(began.elapsed() < FOUND, "it is not shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(eligible(&handle, 0).len(), 3, "nobody has fallen");
    for address in addresses {
        script.set(address, Behaviour::Serve);
    }
    tokio::time::sleep(SECOND * 20).await;
    assert!(!any_suspected(&status(&handle).await));
    assert_eq!(eligible(&handle, 0).len(), 3);
}

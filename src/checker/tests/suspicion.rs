//! Who is suspected together with whom.

use super::*;

const HOUR: Timing =
    Timing { interval: Duration::from_secs(3600), interval_down: Duration::from_secs(3600), ..DEFAULTS };

/// A death is found within an interval, jitter and the rechecks, when nobody is suspected.
const FOUND: Duration = Duration::from_millis(13_260);

fn any_suspected(status: &Status) -> bool {
    status.suspected.is_some() || status.pools.iter().any(|pool| pool.suspected.is_some())
}

#[tokio::test(start_paused = true)]
async fn one_backend_is_no_group_however_many_checks_it_has() {
    let on = |port: u16| Check { name: format!("port-{port}"), ..tcp(port, DEFAULTS) };
    let checks = (1..=4).map(on).collect();
    let (log, _guard) = Log::listen();
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
    addresses.iter().for_each(|address| script.set(address, Behaviour::Hang));
    // One interval longer than a death that is believed at once.
    until("all are found dead", FOUND + SECOND * 8, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(eligible(&handle, 1).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn three_that_fail_at_once_are_suspected_and_shown() {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let (handle, script) = run(setup(vec![pool_of("web", check(DEFAULTS), &addresses)], vec![service(&[0])]));
    ready(&handle).await;
    assert!(!any_suspected(&status(&handle).await));
    addresses.iter().for_each(|address| script.set(address, Behaviour::Hang));
    let began = Instant::now();
    while !any_suspected(&status(&handle).await) {
        assert!(began.elapsed() < FOUND, "it is not shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(eligible(&handle, 0).len(), 3, "nobody has fallen");
    addresses.iter().for_each(|address| script.set(address, Behaviour::Serve));
    tokio::time::sleep(SECOND * 20).await;
    assert!(!any_suspected(&status(&handle).await));
    assert_eq!(eligible(&handle, 0).len(), 3);
}

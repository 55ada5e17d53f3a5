//! Overrides that take something away from clients, and the other consequences of overrides.

use super::*;
use crate::pool::{MinHealthy, Override, OverrideValue};

const THREE: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Requests an override for a backend of the first pool. Returns its consequences, or why it is
/// refused.
async fn asked(
    handle: &CheckerHandle,
    backend: &str,
    state: Option<Override>,
    force: bool,
) -> Result<Vec<String>, Vec<String>> {
    let request = OverrideRequest {
        pool: "web".into(),
        backend: backend.into(),
        change: OverrideChange::State(state),
        length: None,
        reason: None,
        force,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    let texts = |consequences: Vec<Consequence>| consequences.into_iter().map(|one| one.text).collect();
    // A preview tells the same, and changes nothing, or the request after it would tell something else.
    let tried = request.clone();
    let tried =
        ask(handle, |reply| CheckerCommand::Preview(ChangeRequest::Backend(tried), reply)).await.unwrap();
    match ask(handle, |reply| CheckerCommand::Override(request, reply)).await {
        Ok(done) => {
            assert_eq!(tried, done.consequences);
            Ok(texts(done.consequences))
        }
        Err(OverrideRefused::TakesAway(consequences)) => {
            assert_eq!(tried, consequences);
            Err(texts(consequences))
        }
        Err(other) => panic!("{other:?}"),
    }
}

const NOTHING: Result<Vec<String>, Vec<String>> = Ok(Vec::new());

/// The fleet of a test case: `web` with these addresses, and optionally a standby.
async fn fleet(web: &[&str], min_healthy: MinHealthy, standby: bool) -> (CheckerHandle, Script) {
    let mut web = pool_of("web", check(DEFAULTS), web);
    web.pool.min_healthy = min_healthy;
    let pools = vec![web, pool_of("standby", check(DEFAULTS), &["192.0.2.9"])];
    let (handle, script) = run(setup(pools, vec![service(if standby { &[0, 1] } else { &[0] })]));
    ready(&handle).await;
    (handle, script)
}

#[tokio::test(start_paused = true)]
async fn the_last_usable_backend_of_a_tier_is_taken_away_only_by_force() {
    let (handle, _script) = fleet(&["192.0.2.1", "192.0.2.2"], MinHealthy::Count(1), true).await;
    assert_eq!(asked(&handle, "192.0.2.1", Some(Override::Drain), false).await, NOTHING);
    let consequences = [
        "pool web has no usable ipv4 address any more",
        "service www.example.com is answered by standby instead of web",
    ];
    let generation = handle.published.load().generation;
    for state in [Override::Drain, Override::Disabled, Override::Down] {
        let refused = asked(&handle, "192.0.2.2", Some(state), false).await.unwrap_err();
        assert_eq!(refused, consequences, "{state:?}");
    }
    assert_eq!(handle.published.load().generation, generation, "nothing has changed");
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"]);
    assert_eq!(status(&handle).await.pools[0].backends[1].overridden, None);

    assert_eq!(asked(&handle, "192.0.2.2", Some(Override::Drain), true).await.unwrap(), consequences);
    assert!(eligible(&handle, 0).is_empty());
    // A consequence that restores something is reported, and needs no force.
    let back = ["service www.example.com is answered by web instead of standby"];
    assert_eq!(asked(&handle, "192.0.2.2", Some(Override::Up), false).await.unwrap(), back);
    assert_eq!(asked(&handle, "192.0.2.2", None, false).await, NOTHING, "it passes its checks as well");
}

#[tokio::test(start_paused = true)]
async fn the_last_one_of_a_family_and_the_only_tier() {
    let (handle, script) = fleet(&["192.0.2.1", "2001:db8::1"], MinHealthy::Count(1), false).await;
    let refused = asked(&handle, "2001:db8::1", Some(Override::Drain), false).await.unwrap_err();
    assert_eq!(
        refused,
        [
            "pool web has no usable ipv6 address any more",
            "service www.example.com is down (ipv6): no tier is usable, it draws from 1 ipv6 address of web, \
             as if healthy (fail open)",
        ]
    );
    // A disabled backend does not count in any total, so no address is left for fail open.
    let refused = asked(&handle, "2001:db8::1", Some(Override::Disabled), false).await.unwrap_err();
    assert_eq!(
        refused,
        [
            "pool web has no usable ipv6 address any more",
            "service www.example.com has no ipv6 address any more",
        ]
    );
    // The same if the service already fails open: then that answer is lost too.
    script.set("2001:db8::1", Behaviour::Refuse);
    until("it is dead", SECOND * 30, || eligible(&handle, 0) == ["192.0.2.1"]).await;
    let kept = ["service www.example.com goes on answering with 2001:db8::1 (ipv6), because it fails open"];
    for state in [Override::Down, Override::Drain] {
        assert_eq!(asked(&handle, "2001:db8::1", Some(state), false).await.unwrap(), kept);
    }
    let refused = asked(&handle, "2001:db8::1", Some(Override::Disabled), false).await.unwrap_err();
    assert_eq!(refused, ["service www.example.com has no ipv6 address any more"]);
    // Disabled, and then enabled again.
    asked(&handle, "2001:db8::1", Some(Override::Disabled), true).await.unwrap();
    let back = asked(&handle, "2001:db8::1", Some(Override::Up), false).await.unwrap();
    assert_eq!(back, ["service www.example.com has ipv6 addresses again, those of web"]);
}

/// No tier is usable before or after, so the addresses decide: the last one, and the drained ones.
#[tokio::test(start_paused = true)]
async fn a_service_that_fails_open_already() {
    let (log, _guard) = CapturedLog::listen();
    let (g, h) = ("192.0.2.1", "192.0.2.2");
    let again = "service www.example.com answers with 1 ipv4 address of drained backends again: no other address is left";
    let kept = "service www.example.com goes on answering with 192.0.2.2 (ipv4), because it fails open";
    let told = "service is still down, and answers with drained backends again";

    let (handle, _script) = fleet(&[g, h], MinHealthy::Count(2), false).await;
    asked(&handle, g, Some(Override::Drain), true).await.unwrap();
    assert_eq!(asked(&handle, h, Some(Override::Down), false).await.unwrap(), [kept]);
    assert_eq!(asked(&handle, h, Some(Override::Disabled), false).await.unwrap_err(), [again]);
    assert_eq!(log.take(told), [""; 0]);
    assert_eq!(asked(&handle, h, Some(Override::Disabled), true).await.unwrap(), [again]);
    assert!(log.take(told)[0].contains("WARN"));

    // Both are unhealthy. First one is drained, then the other.
    let (handle, script) = fleet(&[g, h], MinHealthy::Count(1), false).await;
    for address in [g, h] {
        script.set(address, Behaviour::Refuse);
    }
    until("both are dead", SECOND * 30, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(asked(&handle, g, Some(Override::Drain), false).await, NOTHING);
    assert_eq!(asked(&handle, h, Some(Override::Drain), false).await.unwrap(), [kept, again]);
    assert_eq!(log.take(told).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_of_an_override_takes_away_as_well() {
    let (handle, script) = fleet(&["192.0.2.1"], MinHealthy::Count(1), true).await;
    asked(&handle, "192.0.2.1", Some(Override::Up), false).await.unwrap();
    script.set("192.0.2.1", Behaviour::Refuse);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert!(asked(&handle, "192.0.2.1", None, false).await.is_err(), "the checks say that it is dead");
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert!(asked(&handle, "192.0.2.1", None, true).await.is_ok());
    assert!(eligible(&handle, 0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_minimum_counts_and_so_does_a_tier_that_waits() {
    for (minimum, left) in [(MinHealthy::Count(3), 2), (MinHealthy::Percent(100), 2)] {
        let (handle, _script) = fleet(&THREE, minimum, true).await;
        let refused = asked(&handle, "192.0.2.1", Some(Override::Drain), false).await.unwrap_err();
        let expected = format!("pool web has {left} ipv4 addresses left, fewer than its min_healthy wants");
        assert_eq!(refused[0], expected);
    }
    // A disabled backend no longer counts in the total: two of two are enough.
    let (handle, _script) = fleet(&THREE, MinHealthy::Percent(100), true).await;
    assert_eq!(asked(&handle, "192.0.2.1", Some(Override::Disabled), false).await, NOTHING);

    // Here `web` is the second tier: it answers nobody now, but without it there is no standby.
    let pools = vec![
        pool_of("web", check(DEFAULTS), &["192.0.2.1"]),
        pool_of("main", check(DEFAULTS), &["192.0.2.9"]),
    ];
    let (handle, _script) = run(setup(pools, vec![service(&[1, 0])]));
    ready(&handle).await;
    let refused = asked(&handle, "192.0.2.1", Some(Override::Drain), false).await.unwrap_err();
    assert_eq!(refused, ["pool web has no usable ipv4 address any more"]);
}

/// The change of a pool without services is reported, and needs no force; many services take few lines.
#[tokio::test(start_paused = true)]
async fn no_service_and_very_many() {
    let (handle, _script) = run(setup(vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])], Vec::new()));
    ready(&handle).await;
    let told = asked(&handle, "192.0.2.1", Some(Override::Drain), false).await.unwrap();
    assert_eq!(told, ["pool web has no usable ipv4 address any more"]);

    let services = (0..100).map(|number| Service {
        name: Name::parse(&format!("s{number}.example.com")).unwrap(),
        ..service(&[0])
    });
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])];
    let (handle, _script) = run(setup(pools, services.collect()));
    ready(&handle).await;
    let refused = asked(&handle, "192.0.2.1", Some(Override::Drain), false).await.unwrap_err();
    assert_eq!(refused.len(), 21);
    assert_eq!(refused[20], "and 81 more like these");
}

#[tokio::test(start_paused = true)]
async fn a_second_override_keeps_the_reason_of_the_first() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, _script) = fleet(&THREE, MinHealthy::Count(1), false).await;
    let over = async |state, reason: Option<&str>| {
        let request = OverrideRequest {
            pool: "web".into(),
            backend: "192.0.2.1".into(),
            change: OverrideChange::State(state),
            length: None,
            reason: reason.map(str::to_owned),
            force: false,
            by: "192.0.2.200:4711 with the token".into(),
            expected: Precondition::default(),
        };
        let done = ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
        (done.before.map(|before| before.value), done.backend.overridden.and_then(|kept| kept.reason))
    };
    let kernel = Some("kernel".to_owned());
    let [drain, down] = [Override::Drain, Override::Down].map(|state| Some(OverrideValue::State(state)));
    assert_eq!(over(Some(Override::Drain), Some("kernel")).await, (None, kernel.clone()));
    let lines = log.take("backend is overridden, by request");
    let asked_by = "asked_by=\"192.0.2.200:4711 with the token\"";
    assert!(lines[0].contains(asked_by) && lines[0].contains("left=\"2 of 3 healthy\""), "{lines:?}");
    assert_eq!(over(Some(Override::Disabled), None).await, (drain, kernel));
    assert_eq!(over(Some(Override::Down), Some("disk")).await.1.as_deref(), Some("disk"));
    assert_eq!(over(None, None).await, (down, None));
    assert!(log.take("the override of a backend has ended")[0].contains(asked_by));
    assert_eq!(over(None, None).await, (None, None), "there was none");
    assert_eq!(over(Some(Override::Down), None).await.1, None, "of one that has ended nothing is kept");
}

/// A failover gives the plans of the table other numbers, as services with it share none.
#[tokio::test(start_paused = true)]
async fn a_failover_is_compared_with_what_its_own_service_answers() {
    let pools =
        vec![pool_of("a", check(DEFAULTS), &["192.0.2.1"]), pool_of("b", check(DEFAULTS), &["192.0.2.2"])];
    let of = |name: &str, tiers: &[u32]| Service { name: Name::parse(name).unwrap(), ..service(tiers) };
    let services = vec![of("one.test", &[0, 1]), of("two.test", &[0, 1]), of("three.test", &[1])];
    let (handle, _script) = run(setup(pools, services));
    ready(&handle).await;
    tokio::time::sleep(SECOND * 30).await;
    let failover = FailoverRequest {
        service: Name::parse("two.test").unwrap(),
        pool: Some("b".into()),
        length: None,
        reason: None,
        force: false,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    let request = ServiceRequest::FailOver(failover);
    let changed = ask(&handle, |reply| CheckerCommand::ChangeService(request, reply)).await.unwrap();
    let texts: Vec<&str> = changed.consequences.iter().map(|consequence| &*consequence.text).collect();
    assert_eq!(texts, ["service two.test is answered by b instead of a"]);
}

//! Operators' overrides, and how they combine with the results of the checks.

use super::*;
use crate::pool::{Override, OverrideValue};
use crate::service::Ttl;

const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

fn request(backend: &str, state: Option<Override>) -> OverrideRequest {
    OverrideRequest {
        pool: "web".into(),
        backend: backend.into(),
        change: OverrideChange::State(state),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    }
}

/// Overrides a backend, and checks that the reply shows the backend as the next status does.
async fn over(handle: &CheckerHandle, request: OverrideRequest) -> Result<Status, OverrideRefused> {
    let backend = ask(handle, |reply| CheckerCommand::Override(request, reply)).await?.backend;
    let now = status(handle).await;
    let all: Vec<_> =
        now.pools.iter().flat_map(|pool| &pool.backends).map(|told| format!("{told:?}")).collect();
    assert!(all.contains(&format!("{backend:?}")), "{backend:?}");
    Ok(now)
}

fn overridden(status: &Status, backend: usize) -> Option<&OverrideStatus> {
    status.pools[0].backends[backend].overridden.as_ref()
}

/// Two pools in two services, with TTLs of 20 and 60 s.
fn fleet() -> (CheckerHandle, Script) {
    let pools = vec![
        pool_of("web", check(DEFAULTS), &ADDRESSES),
        pool_of("standby", check(DEFAULTS), &["192.0.2.9"]),
    ];
    let mut long = service(&[1, 0]);
    long.default.ttl = Ttl::fixed(60);
    run(setup(pools, vec![service(&[0, 1]), long]))
}

#[tokio::test(start_paused = true)]
async fn drain_leaves_the_answers_at_once_and_is_safe_after_the_longest_ttl() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = fleet();
    ready(&handle).await;
    let generation = handle.published.load().generation;
    let began = script.wall();
    let reason = Some("kernel".to_owned());
    let now = over(&handle, OverrideRequest { reason, ..request("192.0.2.1", Some(Override::Drain)) }).await;
    let now = now.unwrap();
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"]);
    assert_eq!((now.generation, handle.published.load().generation), (generation + 1, generation + 1));
    let shown = overridden(&now, 0).unwrap();
    let drain = OverrideValue::State(Override::Drain);
    assert_eq!((shown.value, shown.reason.as_deref()), (drain, Some("kernel")));
    assert_eq!(shown.safe_at, Some(began + SECOND * 61), "the longest TTL, and a second on the way");
    assert_eq!(
        now.pools[0].backends[0].addresses[0].standing,
        Standing::Healthy,
        "the truth stands beside it"
    );
    let lines = log.take("backend is overridden");
    assert!(lines[0].contains("pool=\"web\" backend=\"192.0.2.1\" state=\"drain\""), "{lines:?}");
    assert!(lines[0].contains("reason=\"kernel\""), "{lines:?}");

    // The result of the checks still changes during the override.
    script.set("192.0.2.1", Behaviour::Refuse);
    tokio::time::sleep(SECOND * 20).await;
    let now = status(&handle).await;
    assert_eq!(now.pools[0].backends[0].addresses[0].standing, Standing::Unhealthy);
    let now = over(&handle, request("192.0.2.1", None)).await.unwrap();
    assert_eq!(overridden(&now, 0), None);
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"], "back to the word of the checks");
    assert_eq!(log.take("override of a backend has ended").len(), 1);
    script.set("192.0.2.1", Behaviour::Serve);
    until("it returns by itself", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn every_word_of_an_operator_is_heard() {
    let (handle, script) = fleet();
    script.set("192.0.2.2", Behaviour::Refuse);
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    let now = over(&handle, request("192.0.2.2", Some(Override::Up))).await.unwrap();
    assert_eq!(eligible(&handle, 0).len(), 2);
    assert_eq!(overridden(&now, 1).unwrap().safe_at, None);
    over(&handle, request("192.0.2.1", Some(Override::Down))).await.unwrap();
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"]);
    let now = over(&handle, request("192.0.2.2", Some(Override::Disabled))).await.unwrap();
    assert_eq!(eligible(&handle, 0), [""; 0]);
    assert!(!now.pools[0].usable);
    let unknown = over(&handle, request("no such", Some(Override::Up))).await.unwrap_err();
    assert_eq!(unknown, OverrideRefused::NoSuchBackend { pool: "web".into(), backend: "no such".into() });
}

#[tokio::test(start_paused = true)]
async fn it_is_not_safe_as_long_as_failing_open_answers_with_it() {
    let pools = vec![pool_of("web", check(DEFAULTS), &ADDRESSES)];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set("192.0.2.2", Behaviour::Refuse);
    ready(&handle).await;
    let now = over(&handle, request("192.0.2.1", Some(Override::Down))).await.unwrap();
    assert!(now.services[0].fail_open);
    assert_eq!(overridden(&now, 0).unwrap().safe_at, None, "all backends answer");
    script.set("192.0.2.2", Behaviour::Serve);
    until("the other is back", SECOND * 20, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    let left = script.wall();
    let safe_at = overridden(&status(&handle).await, 0).unwrap().safe_at.unwrap();
    assert!(safe_at > left + SECOND * 20 && safe_at <= left + SECOND * 22, "since it left the answers");
}

#[tokio::test(start_paused = true)]
async fn it_stays_safe_from_when_it_left_whatever_word_follows() {
    let (handle, _script) = fleet();
    ready(&handle).await;
    let first = over(&handle, request("192.0.2.1", Some(Override::Drain))).await.unwrap();
    let first = overridden(&first, 0).unwrap().clone();
    tokio::time::sleep(SECOND * 10).await;
    let same = over(&handle, request("192.0.2.1", Some(Override::Drain))).await.unwrap();
    let same = overridden(&same, 0).unwrap();
    assert_eq!((same.since, same.safe_at), (first.since, first.safe_at));
    let other = over(&handle, request("192.0.2.1", Some(Override::Disabled))).await.unwrap();
    let other = overridden(&other, 0).unwrap();
    assert_eq!(other.safe_at, first.safe_at);
    assert!(other.since > first.since);
    let up = over(&handle, request("192.0.2.1", Some(Override::Up))).await.unwrap();
    assert_eq!(overridden(&up, 0).unwrap().safe_at, None);
    let again = over(&handle, request("192.0.2.1", Some(Override::Drain))).await.unwrap();
    assert!(overridden(&again, 0).unwrap().safe_at > first.safe_at);
}

#[tokio::test(start_paused = true)]
async fn an_override_ends_when_its_time_has_passed() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = fleet();
    ready(&handle).await;
    let drain =
        |length| OverrideRequest { length: Some(length), ..request("192.0.2.1", Some(Override::Drain)) };
    let now = over(&handle, drain(SECOND * 30)).await.unwrap();
    assert_eq!(overridden(&now, 0).unwrap().until, Some(script.wall() + SECOND * 30));
    let lines = log.take("backend is overridden");
    assert!(lines[0].contains("ends_in=\"30s\""), "{lines:?}");
    let took = until("it ends", SECOND * 60, || eligible(&handle, 0).len() == 2).await;
    assert!(took >= SECOND * 30 && took <= SECOND * 30 + PULSE + Duration::from_millis(10), "{took:?}");
    let lines = log.take("has ended");
    assert!(lines[0].contains("its time is over"), "{lines:?}");
}

/// Jumps by days, forward and back, several times during an override: it ends after an hour, and
/// all displayed times follow the corrected clock.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_ends_no_override_and_keeps_none() {
    const DAY: i64 = 24 * 3600;
    for jumps in [&[2 * DAY][..], &[-2 * DAY], &[30 * DAY, -60 * DAY, 5], &[-53 * 365 * DAY], &[7200, -7200]]
    {
        let (log, _guard) = CapturedLog::listen();
        let (handle, script) = fleet();
        ready(&handle).await;
        let length = Some(SECOND * 3600);
        over(&handle, OverrideRequest { length, ..request("192.0.2.1", Some(Override::Drain)) })
            .await
            .unwrap();
        let began = Instant::now();
        for jump in jumps {
            tokio::time::sleep(SECOND * 10).await;
            script.jump(*jump);
            let now = status(&handle).await;
            let shown = overridden(&now, 0).unwrap_or_else(|| panic!("{jumps:?}: it has ended"));
            let (wall, passed) = (script.wall(), began.elapsed());
            assert_eq!(shown.since, wall - passed, "{jumps:?}");
            assert_eq!(shown.until, Some(wall + (SECOND * 3600).saturating_sub(passed)), "{jumps:?}");
            assert_eq!(shown.safe_at, Some(wall + SECOND * 61 - passed), "{jumps:?}");
            let address = &now.pools[0].backends[0].addresses[0];
            let last = address.checks[0].last.as_ref().unwrap();
            for at in [address.since, address.checks[0].since, last.at] {
                let ago = wall.duration_since(at).expect("nothing began in the future");
                assert!(ago < SECOND * 60, "{jumps:?}: {ago:?}");
            }
        }
        assert_eq!(log.take("the time of day has jumped").len(), jumps.len(), "{jumps:?}");
        until("it ends", SECOND * 3700, || eligible(&handle, 0).len() == 2).await;
        let took = began.elapsed();
        assert!(took >= SECOND * 3600 && took < SECOND * 3601, "{jumps:?}: {took:?}");
        assert_eq!(log.take("not run for a while"), [""; 0], "the time of day is no time that passes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_disabled_is_in_no_total() {
    let (handle, _script) = fleet();
    ready(&handle).await;
    let total = |status: &Status| (status.pools[0].healthy_weight, status.pools[0].total_weight);
    assert_eq!(total(&status(&handle).await), (2, 2));
    let now = over(&handle, request("192.0.2.1", Some(Override::Drain))).await.unwrap();
    assert_eq!(total(&now), (2, 2), "a drained one is missing capacity");
    let now = over(&handle, request("192.0.2.1", Some(Override::Disabled))).await.unwrap();
    assert_eq!(total(&now), (1, 1));
}

/// A log line of a failure says how much is left, and the lines are in the order of cause and
/// effect.
#[tokio::test(start_paused = true)]
async fn failures_are_warnings_that_say_what_is_left() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = fleet();
    ready(&handle).await;
    let lines = log.take("backend is healthy");
    assert!(lines.iter().all(|line| line.contains("INFO")) && lines.len() == 3, "{lines:?}");
    for (address, left) in
        [("192.0.2.1", "left=\"1 of 2 healthy\""), ("192.0.2.2", "left=\"0 of 2 healthy\"")]
    {
        script.set(address, Behaviour::Refuse);
        until("it has left", SECOND * 30, || !eligible(&handle, 0).contains(&address.to_owned())).await;
        let lines = log.take("");
        let failed = lines.iter().position(|line| line.contains("backend is unhealthy")).expect("a line");
        assert!(lines[failed].contains("WARN") && lines[failed].contains(left), "{lines:?}");
        let tier = lines.iter().position(|line| line.contains("is answered by a later tier"));
        assert_eq!(tier.is_some(), address == "192.0.2.2", "{lines:?}");
        if let Some(tier) = tier {
            assert!(tier > failed && lines[tier].contains("WARN"), "{lines:?}");
        }
    }
    script.set("192.0.2.9", Behaviour::Refuse);
    over(&handle, request("192.0.2.1", Some(Override::Disabled))).await.unwrap();
    log.take("");
    until("all are down", SECOND * 30, || eligible(&handle, 1).is_empty()).await;
    let lines = log.take("service down");
    assert!(
        lines.iter().any(|line| line.contains("it draws from 1 ipv4 address of web, as if healthy")),
        "only what is answered: {lines:?}"
    );
    script.set("192.0.2.2", Behaviour::Serve);
    until("one is back", SECOND * 30, || eligible(&handle, 0).len() == 1).await;
    let lines = log.take("");
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).expect(text);
    assert!(place("backend is healthy") < place("service up"), "{lines:?}");
}

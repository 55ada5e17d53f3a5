//! TTLs that follow certainty, through the checker.

use super::*;
use crate::pool::Override;
use crate::service::Ttl;

const TTL: Ttl = Ttl { min: 1, max: 60 };
/// One each minute of a day.
const SAMPLES: u32 = 24 * 60;

fn fleet() -> (CheckerHandle, Script) {
    let mut following = service(&[0]);
    following.default.ttl = TTL;
    run(setup(
        vec![pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2", "192.0.2.3"])],
        vec![following],
    ))
}

/// The TTL of an answer now.
fn ttl(handle: &CheckerHandle, script: &Script) -> u32 {
    let since = script.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let table = handle.published.load();
    table.ttl(table.services()[0].default_route(), u32::try_from(since.as_secs()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_healthy_fleet_hands_out_the_longest_ttl_for_a_day() {
    let (handle, script) = fleet();
    ready(&handle).await;
    tokio::time::sleep(SECOND).await;
    let mut shorter = 0;
    for _ in 0..SAMPLES {
        tokio::time::sleep(SECOND * 60).await;
        shorter += u32::from(ttl(&handle, &script) != TTL.max);
    }
    assert_eq!(shorter, 0, "of {SAMPLES}");
}

#[tokio::test(start_paused = true)]
async fn a_begun_fall_shortens_the_ttl_to_the_time_that_is_left() {
    let (handle, script) = fleet();
    ready(&handle).await;
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(ttl(&handle, &script), TTL.max);
    script.set("192.0.2.1", Behaviour::Refuse);
    let mut handed_out = Vec::new();
    while eligible(&handle, 0).len() == 3 {
        handed_out.push((script.wall(), ttl(&handle, &script)));
        tokio::time::sleep(SECOND / 10).await;
    }
    let fell = script.wall();
    let shortened: Vec<_> = handed_out.iter().filter(|(_, ttl)| *ttl < TTL.max).collect();
    // The second and the third failure come after a recheck of a second each.
    assert!(shortened.len() >= 15, "{handed_out:?}");
    for (at, ttl) in shortened {
        let left = fell.duration_since(*at).unwrap();
        assert!(SECOND * *ttl <= left.max(SECOND * TTL.min), "{ttl} s, {left:?} before the change");
    }
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(ttl(&handle, &script), TTL.max, "nothing is pending: it is down for certain");
}

#[tokio::test(start_paused = true)]
async fn it_is_safe_to_stop_a_backend_when_the_ttls_that_were_handed_out_are_over() {
    let (handle, script) = fleet();
    ready(&handle).await;
    tokio::time::sleep(SECOND * 20).await;
    let drained = async |backend: &str, length: Option<Duration>| {
        let request = OverrideRequest {
            pool: "web".into(),
            backend: backend.into(),
            change: OverrideChange::State(Some(Override::Drain)),
            length,
            reason: None,
            force: true,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        let now = ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
        now.backend.overridden.unwrap().safe_at.unwrap()
    };
    // Another override ends in two seconds, so answers have TTLs of at most two seconds from now on.
    let began = script.wall();
    drained("192.0.2.2", Some(SECOND * 12)).await;
    assert!(ttl(&handle, &script) <= 12);
    tokio::time::sleep(SECOND).await;
    let safe_at = drained("192.0.2.1", None).await;
    let first_answers_end = began + SECOND * (u64::from(TTL.max) + 1).try_into().unwrap();
    assert!(safe_at >= first_answers_end, "the longest TTL was handed out until a second ago");
    assert!(safe_at <= first_answers_end + SECOND, "and a shorter one since");
}

//! What is told to those who ask.

use super::*;
use crate::health::Outcome;

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_asked_for_tells_what_has_been() {
    let (handle, script) =
        run(setup(vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])], vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("it is dead", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    tokio::time::sleep(SECOND * 200).await;
    assert!(ask(&handle, |reply| Command::Pool("other".into(), reply)).await.is_none());
    let pool = ask(&handle, |reply| Command::Pool("web".into(), reply)).await.unwrap();
    let address = &pool.backends[0].addresses[0];
    let told: Vec<_> = address.transitions.iter().map(|past| (past.from, past.to, past.cause)).collect();
    let expected = [
        (Standing::Unknown, Standing::Healthy, None),
        (Standing::Healthy, Standing::Unhealthy, Some(Cause::Refused)),
    ];
    assert_eq!(told, expected);
    assert_eq!(address.since, address.transitions[1].at);
    assert_eq!(&*address.transitions[1].detail, "scripted Failed");
    let outcomes = &address.checks[0].outcomes;
    assert_eq!(outcomes.len(), OUTCOMES, "bounded");
    assert!(outcomes.iter().all(|past| past.outcome == Outcome::Failed));
    assert!(outcomes.is_sorted_by(|one, next| one.at < next.at));
    assert_eq!(address.checks[0].last.as_ref(), outcomes.last());
    let all = status(&handle).await;
    let address = &all.pools[0].backends[0].addresses[0];
    assert!(address.transitions.is_empty() && address.checks[0].outcomes.is_empty(), "only when asked for");
}

/// Backends of many sizes, so that the steps end anywhere.
fn large() -> Vec<PoolSetup> {
    let mut address = 0_u32;
    let mut next = || {
        address += 1;
        IpAddr::from((0x0a00_0000_u32 + address).to_be_bytes())
    };
    let sizes = [0, 1, 499, 500, 501, 0, 1200, 3];
    let pools = (0..).zip(sizes).map(|(index, size)| {
        let backends = (0..size).map(|backend| {
            let addresses = if backend % 3 == 0 {
                vec![next(), IpAddr::from([index, backend, 0, 0, 0, 0, 0, 1])]
            } else {
                vec![next()]
            };
            Backend::new(format!("b{backend}"), addresses)
        });
        pool(&format!("p{index}"), check(DEFAULTS), backends.collect())
    });
    pools.collect()
}

#[tokio::test(start_paused = true)]
async fn a_long_status_is_told_in_steps_and_is_complete() {
    let (handle, script) = run(setup(large(), vec![service(&[1])]));
    script.set("10.0.0.2", Behaviour::Refuse);
    ready(&handle).await;
    let status = status(&handle).await;
    let table = handle.published.load();
    assert_eq!(status.pools.len(), large().len());
    for ((status, setup), view) in status.pools.iter().zip(large()).zip(&table.pools) {
        assert_eq!(*status.name, *setup.pool.name);
        assert_eq!(status.backends.len(), setup.pool.backends.len());
        let mut eligible = 0;
        for (status, backend) in status.backends.iter().zip(&setup.pool.backends) {
            assert_eq!(*status.name, *backend.name);
            let addresses: Vec<IpAddr> = status.addresses.iter().map(|address| address.address).collect();
            assert_eq!(addresses, backend.addresses);
            eligible += status.addresses.iter().filter(|address| address.eligible).count();
        }
        let members: usize = view.families.iter().map(|family| family.eligible.members.len()).sum();
        assert_eq!(eligible, members, "{}", status.name);
    }
    let dead = &status.pools[2].backends[0].addresses[0];
    assert_eq!((dead.address.to_string().as_str(), dead.eligible), ("10.0.0.2", false));
}

#[tokio::test(start_paused = true)]
async fn a_reload_while_it_is_told_makes_it_begin_anew() {
    let (handle, _script) = run(setup(large(), Vec::new()));
    ready(&handle).await;
    let (reply, answer) = oneshot::channel();
    handle.commands.send(Command::Status(reply)).await.unwrap();
    let (reply, memory) = oneshot::channel();
    handle.commands.send(Command::Memory(reply)).await.unwrap();
    for _ in 0..3 {
        task::yield_now().await;
    }
    let mut fewer = large();
    fewer.drain(..4);
    handle.reload(setup(fewer, Vec::new())).await.unwrap();
    let status = answer.await.unwrap();
    let names: Vec<&str> = status.pools.iter().map(|pool| &*pool.name).collect();
    assert!(names == ["p4", "p5", "p6", "p7"] || names.len() == 8, "all of one configuration: {names:?}");
    let mut pools: Vec<Arc<str>> = memory.await.unwrap().states.into_iter().map(|state| state.pool).collect();
    pools.dedup();
    let pools: Vec<&str> = pools.iter().map(|pool| &**pool).collect();
    assert!(pools == ["p4", "p6", "p7"] || pools.len() == 6, "all of one configuration: {pools:?}");
}

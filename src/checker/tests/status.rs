//! The status as reported to clients.

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
    let pool = pool_told(&handle, 0).await;
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

/// Backends of many sizes, so that pieces end at any position.
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
    for ((status, setup), view) in status.pools.iter().zip(large()).zip(table.pools().iter()) {
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
async fn a_piece_is_bounded_and_of_one_configuration() {
    let (handle, _script) = run(setup(large(), Vec::new()));
    ready(&handle).await;
    let whole: usize = large().iter().map(|setup| setup.pool.backends.len()).sum();
    let before = handle.published.load();
    let (mut next, mut count, mut places) = (Some(Cursor::all(Arc::clone(&before))), 0, Vec::new());
    while let Some(place) = next {
        places.push(place.clone());
        let piece = ask(&handle, |reply| CheckerCommand::Tell(place, reply)).await.unwrap();
        let told: usize = piece.pools.iter().map(|pool| pool.backends.len()).sum();
        assert!(told <= BACKENDS_IN_A_PIECE, "{told}");
        count += told;
        next = piece.next;
    }
    assert_eq!(count, whole);
    let piece =
        ask(&handle, |reply| CheckerCommand::Tell(Cursor::with_history(before, PoolId(6)), reply)).await;
    assert_eq!(piece.unwrap().pools[0].backends.len(), BACKENDS_WITH_HISTORY_IN_A_PIECE);

    let (reply, memory) = oneshot::channel();
    handle.commands.send(CheckerCommand::Memory(Survey::default(), reply)).await.unwrap();
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let mut fewer = large();
    fewer.drain(..4);
    reload(&handle, setup(fewer, Vec::new())).await;
    for place in places {
        assert!(
            ask(&handle, |reply| CheckerCommand::Tell(place, reply)).await.is_none(),
            "of the table before"
        );
    }
    let names: Vec<String> = status(&handle).await.pools.iter().map(|pool| pool.name.to_string()).collect();
    assert_eq!(names, ["p4", "p5", "p6", "p7"]);
    let mut pools: Vec<Arc<str>> = memory.await.unwrap().states.into_iter().map(|state| state.pool).collect();
    pools.dedup();
    let pools: Vec<&str> = pools.iter().map(|pool| &**pool).collect();
    assert!(pools == ["p4", "p6", "p7"] || pools.len() == 6, "all of one configuration: {pools:?}");
}

/// Requests from clients that have disconnected are not answered.
#[tokio::test(start_paused = true)]
async fn those_who_have_left_cost_nothing() {
    let (handle, _script) = run(setup(large(), Vec::new()));
    ready(&handle).await;
    let table = handle.published.load();
    for _ in 0..COMMANDS {
        let (reply, answer) = oneshot::channel();
        handle.commands.try_send(CheckerCommand::Tell(Cursor::all(Arc::clone(&table)), reply)).unwrap();
        drop(answer);
    }
    // One turn per command, and no work for the requests.
    let began = std::time::Instant::now();
    let told = ask(&handle, |reply| CheckerCommand::Tell(Cursor::all(Arc::clone(&table)), reply)).await;
    assert!(told.is_some() && began.elapsed() < SECOND, "{:?}", began.elapsed());
    drop(told);
    // No command in the queue holds the table any more.
    assert_eq!(Arc::strong_count(&table), 3, "the published one, that of the fleet, and this");
}

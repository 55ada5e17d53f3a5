//! The memory from the previous run, and the memory for the next one.

use super::*;
use crate::health::Verdict;
use crate::pool::{Override, OverrideKind, OverrideValue};

fn remembered(address: &str, verdict: Verdict) -> RememberedState {
    RememberedState {
        pool: "web".into(),
        backend: address.into(),
        address: address.parse().unwrap(),
        check: "tcp".into(),
        verdict,
        since: SystemTime::UNIX_EPOCH + SECOND * 1_600_000_000,
        progress: None,
    }
}

fn with_memory(memory: Memory) -> (CheckerHandle, Script) {
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2", "192.0.2.3"])];
    run_after(memory, setup(pools, vec![service(&[0])]))
}

#[tokio::test(start_paused = true)]
async fn a_remembered_state_answers_until_the_first_outcome() {
    let (log, _guard) = CapturedLog::listen();
    let states = vec![remembered("192.0.2.1", Verdict::Healthy), remembered("192.0.2.2", Verdict::Unhealthy)];
    let since = states[0].since;
    let (handle, script) = with_memory(Memory { states, overrides: Vec::new(), ..Memory::default() });
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"], "before anything has been probed");
    script.set("192.0.2.1", Behaviour::Hang);
    script.set("192.0.2.3", Behaviour::Hang);
    let now = status(&handle).await;
    let [one, two, three] = &now.pools[0].backends[..] else { panic!("three backends") };
    assert_eq!(one.addresses[0].standing, Standing::Healthy);
    assert!(one.addresses[0].remembered && one.addresses[0].checks[0].remembered);
    assert_eq!((one.addresses[0].since, one.addresses[0].checks[0].since), (since, since));
    assert_eq!((two.addresses[0].standing, two.addresses[0].remembered), (Standing::Unhealthy, true));
    assert_eq!((three.addresses[0].standing, three.addresses[0].remembered), (Standing::Unknown, false));

    tokio::time::sleep(SECOND).await;
    assert!(!*handle.ready.borrow(), "a memory is no outcome");
    let lines = log.take("backend is");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("from=\"unhealthy\" to=\"healthy\""), "the first outcome decides: {lines:?}");
    assert_eq!(eligible(&handle, 0), ["192.0.2.1", "192.0.2.2"]);
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"]);
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_memory_keeps_its_time_and_says_nothing() {
    let (log, _guard) = CapturedLog::listen();
    let states = vec![remembered("192.0.2.1", Verdict::Healthy)];
    let since = states[0].since;
    let (handle, _script) = with_memory(Memory { states, overrides: Vec::new(), ..Memory::default() });
    ready(&handle).await;
    let now = status(&handle).await;
    let address = &now.pools[0].backends[0].addresses[0];
    assert_eq!((address.standing, address.remembered, address.since), (Standing::Healthy, false, since));
    assert_eq!(log.take("backend is").len(), 2, "of the two that were not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_state_is_as_old_as_the_last_change_of_what_decides_it() {
    let at = |check: &str, verdict, seconds| {
        let mut state = remembered("192.0.2.1", verdict);
        (state.check, state.since) = (check.into(), state.since + SECOND * seconds);
        state
    };
    let states = vec![
        at("a", Verdict::Healthy, 100),
        at("b", Verdict::Draining, 5000),
        at("observed", Verdict::Healthy, 9000),
    ];
    let since = states[1].since;
    let named = |name: &str, port| Check { name: name.into(), ..tcp(port, DEFAULTS) };
    let observed = Check { observe_only: true, ..named("observed", 3) };
    let checks = vec![named("a", 1), named("b", 2), observed];
    let web = PoolSetup { checks, ..pool_of("web", None, &["192.0.2.1"]) };
    let memory = Memory { states, overrides: Vec::new(), ..Memory::default() };
    let (handle, _script) = run_after(memory, setup(vec![web], vec![service(&[0])]));
    let now = status(&handle).await;
    let address = &now.pools[0].backends[0].addresses[0];
    assert_eq!((address.standing, address.since), (Standing::Draining, since));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_others_is_of_no_use() {
    let mut wrong = vec![remembered("192.0.2.1", Verdict::Unhealthy); 4];
    wrong[0].pool = "other".into();
    wrong[1].backend = "other".into();
    wrong[2].check = "http".into();
    wrong[3].address = "192.0.2.9".parse().unwrap();
    let (handle, _script) = with_memory(Memory { states: wrong, overrides: Vec::new(), ..Memory::default() });
    assert_eq!(eligible(&handle, 0).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn overrides_are_taken_up_unless_they_have_ended() {
    let wall = Script::default().wall();
    let over = |backend: &str, until| RememberedOverride {
        pool: "web".into(),
        backend: backend.into(),
        value: OverrideValue::State(Override::Drain),
        since: wall - SECOND * 100,
        until,
        reason: Some("kernel".into()),
        by: Some("an operator".into()),
    };
    let overrides = vec![
        over("192.0.2.1", None),
        over("192.0.2.2", Some(wall - SECOND)),
        over("192.0.2.3", Some(wall + SECOND * 30)),
        over("gone", None),
    ];
    let (handle, _script) =
        with_memory(Memory { states: Vec::new(), overrides: overrides.clone(), ..Memory::default() });
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"], "from the first table on");
    let now = status(&handle).await;
    let first = now.pools[0].backends[0].overridden.as_ref().unwrap();
    assert_eq!((first.since, first.reason.as_deref()), (wall - SECOND * 100, Some("kernel")));
    assert!(first.safe_at.is_some());
    let kept = ask(&handle, whole_memory).await;
    assert_eq!(kept.overrides, [overrides[0].clone(), overrides[2].clone()]);
    until("the second ends", SECOND * 40, || eligible(&handle, 0).len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_what_the_checks_say_or_what_was_known_before() {
    let states = vec![remembered("192.0.2.1", Verdict::Healthy)];
    let (handle, script) =
        with_memory(Memory { states: states.clone(), overrides: Vec::new(), ..Memory::default() });
    script.set("192.0.2.1", Behaviour::Break);
    script.set("192.0.2.2", Behaviour::Refuse);
    script.set("192.0.2.3", Behaviour::Drain);
    assert_eq!(ask(&handle, whole_memory).await.states, states, "nothing else is known yet");
    ready(&handle).await;
    let kept = ask(&handle, whole_memory).await.states;
    let verdicts: Vec<Verdict> = kept.iter().map(|state| state.verdict).collect();
    assert_eq!(verdicts, [Verdict::Healthy, Verdict::Unhealthy, Verdict::Draining]);
    assert_eq!(kept[0], states[0], "a void outcome says nothing");
    let again = with_memory(Memory { states: kept, overrides: Vec::new(), ..Memory::default() }).0;
    assert_eq!(eligible(&again, 0), ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn hints_of_several_checks_are_combined_as_their_words_would_be() {
    let mut states =
        vec![remembered("192.0.2.1", Verdict::Healthy), remembered("192.0.2.1", Verdict::Unhealthy)];
    states[0].check = "a".into();
    states[1].check = "b".into();
    let checks =
        vec![Check { name: "a".into(), ..tcp(1, DEFAULTS) }, Check { name: "b".into(), ..tcp(2, DEFAULTS) }];
    let web = PoolSetup { checks, ..pool_of("web", None, &["192.0.2.1"]) };
    let memory = Memory { states, overrides: Vec::new(), ..Memory::default() };
    let (handle, script) = run_after(memory, setup(vec![web], vec![service(&[0])]));
    script.set_on("192.0.2.1", 1, Behaviour::Hang);
    assert_eq!(eligible(&handle, 0), [""; 0]);
    until("one has spoken, the other is remembered", SECOND, || eligible(&handle, 0).len() == 1).await;
    assert!(status(&handle).await.pools[0].backends[0].addresses[0].remembered);
}

async fn changes(handle: &CheckerHandle) -> MemoryChanges {
    ask(handle, CheckerCommand::MemoryChanges).await
}

/// Applies changes to a memory that was once read as a whole.
fn carry_out(memory: &mut Memory, changes: MemoryChanges) {
    for state in changes.states {
        let same = |known: &RememberedState| {
            (&known.pool, &known.backend, known.address, &known.check)
                == (&state.pool, &state.backend, state.address, &state.check)
        };
        match memory.states.iter_mut().find(|known| same(known)) {
            Some(known) => *known = state,
            None => memory.states.push(state),
        }
    }
    for kept in changes.overrides {
        memory.overrides.retain(|known| name(known) != name(&kept));
        memory.overrides.push(kept);
    }
    for (pool, backend, kind) in changes.ended {
        memory.overrides.retain(|known| name(known) != (&pool, &backend, kind));
    }
}

fn name(kept: &RememberedOverride) -> (&Arc<str>, &Arc<str>, OverrideKind) {
    (&kept.pool, &kept.backend, kept.value.kind())
}

#[tokio::test(start_paused = true)]
async fn only_what_has_changed_is_told_and_it_is_all_that_has() {
    let (handle, script) = with_memory(Memory::default());
    assert!(changes(&handle).await.everything, "nothing has been told yet");
    let mut known = ask(&handle, whole_memory).await;
    ready(&handle).await;
    carry_out(&mut known, changes(&handle).await);
    assert_eq!(known.states.len(), 3);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(changes(&handle).await, MemoryChanges::default(), "probes that change nothing");
    script.set("192.0.2.2", Behaviour::Refuse);
    until("it is found", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    let told = changes(&handle).await;
    assert_eq!((told.states.len(), told.overrides.len(), told.ended.len()), (1, 0, 0), "{told:?}");
    assert_eq!((&*told.states[0].backend, told.states[0].verdict), ("192.0.2.2", Verdict::Unhealthy));
    carry_out(&mut known, told);
    assert_eq!(known, ask(&handle, whole_memory).await);

    let over = |state, length| {
        let (pool, backend) = ("web".into(), "192.0.2.1".into());
        let request = OverrideRequest {
            pool,
            backend,
            change: OverrideChange::State(state),
            length,
            reason: None,
            force: true,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        ask(&handle, |reply| CheckerCommand::Override(request, reply))
    };
    over(Some(Override::Drain), Some(SECOND * 20)).await.unwrap();
    let told = changes(&handle).await;
    assert_eq!((told.states.len(), told.overrides.len(), told.ended.len()), (0, 1, 0), "{told:?}");
    tokio::time::sleep(SECOND * 21).await;
    let told = changes(&handle).await;
    assert_eq!(
        told.ended,
        [("web".into(), "192.0.2.1".into(), OverrideKind::State)],
        "it has ended by itself"
    );
    over(Some(Override::Up), None).await.unwrap();
    over(None, None).await.unwrap();
    let told = changes(&handle).await;
    assert_eq!((told.overrides.len(), told.ended.len()), (0, 1), "only how it is in the end");

    // The memory for the next start uses the time of day.
    over(Some(Override::Drain), Some(SECOND * 3600)).await.unwrap();
    changes(&handle).await;
    script.jump(86_400);
    assert!(changes(&handle).await.everything);
    let kept = ask(&handle, whole_memory).await;
    let left = kept.overrides[0].until.unwrap().duration_since(script.wall()).unwrap();
    assert!(left > SECOND * 3590 && left <= SECOND * 3600, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_reload_everything_is_told_and_much_is_told_in_parts() {
    let addresses: Vec<String> =
        (0..5_000).map(|number| format!("10.0.{}.{}", number / 250, number % 250)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let configured = || setup(vec![pool_of("web", check(DEFAULTS), &addresses)], vec![service(&[0])]);
    let (handle, _script) = run(configured());
    let before = ask(&handle, whole_memory).await;
    assert_eq!(before.states.len(), 0);
    ready(&handle).await;
    let mut told = 0;
    loop {
        let part = changes(&handle).await;
        assert!(part.states.len() <= 2_000, "{}", part.states.len());
        told += part.states.len();
        if !part.more {
            break;
        }
    }
    assert_eq!(told, addresses.len());
    let mut other = configured();
    other.pools[0].require = Require::AtLeast(1);
    reload(&handle, other).await;
    assert!(changes(&handle).await.everything);
    assert_eq!(ask(&handle, whole_memory).await.states.len(), addresses.len());
    assert_eq!(changes(&handle).await, MemoryChanges::default());
}

async fn over(handle: &CheckerHandle, backend: &str, state: Option<Override>) {
    let (pool, backend) = ("web".into(), backend.into());
    let request = OverrideRequest {
        pool,
        backend,
        change: OverrideChange::State(state),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    ask(handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
}

/// The reported changes of overrides: set, and ended.
async fn told_overrides(handle: &CheckerHandle) -> (bool, Vec<String>, Vec<String>) {
    let MemoryChanges { everything, overrides, ended, .. } = changes(handle).await;
    let set = overrides.iter().map(|kept| kept.backend.to_string()).collect();
    (everything, set, ended.iter().map(|(_, backend, _)| backend.to_string()).collect())
}

/// Changes between the last report and the whole memory, and while the whole is being reported.
#[tokio::test(start_paused = true)]
async fn what_is_noted_is_told_though_the_whole_is_asked_for_meanwhile() {
    let (handle, script) = with_memory(Memory::default());
    ask(&handle, whole_memory).await;
    ready(&handle).await;
    changes(&handle).await;
    over(&handle, "192.0.2.1", Some(Override::Drain)).await;
    script.set("192.0.2.2", Behaviour::Refuse);
    until("it is found", SECOND * 20, || eligible(&handle, 0).len() == 1).await;
    let (reply, whole) = oneshot::channel();
    handle.commands.send(CheckerCommand::Memory(Survey::default(), reply)).await.unwrap();
    over(&handle, "192.0.2.3", Some(Override::Up)).await;
    let told = changes(&handle).await;
    let of = |names: Vec<&str>| names.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>();
    let set: Vec<Arc<str>> = told.overrides.into_iter().map(|kept| kept.backend).collect();
    assert_eq!(set, of(vec!["192.0.2.1", "192.0.2.3"]));
    let states: Vec<Arc<str>> = told.states.into_iter().map(|state| state.backend).collect();
    assert_eq!((states, told.everything), (of(vec!["192.0.2.2"]), false));
    assert_eq!(whole.await.unwrap().states.len(), 3);
    assert_eq!(changes(&handle).await, MemoryChanges::default(), "once");
}

/// The journal continues until a snapshot of the whole exists, so it gets the changes, by name.
#[tokio::test(start_paused = true)]
async fn overrides_are_told_beside_everything_by_the_names_that_a_reload_leaves() {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let configured = |of: &[&str]| setup(vec![pool_of("web", check(DEFAULTS), of)], vec![service(&[0])]);
    let (handle, script) = run(configured(&addresses));
    ask(&handle, whole_memory).await;
    ready(&handle).await;
    changes(&handle).await;
    over(&handle, "192.0.2.3", Some(Override::Drain)).await;
    over(&handle, "192.0.2.1", Some(Override::Drain)).await;
    over(&handle, "192.0.2.2", Some(Override::Up)).await;
    over(&handle, "192.0.2.2", None).await;
    // The first backend is gone, and the third has another place.
    reload(&handle, configured(&addresses[1..])).await;
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let told = told_overrides(&handle).await;
    assert_eq!(told, (true, names(&["192.0.2.3"]), names(&["192.0.2.1", "192.0.2.2"])));
    over(&handle, "192.0.2.2", Some(Override::Drain)).await;
    assert_eq!(told_overrides(&handle).await, (true, names(&["192.0.2.2"]), vec![]), "still beside it");
    script.set("192.0.2.2", Behaviour::Refuse);
    tokio::time::sleep(SECOND * 20).await;
    let told = changes(&handle).await;
    assert!(told.everything && told.states.len() == 1, "and what the checks say: {told:?}");
    ask(&handle, whole_memory).await;
    assert_eq!(changes(&handle).await, MemoryChanges::default());
    // After a jump of the clock, the stored times are different.
    script.jump(86_400);
    let told = changes(&handle).await;
    assert!(told.everything && told.overrides.len() == 2, "{told:?}");
    let now = script.wall();
    assert!(told.overrides.iter().all(|kept| now.duration_since(kept.since).unwrap() < SECOND * 60));
}

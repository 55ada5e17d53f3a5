//! The same override for several backends, and what a request expects of an override.

use super::*;
use crate::pattern::NamePattern;
use crate::pool::{MinHealthy, Override};

/// Two pools with backends at two sites, and a service of both.
async fn fleet() -> (CheckerHandle, Script) {
    let mut web = pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    for (index, backend) in web.pool.backends.iter_mut().enumerate() {
        backend.site = Some(["a", "b"][index % 2].to_owned());
    }
    web.pool.min_healthy = MinHealthy::Count(2);
    let pools = vec![web, pool_of("standby", check(DEFAULTS), &["192.0.2.9"])];
    let (handle, script) = run(setup(pools, vec![service(&[0, 1])]));
    ready(&handle).await;
    (handle, script)
}

fn selection(pool: &str, backend: &str, site: Option<&str>) -> BackendSelection {
    BackendSelection {
        pool: NamePattern::new(pool),
        backend: NamePattern::new(backend),
        site: site.map(str::to_owned),
    }
}

fn drain(selection: BackendSelection) -> BulkRequest {
    BulkRequest {
        selection,
        change: OverrideChange::State(Some(Override::Drain)),
        length: None,
        reason: Some("racks".into()),
        force: false,
        by: "a test".into(),
    }
}

async fn many(handle: &CheckerHandle, request: BulkRequest) -> Result<BulkOverridden, BulkRefused> {
    let tried = request.clone();
    let tried = ask(handle, |reply| CheckerCommand::Preview(ChangeRequest::Bulk(tried), reply)).await;
    let done = ask(handle, |reply| CheckerCommand::OverrideMany(request, reply)).await;
    // A preview tells the same, and changes nothing.
    match (&tried, &done) {
        (Ok(tried), Ok(BulkOverridden { consequences, .. }) | Err(BulkRefused::TakesAway(consequences))) => {
            assert_eq!(tried, consequences);
        }
        (Err(ChangeRefused::Bulk(tried)), Err(refused)) => assert_eq!(tried, refused),
        other => panic!("{other:?}"),
    }
    done
}

#[tokio::test(start_paused = true)]
async fn a_site_is_drained_in_one_table() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, _script) = fleet().await;
    let generation = handle.published.load().generation;
    let done = many(&handle, drain(selection("w*", "192.0.2.?", Some("b")))).await.unwrap();
    assert_eq!(handle.published.load().generation, generation + 1, "one table");
    assert_eq!(eligible(&handle, 0), ["192.0.2.1", "192.0.2.3"]);
    let names: Vec<_> = done.backends.iter().map(|(pool, backend, _)| (&**pool, &*backend.name)).collect();
    assert_eq!(names, [("web", "192.0.2.2"), ("web", "192.0.2.4")]);
    for (_, backend, before) in &done.backends {
        let kept = backend.overridden.as_ref().unwrap();
        assert_eq!((kept.reason.as_deref(), kept.by.as_deref()), (Some("racks"), Some("a test")));
        assert!(kept.safe_at.is_some() && before.is_none());
    }
    assert!(done.consequences.is_empty());
    assert_eq!(log.take("backend is overridden").len(), 2, "each one is told");
    let end = BulkRequest { change: OverrideChange::State(None), ..drain(selection("*", "*", None)) };
    let done = many(&handle, end).await.unwrap();
    assert_eq!(done.backends.iter().filter(|(_, _, before)| before.is_some()).count(), 2);
    assert_eq!(done.backends.len(), 5);
    assert_eq!(eligible(&handle, 0).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn all_together_may_take_away_what_none_does_alone() {
    let (handle, _script) = fleet().await;
    let three = || drain(selection("web", "192.0.2.[1-3]", None));
    let refused = many(&handle, three()).await.unwrap_err();
    let known = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(Arc::from).to_vec();
    assert_eq!(refused, BulkRefused::Nothing { by: SelectedBy::Backend, known }, "brackets are letters");
    for backend in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let one = ChangeRequest::Bulk(drain(selection("web", backend, None)));
        assert_eq!(ask(&handle, |reply| CheckerCommand::Preview(one, reply)).await, Ok(Vec::new()));
    }
    let generation = handle.published.load().generation;
    let BulkRefused::TakesAway(consequences) =
        many(&handle, drain(selection("web", "*", None))).await.unwrap_err()
    else {
        panic!("it is refused for its consequences");
    };
    let texts: Vec<&str> = consequences.iter().map(|one| &*one.text).collect();
    assert_eq!(
        texts,
        [
            "pool web has no usable ipv4 address any more",
            "service www.example.com is answered by standby instead of web",
        ]
    );
    assert_eq!(handle.published.load().generation, generation);
    assert!(
        status(&handle).await.pools[0].backends.iter().all(|backend| backend.overridden.is_none()),
        "none"
    );
    let forced = BulkRequest { force: true, ..drain(selection("web", "*", None)) };
    assert_eq!(many(&handle, forced).await.unwrap().consequences, consequences);
    assert!(eligible(&handle, 0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_selects_nothing_or_too_much_says_so() {
    let pools = (0..2).map(|pool| {
        let names: Vec<String> =
            (0..501).map(|at| format!("10.{pool}.{}.{}", at / 250, at % 250 + 1)).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        pool_of(["web", "site-b"][pool], check(DEFAULTS), &names)
    });
    let (handle, _script) = run(setup(pools.collect(), vec![service(&[0, 1])]));
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
    for (wanted, by, known) in [
        (selection("wbe", "*", None), SelectedBy::Pool, names(&["site-b", "web"])),
        (selection("*", "*", Some("b")), SelectedBy::Site, names(&[])),
    ] {
        assert_eq!(many(&handle, drain(wanted)).await.unwrap_err(), BulkRefused::Nothing { by, known });
    }
    assert_eq!(
        many(&handle, drain(selection("*", "*", None))).await.unwrap_err(),
        BulkRefused::TooMany(1002)
    );
    assert_eq!(many(&handle, drain(selection("web", "*", None))).await.unwrap_err(), {
        let text = "pool web has no usable ipv4 address any more".to_owned();
        let service = "service www.example.com is answered by site-b instead of web".to_owned();
        BulkRefused::TakesAway(vec![
            Consequence { takes_away: true, text },
            Consequence { takes_away: false, text: service },
        ])
    });
}

#[tokio::test(start_paused = true)]
async fn an_override_that_is_not_the_expected_one_stays() {
    let (handle, _script) = fleet().await;
    let request = |state, expected: Precondition| OverrideRequest {
        pool: "web".into(),
        backend: "192.0.2.1".into(),
        change: OverrideChange::State(state),
        length: None,
        reason: None,
        force: false,
        by: "a test".into(),
        expected,
    };
    let over = async |state, expected| {
        let request = request(state, expected);
        let tried = ChangeRequest::Backend(request.clone());
        let tried = ask(&handle, |reply| CheckerCommand::Preview(tried, reply)).await;
        let done = ask(&handle, |reply| CheckerCommand::Override(request, reply)).await;
        assert_eq!(
            tried.err(),
            done.as_ref().err().cloned().map(ChangeRefused::Backend),
            "a preview tells it too"
        );
        done.map(|done| done.backend.overridden)
    };
    let (drain, down) = (Some(Override::Drain), Some(Override::Down));
    let none = Err(OverrideRefused::Unexpected(None));
    assert_eq!(over(None, Precondition::Something).await, none);
    assert_eq!(over(drain, Precondition::OneOf(vec![OverrideVersion(1)])).await, none);
    let first = over(drain, Precondition::Nothing).await.unwrap().unwrap();
    let is_first = || Err(OverrideRefused::Unexpected(Some(Box::new(first.clone()))));
    assert_eq!(over(down, Precondition::Nothing).await, is_first());
    tokio::time::sleep(SECOND * 60).await;
    assert!(over(drain, Precondition::OneOf(vec![OverrideVersion(1)])).await.is_err());
    let second =
        over(down, Precondition::OneOf(vec![OverrideVersion(1), first.version()])).await.unwrap().unwrap();
    assert_ne!(first.version(), second.version());
    assert!(
        over(None, Precondition::OneOf(vec![first.version()])).await.is_err(),
        "another operator was faster"
    );
    assert_eq!(over(None, Precondition::OneOf(vec![second.version()])).await, Ok(None));
}

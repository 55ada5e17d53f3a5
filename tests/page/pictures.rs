//! A scene with everything that the page can show, in both themes. With `STEERD_PICTURES=1`, as images for `docs/images`.

use std::path::Path;

use crate::access::assert_no_violations;
use crate::browser::Browser;
use crate::scene::{Backend, ZONE, row};
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::{Steerd, free_port, wait_for};
use crate::tab::{Tab, Theme};

struct Night {
    server: Steerd,
    _backends: Vec<Backend>,
}

/// A night on call: a service fails open, another is answered by its second tier, a backend is held back, one is drained for
/// an upgrade and one is a canary.
fn night() -> Night {
    let port = free_port("127.0.0.41");
    let start = |address: &str| Backend::start(address, port);
    let mut backends: Vec<Backend> =
        ["127.0.0.41", "127.0.0.42", "127.0.0.43", "127.0.0.46", "127.0.0.47"].map(start).into();
    let config = format!(
        "[zones.\"lb.example.com\"]\nfile = \"zone\"\n\
         [defaults.check]\ninterval = \"400ms\"\ntimeout = \"200ms\"\nrecheck = \"150ms\"\n\
         [pools.s3-a]\ncheck = \"http://:{port}/\"\nbackends = [\n\
         {{ name = \"gw1\", address = \"127.0.0.41\", weight = 2, site = \"a\" }},\n\
         {{ name = \"gw2\", address = \"127.0.0.42\", site = \"a\" }},\n\
         {{ name = \"gw3\", address = \"127.0.0.43\", site = \"a\" }},\n\
         {{ name = \"gw4\", address = \"127.0.0.44\", site = \"a\" }},\n]\n\
         [pools.s3-b]\ncheck = \"http://:{port}/\"\nbackends = [\n\
         {{ name = \"gw5\", address = \"127.0.0.46\", site = \"b\" }}, {{ name = \"gw6\", address = \"127.0.0.47\", site = \"b\" }},\n]\n\
         [pools.images]\ncheck = \"tcp://:{port}\"\nbackends = [{{ name = \"img1\", address = \"127.0.0.48\" }}]\n\
         [pools.reports]\ncheck = \"http://:{port}/ready\"\nbackends = [{{ name = \"rep1\", address = \"127.0.0.49\" }}]\n\
         [services.\"s3.lb.example.com\"]\npools = [\"s3-a\", \"s3-b\"]\nanswers = 1\nttl = \"20s\"\n\
         [services.\"images.lb.example.com\"]\npools = [\"images\", \"s3-b\"]\nanswers = 1\n\
         [services.\"reports.lb.example.com\"]\npools = [\"reports\"]\n"
    );
    backends.push(Backend::answering(
        "127.0.0.49",
        port,
        "503 Service Unavailable",
        "database: too many connections",
    ));
    let server = Steerd::start(&config, &[("zone", ZONE)]);
    let client = Client::counting(server.dns, &server.ledger.sent);
    for id in 0..600 {
        client.ask(&Query::plain(wire("s3.lb.example.com"), A), id);
    }
    let change = |path: &str, body: &str| {
        assert_eq!(server.request("PUT", &format!("/api/v1/pools/s3-a/backends/{path}"), body).0, 200);
    };
    change("gw2/override", r#"{"state": "drain", "for": "30m", "reason": "kernel 6.12, ticket 4711"}"#);
    change("gw3/weight", r#"{"percent": 30, "for": "1h", "reason": "canary of 2.4"}"#);
    // gw4 falls too often.
    for _ in 0..8 {
        let up = Backend::start("127.0.0.44", port);
        let gw4 = || server.request("GET", "/api/v1/pools/s3-a", "").1["backends"][3]["addresses"][0].clone();
        let seen = wait_for("gw4 is healthy or held", || {
            let gw4 = gw4();
            (gw4["state"] == "healthy" || gw4["held"] == true).then_some(gw4)
        });
        if seen["held"] == true {
            backends.push(up);
            break;
        }
        drop(up);
        wait_for("gw4 is unhealthy", || (gw4()["state"] == "unhealthy").then_some(()));
    }
    Night { server, _backends: backends }
}

fn ask_on(night: &Night, from: u16) {
    let client = Client::counting(night.server.dns, &night.server.ledger.sent);
    for id in from..from + 200 {
        client.ask(&Query::plain(wire("s3.lb.example.com"), A), id);
        client.ask(&Query::plain(wire("images.lb.example.com"), A), id);
    }
}

#[test]
fn a_night_on_call_is_told_from_the_top() {
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    // In the turn of this test, because the hold ends after some time.
    let night = night();
    tab.go(&format!("http://{}/", night.server.admin));
    tab.wait_for_text("#trouble li:first-child", "reports.lb.example.com fails open");
    tab.wait_for_text("#trouble", "images.lb.example.com is answered by s3-b, tier 2");
    tab.wait_for_text("#trouble", "gw4 of s3-a is held back");
    tab.wait_for_text("#trouble", "s3-a/gw2 is overridden: drain");
    // Rows out of sight are not rendered, but they are there.
    tab.wait(
        "the words of a backend",
        "return document.querySelector('#pool-reports').textContent.includes('too many connections')",
    );
    for round in 0..3 {
        ask_on(&night, round * 200);
        tab.wait("the rate", "return document.querySelector('#queries').textContent !== '–'");
    }
    tab.wait("timelines", &format!("return document.querySelector(\"{} .timeline .passed\").getAttribute('d').split('M').length > 14", row("gw1")));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    let is_wanted = std::env::var("STEERD_PICTURES").is_ok();
    for theme in [Theme::Light, Theme::Dark] {
        for (what, width, height) in [("desktop", 1280, 1180), ("phone", 360, 780)] {
            tab.show_as(theme, width, height);
            tab.eval("scrollTo(0, 0)");
            assert_no_violations(&tab, &format!("{what}, {}", theme.name()));
            if is_wanted {
                tab.picture(&directory.join(format!("status-{what}-{}.png", theme.name())));
            }
        }
    }
    tab.show_as(Theme::Light, 1280, 900);
    tab.click(&format!("{} button[data-action=drain]", row("gw1")));
    tab.wait_for_text("#change-consequences", "leave gw1 out");
    if is_wanted {
        tab.picture(&directory.join("status-drain.png"));
    }
    tab.assert_quiet(&[]);
}

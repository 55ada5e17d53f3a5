//! The page follows the server: load, a backend that dies, events, explanations, and texts of hostile backends.

use serde_json::json;

use crate::browser::Browser;
use crate::scene::{Backend, QUICK, Site, ZONE, row};
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::{Steerd, free_port};
use crate::tab::Tab;

#[test]
fn the_page_shows_the_state_of_everything() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.wait_for_text("#summary", "The service is answered, 4 of 4 addresses healthy");
    assert_eq!(tab.text("#trouble"), "", "nothing is wrong");
    assert_eq!(tab.text(".tier[data-answers]"), "web");
    tab.wait_for_text("#pool-web .pool-head", "100 % of weight healthy");
    assert!(tab.text("#pool-web .pool-head").contains("tier 1 of www.page.test"));
    let gw1 = tab.text(&row("gw1"));
    for expected in ["127.0.0.31 · site a", "healthy", "200 OK", "50.0 %"] {
        assert!(gw1.contains(expected), "{expected}: {gw1}");
    }
    // A bar for each of several outcomes.
    tab.wait(
        "a timeline",
        &format!(
            "return document.querySelector(\"{} .timeline .passed\").getAttribute('d').split('M').length > 4",
            row("gw1")
        ),
    );
    let client = Client::counting(site.server.dns, &site.server.ledger.sent);
    for id in 0..400 {
        client.ask(&Query::plain(wire("www.page.test"), A), id);
    }
    tab.wait_for_text("#queries", "/s");
    tab.wait(
        "given shares",
        &format!("return parseFloat(document.querySelector(\"{} .given\").innerText) > 30", row("gw1")),
    );
    tab.assert_quiet(&[]);
}

#[test]
fn a_backend_that_dies_is_shown_without_a_reload_and_so_are_its_events() {
    let mut site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.eval("window.isSame = true");
    site.kill(2);
    tab.wait_for_text(&row("gw2"), "unhealthy");
    tab.wait_for_text("#trouble", "gw2 of web is unhealthy");
    assert!(tab.text("#trouble").contains("connection refused") && tab.text("#trouble").contains("for "));
    assert_eq!(tab.text("#announce"), "New trouble: gw2 of web is unhealthy", "screen readers are told");
    tab.wait_for_text("#events-list", "backend is unhealthy");
    tab.wait_for_text("#events-list", "web/gw2");

    // Its pool is no longer usable, so another tier answers, and the page says why.
    site.kill(1);
    site.kill(3);
    tab.wait_for_text("#service-www\\.page\\.test", "tier 2");
    tab.wait_for_text("#service-www\\.page\\.test", "web is not usable: 0 of 3 healthy");
    assert_eq!(tab.text(".tier[data-answers]"), "standby");
    tab.wait_for_text("#trouble", "Pool web is not usable");
    let first = tab.text("#trouble li:first-child");
    assert!(first.contains("Trouble") && first.contains("Pool web is not usable"), "{first}");

    drop(site.standby.pop());
    tab.wait_for_text("#summary", "1 of 1 service has no usable pool");
    tab.wait_for_text("#trouble li:first-child", "www.page.test fails open");
    assert_eq!(tab.eval("return document.title.startsWith('(')"), json!(true), "the title counts trouble");
    for number in 1..=3 {
        site.web[number - 1] = Some(Backend::start(&format!("127.0.0.3{number}"), site.port));
    }
    tab.wait_for_text("#summary", "The service is answered");
    tab.wait_for_text("#service-www\\.page\\.test", "up");
    assert_eq!(tab.eval("return window.isSame"), json!(true), "it was never loaded again");
    tab.assert_quiet(&[]);
}

#[test]
fn a_server_that_ends_leaves_a_page_that_says_so() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let Site { server, .. } = site;
    drop(server.end("TERM"));
    tab.wait_for_text("#summary", "No contact with the server");
    assert!(tab.text("#summary").contains("Everything below is old"));
    assert_eq!(tab.eval("return document.body.dataset.stale"), json!("yes"));
    tab.assert_quiet(&["net::ERR"]);
}

#[test]
fn an_answer_is_explained_in_the_page() {
    let mut site = Site::start("");
    site.kill(3);
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.wait_for_text(&row("gw3"), "unhealthy");
    tab.click("#service-www\\.page\\.test button[aria-label^='Explain']");
    tab.wait_for_text("#explain-result .answer", "www.page.test A from web, because a usable tier answers");
    let told = tab.text("#explain-result");
    for expected in ["1. web", "2. standby", "Addresses drawn from web", "127.0.0.31", "66.7 %"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    tab.fill("#explain-form input[name=client]", "nonsense");
    tab.keys("\u{e007}");
    tab.wait_for_text("#explain-result .fault", "`client`");
    tab.fill("#explain-form input[name=client]", "192.0.2.0/24");
    tab.fill("#explain-form input[name=name]", "nothing.example.org");
    tab.click("#explain-form button");
    tab.wait_for_text("#explain-result .answer", "nothing.example.org is in no zone of this server");
    tab.assert_quiet(&["400 (Bad Request)"]);
}

/// Every text of a backend, a name or an operator is shown as text, whatever it is.
#[test]
fn hostile_texts_are_texts() {
    const HOSTILE: &str = "<img src=x onerror=notes.push(1)><script>notes.push(2)</script>";
    let port = free_port("127.0.0.37");
    let _backend = Backend::answering("127.0.0.37", port, HOSTILE, HOSTILE);
    let config = format!(
        "[zones.\"page.test\"]\nfile = \"zone\"\n{QUICK}\
         [pools.web]\ncheck = {{ type = \"tcp\", port = {port}, send = \"hello\", expect = \"^OK\" }}\nbackends = [{{ name = \"gw1\", address = \"127.0.0.37\" }}]\n\
         [services.\"www.page.test\"]\npools = [\"web\"]\n"
    );
    let server = Steerd::start(&config, &[("zone", ZONE)]);
    let body = json!({"state": "down", "reason": HOSTILE, "force": true}).to_string();
    assert_eq!(server.request("PUT", "/api/v1/pools/web/backends/gw1/override", &body).0, 200);
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.go(&format!("http://{}/", server.admin));
    tab.wait_for_text("tr[data-backend] .outcome", "<img src=x");
    tab.wait_for_text("tr[data-backend] .notes", HOSTILE);
    tab.wait_for_text("#trouble", HOSTILE);
    tab.wait_for_text("#events-list", HOSTILE);
    tab.click("tr[data-backend] button[data-action=detail]");
    tab.wait_for_text("tr.detail", HOSTILE);
    tab.click("tr[data-backend] button[data-action=auto]");
    tab.wait_for_text("#change-now", "down");
    assert_eq!(
        tab.eval("return document.querySelectorAll('main img, main b, main script, dialog script').length"),
        json!(0)
    );
    tab.assert_quiet(&[]);
}

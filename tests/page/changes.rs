//! Changes by mouse: overrides, weights, failovers and failbacks, with what they do told before.

use serde_json::json;

use crate::browser::Browser;
use crate::scene::{QUICK, Site, row};
use crate::support::wait_for;
use crate::tab::{ESCAPE, Tab};

/// Opens the dialog for a backend, and waits until it says what will happen.
fn ask(tab: &Tab<'_>, backend: &str, action: &str) {
    tab.click(&format!("{} button[data-action={action}]", row(backend)));
    tab.wait("the consequences", "return document.querySelectorAll('#change-consequences li').length > 0");
}

/// Sends the change, when its button says so and the server has told the consequences.
fn submit(tab: &Tab<'_>, words: &str) {
    tab.wait_for_text("#change-submit", words);
    tab.wait("the button is ready", "return !document.querySelector('#change-submit').disabled");
    tab.click("#change-submit");
}

fn choose(tab: &Tab<'_>, value: &str, words: &str) {
    tab.click(&format!("#change-choices input[value='{value}']"));
    tab.wait_for_text("#change-consequences", words);
}

#[test]
fn a_backend_is_drained_and_returned_by_clicks() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    ask(&tab, "gw1", "drain");
    let told = tab.text("#change-consequences");
    assert!(told.contains("New answers leave gw1 out at once") && told.contains("20 s more (TTL)"), "{told}");
    assert_eq!(tab.text("#change-submit"), "Drain gw1");
    assert_eq!(site.backend("web", "gw1")["override"], json!(null), "nothing has happened yet");
    tab.fill("#change-form input[name=for]", "30m");
    tab.fill("#change-form input[name=reason]", "kernel");
    tab.wait_for_text("#change-consequences", "It ends by itself after 30m");
    submit(&tab, "Drain gw1");
    tab.wait_for_text(&row("gw1"), "drain (healthy)");
    tab.wait_for_text("#toast", "gw1: drain. Safe to stop from");
    let notes = tab.text(&format!("{} .notes", row("gw1")));
    assert!(
        notes.contains("drain until") && notes.contains("kernel") && notes.contains("clients may use it"),
        "{notes}"
    );
    tab.wait_for_text("#trouble", "web/gw1 is overridden: drain");
    tab.wait_for_text("#events-list", "backend is overridden");
    let event = tab.text("#events-list li:first-child");
    for expected in ["web/gw1: ", "state=drain", "ends_in=30m", "kernel", "by "] {
        assert!(event.contains(expected), "{expected}: {event}");
    }
    let kept = site.backend("web", "gw1");
    assert_eq!(
        (&kept["override"]["state"], &kept["override"]["reason"]),
        (&json!("drain"), &json!("kernel"))
    );
    let focused = "return document.activeElement.closest('tr')?.dataset.backend";
    assert_eq!(tab.eval(focused), json!("gw1"), "the focus is where it was");

    ask(&tab, "gw1", "auto");
    tab.wait_for_text("#change-consequences", "The checks of gw1 decide again: now healthy");
    submit(&tab, "End the override");
    wait_for("the override ends", || site.backend("web", "gw1")["override"].is_null().then_some(()));
    tab.wait_for_text(&row("gw1"), "Drain…");
    assert_eq!(tab.text("#trouble"), "");
    tab.assert_quiet(&[]);
}

#[test]
fn each_override_can_be_chosen_and_is_told_first() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    for (state, word) in [("disabled", "Disable"), ("down", "Down"), ("up", "Up")] {
        ask(&tab, "gw2", "more");
        tab.click(&format!("#change-choices input[value={state}]"));
        submit(&tab, &format!("{word} gw2"));
        tab.wait_for_text(&row("gw2"), &format!("{state} (healthy)"));
        assert_eq!(site.backend("web", "gw2")["override"]["state"], json!(state));
    }
    ask(&tab, "gw2", "auto");
    submit(&tab, "End the override");
    tab.wait_for_text(&row("gw2"), "Drain…");

    ask(&tab, "gw3", "more");
    tab.fill("#change-form input[name=percent]", "30");
    tab.wait_for_text("#change-consequences", "gw3 gets 30 % of its weight of 1");
    submit(&tab, "Set 30 %");
    tab.wait_for_text(&row("gw3"), "30 % of 1");
    assert_eq!(site.backend("web", "gw3")["weight_override"]["percent"], json!(30));
    ask(&tab, "gw3", "more");
    tab.fill("#change-form input[name=percent]", "2000");
    tab.wait_for_text("#change-fault", "from 0 to 1000");
    assert_eq!(tab.eval("return document.querySelector('#change-submit').disabled"), json!(true));
    choose(&tab, "weight-auto", "gw3 gets its configured weight of 1");
    submit(&tab, "End it");
    wait_for("the weight ends", || site.backend("web", "gw3")["weight_override"].is_null().then_some(()));

    // Escape changes nothing.
    ask(&tab, "gw1", "drain");
    tab.keys(ESCAPE);
    tab.wait("the dialog is closed", "return !document.querySelector('#change-dialog').open");
    assert_eq!(site.backend("web", "gw1")["override"], json!(null));
    tab.assert_quiet(&["400 (Bad Request)"]);
}

#[test]
fn the_last_usable_backend_needs_one_more_tick() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    ask(&tab, "st1", "drain");
    tab.wait_for_text("#change-consequences", "Pool standby has no usable ipv4 address any more.");
    let is_disabled = "return document.querySelector('#change-submit').disabled";
    assert_eq!(tab.eval(is_disabled), json!(true), "it takes the last one away");
    assert_eq!(tab.eval("return document.querySelector('#change-force').hidden"), json!(false));
    tab.click("#change-force input");
    assert_eq!(tab.eval(is_disabled), json!(false));
    // Another choice has its own consequences, and the tick does not hold for it.
    choose(&tab, "up", "as if healthy");
    assert_eq!(tab.eval("return document.querySelector('#change-force').hidden"), json!(true));
    choose(&tab, "drain", "has no usable ipv4 address any more");
    assert_eq!(tab.eval(is_disabled), json!(true));
    tab.click("#change-force input");
    submit(&tab, "Drain st1");
    tab.wait_for_text(&row("st1"), "drain (healthy)");
    tab.wait_for_text("#trouble", "Pool standby is not usable");
    tab.assert_quiet(&[]);
}

#[test]
fn a_service_fails_over_and_back_by_clicks() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let service = "#service-www\\.page\\.test";
    let over = format!("{service} button[aria-label^='Fail over']");
    tab.click(&over);
    tab.wait_for_text("#change-consequences", "Service www.page.test is answered by standby instead of web.");
    tab.fill("#change-form input[name=reason]", "drill");
    submit(&tab, "Fail over to standby");
    tab.wait_for_text(service, "failover to standby, no end: drill");
    assert_eq!(tab.text(".tier[data-answers]"), "standby");
    tab.wait_for_text("#trouble", "www.page.test is answered by standby, tier 2");
    tab.click(&over);
    tab.wait_for_text("#change-consequences", "The failover to standby ends");
    tab.wait_for_text("#change-consequences", "is answered by web instead of standby");
    submit(&tab, "End the failover");
    tab.wait_for_text(service, "up");
    assert_eq!(tab.text(".tier[data-answers]"), "web");
    tab.assert_quiet(&[]);
}

#[test]
fn a_service_that_waits_is_failed_back_by_a_click() {
    let mut site = Site::start("");
    let port = site.port;
    let config = format!(
        "[zones.\"page.test\"]\nfile = \"zone\"\n{QUICK}\
         [pools.web]\ncheck = \"http://:{port}/\"\nbackends = [{{ name = \"gw1\", address = \"127.0.0.31\" }}]\n\
         [pools.standby]\ncheck = \"http://:{port}/\"\nbackends = [{{ name = \"st1\", address = \"127.0.0.36\" }}]\n\
         [services.\"www.page.test\"]\npools = [\"web\", \"standby\"]\nfailback = \"manual\"\n"
    );
    site.server.configure(&config, "");
    assert_eq!(site.server.request("POST", "/api/v1/reload", "").0, 200);
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.go(&site.url());
    let service = "#service-www\\.page\\.test";
    tab.wait_for_text(service, "up");
    site.kill(1);
    tab.wait_for_text(service, "tier 2");
    site.web[0] = Some(crate::scene::Backend::start("127.0.0.31", port));
    tab.wait_for_text(service, "web is usable again, and waits for you: fail back");
    tab.click(&format!("{service} button[aria-label^='Fail back']"));
    tab.wait_for_text("#change-consequences", "Service www.page.test is answered by web instead of standby.");
    submit(&tab, "Fail back");
    tab.wait_for_text(service, "up");
    assert_eq!(tab.text(".tier[data-answers]"), "web");
    tab.assert_quiet(&[]);
}

/// Holds requests that have no `dry_run`, or all requests for changes, until `release` is called.
fn hold(tab: &Tab<'_>, is_all: bool) {
    tab.eval(&format!(
        "window.held = [];
         window.real ??= window.fetch;
         window.fetch = (url, options) => options?.method === 'GET' || !({is_all} || !options?.body?.includes('dry_run'))
             ? real(url, options)
             : new Promise((resolve) => held.push((reply) => resolve(reply ?? real(url, options))));"
    ));
}

#[test]
fn a_choice_never_shows_the_consequences_of_another() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let state = "return [document.querySelector('#change-consequences').innerText, document.querySelector('#change-asking').hidden,
        document.querySelector('#change-force').hidden, document.querySelector('#change-submit').disabled]";
    ask(&tab, "st1", "drain");
    tab.wait_for_text("#change-force", "Do it although");
    hold(&tab, true);
    tab.click("#change-choices input[value=up]");
    tab.wait("the server is asked", "return held.length === 1");
    assert_eq!(tab.eval(state), json!(["", false, true, true]));
    tab.eval("held[0](); window.fetch = real");
    tab.wait_for_text("#change-consequences", "as if healthy");
    assert_eq!(tab.eval(state).as_array().unwrap()[1..], [json!(true), json!(true), json!(false)]);

    // The same for a dialog that is opened again.
    tab.keys(ESCAPE);
    ask(&tab, "st1", "drain");
    tab.keys(ESCAPE);
    hold(&tab, true);
    tab.click(&format!("{} button[data-action=drain]", row("gw1")));
    tab.wait("the server is asked", "return held.length === 1");
    assert_eq!(tab.eval(state), json!(["", false, true, true]));
    tab.eval("held[0](); window.fetch = real");
    tab.wait_for_text("#change-consequences", "New answers leave gw1 out");
    tab.assert_quiet(&[]);
}

#[test]
fn a_dialog_that_is_closed_while_its_change_is_sent_disturbs_no_other() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let send = |backend: &str| {
        ask(&tab, backend, "drain");
        hold(&tab, false);
        submit(&tab, &format!("Drain {backend}"));
        tab.wait("the change is under way", "return held.length === 1");
        tab.keys(ESCAPE);
        tab.wait("the dialog is closed", "return !document.querySelector('#change-dialog').open");
    };
    send("gw1");
    ask(&tab, "gw3", "drain");
    tab.eval("held[0]()");
    tab.wait_for_text("#toast", "gw1: drain. Safe to stop from");
    assert_eq!(
        tab.eval("return document.querySelector('#change-dialog').open"),
        json!(true),
        "gw3 is asked for"
    );
    assert!(tab.text("#change-consequences").contains("leave gw3 out"));
    tab.keys(ESCAPE);

    send("gw2");
    tab.eval("held[0](new Response('{\"detail\": \"it interrupts service\"}', { status: 409 }))");
    tab.wait_for_text("#toast", "Change web/gw2: it interrupts service");
    tab.assert_quiet(&[]);
}

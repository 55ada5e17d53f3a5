//! The token: asked for once, kept for the tab, and never needed for the page itself. Pages of other sites can do nothing.

use serde_json::json;

use std::process::Command;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::scene::{Site, ZONE, row};
use crate::support::{Process, STEERD, TOKEN, address_in, wait_for};
use crate::tab::{ENTER, ESCAPE, Tab};

const WRONG: &str = "0123456789abcdeX";
const UNAUTHORIZED: &str = "401 (Unauthorized)";

/// A server that other machines could reach, so that reading needs the token too.
fn guarded(directory: &TempDir) -> (Process, String) {
    let file = directory.path().join("steerd.toml");
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\n[zones.\"page.test\"]\nfile = \"zone\"\n\
        [pools.web]\nbackends = [\"192.0.2.1\"]\n[services.\"www.page.test\"]\npools = [\"web\"]\n\
        [admin]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"token\"\n";
    std::fs::write(&file, config).unwrap();
    let serve = ["serve", "--log-format", "json", "-c"];
    let process = Process::start(Command::new(STEERD).args(serve).arg(&file));
    let address = wait_for("the admin server", || address_in(&process, "admin server listens"));
    wait_for("DNS is answered", || address_in(&process, "DNS is answered"));
    (process, format!("http://127.0.0.1:{}/", address.port()))
}

#[test]
fn the_token_is_asked_for_once_and_gone_with_the_tab() {
    let directory = TempDir::new().unwrap();
    let (_server, url) = guarded(&directory);
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.go(&url);
    tab.wait("the dialog", "return document.querySelector('#token-dialog').open");
    tab.wait_for_text("#summary", "only with its token");
    assert_eq!(tab.eval("return document.activeElement.id"), json!("token-input"));
    assert!(!tab.text("main").contains("www.page.test"), "no data without the token");

    tab.keys(&format!("short{ENTER}"));
    tab.wait_for_text("#token-fault", "16 to 1024");
    tab.fill("#token-input", &format!("{WRONG}{ENTER}"));
    tab.wait_for_text("#token-fault", "does not accept this token");
    tab.keys(&format!("{TOKEN}{ENTER}"));
    tab.wait_for_text("#services", "www.page.test");
    tab.wait_for_text("#events-list", "ready: every backend");
    assert_eq!(tab.eval("return document.querySelector('#token-dialog').open"), json!(false));
    // A reload of the page keeps it; nothing else does.
    tab.go(&url);
    tab.wait_for_text("#services", "www.page.test");
    assert_eq!(tab.eval("return [document.cookie, Object.keys(localStorage).length]"), json!(["", 0]));
    tab.assert_quiet(&[UNAUTHORIZED]);

    tab.again();
    tab.go(&url);
    tab.wait("the dialog", "return document.querySelector('#token-dialog').open");
    tab.keys(ESCAPE);
    tab.wait("a way back to it", "return !document.querySelector('#token-button').hidden");
    assert!(!tab.text("main").contains("www.page.test"), "the token was only for the closed tab");

    // A return to the tab does not ask again. The third request shows that the reply to the second has been read.
    tab.eval(
        "window.asked = 0;
         const real = window.fetch;
         window.fetch = (...given) => { asked += 1; return real(...given); };",
    );
    tab.wait(
        "the page asks for the state",
        "document.dispatchEvent(new Event('visibilitychange')); return asked >= 3",
    );
    assert_eq!(tab.eval("return document.querySelector('#token-dialog').open"), json!(false));
    tab.click("#token-button");
    tab.fill("#token-input", &format!("{TOKEN}{ENTER}"));
    tab.wait_for_text("#services", "www.page.test");
    tab.assert_quiet(&[UNAUTHORIZED]);
}

#[test]
fn a_change_asks_for_the_token_and_goes_on_with_it() {
    let site = Site::start("token_file = \"token\"");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.click(&format!("{} button[data-action=drain]", row("gw1")));
    tab.wait("the dialog", "return document.querySelector('#token-dialog').open");
    tab.keys(&format!("{WRONG}{ENTER}"));
    tab.wait_for_text("#token-fault", "does not accept this token");
    tab.keys(&format!("{TOKEN}{ENTER}"));
    tab.wait_for_text("#change-consequences", "New answers leave gw1 out at once");
    tab.click("#change-submit");
    tab.wait_for_text(&row("gw1"), "drain (healthy)");
    assert!(site.backend("web", "gw1")["override"]["by"].as_str().unwrap().contains("with the token"));
    tab.assert_quiet(&[UNAUTHORIZED]);
}

#[test]
fn a_page_of_another_site_changes_nothing_and_reads_nothing() {
    let site = Site::start("");
    let other = Site::start("");
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    // Another port is another origin. This path has no policy that forbids its scripts to connect.
    tab.go(&format!("{}healthz", other.url()));
    let url = site.url();
    let told = tab.eval_async(&format!(
        "const tries = [
             fetch('{url}api/v1/status').then((reply) => reply.text()),
             fetch('{url}api/v1/events').then((reply) => reply.text()),
             fetch('{url}api/v1/pools/web/backends/gw1/override', {{ method: 'PUT', body: '{{\"state\": \"drain\"}}',
                 headers: {{ 'content-type': 'application/json' }} }}).then((reply) => reply.text()),
             fetch('{url}api/v1/reload', {{ method: 'POST', mode: 'no-cors' }}).then((reply) => reply.type),
         ];
         Promise.allSettled(tries).then((ends) => done(ends.map((end) => end.value ?? end.reason.name)));"
    ));
    assert_eq!(told, json!(["TypeError", "TypeError", "TypeError", "opaque"]));
    assert_eq!(site.backend("web", "gw1")["override"], json!(null));
    assert!(site.server.process.said("reloaded").is_empty());
    // No page may show this one in a frame.
    tab.go(&format!("{}healthz", other.url()));
    tab.eval(&format!(
        "const frame = document.createElement('iframe'); frame.src = '{url}'; document.body.append(frame);"
    ));
    tab.wait("the frame is refused", "return performance.getEntriesByType('resource').length > 0");
    wait_for("the refusal is in the console", || {
        tab.logged().iter().any(|text| text.contains("frame")).then_some(())
    });
}

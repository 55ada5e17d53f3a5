//! The page when something goes wrong: streams that die without a word, events that are missing, replies that cannot be
//! drawn. And it stays open for months.

use serde_json::json;

use crate::browser::Browser;
use crate::scene::{Site, row};
use crate::tab::Tab;

/// Streams of events that send only what a test puts into `stream`. Waits of 40 s last for half a second.
const OWN_STREAMS: &str = "window.opened = 0;
    const [fetched, timed] = [window.fetch, window.setTimeout];
    window.setTimeout = (act, ms) => timed(act, ms === 40000 ? 500 : ms);
    window.fetch = (url, options) => {
        if (options?.headers?.Accept !== 'text/event-stream') return fetched(url, options);
        opened += 1;
        const start = (controller) => {
            window.stream = controller;
            options.signal.addEventListener('abort', () => controller.error(options.signal.reason));
        };
        return Promise.resolve(new Response(new ReadableStream({ start }), { headers: { 'content-type': 'text/event-stream' } }));
    };
    window.put = (text) => stream.enqueue(new TextEncoder().encode(text));";

fn drain(site: &Site, backend: &str) {
    let path = format!("/api/v1/pools/web/backends/{backend}/override");
    assert_eq!(site.server.request("PUT", &path, &json!({"state": "drain"}).to_string()).0, 200);
}

#[test]
fn a_stream_that_is_silent_for_too_long_is_opened_again() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.before(OWN_STREAMS);
    tab.go(&site.url());
    tab.wait("a stream", "return opened === 1");
    // Comments show that it lives.
    let beats = tab.eval_async(
        "let beats = 0;
         const beat = setInterval(() => {
             put(': nothing has happened\\n\\n');
             beats += 1;
             if (beats < 15) return;
             clearInterval(beat);
             done(opened);
         }, 100);",
    );
    assert_eq!(beats, json!(1), "a stream with comments is not given up");
    drain(&site, "gw1");
    tab.wait("another stream", "return opened > 1");
    tab.wait_for_text("#events-list", "backend is overridden");
    tab.assert_quiet(&[]);
}

#[test]
fn the_list_says_where_events_are_missing() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.before(OWN_STREAMS);
    tab.go(&site.url());
    tab.wait("a stream", "return opened === 1");
    tab.wait_for_text("#events-list", "ready");
    let event = |id: u64| {
        format!(
            "event: server\\ndata: {{\"id\": {id}, \"at\": \"2026-11-30T12:00:00Z\", \"kind\": \"server\", \"severity\": \"info\", \"message\": \"number {id}\"}}\\n\\n"
        )
    };
    tab.eval(&format!("put('event: missed\\ndata: {{}}\\n\\n{}')", event(1)));
    tab.wait_for_text("#events-list li:first-child", "number 1");
    assert!(tab.text("#events-list li:nth-child(2)").contains("or some events were missed"));
    tab.eval(&format!("put('{}')", event(2)));
    tab.wait_for_text("#events-list li:first-child", "number 2");
    assert!(
        tab.text("#events-list li:nth-child(3)").contains("or some events were missed"),
        "it stays where it was"
    );
    tab.assert_quiet(&[]);
}

/// As after a restart of the server with its clock set back.
#[test]
fn ids_that_go_back_do_not_stop_the_events() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    tab.before(OWN_STREAMS);
    // The first reply of all is from a run with higher ids.
    tab.before(
        "const before = window.fetch;
         let isLater = false;
         window.fetch = (url, options) => {
             if (isLater || !String(url).endsWith('/events')) return before(url, options);
             isLater = true;
             const event = { id: 2 ** 52, at: '2026-11-30T12:00:00Z', kind: 'server', severity: 'info', message: 'of the run before' };
             return Promise.resolve(Response.json({ missed: false, last: event.id, events: [event] }));
         };",
    );
    tab.go(&site.url());
    tab.wait_for_text("#events-list", "of the run before");
    tab.wait_for_text("#events-list", "ready: every backend");
    tab.wait_for_text("#events-list", "The server has restarted");
    drain(&site, "gw1");
    tab.wait_for_text("#events-list li:first-child", "state=drain");
    let gaps = "return document.querySelector('#events-list').innerText.split('The server has restarted').length - 1";
    assert_eq!(tab.eval(gaps), json!(1));
    tab.assert_quiet(&[]);
}

#[test]
fn a_state_that_cannot_be_drawn_is_not_shown_as_the_latest() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.wait_for_text("#contact", "now");
    tab.eval(
        "window.real = window.fetch;
         window.fetch = async (url, options) => {
             const reply = await real(url, options);
             if (!String(url).endsWith('/status')) return reply;
             const status = await reply.json();
             delete status.pools[0].backends;
             return Response.json(status);
         };",
    );
    tab.wait_for_text("#summary", "This page cannot show the state: ");
    assert_eq!(tab.text("#contact"), "not shown");
    assert_eq!(tab.eval("return document.body.dataset.stale"), json!("yes"));
    tab.eval("window.fetch = real");
    tab.wait_for_text("#summary", "The service is answered");
    tab.wait_for_text("#contact", "now");
    assert_eq!(tab.eval("return document.body.dataset.stale ?? null"), json!(null));
    tab.assert_quiet(&["TypeError"]);
}

#[test]
fn a_page_that_stays_open_keeps_no_more_than_the_last_measures() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.wait_for_text(&row("gw1"), "healthy");
    let updates = "return measures.filter(({ name }) => name === 'steerd-update').length >= 4";
    tab.wait("some updates", updates);
    let kept = "const names = performance.getEntriesByType('measure').map(({ name }) => name);
        return [performance.getEntriesByType('mark').length, names.length - new Set(names).size]";
    assert_eq!(tab.eval(kept), json!([0, 0]));
    tab.assert_quiet(&[]);
}

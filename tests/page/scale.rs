//! 1,000 backends: how long the first paint and an update take.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::scene::ZONE;
use crate::support::Steerd;
use crate::tab::Tab;

const BACKENDS: u32 = 1000;
/// The first paint, and the first paint with the state, milliseconds.
const PAINT: f64 = 1000.0;
/// The script of an update, milliseconds.
const UPDATE: f64 = 50.0;
/// The median of as many is taken.
const UPDATES: usize = 9;

/// The number of rows that are not hidden.
const VISIBLE: &str =
    "return [...document.querySelectorAll('tr[data-backend]')].filter((row) => row.checkVisibility()).length";

/// One listener plays all backends, until it is told to end.
fn listen() -> (u16, Arc<AtomicBool>, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            drop(listener.accept());
        }
    });
    (port, stop, thread)
}

fn median(values: &Value) -> f64 {
    let mut values: Vec<f64> =
        values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that nine of ten are not above: a machine with other work may interrupt the tenth.
fn most(values: &Value) -> f64 {
    let mut values: Vec<f64> =
        values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) * 9 / 10).copied().unwrap_or_default()
}

/// An expression for the times of the work with this name since the measures were cleared.
fn times_of(name: &str) -> String {
    format!("measures.filter((entry) => entry.name === '{name}').map((entry) => entry.duration)")
}

/// The median time of the next updates. Rows out of sight follow in slices, which are not longer than an update.
fn updates(tab: &Tab<'_>, what: &str) -> f64 {
    tab.eval("measures.length = 0");
    let script =
        format!("const times = {}; return times.length >= {UPDATES} && times", times_of("steerd-update"));
    let times = tab.wait(what, &script);
    let slices = tab.eval(&format!("return {}", times_of("steerd-slice")));
    let slice = most(&slices);
    println!(
        "{what}: median {:.1} ms, then nine of ten slices within {slice:.1} ms; all: {times}",
        median(&times)
    );
    assert!(slice < UPDATE, "{what}: slices of {slices} ms");
    median(&times)
}

#[test]
fn a_thousand_backends_are_shown_without_lag() {
    let (port, stop, listening) = listen();
    let pool = |name: &str, third: u32, count: u32| {
        let backend = |index: u32| {
            format!(
                "{{ name = \"{name}{index}\", address = \"127.1.{}.{}\" }}",
                third + index / 200,
                1 + index % 200
            )
        };
        let backends: Vec<String> = (0..count).map(backend).collect();
        format!("[pools.{name}]\ncheck = \"tcp://:{port}\"\nbackends = [{}]\n", backends.join(", "))
    };
    // One large pool, and many small ones.
    let large = BACKENDS * 4 / 5;
    let small: String =
        (0..20).map(|index| pool(&format!("p{index}"), 50 + index, (BACKENDS - large) / 20)).collect();
    let config = format!(
        "startup_wait = \"1m\"\n[zones.\"page.test\"]\nfile = \"zone\"\n\
         [defaults.check]\ninterval = \"2s\"\ntimeout = \"1s\"\nrecheck = \"500ms\"\n{}{small}\
         [services.\"www.page.test\"]\npools = [\"large\", \"p0\"]\n",
        pool("large", 0, large)
    );
    let server = Steerd::start(&config, &[("zone", ZONE)]);
    let browser = Browser::shared();
    let tab = Tab::new(&browser);
    let (mut paints, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        tab.go(&format!("http://{}/", server.admin));
        tab.wait_for_text("#summary", "1,000 of 1,000 addresses healthy");
        let times = tab.eval(
            "const first = measures.find(({ name }) => name === 'steerd-update');
             return [performance.getEntriesByName('first-contentful-paint')[0].startTime, first.startTime + first.duration]",
        );
        paints.push(times[0].clone());
        shown.push(times[1].clone());
    }
    let (paint, first) = (median(&json!(paints)), median(&json!(shown)));
    println!("first paint after {paint} ms, with the state after {first} ms");
    assert!(paint < PAINT && first < PAINT, "first paint after {paint} ms, with the state after {first} ms");
    assert_eq!(tab.text("#pools-count"), "21, 1,000 backends");

    // All pools are closed, because nothing is wrong.
    assert!(updates(&tab, "updates with closed pools") < UPDATE);
    tab.click("#pool-large .fold");
    tab.wait(
        "the first rows",
        "return document.querySelectorAll('#pool-large tr[data-backend]').length === 50",
    );
    tab.click("#pool-large .more");
    tab.eval(
        "document.querySelectorAll('.pool .fold[aria-expanded=false]').forEach((button) => button.click())",
    );
    tab.wait("all rows", "return document.querySelectorAll('tr[data-backend]').length === 1000");
    let quiet = updates(&tab, "updates with 1,000 rows");
    assert!(quiet < UPDATE, "{quiet} ms");

    // The filter finds one of them.
    tab.fill("#filter", "large734");
    tab.wait("one row", &format!("{VISIBLE} === 1"));
    assert_eq!(tab.text("#pools-note"), "1 backend of 1 pool match");
    tab.fill("#filter", " ");
    tab.wait("all rows", &format!("{VISIBLE} === 1000"));

    // All fail at once, so every row changes.
    stop.store(true, Ordering::Relaxed);
    let _ = std::net::TcpStream::connect(("127.0.0.1", port));
    listening.join().unwrap();
    tab.eval("measures.length = 0");
    tab.wait_for_text("#summary", "1 of 1 service has no usable pool, 0 of 1,000");
    let script = format!("const times = {}; return times.length > 0 && times", times_of("steerd-update"));
    let busy = tab.wait("an update", &script);
    println!("updates while all fail: {busy}");
    let busy = median(&busy);
    assert!(busy < UPDATE, "{busy} ms");
    let failing = updates(&tab, "updates with 1,000 failing rows");
    assert!(failing < UPDATE, "{failing} ms");
    tab.assert_quiet(&[]);
}

//! Slow searches, fast searches, and searches that get their bytes in pieces.

use std::time::Instant;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Its states never repeat if the letters are random.
const SLOW: &str = "[a-m].{40}[0-9]";

fn pattern(text: &str) -> Expected {
    Expected::Pattern(Pattern::new(text).unwrap())
}

fn letters(count: usize) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(7);
    (0..count).map(|_| rng.random_range(b'a'..=b'z')).collect()
}

/// Passes the bytes in pieces of this length. Returns whether the expected content is found.
async fn hear(search: &mut Search<'_>, bytes: &[u8], piece: usize) -> Result<bool, ProbeFailure> {
    let (mut heard, mut trace) = (Vec::new(), Trace::start(Duration::ZERO));
    for piece in bytes.chunks(piece) {
        heard.extend_from_slice(piece);
        if search.goes_on(&mut heard, false, &mut trace).await? {
            return Ok(true);
        }
    }
    search.ends(&mut heard, &mut trace).await
}

#[tokio::test]
async fn what_takes_too_long_fails_and_says_so() {
    let expected = pattern(SLOW);
    let fault = hear(&mut Search::in_body(&expected), &letters(1 << 20), 16 * 1024).await.unwrap_err();
    assert_eq!(fault.cause, Cause::Body);
    assert!(fault.detail.contains("more than 100ms of processor time"), "{fault:?}");
}

#[tokio::test]
async fn a_plain_expression_is_found_at_the_end_of_a_megabyte() {
    let mut bytes = letters(1 << 20);
    bytes.extend_from_slice(b" ready");
    for text in [" ready", "(?i) READY$", "a|e|i|o|u| r.*y"] {
        let expected = pattern(text);
        assert!(hear(&mut Search::in_body(&expected), &bytes, 16 * 1024).await.unwrap(), "{text}");
    }
}

/// A fast search is served even among many slow ones.
#[tokio::test]
async fn a_short_search_passes_by_the_long_ones() {
    let (slow, quick) = (pattern(SLOW), pattern("[0-9] ready"));
    let bytes = letters(1 << 20);
    let long: Vec<_> = (0..64)
        .map(|_| {
            let (slow, bytes) = (slow.clone(), bytes.clone());
            tokio::spawn(async move { hear(&mut Search::in_body(&slow), &bytes, 64 * 1024).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    assert!(!hear(&mut Search::in_body(&quick), &bytes[..32 * 1024], 8 * 1024).await.unwrap());
    let took = began.elapsed();
    let ended = long.iter().filter(|search| search.is_finished()).count();
    assert!(ended < 32, "{ended} of 64 long searches went before, which took {took:?}");
    for search in long {
        assert!(search.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn words_are_judged_as_they_are_and_bodies_when_they_are_certain() {
    let expected = pattern("ready$");
    let (mut heard, mut trace) = (b"ready".to_vec(), Trace::start(Duration::ZERO));
    assert!(Search::in_words(&expected).goes_on(&mut heard, false, &mut trace).await.unwrap());
    let mut in_body = Search::in_body(&expected);
    assert!(!in_body.goes_on(&mut heard, true, &mut trace).await.unwrap(), "more may come");
    heard.extend_from_slice(b"ish");
    assert!(!in_body.ends(&mut heard, &mut trace).await.unwrap());
    let empty = pattern("^$");
    assert!(Search::in_body(&empty).ends(&mut Vec::new(), &mut trace).await.unwrap());
}

/// How many bytes are searched if they arrive in pieces of this length with a pause after each, and the
/// number of searches.
async fn looks(bytes: &[u8], piece: usize, pause: Duration) -> (usize, usize) {
    let expected = pattern(" [0-9]");
    let mut search = Search::in_body(&expected);
    let (mut heard, mut trace, mut looks, mut looked) = (Vec::new(), Trace::start(Duration::ZERO), 0, 0);
    for piece in bytes.chunks(piece) {
        heard.extend_from_slice(piece);
        let mut next = Box::pin(tokio::time::sleep(pause));
        let mut paused = false;
        loop {
            let before = search.looked;
            assert!(!search.goes_on(&mut heard, paused, &mut trace).await.unwrap());
            if search.looked != before {
                looks += 1;
                looked += search.looked;
            }
            paused = search.patiently(heard.len(), next.as_mut()).await.is_none();
            if !paused {
                break;
            }
        }
    }
    assert!(!search.ends(&mut heard, &mut trace).await.unwrap());
    (looks, looked)
}

/// In total, a search examines at most a few times as many bytes as there are.
#[tokio::test(start_paused = true)]
async fn what_is_looked_at_is_linear_in_what_was_heard() {
    let bytes = letters(64 * 1024);
    let (looks, looked) = looks(&bytes, 100, Duration::ZERO).await;
    assert!(looks <= LITTLE / 100 + 6, "{looks} looks");
    assert!(looked <= 4 * bytes.len(), "{looked} bytes looked at");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_pauses_often_is_looked_at_a_few_times() {
    let bytes = letters(1 << 20);
    for pause in [11, 20, 100, 650].map(Duration::from_millis) {
        let (looks, looked) = looks(&bytes, bytes.len() / 100, pause).await;
        eprintln!("{pause:?}: {looks} looks at {looked} bytes");
        assert!(looked <= 12 * bytes.len(), "{pause:?}: {looks} looks at {looked} bytes");
    }
}

/// The cause and the detail of a probe that runs out of time during a search with this charge.
async fn out_of_time(charge: Duration, waited: Duration) -> (Cause, String) {
    let mut trace = Trace::start(Duration::ZERO);
    trace.search = Some(UnderWay::new(Arc::new(Charge::new(charge))));
    tokio::time::advance(waited).await;
    let fault = trace.out_of_time(Duration::from_secs(1));
    (fault.cause, fault.detail.into_owned())
}

const LOOKING: &str = "no answer within 1s (looking for what is expected)";

/// If this machine had no processor time for a short search, the backend is not at fault.
#[tokio::test(start_paused = true)]
async fn a_short_search_that_waits_for_long_is_void_and_a_long_one_fails() {
    let waited = Duration::from_millis(100);
    let void = "no verdict: what the backend sent could not be searched within 1s";
    assert_eq!(out_of_time(Duration::ZERO, waited).await, (Cause::Local, void.into()));
    assert_eq!(out_of_time(BUDGET, waited).await, (Cause::Timeout, LOOKING.into()));
}

/// Otherwise a backend could choose to make its failures void.
#[tokio::test(start_paused = true)]
async fn bytes_that_come_just_before_the_end_of_the_time_make_no_probe_void() {
    for milliseconds in [0, 1, 3, 10, 99] {
        let waited = Duration::from_millis(milliseconds);
        assert_eq!(out_of_time(Duration::ZERO, waited).await, (Cause::Timeout, LOOKING.into()), "{waited:?}");
    }
}

#[tokio::test]
async fn a_long_search_is_remembered_and_short_ones_make_it_forgotten() {
    let (slow, plain) = (pattern(SLOW), pattern("[0-9] ready"));
    let bytes = letters(64 * 1024);
    let mut trace = Trace::start(Duration::ZERO);
    // It may end, or take too long.
    let _ = Search::in_body(&slow).ends(&mut bytes.clone(), &mut trace).await;
    assert!(is_long(trace.search_charge), "{trace:?}");
    let mut short = 0;
    while is_long(trace.search_charge) {
        short += 1;
        assert!(short < 20, "{trace:?}");
        trace = Trace::start(trace.search_charge);
        assert!(!Search::in_body(&plain).ends(&mut bytes.clone(), &mut trace).await.unwrap());
    }
    assert!(short > 1);
}

/// The niceness of the threads with this name.
fn niceness(name: &str) -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let named = threads.filter(|thread| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    let niceness = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok();
    named.filter_map(|thread| niceness(std::fs::read_to_string(thread.join("stat")).ok()?)).collect()
}

#[tokio::test]
async fn short_searches_give_way_to_nobody_and_long_ones_do() {
    let expected = pattern(SLOW);
    assert!(hear(&mut Search::in_body(&expected), &letters(1 << 20), 64 * 1024).await.is_err());
    let (short, long) = (niceness("search"), niceness("search-long"));
    assert!(!short.is_empty() && !long.is_empty());
    assert!(short.iter().all(|short| long.iter().all(|long| short < long)), "{short:?} {long:?}");
}

proptest! {
    /// However the bytes arrive, a text or an expression is found where it is.
    #[test]
    fn it_is_found_however_it_comes(
        before in "[a-c]{0,300}",
        middle in "[a-c]{1,6}",
        after in "[a-c]{0,300}",
        piece in 1_usize..60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bytes = format!("{before}{middle}{after}").into_bytes();
        let texts = [middle.clone(), format!("{middle}d"), middle.repeat(3)];
        for text in texts {
            let is_there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            for expected in [Expected::Text(text.clone().into()), pattern(&text), pattern(&format!("{text}|{text}$"))] {
                for mut search in [Search::in_words(&expected), Search::in_body(&expected)] {
                    let found = runtime.block_on(hear(&mut search, &bytes, piece)).unwrap();
                    prop_assert_eq!(found, is_there, "{:?}", expected);
                }
            }
        }
    }
}

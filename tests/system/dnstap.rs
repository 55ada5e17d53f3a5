//! dnstap, with the programs of Debian as readers, and with readers that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, ZONE, wait_for};
use crate::support::client::Client;
use crate::support::message::{Query, wire};
use crate::support::{Process, Steerd, full_dig, program};

const CONFIG: &str = "dnstap = { socket = \"tap.sock\", identity = \"lb1\" }\n\
     [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [{ name = \"gw1\", address = \"192.0.2.11\" }]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";

fn start() -> Steerd {
    Steerd::start(CONFIG, &[("zone", ZONE)])
}

fn ask(server: &Steerd, arguments: &[&str]) {
    let shown = full_dig(server.dns, &server.ledger.sent, arguments);
    assert!(shown.contains("status: "), "{shown}");
}

/// The messages of a file, as `dnstap-ldns` shows them in one line each.
fn messages(path: &Path, style: &str) -> Vec<String> {
    let output = Command::new(program("dnstap-ldns")).arg(style).arg("-r").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_programs_of_debian_read_every_query_and_reply() {
    let server = start();
    // Nobody listens yet: the query is answered, and its sample is dropped.
    ask(&server, &["www.lb.example.test", "A"]);
    wait_for("a sample is dropped", || (server.metric("steerd_dnstap_dropped_total")? == 1.0).then_some(()));
    let (socket, file) =
        (server.directory.path().join("tap.sock"), server.directory.path().join("tap.fstrm"));
    let mut capture = Process::start(
        Command::new(program("fstrm_capture"))
            .args(["-t", "protobuf:dnstap.Dnstap", "-u"])
            .arg(&socket)
            .arg("-w")
            .arg(&file),
    );
    wait_for("the reader is connected", || {
        (!server.process.said("dnstap: the reader is connected").is_empty()).then_some(())
    });
    ask(&server, &["WwW.lb.example.test", "A"]);
    ask(&server, &["no.lb.example.test", "AAAA", "+tcp"]);
    let dns = server.dns;
    wait_for("both are written", || (server.metric("steerd_dnstap_written_total")? == 2.0).then_some(()));
    // It waits until the reader confirms the end of the stream. The reader writes its file when it ends.
    let directory = server.end("TERM");
    capture.signal("TERM");
    capture.ended();
    let quiet = messages(&file, "-q");
    let kinds: Vec<&str> = quiet.iter().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(kinds, ["AQ", "AR", "AQ", "AR"], "{quiet:?}");
    assert!(
        quiet[0].contains("127.0.0.2")
            && quiet[0].contains("UDP")
            && quiet[0].contains("WwW.lb.example.test"),
        "{quiet:?}"
    );
    assert!(quiet[3].contains("TCP") && quiet[3].contains("no.lb.example.test"), "{quiet:?}");
    let full = messages(&file, "-y").join("\n");
    for expected in [
        "identity: \"lb1\"",
        concat!("version: \"steerd ", env!("CARGO_PKG_VERSION"), "\""),
        "type: AUTH_RESPONSE",
        "socket_family: INET",
        "query_address: \"127.0.0.2\"",
        "response_address: \"127.0.0.1\"",
        &format!("response_port: {}", dns.port()),
        "192.0.2.11",
        "NXDOMAIN",
    ] {
        assert!(full.contains(expected), "{expected}: {full}");
    }
    // Knot's reader is another implementation; it shows replies with their time.
    let output = Command::new(program("kdig")).arg("-G").arg(&file).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("192.0.2.11") && shown.contains("NXDOMAIN"), "{shown}");
    drop(directory);
}

/// A frame of control with this type and the content type of dnstap.
fn control(kind: u8) -> Vec<u8> {
    let content = b"protobuf:dnstap.Dnstap";
    [&[0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, kind, 0, 0, 0, 1, 0, 0, 0, 22][..], content].concat()
}

/// Accepts a connection, and answers READY.
fn accept(listener: &UnixListener, answer: &[u8]) -> UnixStream {
    wait_for("steerd connects", || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut ready = [0; 42];
        stream.read_exact(&mut ready).unwrap();
        assert_eq!(ready[..], control(4));
        // It may have given up a connection that waited here for too long.
        stream.write_all(answer).ok().map(|()| stream)
    })
}

#[test]
fn a_reader_that_stops_reading_costs_no_answer_and_is_left() {
    const QUERIES: u16 = 20_000;
    let server = start();
    let query = Query::plain(wire("www.lb.example.test"), 1);
    let client = Client::counting(server.dns, &server.ledger.sent);
    // The median latency, and the longest.
    let load = || {
        let mut took: Vec<Duration> = (0..QUERIES)
            .map(|id| {
                let began = Instant::now();
                client.try_ask(&query, id).expect("each query gets its reply");
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        (took[took.len() / 2], took[took.len() - 1])
    };
    let absent = load();
    let listener = UnixListener::bind(server.directory.path().join("tap.sock")).unwrap();
    let deaf = accept(&listener, &control(1));
    let dropped = || server.metric("steerd_dnstap_dropped_total").unwrap();
    let written = || server.metric("steerd_dnstap_written_total").unwrap();
    let before = dropped() + written();
    let blocked = load();
    wait_for("every query is counted", || {
        (dropped() + written() - before >= f64::from(QUERIES)).then_some(())
    });
    assert!(dropped() > before, "nothing was dropped");
    assert!(blocked.0 < 5 * absent.0 + Duration::from_millis(1), "{absent:?} {blocked:?}");
    wait_for("it is left", || {
        (!server.process.said("dnstap: the reader is gone or too slow").is_empty()).then_some(())
    });
    drop(deaf);
    // The next one gets the samples of now.
    let mut good = wait_for("a reader is accepted", || {
        let mut good = accept(&listener, &control(1));
        let mut start = [0; 42];
        good.read_exact(&mut start).ok().map(|()| (good, start))
    });
    assert_eq!(good.1[..], control(2));
    let reading = thread::spawn(move || good.0.read(&mut [0; 1]).unwrap());
    wait_for("samples are written again", || {
        client.ask(&query, 1);
        reading.is_finished().then_some(())
    });
}

#[test]
fn a_reader_that_speaks_nonsense_is_left() {
    let server = start();
    let listener = UnixListener::bind(server.directory.path().join("tap.sock")).unwrap();
    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 600], &control(5), b""] {
        drop(accept(&listener, nonsense));
        ask(&server, &["www.lb.example.test", "A"]);
    }
    let told = server.process.said("dnstap: no reader takes the messages");
    assert_eq!(told.len(), 1, "{told:?}");
    wait_for("the good one is taken", || accept(&listener, &control(1)).read_exact(&mut [0; 42]).ok());
    wait_for("the good one is taken", || {
        (!server.process.said("dnstap: the reader is connected").is_empty()).then_some(())
    });
}

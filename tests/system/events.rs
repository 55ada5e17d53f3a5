//! Events: as a stream, as JSON, and with `steerd events`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PATIENCE, STEERD, ZONE, wait_for};
use crate::support::{Steerd, TOKEN, exchange};

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"gw1\", address = \"192.0.2.11\" }, { name = \"gw2\", address = \"192.0.2.12\" },\n]\n\
     [pools.standby]\nbackends = [\"192.0.2.21\"]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\n";

fn start() -> Steerd {
    Steerd::start(CONFIG, &[("zone", ZONE)])
}

/// An open stream of events.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Opens a stream; returns the status code if it is refused.
    fn open(server: SocketAddr, path: &str, headers: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: text/event-stream\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        let mut stream = Self(BufReader::new(stream));
        let status = stream.line().unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 200 {
            return Err(status);
        }
        while stream.line().is_some_and(|line| !line.is_empty()) {}
        Ok(stream)
    }

    /// The next line; none at the end of the stream.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// The id and the data of the next event of this kind.
    fn next(&mut self, kind: &str) -> (u64, Value) {
        let mut id = 0;
        let mut is_it = false;
        loop {
            let line = self.line().expect("the stream has ended");
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().unwrap();
            } else if let Some(text) = line.strip_prefix("event: ") {
                is_it = text == kind;
            } else if let Some(text) = line.strip_prefix("data: ")
                && is_it
            {
                return (id, serde_json::from_str(text).unwrap());
            }
        }
    }
}

fn override_backend(server: &Steerd, backend: &str, state: &str) {
    let body = format!("{{\"state\": \"{state}\", \"force\": true, \"reason\": \"drill\"}}");
    let path = format!("/api/v1/pools/web/backends/{backend}/override");
    assert_eq!(server.request("PUT", &path, &body).0, 200);
}

/// The events as JSON.
fn events(server: &Steerd, query: &str) -> Value {
    let (status, text) = exchange(
        server.admin,
        &format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\
             Authorization: Bearer {TOKEN}\r\n",
            server.admin
        ),
        "",
    );
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn kinds(document: &Value) -> Vec<&str> {
    document["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_stream_tells_what_happens_and_resumes_after_the_last_id() {
    let server = start();
    let mut stream = Stream::open(server.admin, "/api/v1/events?last=0", "").unwrap();
    override_backend(&server, "gw1", "down");
    override_backend(&server, "gw2", "down");
    let (first, said) = stream.next("override");
    assert_eq!(said["pool"], "web");
    assert_eq!(said["backend"], "gw1");
    assert_eq!(said["state"], "down");
    assert_eq!(said["reason"], "drill");
    assert_eq!(said["id"], first);
    assert!(said["asked_by"].as_str().unwrap().starts_with("127.0.0.1:"), "{said}");
    let (last, said) = stream.next("tier");
    assert!(said["service"].as_str().unwrap().starts_with("www.lb.example.test"), "{said}");
    assert_eq!((&said["severity"], &said["to"]), (&"warning".into(), &"standby".into()));
    drop(stream);

    // Nothing between the first event and the end is lost or repeated by a client that connects again. It repeats its
    // first request.
    let mut again =
        Stream::open(server.admin, "/api/v1/events?last=0", &format!("Last-Event-ID: {first}\r\n")).unwrap();
    let (second, said) = again.next("override");
    assert_eq!((said["backend"].as_str(), second), (Some("gw2"), first + 1));
    assert_eq!(again.next("tier").0, last);

    let (all, rest) = (events(&server, ""), events(&server, &format!("?after={first}")));
    assert_eq!((&all["missed"], &rest["missed"]), (&false.into(), &false.into()));
    assert_eq!(rest["events"][0]["id"], second);
    assert!(kinds(&all).contains(&"server"), "ready: {all}");
    let none = events(&server, &format!("?after={}", rest["last"]));
    assert!(kinds(&none).is_empty(), "{none}");
    assert_eq!(kinds(&events(&server, "?kind=tier,pool")), ["pool", "tier"]);
    assert_eq!(kinds(&events(&server, "?about=www.lb.example.test&last=1")), ["tier"]);
    let (status, problem) = server.request("GET", "/api/v1/events?kind=tiers", "");
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("did you mean `tier`?"), "{problem}");
}

#[test]
fn streams_have_a_limit_and_half_of_them_are_for_holders_of_the_token() {
    let server = Steerd::start(CONFIG, &[("zone", ZONE), ("token", TOKEN)]);
    server.configure(CONFIG, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let stream = |headers: &str| Stream::open(server.admin, "/api/v1/events?last=0", headers);
    let foreign = "Sec-Fetch-Site: cross-site\r\n";
    assert_eq!(stream(foreign).err(), Some(403), "a web page of another site holds no place");
    let others: Vec<Stream> =
        (0..8).map(|_| stream("").unwrap_or_else(|status| panic!("{status}"))).collect();
    assert_eq!(stream("").err(), Some(503));
    let with_token: Vec<_> = (0..8).map(|_| stream(&token).is_ok()).collect();
    assert_eq!(with_token, [true; 8]);
    drop(others);
    let open = || stream(&token);
    let mut streams: Vec<Stream> = (0..16).map(|_| wait_for("a free place", || open().ok())).collect();
    assert_eq!(open().err(), Some(503));
    drop(streams.pop());
    let latest = wait_for("a free place", || open().ok());
    drop(latest);
    // Streams do not delay the end of the server.
    let mut stream = streams.pop().unwrap();
    server.end("TERM");
    while stream.line().is_some() {}
}

/// Other connections end after a minute.
#[test]
fn a_stream_lives_longer_than_a_minute_and_ends_when_access_changes() {
    let server = Steerd::start(CONFIG, &[("zone", ZONE), ("token", TOKEN)]);
    let mut stream = Stream::open(server.admin, "/api/v1/events?last=0", "").unwrap();
    let mut quiet = 0;
    while quiet < 5 {
        quiet += usize::from(stream.line().expect("the stream has ended").starts_with(": "));
    }
    override_backend(&server, "gw1", "drain");
    assert_eq!(stream.next("override").1["state"], "drain");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200, "it survives a reload");
    assert_eq!(stream.next("reload").1["message"], "reloaded: nothing has changed");
    override_backend(&server, "gw1", "down");
    assert_eq!(stream.next("override").1["state"], "down");
    server.configure(CONFIG, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    while stream.line().is_some() {}
}

#[test]
fn a_flood_of_events_is_bounded_and_a_late_client_is_told() {
    let server = start();
    let first = events(&server, "?last=0")["last"].as_u64().unwrap();
    for _ in 0..520 {
        override_backend(&server, "gw1", "drain");
        assert_eq!(server.request("DELETE", "/api/v1/pools/web/backends/gw1/override", "").0, 200);
    }
    let late = events(&server, &format!("?after={first}"));
    assert_eq!((late["missed"].as_bool(), late["events"].as_array().unwrap().len()), (Some(true), 1000));
    let path = format!("/api/v1/events?after={first}");
    let mut stream = Stream::open(server.admin, &path, "").unwrap();
    assert_eq!(stream.next("missed").0, 0);
}

#[test]
fn the_command_shows_and_follows() {
    let server = start();
    override_backend(&server, "gw1", "drain");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(STEERD);
        command.arg("events").args(arguments).args(["--admin", &format!("http://{}", server.admin)]);
        command
    };
    let output = command(&["web"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().last().unwrap();
    assert!(
        line.contains("  override  web/gw1  backend is overridden, by request  ")
            && line.contains("reason=drill"),
        "{said}"
    );
    let output = command(&["wbe"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("did you mean `web`?"), "{error}");
    let output = command(&["--kind", "overide"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("did you mean `override`?"), "{error}");

    let mut process = command(&["--follow", "--json", "-n", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (told, seen) = mpsc::channel();
    let reader = thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if told.send(serde_json::from_str::<Value>(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    // It shows only events that happen after it has started to follow, so one is made until it does.
    let event = wait_for("a followed event", || {
        override_backend(&server, "gw2", "drain");
        server.request("DELETE", "/api/v1/pools/web/backends/gw2/override", "");
        seen.recv_timeout(Duration::from_millis(1500)).ok()
    });
    assert_eq!((event["kind"].as_str(), event["backend"].as_str()), (Some("override"), Some("gw2")));
    process.kill().unwrap();
    process.wait().unwrap();
    reader.join().unwrap();
}

/// A backend that dies, over sockets: its transition, its pool and its service are told, with reasons.
#[test]
fn a_dying_backend_is_told_with_its_reason() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = backend.local_addr().unwrap().port();
    let config = format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\ncheck = {{ type = \"tcp\", port = {port}, interval = \"200ms\", timeout = \"100ms\", fall = 1 }}\n\
         backends = [{{ name = \"gw1\", address = \"127.0.0.1\" }}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    let server = Steerd::start(&config, &[("zone", ZONE)]);
    let mut stream = Stream::open(server.admin, "/api/v1/events?last=0", "").unwrap();
    drop(backend);
    let (_, said) = stream.next("transition");
    assert_eq!((said["from"].as_str(), said["to"].as_str()), (Some("healthy"), Some("unhealthy")));
    assert!(said["reason"].as_str().unwrap().contains("refused"), "{said}");
    assert_eq!(stream.next("pool").1["pool"], "web");
    let (_, said) = stream.next("service");
    assert!(said["message"].as_str().unwrap().starts_with("service down: "), "{said}");
}

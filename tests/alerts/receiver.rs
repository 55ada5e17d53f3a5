//! A receiver of webhooks: a plain HTTP server of the test, which keeps what it gets and can misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::wait_for;

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// With this head line and these headers.
    Reply(&'static str),
    /// It refuses, and repeats the head of the request.
    Echo,
    /// It accepts, and reads nothing.
    Deaf,
}

/// The manner of a receiver that works.
pub(crate) const OK: Manner = Manner::Reply("200 OK\r\n");

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    /// The request line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct Shared {
    got: Vec<Got>,
    manner: Option<Manner>,
    /// Connections that are kept open.
    open: Vec<TcpStream>,
}

/// A running receiver. It ends with the test process; its listener stays until then.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let listener = wait_for("the receiver listens", || TcpListener::bind(address).ok());
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&own);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.lock().unwrap().manner = Some(manner);
    }

    /// All requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.lock().unwrap().got.clone()
    }

    /// The first request that is at least the `index`-th and meets a condition.
    pub(crate) fn wait(&self, what: &str, is_it: impl Fn(&Got) -> bool) -> Got {
        wait_for(what, || self.got().into_iter().find(&is_it))
    }

    /// The request with this index.
    pub(crate) fn nth(&self, index: usize) -> Got {
        wait_for("a message", || self.got().get(index).cloned())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>) {
    let manner = shared.lock().unwrap().manner.clone().unwrap_or(OK);
    let reply = match manner {
        Manner::Reply(reply) => reply,
        Manner::Echo => "403 Forbidden\r\n",
        Manner::Deaf => return shared.lock().unwrap().open.push(stream),
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let Some((head, body)) = read(&mut BufReader::new(&stream)) else { return };
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let said = if matches!(manner, Manner::Echo) { head.clone() } else { "said".into() };
    shared.lock().unwrap().got.push(Got { at: Instant::now(), head, body });
    let length = said.len();
    let _ = write!(&stream, "HTTP/1.1 {reply}Content-Length: {length}\r\nConnection: close\r\n\r\n{said}");
}

/// The head and the body of a request.
pub(crate) fn read(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
